"""What is kept of the stage table's sounds, batch by batch, so that a stopped run goes on.

In:   a folder; for each batch of clips what judges made of each system's sounds.
Out:  the same again, one system at a time.

A batch is two files: embeddings, then (written last, so that what has one is whole) the rest as
JSON. `settings.json` says what the run was asked; a folder of another run is refused.

Shape suffixes: N clips of a batch, P patches, D embedding, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from omni2sound.bench.metrics.copies import Nearness
from omni2sound.bench.metrics.scene_v1 import ClipScore
from omni2sound.bench.stats.frechet_sets import TaggerFeatures
from omni2sound.errors import UserError
from omni2sound.files import atomic_path

__all__ = ["KeptSound", "StageParts"]

SETTINGS = "settings.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptSound:
    """What is kept of one sound."""

    score: ClipScore
    heard: tuple[str, ...]
    """Classes that the first judge hears somewhere in it."""
    heard_2nd: tuple[str, ...]
    """The same of the second judge; nothing without one."""
    nearness: Nearness | None
    """None where it was not asked."""


class StageParts:
    """See the module's text."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Opens or makes the folder.

        Args:
            folder: Of this run.
            settings: What decides the numbers, as JSON data.

        Raises:
            UserError: The folder holds a run with other settings.
        """
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / SETTINGS
        asked = json.loads(json.dumps(settings))
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if changed := sorted(k for k in {**before, **asked} if before.get(k) != asked.get(k)):
                k = changed[0]
                raise UserError(
                    f"{folder}: holds another run, {k} {before.get(k)!r} and not "
                    f"{asked.get(k)!r}; choose another --out"
                )
            return
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")

    def has(self, track: str, first: int) -> bool:
        """Whether the batch that begins with clip `first` is there."""
        return self._path(track, first).is_file()

    def write(
        self,
        track: str,
        first: int,
        sounds: Mapping[str, Sequence[KeptSound]],
        judged: Mapping[tuple[str, str], Sequence[TaggerFeatures]],
    ) -> None:
        """Keeps one batch.

        Args:
            track: Its track.
            first: Index of its first clip.
            sounds: By system, one for each clip.
            judged: By judge and system, one for each clip.
        """
        tensors = {}
        for (judge, system), clips in judged.items():
            tensors[_key(judge, system, "embeddings")] = np.stack([c.embeddings_PD for c in clips])
            tensors[_key(judge, system, "logits")] = np.stack([c.logits_K for c in clips])
        path = self._path(track, first)
        with atomic_path(path.with_suffix(".safetensors")) as temporary:
            save_file(tensors, temporary)
        plain = {system: [asdict(s) for s in kept] for system, kept in sounds.items()}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(plain), encoding="utf-8")

    def sounds(self, track: str, firsts: Sequence[int]) -> dict[str, list[KeptSound]]:
        """Of all systems, over the batches that begin with these clips."""
        kept: dict[str, list[KeptSound]] = {}
        for first in firsts:
            told = json.loads(self._path(track, first).read_text(encoding="utf-8"))
            for system, batch in told.items():
                kept.setdefault(system, []).extend(_kept(one) for one in batch)
        return kept

    def judged(
        self, track: str, firsts: Sequence[int], judge: str, system: str
    ) -> Iterator[TaggerFeatures]:
        """One system's sounds as a judge heard them, clip by clip."""
        for first in firsts:
            path = self._path(track, first).with_suffix(".safetensors")
            with safe_open(path, framework="np") as file:
                embeddings_NPD = file.get_tensor(_key(judge, system, "embeddings"))
                logits_NK = file.get_tensor(_key(judge, system, "logits"))
            for embeddings_PD, logits_K in zip(embeddings_NPD, logits_NK, strict=True):
                yield TaggerFeatures(embeddings_PD=embeddings_PD, logits_K=logits_K)

    def _path(self, track: str, first: int) -> Path:
        return self._folder / f"{track}-{first:05d}.json"


def _key(judge: str, system: str, what: str) -> str:
    return f"{judge}/{system}/{what}"


def _kept(told: dict[str, Any]) -> KeptSound:
    score = {**told["score"], "own_offsets_s": tuple(told["score"]["own_offsets_s"])}
    nearness = None if told["nearness"] is None else Nearness(**told["nearness"])
    return KeptSound(
        score=ClipScore(**score),
        heard=tuple(told["heard"]),
        heard_2nd=tuple(told["heard_2nd"]),
        nearness=nearness,
    )
