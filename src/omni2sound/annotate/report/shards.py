"""Shards of a data set: Parquet files that `datasets` opens, or WebDataset tar files.

In:   rows, each with its split and perhaps the bytes of its sound.
Out:  FOLDER/train-00000-of-00002.parquet and so on, or FOLDER/train-000000.tar.

Rows come in any order of splits and are written as they come, so memory holds one group of rows a
split. What not to get wrong: the same rows give the same bytes, so tar members have no times.

Source: https://huggingface.co/docs/datasets/repository_structure, github.com/webdataset/webdataset.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Names of splits as `datasets` knows them."""
SOUND = "sound"
_ROWS_A_GROUP = 1000
_ROWS_A_SHARD = 50_000
_BYTES_A_SHARD = 400 << 20
_GROUP_BYTES = 32 << 20

_EVENT = pa.struct(
    [
        ("what", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("on_screen", pa.bool_()),
        ("confidence", pa.float64()),
    ]
)
_FIELDS: list[tuple[str, pa.DataType]] = [
    *((n, pa.string()) for n in ("clip_id", "corpus", "split", "audio", "video")),
    ("start_s", pa.float64()),
    ("duration_s", pa.float64()),
    ("captions", pa.list_(pa.string())),
    ("labels", pa.list_(pa.string())),
    ("source", pa.string()),
    ("source_start_s", pa.float64()),
    ("licence", pa.string()),
    ("author", pa.string()),
    ("quality", pa.float64()),
    ("own_captions", pa.list_(pa.string())),
    ("own_labels", pa.list_(pa.string())),
    ("events", pa.list_(_EVENT)),
    ("visual_context", pa.string()),
    ("path", pa.string()),
    ("by_senior", pa.bool_()),
    ("reasons", pa.list_(pa.string())),
    ("end", pa.string()),
    ("why_ended", pa.string()),
    ("similarity", pa.float64()),
    ("first_score", pa.float64()),
    ("first_weakest_event", pa.float64()),
    ("score", pa.float64()),
    ("weakest_event", pa.float64()),
    *((n, pa.string()) for n in ("scorer", "viewer", "captioner", "validator")),
    *((n, pa.string()) for n in ("viewer_prompt", "captioner_prompt", "validator_prompt")),
    ("reviewed_by", pa.string()),
]


def schema(*, sounds: bool) -> pa.Schema:
    """Columns of the shards; `sounds` adds one that `datasets` decodes."""
    if not sounds:
        return pa.schema(_FIELDS)
    hub = {"info": {"features": {SOUND: {"_type": "Audio"}}}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.schema([*_FIELDS, (SOUND, kind)], metadata={"huggingface": json.dumps(hub)})


class ParquetShards:
    """Parquet files of each split; they get their final names when the block ends."""

    def __init__(self, folder: Path, *, sounds: bool, rows_a_shard: int = _ROWS_A_SHARD) -> None:
        self._folder = folder
        self._schema = schema(sounds=sounds)
        self._rows_a_shard = rows_a_shard
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._bytes: dict[str, int] = {}
        self._open: dict[str, pq.ParquetWriter] = {}
        self._in_shard: dict[str, tuple[int, int]] = {}
        self._written: dict[str, list[Path]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for split in list(self._rows) if kind is None else []:
            self._flush(split)
        for writer in self._open.values():
            writer.close()
        for split, paths in self._written.items():
            for number, path in enumerate(paths):
                path.rename(path.with_name(f"{split}-{number:05d}-of-{len(paths):05d}.parquet"))

    def add(self, row: Mapping[str, Any], sound: bytes | None = None) -> None:
        """Write a row to its split's files."""
        split = HUB_SPLITS[row["split"]]
        if SOUND in self._schema.names:
            name = f"{row['corpus']}-{row['clip_id']}.flac".replace("/", "-")
            row = {**row, SOUND: None if sound is None else {"bytes": sound, "path": name}}
        self._rows.setdefault(split, []).append(dict(row))
        self._bytes[split] = self._bytes.get(split, 0) + len(sound or b"")
        if len(self._rows[split]) >= _ROWS_A_GROUP or self._bytes[split] >= _GROUP_BYTES:
            self._flush(split)

    def _flush(self, split: str) -> None:
        rows, size = self._rows.pop(split), self._bytes.pop(split)
        while rows:
            num, total = self._in_shard.get(split, (0, 0))
            some, rows = rows[: self._rows_a_shard - num], rows[self._rows_a_shard - num :]
            if split not in self._open:
                self._folder.mkdir(exist_ok=True)
                paths = self._written.setdefault(split, [])
                paths.append(self._folder / f"{split}-{len(paths):05d}.part")
                self._open[split] = pq.ParquetWriter(paths[-1], self._schema, compression="zstd")
            self._open[split].write_table(pa.Table.from_pylist(some, self._schema))
            num, total = num + len(some), total + size
            self._in_shard[split] = (num, total)
            if num >= self._rows_a_shard or total >= _BYTES_A_SHARD:
                self._open.pop(split).close()
                del self._in_shard[split]


class TarShards:
    """WebDataset files of each split: NUMBER.json and NUMBER.flac for each clip."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, tarfile.TarFile] = {}
        self._size: dict[str, int] = {}
        self._shards: dict[str, int] = {}
        self._clips: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for tar in self._open.values():
            tar.close()

    def add(self, row: Mapping[str, Any], sound: bytes | None = None) -> None:
        """Write a clip to its split's files; one without a sound is left out."""
        if sound is None:
            return
        split = HUB_SPLITS[row["split"]]
        if split not in self._open:
            self._folder.mkdir(exist_ok=True)
            number = self._shards.get(split, 0)
            self._shards[split] = number + 1
            path = self._folder / f"{split}-{number:06d}.tar"
            self._open[split] = tarfile.open(path, "w")  # noqa: SIM115
            self._size[split] = 0
        clip = self._clips.get(split, 0)
        self._clips[split] = clip + 1
        described = json.dumps(row, ensure_ascii=False).encode()
        for suffix, data in (("json", described), ("flac", sound)):
            member = tarfile.TarInfo(f"{clip:09d}.{suffix}")  # neither times nor owners
            member.size = len(data)
            self._open[split].addfile(member, io.BytesIO(data))
            self._size[split] += len(data)
        if self._size[split] >= _BYTES_A_SHARD:
            self._open.pop(split).close()
