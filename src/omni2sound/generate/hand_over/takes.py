"""Takes of a hand-over: outputs of omni2sound, with their stems where they have some.

In:   files that `generate`, `edit` or `mix` wrote.
Out:  `Take`s at 48 kHz; the stems of each on the grid of 24 bits, so that they still add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from omni2sound.errors import UserError
from omni2sound.generate.edit.source import start_of
from omni2sound.generate.hand_over.bwf import RATE_HZ
from omni2sound.generate.output import read_sidecar
from omni2sound.generate.stems.exact import on_grid
from omni2sound.generate.stems.files import stems_folder
from omni2sound.generate.stems.mix import open_mix, read_stems
from omni2sound.media.audio import read_audio
from omni2sound.media.files import shown_name
from omni2sound.media.samples import Audio, resample


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Take:
    """One output."""

    name: str
    path: Path
    audio: Audio
    made: Mapping[str, Any]
    """What its sidecar says."""
    stems: Mapping[str, Audio]
    gain_db: float
    """By which all stems were lowered, so that the loudest fits into 24 bits."""
    texts: Mapping[str, str]
    """What each stem should hold."""

    @property
    def start_s(self) -> Fraction:
        """Where in the film it begins."""
        return Fraction(start_of(self.path, self.made)).limit_denominator(RATE_HZ)


def read_takes(paths: list[Path]) -> list[Take]:
    """Read takes, in order.

    Raises:
        MediaError: A file can't be read.
        UserError: A file has no sidecar or an odd one, or stems of another sound, or two have one
            name.
    """
    takes = [_read(path) for path in paths]
    names = [take.name for take in takes]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two takes are called {name!r}; rename one", field="takes")
    return takes


def _read(path: Path) -> Take:
    made = read_sidecar(path)
    if made is None:
        raise UserError(
            f"{shown_name(path)}: has no sidecar; give files that `omni2sound generate` wrote",
            field="takes",
        )
    start_of(path, made)
    audio = resample(read_audio(path), RATE_HZ)
    stems: dict[str, Audio] = {}
    texts: dict[str, str] = {}
    if stems_folder(path).is_dir():
        folder, description = open_mix(path)
        sounds = read_stems(folder, description)
        stems = {name: resample(sound, RATE_HZ) for name, sound in sounds.items()}
        texts = {stem.name: stem.text or stem.name for stem in description.stems}
    stems, gain_db = _fitted(stems)
    return Take(
        name=path.stem, path=path, audio=audio, made=made, stems=stems, gain_db=gain_db, texts=texts
    )


def _fitted(stems: Mapping[str, Audio]) -> tuple[dict[str, Audio], float]:
    """Stems within full scale and on one grid; halved all together as often as it takes."""
    peak = max((float(np.abs(s.samples_CN).max(initial=0.0)) for s in stems.values()), default=0.0)
    halvings = 0
    while peak * 0.5**halvings >= 1:
        halvings += 1
    scale = np.float32(0.5**halvings)
    scaled = [replace(s, samples_CN=s.samples_CN * scale) for s in stems.values()]
    return dict(zip(stems, on_grid(scaled), strict=True)), -20 * halvings * float(np.log10(2))
