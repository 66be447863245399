"""Everything frozen encoders say about a clip, computed once and read at random.

In:   clips: waveforms, captions, and for videos their frames.
Out:  a folder of Arrow files with one row per clip, memory-mapped by `FeatureStore`.

A row keeps the *waveform* (latents are made after augmentation and mixing, since latents
don't mix) and the encoder states of every text that training may need: captions, the same
with words dropped, and captions of the off-screen mix.

Shards are written whole under their final name only; a second run makes what is missing.
`store.json` records what the features depend on, and a store that was made from something
else is refused. Reading imports NumPy and pyarrow only.

Shape suffixes: N samples, T tokens, L latent frames, E V S features.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from omni2sound.errors import ConfigError, MissingPartError
from omni2sound.runtime import atomic_path
from omni2sound.weights import ATTRIBUTION_FILE

__all__ = ["ClipFeatures", "FeatureStore", "TextFeatures", "describe_store", "write_shard"]

DESCRIPTION = "store.json"
_TEXT = pa.struct([("role", pa.string()), ("text", pa.string()), ("states", pa.binary())])
_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("duration_s", pa.float64()),
        ("sound", pa.binary()),
        ("offscreen", pa.binary()),
        ("texts", pa.list_(_TEXT)),
        ("vision", pa.binary()),
        ("vision_dim", pa.int32()),
        ("sync", pa.binary()),
        ("sync_dim", pa.int32()),
        ("classes", pa.list_(pa.string())),
        ("quality", pa.float32()),
    ]
)
TEXT_DIM = 384
"""Features of a text token; the embedded encoder's."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextFeatures:
    """One text and its encoder states.

    Attributes:
        role: "caption", "dropped" (words removed) or "offscreen" (tells the mix).
        text: The words.
        states_TE: float16 token states without padding.
    """

    role: str
    text: str
    states_TE: NDArray[np.float16]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipFeatures:
    """One row of a store.

    Attributes:
        clip_id: Unique in the store.
        duration_s: Length of the clip.
        sound_N: float32 waveform of what a V2A target holds, 16 kHz.
        offscreen_N: float32 waveform that off-screen synthesis may add, or None.
        texts: Every text that may go with the clip.
        vision_TV: Picture features, or None without video.
        sync_LS: Sync features, or None without video.
        classes: Class ids of the clip's events, for balance and reports.
        quality: How well sound and caption agree, on the scale of whoever scored them (higher
            is better); None if nobody did.
    """

    clip_id: str
    duration_s: float
    sound_N: NDArray[np.float32]
    offscreen_N: NDArray[np.float32] | None
    texts: tuple[TextFeatures, ...]
    vision_TV: NDArray[np.float16] | None
    sync_LS: NDArray[np.float16] | None
    classes: tuple[str, ...]
    quality: float | None = None


def write_shard(path: Path, clips: Iterable[ClipFeatures]) -> None:
    """Write one Arrow file whole or not at all."""
    table = pa.Table.from_pylist([_row(clip) for clip in clips], schema=_SCHEMA)
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as writer,
    ):
        writer.write_table(table, max_chunksize=1)  # one row a chunk: random access


def _row(clip: ClipFeatures) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "duration_s": clip.duration_s,
        "sound": _pcm(clip.sound_N),
        "offscreen": None if clip.offscreen_N is None else _pcm(clip.offscreen_N),
        "texts": [
            {"role": t.role, "text": t.text, "states": t.states_TE.astype("<f2").tobytes()}
            for t in clip.texts
        ],
        "vision": None if clip.vision_TV is None else clip.vision_TV.astype("<f2").tobytes(),
        "vision_dim": None if clip.vision_TV is None else clip.vision_TV.shape[1],
        "sync": None if clip.sync_LS is None else clip.sync_LS.astype("<f2").tobytes(),
        "sync_dim": None if clip.sync_LS is None else clip.sync_LS.shape[1],
        "classes": list(clip.classes),
        "quality": clip.quality,
    }


def _pcm(waveform_N: NDArray[np.float32]) -> bytes:
    return np.round(np.clip(waveform_N, -1, 1) * 32767).astype("<i2").tobytes()


def _from_pcm(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(32767)


def describe_store(folder: Path, description: Mapping[str, Any]) -> None:
    """Record what a store's features depend on, or check that it is still the same.

    Raises:
        ConfigError: If the folder holds features made from something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DESCRIPTION
    text = json.dumps(description, indent=2, sort_keys=True) + "\n"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != json.loads(text):
            changed = sorted(
                k for k in {*before, *description} if before.get(k) != description.get(k)
            )
            raise ConfigError(
                f"{folder} holds features made with another {', '.join(changed)}; use a new folder"
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class FeatureStore:
    """Random access to the clips of one or more store folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Map every shard into memory.

        Raises:
            MissingPartError: If a folder holds no features.
        """
        self.description: list[Any] = []
        self.attribution: list[str] = []
        self._shards: list[pa.RecordBatch] = []
        for folder in folders:
            paths = sorted(folder.glob("*.arrow"))
            if not paths or not (folder / DESCRIPTION).is_file():
                raise MissingPartError(
                    f"no features in {folder}; run: omni2sound data features --out {folder}"
                )
            listed = folder / ATTRIBUTION_FILE
            self.attribution.append(listed.read_text("utf-8") if listed.is_file() else "")
            self.description.append(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
            for path in paths:
                reader = pa.ipc.open_file(pa.memory_map(str(path)))
                self._shards += [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self.durations_s = [float(shard["duration_s"][0].as_py()) for shard in self._shards]
        self.has_video = [shard["sync"][0].is_valid for shard in self._shards]
        # Stores from before scores were kept do not have the column.
        self.qualities: list[float | None] = [
            shard["quality"][0].as_py() if "quality" in shard.schema.names else None
            for shard in self._shards
        ]
        self._offscreen: dict[float, list[int]] = {}
        for index, shard in enumerate(self._shards):
            if shard["offscreen"][0].is_valid:
                self._offscreen.setdefault(self.durations_s[index], []).append(index)

    def __len__(self) -> int:
        return len(self._shards)

    def with_offscreen(self, duration_s: float) -> Sequence[int]:
        """Clips of this length that have a sound for off-screen synthesis; may be none."""
        return self._offscreen.get(duration_s, ())

    @property
    def has_offscreen(self) -> bool:
        """Whether any clip has a sound for off-screen synthesis."""
        return bool(self._offscreen)

    def __getitem__(self, index: int) -> ClipFeatures:
        row = self._shards[index].to_pylist()[0]
        return ClipFeatures(
            clip_id=row["clip_id"],
            duration_s=row["duration_s"],
            sound_N=_from_pcm(row["sound"]),
            offscreen_N=None if row["offscreen"] is None else _from_pcm(row["offscreen"]),
            texts=tuple(
                TextFeatures(
                    role=t["role"],
                    text=t["text"],
                    states_TE=np.frombuffer(t["states"], dtype="<f2").reshape(-1, TEXT_DIM),
                )
                for t in row["texts"]
            ),
            vision_TV=_matrix(row["vision"], row["vision_dim"]),
            sync_LS=_matrix(row["sync"], row["sync_dim"]),
            classes=tuple(row["classes"]),
            quality=row.get("quality"),
        )


def _matrix(data: bytes | None, width: int | None) -> NDArray[np.float16] | None:
    return None if data is None else np.frombuffer(data, dtype="<f2").reshape(-1, width or 1)
