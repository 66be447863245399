"""Feature stores: what the frozen encoders compute of clips, written once, read at random.

In:   clips: waveforms, captions, and for videos their frames.
Out:  a folder of Arrow files with one row per clip, read lazily by `FeatureStore`:

    STORE/
      store.json      what the features depend on; written first
      NAME.arrow      a shard: some rows, whole or absent (`shards`)
      clips.feather   length, pictures and quality of every clip: what a sampler chooses by
      index.json      every shard with its length and SHA-256; written last (`builder`)
      attribution.tsv licence and author of the clips

A row keeps the *waveform* (latents don't mix, so augmented or mixed sound is encoded afterwards),
optionally its latents, for steps that leave the waveform as it is, and the encoder states and token
ids of every caption. Missing and unknown columns are ignored: older stores stay readable.

A store of millions of clips costs a rank 13 bytes a clip, mapped, and no Python objects: shards
are mapped when a clip of theirs is drawn, and of a clip only what is used is read (`StoredClip`).
Each row holds checksums of its values, which are compared when they are read; those of an older
store are compared a shard at a time.

What not to get wrong: a store without its index is unfinished and is refused; half of a corpus
trains without complaint and gives another model. Reading imports NumPy and pyarrow only.

Shape suffixes: N samples, T tokens, L latent frames, C latent channels, E V S features.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from omni2sound.data.store.index import (
    ClipFailure,
    clip_table,
    read_description,
    shards_of,
    store_sha256,
)
from omni2sound.data.store.remote import StoreFolder, store_folder
from omni2sound.data.store.shards import (
    BATCH_CLIPS,
    FAILED,
    LARGE,
    SCHEMA,
    OpenShards,
    Shard,
    joined_tables,
)
from omni2sound.data.store.stored import StoredClip, damaged, head_crc, head_of
from omni2sound.errors import IntegrityError
from omni2sound.files import atomic_path, file_sha256
from omni2sound.readers import interpreting, read_text
from omni2sound.weights import ATTRIBUTION_FILE

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextFeatures:
    """One text and its encoder states.

    Attributes:
        role: "caption", or "audio-only" for a caption by ear alone.
        text: The text.
        states_TE: float16 token states without padding.
        token_ids_T: int32 ids that the encoder read, start and end included, or None.
    """

    role: str
    text: str
    states_TE: NDArray[np.float16]
    token_ids_T: NDArray[np.int32] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipFeatures:
    """One row of a store.

    Attributes:
        clip_id: Unique in the store.
        duration_s: Length of the clip, with padding.
        sound_N: float32 waveform of the V2A target, 16 kHz.
        texts: Captions of the clip.
        vision_TV: Picture features, or None without video.
        sync_LS: Sync features, or None without video.
        classes: Class ids of the clip's events, for balance and reports.
        valid_s: Where padding begins; None without padding.
        latents_LC: float16 latents of `sound_N` as it is, or None.
        quality: Score of how well sound and caption agree (higher is better), or None.
        source: Source of the clip, e.g. "youtube:dQw4w9WgXcQ"; empty if unknown.
        pictured: Class ids of the picture, silent or not; empty if unknown.
    """

    clip_id: str
    duration_s: float
    sound_N: NDArray[np.float32]
    texts: tuple[TextFeatures, ...]
    vision_TV: NDArray[np.float16] | None
    sync_LS: NDArray[np.float16] | None
    classes: tuple[str, ...]
    valid_s: float | None = None
    latents_LC: NDArray[np.float16] | None = None
    quality: float | None = None
    source: str = ""
    pictured: tuple[str, ...] = ()


def write_shard(path: Path, items: Iterable[ClipFeatures | ClipFailure]) -> None:
    """Write one Arrow file, whole or not at all; failures go into its metadata.

    Rows are written a batch at a time, so a shard may be larger than the memory.
    """
    rows: list[dict[str, Any]] = []
    failed = []
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        for item in items:
            if isinstance(item, ClipFailure):
                failed.append([item.clip_id, item.reason])
                continue
            if len(rows) == BATCH_CLIPS:
                writer.write_batch(_batch(rows))
                rows = []
            rows.append(_row(item))
        metadata = {FAILED: json.dumps(failed).encode()} if failed else None
        writer.write_batch(_batch(rows), custom_metadata=metadata)


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    for row in rows:
        row["crc32"] = None
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    sums = [_checksums(row, head_crc(head_of(batch, i))) for i, row in enumerate(rows)]
    place = SCHEMA.get_field_index("crc32")
    return batch.set_column(
        place, SCHEMA.field(place), pa.array(sums, type=SCHEMA.field(place).type)
    )


def _checksums(row: dict[str, Any], head: int) -> list[int]:
    """Checksums of a row, in the order that `StoredClip` reads them in."""
    states = [text["states"] for text in row["texts"]]
    return [head, *(zlib.crc32(v or b"") for v in (*(row.get(n) for n in LARGE), *states))]


def _row(clip: ClipFeatures) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "duration_s": clip.duration_s,
        "sound": np.round(np.clip(clip.sound_N, -1, 1) * 32767).astype("<i2").tobytes(),
        "texts": [
            {
                "role": t.role,
                "text": t.text,
                "states": t.states_TE.astype("<f2").tobytes(),
                "token_ids": None if t.token_ids_T is None else t.token_ids_T.tolist(),
            }
            for t in clip.texts
        ],
        **_columns("vision", clip.vision_TV),
        **_columns("sync", clip.sync_LS),
        **_columns("latents", clip.latents_LC),
        "classes": list(clip.classes),
        "text_dim": clip.texts[0].states_TE.shape[1] if clip.texts else None,
        "valid_s": clip.valid_s,
        "quality": clip.quality,
        "source": clip.source,
        "pictured": list(clip.pictured),
    }


def _columns(name: str, matrix: NDArray[np.float16] | None) -> dict[str, Any]:
    """Numbers and width of a matrix; empty without one."""
    if matrix is None:
        return {}
    return {name: matrix.astype("<f2").tobytes(), f"{name}_dim": matrix.shape[1]}


class FeatureStore:
    """Random access to the clips of one or more store folders."""

    def __init__(
        self, folders: Sequence[Path | str], *, autoencoder_sha256: str | None = None
    ) -> None:
        """Read the indices; shards are mapped when their clips are first read.

        Args:
            folders: Stores: folders, or URLs that fsspec opens ("s3://bucket/features").
            autoencoder_sha256: Digest of the autoencoder; latents of another one are ignored.
                Default: all latents are used.

        Raises:
            MissingPartError: If a folder holds no features, or a URL can't be opened.
            ConfigError: If a folder's features are unfinished.
            IntegrityError: If a shard is missing or has the wrong length. One whose bytes differ
                from their checksums is reported when they are first read.
        """
        opened = [store_folder(folder) for folder in folders]
        self.folders = tuple(folder.path for folder in opened)
        self.description: list[Any] = []
        self.attribution: list[str] = []
        self._shards: list[_StoredShard] = []
        self._intact: set[int] = set()
        tables, counts = [], list[int]()
        for folder in opened:
            description = read_description(folder.path)
            listed = folder.path / ATTRIBUTION_FILE
            self.attribution.append(read_text(listed) if listed.is_file() else "")
            self.description.append(description)
            of = description.get("autoencoder_sha256")
            fit = autoencoder_sha256 is None or of == autoencoder_sha256
            if of is not None and not fit:
                _log.warning("%s: latents of another autoencoder are not used", folder)
            shards = shards_of(folder.path, description, present=not folder.is_remote)
            table = clip_table(folder.path, [shard.path for shard in shards])
            if len(table[0]) != sum(shard.num_clips for shard in shards):
                raise IntegrityError(
                    f"{folder.path}: the index has {sum(s.num_clips for s in shards)} clips, its "
                    f"table {len(table[0])}; run the command that made the features again"
                )
            tables.append(table)
            self._shards += [
                _StoredShard(folder, shard.path, shard.sha256, latents_fit=fit) for shard in shards
            ]
            counts += [shard.num_clips for shard in shards]
        self.durations_s, self.has_video, self.qualities = joined_tables(tables)
        """Of each clip: length in seconds, whether it has pictures, quality (NaN without)."""
        self._ends = np.cumsum(np.array(counts, np.int64))
        self._open = OpenShards(self._map)
        ends = np.cumsum([len(table[0]) for table in tables])
        self.spans = {
            folder.name: range(int(end) - len(table[0]), int(end))
            for folder, table, end in zip(opened, tables, ends, strict=True)
        }
        """Clips of each store, by its name."""

    @cached_property
    def sha256(self) -> list[str]:
        """Digests of the rows of each folder."""
        return [store_sha256(folder) for folder in self.folders]

    def __len__(self) -> int:
        return len(self.durations_s)

    def __getitem__(self, index: int) -> ClipFeatures:
        return _whole(self.row(index))

    def row(self, index: int) -> StoredClip:
        """Return a clip whose values are read when they are used.

        Raises:
            IndexError: If there is no such clip.
            IntegrityError: If its bytes are not those that were written.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[number - 1]) if number else 0
        shard, fit = self._open.get(number), self._shards[number].latents_fit
        with interpreting(shard.path, "a shard of features"):
            clip = StoredClip(shard, index - first, latents_fit=fit)
        if clip.sums is None:
            self._check(number, shard)
        return clip

    def _map(self, number: int) -> Shard:
        stored = self._shards[number]
        shard = Shard(stored.folder.fetch(stored.path, stored.sha256))
        if shard.is_current and list(shard.columns) != SCHEMA.names:
            raise damaged(shard.path)
        return shard

    def _check(self, number: int, shard: Shard) -> None:
        """Compare a shard of rows without checksums with its own, once.

        Raises:
            IntegrityError: They differ.
        """
        sha256 = self._shards[number].sha256
        if number not in self._intact:
            if sha256 is not None and file_sha256(shard.path) != sha256:
                raise damaged(shard.path)
            self._intact.add(number)


@dataclass(frozen=True, slots=True)
class _StoredShard:
    folder: StoreFolder
    path: Path
    sha256: str | None
    latents_fit: bool


def _whole(clip: StoredClip) -> ClipFeatures:
    """Read everything."""
    return ClipFeatures(
        clip_id=clip.clip_id,
        duration_s=clip.duration_s,
        sound_N=clip.sound_N,
        texts=tuple(
            TextFeatures(
                role=text.role,
                text=text.text,
                states_TE=text.states_TE,
                token_ids_T=text.token_ids_T,
            )
            for text in clip.texts
        ),
        vision_TV=clip.vision_TV,
        sync_LS=clip.sync_LS,
        classes=clip.classes,
        valid_s=clip.valid_s,
        latents_LC=clip.latents_LC,
        quality=clip.quality,
        source=clip.source,
        pictured=clip.pictured,
    )
