"""Takes of a hand-over: outputs of omni2sound, with their stems where they have some.

In:   files that `generate`, `edit` or `mix` wrote.
Out:  `Take`s, and their sounds at 48 kHz in blocks, so that no take is held as a whole; the stems
      of each on the grid of 24 bits, so that they still add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from omni2sound.errors import UserError
from omni2sound.generate.edit.source import start_of
from omni2sound.generate.hand_over.bwf import RATE_HZ
from omni2sound.generate.output import read_sidecar
from omni2sound.generate.stems.exact import peak_of, rounded, step_for
from omni2sound.generate.stems.files import stems_folder
from omni2sound.generate.stems.mix import check_stems, open_mix
from omni2sound.media.copy.track_sound import read_track
from omni2sound.media.files import shown_name
from omni2sound.media.long_sound import Block, change, resampled
from omni2sound.media.samples import Sound


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """One output."""

    name: str
    path: Path
    made: Mapping[str, Any]
    """What its sidecar says."""
    stems: Mapping[str, Path]
    texts: Mapping[str, str]
    """What each stem should hold."""

    @property
    def start_s(self) -> Fraction:
        """Where in the film it begins."""
        return Fraction(start_of(self.path, self.made)).limit_denominator(RATE_HZ)

    def open(self) -> TakeSound:
        """Open its sounds.

        Raises:
            MediaError: A file can't be read.
            UserError: Stems differ in rate, or one has more than two channels.
        """
        stems = {name: read_track(path).sound for name, path in self.stems.items()}
        check_stems(stems)
        fitted, gain_db = _fitted({n: resampled(sound, RATE_HZ) for n, sound in stems.items()})
        sound = resampled(read_track(self.path).sound, RATE_HZ)
        return TakeSound(sound=sound, stems=fitted, gain_db=gain_db)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TakeSound:
    """The sounds of a take at 48 kHz."""

    sound: Sound
    stems: Mapping[str, Sound]
    gain_db: float
    """By which all stems were lowered, so that the loudest fits into 24 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenTake:
    """A take whose files lie in the folder."""

    take: Take
    num_samples: int
    gain_db: float
    files: Mapping[str | None, str]
    """Relative paths of the take (None) and of each of its stems."""
    markers: Sequence[tuple[float, str]]
    """Seconds from its beginning, and names, of onsets."""

    @property
    def end_s(self) -> Fraction:
        """Where in the film it ends."""
        return self.take.start_s + Fraction(self.num_samples, RATE_HZ)


def read_takes(paths: list[Path]) -> list[Take]:
    """Read what is known of takes, in order.

    Raises:
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
    stems: dict[str, Path] = {}
    texts: dict[str, str] = {}
    if stems_folder(path).is_dir():
        folder, description = open_mix(path)
        stems = {stem.name: folder / stem.file for stem in description.stems}
        texts = {stem.name: stem.text or stem.name for stem in description.stems}
    return Take(name=path.stem, path=path, made=made, stems=stems, texts=texts)


def _fitted(stems: Mapping[str, Sound]) -> tuple[dict[str, Sound], float]:
    """Stems within full scale and on one grid; halved all together as often as it takes."""
    peaks = [peak_of(sound) for sound in stems.values()]
    halvings = 0
    while max(peaks, default=0.0) * 0.5**halvings >= 1:
        halvings += 1
    scale = np.float32(0.5**halvings)
    step = step_for([peak * float(scale) for peak in peaks])

    def on_grid(sound: Sound) -> Sound:
        def read() -> Iterator[Block]:
            return (rounded(block_CN * scale, step) for block_CN in sound.read())

        return change(sound, read)

    gain_db = -20 * halvings * float(np.log10(2))
    return {name: on_grid(sound) for name, sound in stems.items()}, gain_db
