"""Feature stores: what the frozen encoders compute of clips, written once, read at random.

In:   clips: waveforms, captions, and for videos their frames.
Out:  a folder of Arrow files with one row per clip, memory-mapped by `FeatureStore`:

    STORE/
      store.json      what the features depend on; written first
      NAME.arrow      a shard: some rows, whole or absent
      index.json      every shard with its length and SHA-256; written last (`builder`)
      attribution.tsv licence and author of the clips

A row keeps the *waveform* (latents don't mix, so augmented or mixed sound is encoded afterwards),
optionally its latents, for steps that leave the waveform as it is, and the encoder states and token
ids of every caption. Missing and unknown columns are ignored: older stores stay readable.

What not to get wrong: a store without its index is unfinished and is refused; half of a corpus
trains without complaint and gives another model. Reading imports NumPy and pyarrow only.

Shape suffixes: N samples, T tokens, L latent frames, C latent channels, E V S features.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from omni2sound.data.store.index import (
    FAILED,
    ClipFailure,
    read_description,
    shards_of,
    store_sha256,
)
from omni2sound.errors import IntegrityError
from omni2sound.files import atomic_path, file_sha256
from omni2sound.readers import arrow_file, read_text
from omni2sound.weights import ATTRIBUTION_FILE

_log = logging.getLogger(__name__)

_TEXT = pa.struct(
    [
        ("role", pa.string()),
        ("text", pa.string()),
        ("states", pa.binary()),
        ("token_ids", pa.list_(pa.int32())),
    ]
)
_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("duration_s", pa.float64()),
        ("sound", pa.binary()),
        ("texts", pa.list_(_TEXT)),
        ("vision", pa.binary()),
        ("vision_dim", pa.int32()),
        ("sync", pa.binary()),
        ("sync_dim", pa.int32()),
        ("classes", pa.list_(pa.string())),
        ("text_dim", pa.int32()),
        ("valid_s", pa.float64()),
        ("latents", pa.binary()),
        ("latents_dim", pa.int32()),
        ("quality", pa.float32()),
        ("source", pa.string()),
        ("pictured", pa.list_(pa.string())),
    ]
)
TEXT_DIM = 384
"""Width of text states in stores without a format number; that of the embedded encoder."""


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
    """Write one Arrow file, whole or not at all; failures go into its metadata."""
    rows, failed = [], []
    for item in items:
        if isinstance(item, ClipFailure):
            failed.append([item.clip_id, item.reason])
        else:
            rows.append(_row(item))
    schema = _SCHEMA.with_metadata({FAILED: json.dumps(failed).encode()})
    table = pa.Table.from_pylist(rows, schema=schema)
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        writer.write_table(table, max_chunksize=1)  # one row a chunk: random access


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

    def __init__(self, folders: Sequence[Path], *, autoencoder_sha256: str | None = None) -> None:
        """Map every shard into memory.

        Args:
            folders: Stores.
            autoencoder_sha256: Digest of the autoencoder; latents of another one are ignored.
                Default: all latents are used.

        Raises:
            MissingPartError: If a folder holds no features.
            ConfigError: If a folder's features are unfinished.
            IntegrityError: If a shard is missing or has the wrong length. One whose bytes differ
                from its checksum is reported when it is first read.
        """
        self.folders = tuple(folders)
        self.description: list[Any] = []
        self.attribution: list[str] = []
        self._shards: list[pa.RecordBatch] = []
        self._latents_fit: list[bool] = []
        self._of_row: list[tuple[Path, str | None]] = []
        self._intact: set[Path] = set()
        for folder in folders:
            description = read_description(folder)
            shards = shards_of(folder, description)
            listed = folder / ATTRIBUTION_FILE
            self.attribution.append(read_text(listed) if listed.is_file() else "")
            self.description.append(description)
            of = description.get("autoencoder_sha256")
            fit = autoencoder_sha256 is None or of == autoencoder_sha256
            if of is not None and not fit:
                _log.warning("%s: latents of another autoencoder are not used", folder)
            for path, sha256 in shards:
                with arrow_file(path, "a shard of features"):
                    reader = pa.ipc.open_file(pa.memory_map(str(path)))
                    self._shards += [reader.get_batch(i) for i in range(reader.num_record_batches)]
                self._latents_fit += [fit] * reader.num_record_batches
                self._of_row += [(path, sha256)] * reader.num_record_batches
        self.durations_s = [float(shard["duration_s"][0].as_py()) for shard in self._shards]
        self.has_video = [shard["sync"][0].is_valid for shard in self._shards]
        # Older stores do not have the column.
        self.qualities: list[float | None] = [
            shard["quality"][0].as_py() if "quality" in shard.schema.names else None
            for shard in self._shards
        ]

    @cached_property
    def sha256(self) -> list[str]:
        """Digests of the rows of each folder."""
        return [store_sha256(folder) for folder in self.folders]

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> ClipFeatures:
        return self._clip(index, self.pcm_N(index).astype(np.float32) / np.float32(32767))

    def pcm_N(self, index: int) -> NDArray[np.int16]:
        """Return the stored waveform, read-only; full scale is 32767."""
        self._check(index)
        return np.frombuffer(self._shards[index]["sound"][0].as_buffer(), dtype="<i2")

    def without_sound(self, index: int) -> ClipFeatures:
        """Read a clip without its waveform, which is faster."""
        return self._clip(index, np.zeros(0, np.float32))

    def _check(self, index: int) -> None:
        """Compare a clip's shard with its checksum when the first of its clips is read.

        Raises:
            IntegrityError: They differ.
        """
        path, sha256 = self._of_row[index]
        if path in self._intact:
            return
        if sha256 is not None and file_sha256(path) != sha256:
            raise IntegrityError(
                f"{path} is damaged: its checksum is not that of the index; delete it and run the "
                "command that made the features again"
            )
        self._intact.add(path)

    def _clip(self, index: int, sound_N: NDArray[np.float32]) -> ClipFeatures:
        self._check(index)
        shard = self._shards[index]
        row = {n: shard[n][0].as_py() for n in shard.schema.names if n != "sound"}
        return ClipFeatures(
            clip_id=row["clip_id"],
            duration_s=row["duration_s"],
            sound_N=sound_N,
            texts=tuple(_text(t, row.get("text_dim") or TEXT_DIM) for t in row["texts"]),
            vision_TV=_matrix(row["vision"], row["vision_dim"]),
            sync_LS=_matrix(row["sync"], row["sync_dim"]),
            classes=tuple(row["classes"]),
            valid_s=row.get("valid_s"),
            latents_LC=(
                _matrix(row.get("latents"), row.get("latents_dim"))
                if self._latents_fit[index]
                else None
            ),
            quality=row.get("quality"),
            source=row.get("source") or "",
            pictured=tuple(row.get("pictured") or ()),
        )


def _text(row: Mapping[str, Any], width: int) -> TextFeatures:
    ids = row.get("token_ids")
    return TextFeatures(
        role=row["role"],
        text=row["text"],
        states_TE=np.frombuffer(row["states"], dtype="<f2").reshape(-1, width),
        token_ids_T=None if ids is None else np.array(ids, dtype=np.int32),
    )


def _matrix(data: bytes | None, width: int | None) -> NDArray[np.float16] | None:
    return None if data is None else np.frombuffer(data, dtype="<f2").reshape(-1, width or 1)
