"""One clip of a feature store, whose values are read when they are used.

In:   a mapped shard, the number of a row.
Out:  `StoredClip` with the attributes of `rows.ClipFeatures`.

Steps of text to audio read no pictures, steps on stored latents no waveform, and of several
captions only the one that was drawn is read. Each value is compared with its checksum.

Shape suffixes: N samples, T tokens, L latent frames, C latent channels, E V S features.
"""

from __future__ import annotations

import json
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from omni2sound.data.store.shards import LARGE, SCHEMA, Shard
from omni2sound.errors import ConfigError, IntegrityError

SMALL = (
    "clip_id",
    "duration_s",
    "valid_s",
    "quality",
    "classes",
    "pictured",
    "source",
    "text_dim",
    "vision_dim",
    "sync_dim",
    "latents_dim",
)
"""Columns that describe a clip."""
TEXT_DIM = 384
"""Width of text states in stores without a format number; that of the embedded encoder."""


_IN_HEAD = (*SMALL, "texts.role", "texts.text", "texts.token_ids")
_PLACES = tuple(SCHEMA.get_field_index(name) for name in (*SMALL, "texts"))


def head_of(batch: pa.RecordBatch, row: int, *, texts: pa.StructArray | None = None) -> list[Any]:
    """Return the values of `SMALL` in a row, then roles, texts and token ids of its texts.

    Args:
        batch: Rows of this release.
        row: Place in the batch.
        texts: The texts of the row, if they are known already.
    """
    *small, place = _PLACES
    if texts is None:
        texts = batch.column(place)[row].values
    values = [batch.column(column)[row].as_py() for column in small]
    return [*values, *(column.to_pylist() for column in texts.flatten()[:3])]


def head_crc(head: list[Any]) -> int:
    """Return the checksum of all that is small in a row."""
    return zlib.crc32(json.dumps(head).encode())


class StoredClip:
    """A clip of a store; each value is read, and compared with its checksum, when it is used.

    Its attributes are those of `ClipFeatures`, and `pcm_N`.
    """

    def __init__(self, shard: Shard, row: int, *, latents_fit: bool) -> None:
        self._shard = shard
        self._number, self._row = shard.place(row)
        self._batch = shard.batch(self._number)
        self._latents_fit = latents_fit
        self._head: dict[str, Any] = {}
        self._texts: pa.StructArray = self._batch.column(shard.columns["texts"])[self._row].values
        self.sums = self._value("crc32")
        if self.sums is not None:
            head = head_of(self._batch, self._row, texts=self._texts)
            if head_crc(head) != self.sums[0]:
                raise damaged(shard.path)
            self._head = dict(zip(_IN_HEAD, head, strict=True))

    def _value(self, name: str) -> Any:
        if name in self._head:
            return self._head[name]
        place = self._shard.columns.get(name)
        return None if place is None else self._batch.column(place)[self._row].as_py()

    def _bytes(self, value: pa.Scalar, number: int) -> pa.Buffer | None:
        """Return the bytes of a large value without copying them."""
        if not value.is_valid:
            return None
        buffer = value.as_buffer()
        self._shard.will_need(buffer)
        if self.sums is not None and zlib.crc32(buffer) != self.sums[number]:
            raise damaged(self._shard.path)
        return buffer

    def _large(self, name: str) -> pa.Buffer | None:
        column = self._shard.large(self._number, name)
        if column is None:
            return None
        return self._bytes(column[self._row], 1 + LARGE.index(name))

    def _matrix(self, name: str) -> NDArray[np.float16] | None:
        data = self._large(name)
        width = self._value(f"{name}_dim") or 1
        return None if data is None else self._rows(data, "<f2", width)

    def _rows(self, data: pa.Buffer, dtype: str, width: int) -> NDArray[Any]:
        """Numbers of a value as (rows, width)."""
        num_bytes = np.dtype(dtype).itemsize * max(width, 0)
        if not num_bytes or len(data) % num_bytes:
            reason = f"{len(data)} bytes are no rows of {width} numbers"
            raise ConfigError(f"{self._shard.path}: not a shard of features ({reason})")
        return np.frombuffer(data, dtype=dtype).reshape(-1, width)

    @cached_property
    def clip_id(self) -> str:
        """Id in the store."""
        return str(self._value("clip_id"))

    @cached_property
    def duration_s(self) -> float:
        """Length of the clip, with padding."""
        return float(self._value("duration_s"))

    @cached_property
    def pcm_N(self) -> NDArray[np.int16]:
        """The stored waveform, read-only; full scale is 32767."""
        return self._rows(self._large("sound") or pa.py_buffer(b""), "<i2", 1)[:, 0]

    @cached_property
    def sound_N(self) -> NDArray[np.float32]:
        """float32 waveform."""
        return self.pcm_N.astype(np.float32) / np.float32(32767)

    @property
    def texts(self) -> tuple[StoredText, ...]:
        """Captions of the clip."""
        # Not kept: they hold the clip, and in a circle its shard would stay mapped for long.
        width = self._value("text_dim") or TEXT_DIM
        return tuple(StoredText(self, k, width) for k in range(len(self._texts)))

    def _text_value(self, name: str, number: int) -> Any:
        """Return what is small of a text: its role, words, or token ids."""
        known = self._head.get(f"texts.{name}")
        return self._texts.field(name)[number].as_py() if known is None else known[number]

    @cached_property
    def vision_TV(self) -> NDArray[np.float16] | None:
        """Picture features, or None without video."""
        return self._matrix("vision")

    @cached_property
    def sync_LS(self) -> NDArray[np.float16] | None:
        """Sync features, or None without video."""
        return self._matrix("sync")

    @cached_property
    def latents_LC(self) -> NDArray[np.float16] | None:
        """Latents of the waveform as it is, or None."""
        return self._matrix("latents") if self._latents_fit else None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class ids of the clip's events."""
        return tuple(self._value("classes"))

    @cached_property
    def pictured(self) -> tuple[str, ...]:
        """Class ids of the picture."""
        return tuple(self._value("pictured") or ())

    @cached_property
    def valid_s(self) -> float | None:
        """Where padding begins; None without padding."""
        value: float | None = self._value("valid_s")
        return value

    @cached_property
    def quality(self) -> float | None:
        """Score of sound and caption, or None."""
        value: float | None = self._value("quality")
        return value

    @cached_property
    def source(self) -> str:
        """Source of the clip, or empty."""
        return self._value("source") or ""


class StoredText:
    """A text of a stored clip; its attributes are those of `TextFeatures`, states read late."""

    def __init__(self, clip: StoredClip, number: int, width: int) -> None:
        self._clip, self._number, self._width = clip, number, width
        self.role = str(clip._text_value("role", number))
        self.text = str(clip._text_value("text", number))

    @cached_property
    def states_TE(self) -> NDArray[np.float16]:
        """Token states without padding."""
        states = self._clip._texts.field("states")[self._number]
        data = self._clip._bytes(states, 1 + len(LARGE) + self._number)
        return self._clip._rows(data or pa.py_buffer(b""), "<f2", self._width)

    @cached_property
    def token_ids_T(self) -> NDArray[np.int32] | None:
        """Ids that the encoder read, or None."""
        if self._clip._texts.type.get_field_index("token_ids") < 0:
            return None
        ids = self._clip._text_value("token_ids", self._number)
        return None if ids is None else np.array(ids, dtype=np.int32)


def damaged(path: Path) -> IntegrityError:
    """Return the error of a shard whose bytes are not those that were written."""
    return IntegrityError(
        f"{path} is damaged: its checksum is not that of the index; delete it and run the "
        "command that made the features again"
    )
