"""Records of a server's folder that were damaged are passed over, and named in its log."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.robustness.odd_more import served
from omni2sound.serve.bodies import ExportBody
from omni2sound.serve.limits import Limits
from omni2sound.serve.store import Store
from omni2sound.serve.work import export
from omni2sound.staging import MARK


@pytest.mark.parametrize("state", ["waiting", "done"])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("serial", "first"),
        ("client", None),
        ("ended", {}),
        ("job.state", "odd"),
        ("job.request", {}),
        ("job.request.take", 1),
        ("job.request.media", {}),
        ("job.request", {"kind": "see", "media": "a" * 32}),
        ("job.id", "c" * 32),
    ],
)
def test_an_odd_record_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, state: str, path: str, value: object
) -> None:
    served(tmp_path)
    (file,) = tmp_path.glob("served/jobs/*/job.json")
    data = json.loads(file.read_text())
    data["job"]["state"] = state
    file.write_text(json.dumps(data))
    assert len(Store(tmp_path / "served", Limits()).records()) == 1
    *steps, last = path.split(".")
    node = data
    for step in steps:
        node = node[step]
    node[last] = value
    file.write_text(json.dumps(data))
    store = Store(tmp_path / "served", Limits())
    store.sweep()
    assert store.records() == []
    assert "a record that can't be read" in caplog.text


@pytest.mark.parametrize("value", ['{"id"', "[]", '{"duration_s": "long"}', '{"id": "cc"}'])
def test_an_odd_record_of_an_upload_deletes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    served(tmp_path)
    (file,) = tmp_path.glob("served/media/*/media.json")
    film = file.with_name("file.mp4")
    film.write_bytes(b"film")
    changed = json.loads(file.read_text()) | json.loads(value) if value[-2:] == '"}' else None
    file.write_text(value if changed is None else json.dumps(changed))
    Store(tmp_path / "served", Limits())
    assert film.read_bytes() == b"film"
    assert str(file.parent) in caplog.text


def test_a_record_that_is_no_object_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served(tmp_path)
    (file,) = tmp_path.glob("served/jobs/*/job.json")
    file.write_text("[]")
    assert Store(tmp_path / "served", Limits()).records() == []
    assert "a record that can't be read" in caplog.text


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link to nothing"])
def test_a_record_that_is_no_file_is_named_and_deletes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    served(tmp_path)
    for file in (*tmp_path.glob("served/jobs/*/job.json"), *tmp_path.glob("served/*/*/media.json")):
        file.unlink()
        file.with_name("kept.wav").write_bytes(b"sound")
        if kind == "a folder":
            file.mkdir()
        elif kind == "a pipe":
            os.mkfifo(file)
        else:
            file.symlink_to(tmp_path / "nothing")
    assert Store(tmp_path / "served", Limits()).records() == []
    assert len(list(tmp_path.glob("served/*/*/kept.wav"))) == 2
    assert caplog.text.count("job.json") == caplog.text.count("media.json") == 1


def test_what_is_not_the_servers_stays(tmp_path: Path) -> None:
    served(tmp_path)
    kept = [tmp_path / "served" / kind / "notes" / "mine.txt" for kind in ("jobs", "media")]
    for path in kept:
        path.parent.mkdir()
        path.write_text("mine")
        (path.parents[1] / "mine.txt").write_text("mine")
    Store(tmp_path / "served", Limits())
    assert all(path.exists() and (path.parents[1] / "mine.txt").exists() for path in kept)


def test_an_export_that_was_cut_off_is_known_to_the_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hidden folder has the mark by which `doctor --repair` knows what it may remove."""
    served(tmp_path)
    store, job = Store(tmp_path / "served", Limits()), "b" * 32
    take = SimpleNamespace(media=None, start_s=0.0)
    monkeypatch.setattr(export, "find_take", lambda store, take_id: take)
    monkeypatch.setattr(store, "take_path", lambda take: tmp_path / "a.wav")

    def cut_off(*_: object, **__: object) -> None:
        assert len(list(store.job_folder(job).glob(f".*/{MARK}"))) == 1
        raise InterruptedError

    monkeypatch.setattr(export, "export_take", cut_off)
    body = ExportBody(kind="export", take=f"{job}-1", format="wav")
    with pytest.raises(InterruptedError):
        export.export(store, job, body)


@pytest.mark.parametrize("value", ["{", "[]"])
def test_what_has_a_damaged_record_goes_at_its_age(tmp_path: Path, value: str) -> None:
    served(tmp_path)
    files = [*tmp_path.glob("served/jobs/*/job.json"), *tmp_path.glob("served/media/*/media.json")]
    for file in files:
        file.write_text(value)
    store = Store(tmp_path / "served", Limits())
    assert store.sweep() == 0
    assert all(file.exists() for file in files)
    assert store.sweep(now=time.time() + store.limits.age_s + 60) == 2
    assert not any(file.parent.exists() for file in files)
    assert store.sweep() == 0
