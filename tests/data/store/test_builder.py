"""A store is whole or refused, made once, and the same from every engine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from filelock import FileLock

from omni2sound.data.store.builder import BuildReport, build_store
from omni2sound.data.store.index import verify_store
from omni2sound.data.store.rows import FeatureStore
from omni2sound.data.workers import EngineName, Share, Workers
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, UserError
from tests.data.rows import FAILING, SmallJob, clip, jobs, rows

ROOT = Path(__file__).parents[3]


def build(
    out: Path, work: list[SmallJob], *, workers: Workers = Workers(), share: Share | None = None
) -> BuildReport:
    return build_store(
        out, description={"numbers": "all"}, jobs=work, make=rows, workers=workers, share=share
    )


def build_elsewhere(tmp_path: Path, *, engine: EngineName, kill_at: int | None) -> int:
    """The same in another process; its exit code."""
    code = (
        "from pathlib import Path\n"
        "from omni2sound.data.store.builder import build_store\n"
        "from omni2sound.data.workers import Share, Workers\n"
        "from tests.data.rows import jobs, rows\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"build_store(folder / 'store', description={{'numbers': 'all'}},\n"
        f"            jobs=jobs(folder, 6, kill_at={kill_at}), make=rows,\n"
        f"            workers=Workers(engine={engine!r}, count=2))\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", f"if __name__ == '__main__':\n exec({code!r})"]
    if kill_at is not None:  # in one process, so that it is the builder that dies
        command[-1] = command[-1].replace("count=2", "count=1")
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


def contents(store: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in store.iterdir() if ".building" not in p.name}


def made(folder: Path) -> Counter[str]:
    return Counter((folder / "made").read_text().split())


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    report = build(tmp_path / "store", jobs(tmp_path, 3))
    store = FeatureStore([tmp_path / "store"])
    assert len(store) == report.num_clips == 8
    numbers = [n for n in range(9) if n != FAILING]
    for index, number in enumerate(numbers):
        found, given = store[index], clip(number)
        assert found.clip_id == given.clip_id
        np.testing.assert_allclose(found.sound_N, given.sound_N, atol=1 / 32767)
        for name in ("vision_TV", "sync_LS", "latents_LC"):
            np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
        np.testing.assert_array_equal(found.texts[0].states_TE, given.texts[0].states_TE)
        np.testing.assert_array_equal(found.texts[0].token_ids_T, given.texts[0].token_ids_T)
        assert (found.valid_s, found.source) == (0.03, given.source)
        assert found.quality == store.qualities[index] == pytest.approx(number / 100)


def test_a_clip_that_fails_is_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    for _ in range(2):  # the second time from the index
        report = build(tmp_path / "store", jobs(tmp_path, 3))
        assert [(f.clip_id, f.reason) for f in report.failed] == [(f"clip-{FAILING}", "no sound")]


def test_an_unfinished_store_is_refused(tmp_path: Path) -> None:
    killed = build_elsewhere(tmp_path, engine="local", kill_at=4)
    assert killed == -9
    with pytest.raises(ConfigError, match=r"unfinished: 4 of 6 shards .* run the command"):
        FeatureStore([tmp_path / "store"])


def test_parts_in_any_order_make_the_store_of_one_builder(tmp_path: Path) -> None:
    build(tmp_path / "whole", jobs(tmp_path, 7))
    out, work = tmp_path / "parts", jobs(tmp_path, 7)
    for number, missing in ((2, 5), (2, 5), (3, 3)):
        assert build(out, work, share=Share(number, 3)).num_missing == missing
        with pytest.raises(ConfigError, match=f"unfinished: {7 - missing} of 7 shards"):
            FeatureStore([out])
    with FileLock(out / ".building-1of3"):
        for share in (None, Share(1, 3)):
            with pytest.raises(UserError, match="is being built by another process"):
                build(out, work, share=share)
    assert build(out, work, share=Share(1, 3)).num_missing == 0
    assert contents(out) == contents(tmp_path / "whole")
    assert set(made(tmp_path).values()) == {2}


@pytest.mark.parametrize("text", ["3", "0/2", "3/2", "a/b", "1/-2", ""])
def test_a_part_is_one_of_several(text: str) -> None:
    with pytest.raises(UserError, match="expected I/N"):
        Share.parse(text)


def test_a_killed_builder_goes_on_and_makes_nothing_twice(tmp_path: Path) -> None:
    build_elsewhere(tmp_path, engine="local", kill_at=4)
    report = build(tmp_path / "store", jobs(tmp_path, 6))
    assert report.num_found == 4
    assert set(made(tmp_path).values()) == {1}
    (tmp_path / "other").mkdir()
    build(tmp_path / "undisturbed", jobs(tmp_path / "other", 6))
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_a_shard_that_the_builder_did_not_live_to_record_is_kept(tmp_path: Path) -> None:
    build(tmp_path / "store", jobs(tmp_path, 3))
    whole = contents(tmp_path / "store")
    (tmp_path / "store" / "index.json").unlink()
    assert build(tmp_path / "store", jobs(tmp_path, 3)).num_found == 3
    assert contents(tmp_path / "store") == whole


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("processes", marks=pytest.mark.slow),
        pytest.param(
            "ray",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    importlib.util.find_spec("ray") is None, reason="the extra `scale` is missing"
                ),
            ],
        ),
    ],
)
def test_every_engine_makes_the_same_bytes(tmp_path: Path, engine: str) -> None:
    build(tmp_path / "here", jobs(tmp_path, 6))
    if engine == "ray":
        assert build_elsewhere(tmp_path, engine="ray", kill_at=None) == 0
    else:
        build(tmp_path / "store", jobs(tmp_path, 6), workers=Workers(count=2))
    assert contents(tmp_path / "store") == contents(tmp_path / "here")
    assert set(made(tmp_path).values()) == {2}


def test_a_damaged_shard_is_found_and_made_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    build(store, jobs(tmp_path, 3))
    whole = contents(store)
    flipped = bytearray(whole["s001.arrow"])
    flipped[len(flipped) // 2] ^= 1
    (store / "s001.arrow").write_bytes(flipped)
    assert verify_store(store) == ["s001.arrow"]
    (store / "s001.arrow").write_bytes(whole["s001.arrow"][:-1])
    assert verify_store(store) == ["s001.arrow"]
    with pytest.raises(IntegrityError, match=r"s001.arrow is damaged or missing"):
        FeatureStore([store])
    assert build(store, jobs(tmp_path, 3)).num_found == 2
    assert verify_store(store) == []
    assert contents(store) == whole


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no advisory locks")
def test_a_flipped_byte_of_a_shard_is_found_when_the_shard_is_first_read(tmp_path: Path) -> None:
    build(tmp_path / "store", jobs(tmp_path, 2))
    shard = tmp_path / "store" / "s001.arrow"
    with pa.memory_map(str(shard)) as file:
        sound = pa.ipc.open_file(file).get_batch(0)["sound"][0].as_py()
    data = shard.read_bytes()
    at = data.index(sound) + 100
    shard.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    store = FeatureStore([tmp_path / "store"])
    store[0]
    for read in (lambda i: store.row(i).pcm_N, store.__getitem__):
        with pytest.raises(IntegrityError, match=r"s001\.arrow is damaged.*delete it and run"):
            read(3)


@pytest.mark.parametrize(
    "name", ["../store/s000.arrow", "/s000.arrow", ".s000.arrow", "a\\b.arrow"]
)
def test_an_index_names_files_of_its_own_folder_only(tmp_path: Path, name: str) -> None:
    build(tmp_path / "store", jobs(tmp_path, 1))
    index = tmp_path / "store" / "index.json"
    index.write_text(index.read_text().replace("s000.arrow", json.dumps(name)[1:-1]))
    with pytest.raises(ConfigError, match=r"expected names of .* files beside it"):
        FeatureStore([tmp_path / "store"])


def test_a_store_has_one_builder_at_a_time(tmp_path: Path) -> None:
    import fcntl

    build(tmp_path / "store", jobs(tmp_path, 1))
    with (tmp_path / "store" / ".building").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="being built by another process"):
            build(tmp_path / "store", jobs(tmp_path, 1))


def test_a_job_that_kills_its_worker_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a worker process died"):
        build(tmp_path / "store", jobs(tmp_path, 2, kill_at=1), workers=Workers(count=2))


def test_ray_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match=r"pip install 'omni2sound\[scale\]'"):
        next(Workers(engine="ray").map(abs, [1]))
