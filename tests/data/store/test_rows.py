"""Stores of many clips: what is read when, how many shards are mapped, copies, object storage."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import shutil
import tarfile
import weakref
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from omni2sound.data.batches.batch import build_batch, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty
from omni2sound.data.store import remote, shards
from omni2sound.data.store.builder import build_store
from omni2sound.data.store.index import describe_store
from omni2sound.data.store.repack import repack, to_tars
from omni2sound.data.store.rows import ClipFeatures, FeatureStore, write_shard
from omni2sound.data.store.stored import StoredClip
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError
from tests.data.rows import SmallJob, clip

COUNT = 40


def long_rows(job: SmallJob) -> Iterator[ClipFeatures]:
    """Clips of one length, more than a record batch has."""
    yield from (clip(n) for n in range(job.first, job.first + 20))


def three_rows(_: SmallJob) -> Iterator[ClipFeatures]:
    yield from (replace(clip(n), pictured=("a thing",)) for n in range(3))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    jobs = [SmallJob(name=f"s{k}", first=20 * k, made=tmp_path) for k in range(COUNT // 20)]
    build_store(tmp_path / "store", description={"made": "in code"}, jobs=jobs, make=long_rows)
    return tmp_path / "store"


def same(a: ClipFeatures, b: ClipFeatures) -> bool:
    left, right = (_plain(asdict(c)) for c in (a, b))
    return left == right


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.tolist())
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def test_rows_of_several_record_batches_come_back_in_order(store: Path) -> None:
    found = FeatureStore([store, store])
    assert [found[i].clip_id for i in range(2 * COUNT)] == 2 * [f"clip-{n}" for n in range(COUNT)]
    assert found.has_video.tolist() == 2 * [bool(n % 2) for n in range(COUNT)]
    np.testing.assert_allclose(found.qualities[:COUNT], np.arange(COUNT) / 100, rtol=1e-6)
    with pytest.raises(IndexError, match="clip 80 of 80"):
        found.row(2 * COUNT)


def test_a_task_reads_only_what_it_uses(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    large = StoredClip._large
    monkeypatch.setattr(StoredClip, "_large", lambda self, n: (read.append(n), large(self, n))[1])
    found = FeatureStore([store])
    wanted = {"T2A": {"latents"}, "V2A": {"latents", "vision", "sync"}}
    wanted["VT2A"] = wanted["V2A"]
    for task, columns in wanted.items():
        read.clear()
        draw = sampler_for(found, seed=0, batch_seconds=0.2).draw(0, {task: 1.0})
        made = build_batch(
            found, draw, seed=0, step=0, difficulty=Difficulty(augment=False), waveforms=False
        )
        assert set(read) == columns
        assert made.waveform_BN is None
    read.clear()
    build_batch(found, draw, seed=0, step=0, difficulty=Difficulty(augment=True))
    assert set(read) == {"sound", "vision", "sync"}


def test_no_more_shards_are_mapped_than_the_bound(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_OPEN", 1)
    found = FeatureStore([store])
    assert not len(found._open)
    for index in (0, 39, 1, 38):
        assert found[index].clip_id == f"clip-{index}"
        assert len(found._open) == 1


def old_store(folder: Path, clips: list[ClipFeatures]) -> None:
    """A store as earlier releases wrote it: a row a batch, no checksums, no table."""
    describe_store(folder, {"format": 2, "made": "in code"})
    names = []
    for number in range(0, len(clips), 5):
        path = folder / f"s{number:03d}.arrow"
        write_shard(folder / "new.part", clips[number : number + 5])
        with pa.memory_map(str(folder / "new.part")) as file:
            table = pa.ipc.open_file(file).read_all().drop_columns(["crc32", "pictured"])
        table = table.replace_schema_metadata({b"failed": b"[]"})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
        (folder / "new.part").unlink()
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        names.append({"name": path.name, "sha256": sha256, "bytes": path.stat().st_size})
    index = [{**n, "clips": 5, "failed": []} for n in names]
    (folder / "index.json").write_text(json.dumps({"format": 2, "shards": index}))


def test_an_older_store_is_read_and_converts(tmp_path: Path) -> None:
    clips = [clip(n) for n in range(15)]
    old_store(tmp_path / "old", clips)
    old = FeatureStore([tmp_path / "old"])
    assert repack(tmp_path / "old", tmp_path / "new", clips_per_shard=7).num_shards == 3
    new = FeatureStore([tmp_path / "new"])
    assert all(same(old[i], new[i]) for i in range(15))
    draw = [sampler_for(s, seed=3, batch_seconds=0.4).draw(5, {"V2A": 1.0}) for s in (old, new)]
    assert draw[0] == draw[1]
    data = bytearray((tmp_path / "old" / "s005.arrow").read_bytes())
    data[data.index(b"clip-7")] ^= 1
    (tmp_path / "old" / "s005.arrow").write_bytes(data)
    damaged = FeatureStore([tmp_path / "old"])
    damaged[0]
    with pytest.raises(IntegrityError, match=r"s005\.arrow is damaged"):
        damaged.row(9)


_ODD_COLUMNS = (
    pa.array([{"a": 1}]),
    pa.nulls(1),
    pa.array([1]),
    pa.array([[1.5, None]]),
    pa.array([b"\xff" * 3]),
    pa.array(["a"]),
)


@pytest.mark.parametrize("name", ["duration_s", "classes", "texts", "vision", "sound", "text_dim"])
def test_a_shard_of_other_columns_is_one_line(tmp_path: Path, name: str) -> None:
    """No index vouches for it, as in a store of the first releases."""
    (tmp_path / "store.json").write_text("{}")
    write_shard(tmp_path / "new.part", [clip(1)])
    with pa.memory_map(str(tmp_path / "new.part")) as file:
        table = pa.ipc.open_file(file).read_all().drop_columns(["crc32"])
    place = table.schema.get_field_index(name)
    changes = [table.set_column(place, name, odd) for odd in _ODD_COLUMNS]
    changes.append(table.append_column(name, table.column(place)))
    if name not in ("vision", "text_dim"):  # which older stores lack
        changes.append(table.drop_columns([name]))
    for changed in changes:
        kept = changed.replace_schema_metadata({b"failed": b"[]"})
        path = str(tmp_path / "a.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, kept.schema) as writer:
            writer.write_table(kept)
        with pytest.raises(ConfigError, match="not a shard of features"):
            FeatureStore([tmp_path])[0]


def test_any_flipped_byte_of_a_row_is_found_or_changes_nothing(tmp_path: Path) -> None:
    job = SmallJob(name="s", first=0, made=tmp_path)
    build_store(tmp_path / "f", description={"made": "in code"}, jobs=[job], make=three_rows)
    whole = [FeatureStore([tmp_path / "f"])[i] for i in range(3)]
    shard = tmp_path / "f" / "s.arrow"
    data = shard.read_bytes()
    found = 0
    for at in range(8, len(data), 233):
        shard.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        try:
            read = FeatureStore([tmp_path / "f"])
            clips = [read[i] for i in range(len(read))]
        except (IntegrityError, ConfigError):
            found += 1
            continue
        assert all(same(*pair) for pair in zip(clips, whole, strict=True)), at
    assert found > 10


def test_tar_files_give_the_same_store_again(store: Path, tmp_path: Path) -> None:
    tars = to_tars(store, tmp_path / "tars", clips_per_shard=15)
    assert [t.name for t in tars] == ["00000.tar", "00001.tar", "00002.tar"]
    before = [t.read_bytes() for t in tars]
    tars[1].unlink()
    to_tars(store, tmp_path / "tars", clips_per_shard=15)
    assert [t.read_bytes() for t in tars] == before
    repack(tmp_path / "tars", tmp_path / "again")
    one, other = FeatureStore([store]), FeatureStore([tmp_path / "again"])
    assert len(other) == COUNT
    assert all(same(one[i], other[i]) for i in range(COUNT))
    (tmp_path / "tars" / "00000.tar").write_bytes(before[0][:700])
    with pytest.raises(ConfigError, match=r"00000\.tar"):
        repack(tmp_path / "tars", tmp_path / "third")


def test_arrays_in_a_tar_file_are_no_larger_than_they_may_be(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tar,) = to_tars(store, tmp_path / "tars", clips_per_shard=COUNT)
    with monkeypatch.context() as limited:
        limited.setattr("omni2sound.data.store.repack._MAX_CLIP_BYTES", 1000)
        with pytest.raises(ConfigError, match="more than 1000 bytes"):
            repack(tmp_path / "tars", tmp_path / "new")
    claim = io.BytesIO()
    head = {"descr": "<i2", "fortran_order": False, "shape": (10**17,)}
    np.lib.format.write_array_header_1_0(claim, head)
    with tarfile.open(tar) as old:
        files = {member.name: old.extractfile(member).read() for member in old}  # type: ignore[union-attr]
    with tarfile.open(tar, "w") as changed:
        for name, data in files.items():
            written = claim.getvalue() if name.endswith("0.sound.npy") else data
            member = tarfile.TarInfo(name)
            member.size = len(written)
            changed.addfile(member, io.BytesIO(written))
    with pytest.raises(ConfigError, match="an array that claims more than it holds"):
        repack(tmp_path / "tars", tmp_path / "new")


def test_a_store_on_object_storage_is_read_through_a_cache(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNI2SOUND_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    for path in store.iterdir():
        files.pipe_file(f"/bucket/features/{path.name}", path.read_bytes())
    there, here = FeatureStore(["memory://bucket/features"]), FeatureStore([store])
    assert there.sha256 == here.sha256
    cached = tmp_path / "cache" / "shards"
    assert not cached.exists()
    assert same(there[3], here[3])
    assert len(list(cached.glob("*.arrow"))) == 1
    monkeypatch.setattr(remote, "CACHE_BYTES", 1)  # the shard in use stays
    assert same(there[30], here[30])
    assert len(list(cached.glob("*.arrow"))) == 1
    shutil.rmtree(cached)
    files.pipe_file("/bucket/features/s0.arrow", b"not a shard")
    with pytest.raises(IntegrityError, match=r"bucket/features/s0\.arrow is damaged"):
        FeatureStore(["memory://bucket/features"])[0]
    with pytest.raises(MissingPartError, match="no features in"):
        FeatureStore(["memory://bucket/nowhere"])
    with pytest.raises(MissingPartError, match=r"xyz://a can't be opened"):
        FeatureStore(["xyz://a"])


def test_a_table_that_is_not_of_the_index_is_refused(store: Path) -> None:
    table = store / "clips.feather"
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=r"clips\.feather is damaged or missing"):
        FeatureStore([store])


def test_a_clip_that_is_no_longer_used_is_freed_at_once(store: Path) -> None:
    """In a circle with its texts it would keep a closed shard mapped until the next collection."""
    row = FeatureStore([store]).row(0)
    assert len(row.texts[0].states_TE)
    freed = weakref.ref(row)
    gc.disable()
    try:
        del row
        assert freed() is None
    finally:
        gc.enable()


def test_where_pictures_lie_is_not_read_by_a_task_without_them(store: Path) -> None:
    """It is a page of its own for each column."""
    found = FeatureStore([store])
    number = int(np.flatnonzero(found.has_video)[0])
    row, shard = found.row(number), found._open.get(0)
    assert row.texts and row.clip_id and not shard._large
    assert row.sync_LS is not None
    assert [name for _, name in shard._large] == ["sync"]
