"""Stems of an edited sound: the old ones give way in the ranges, and what is new is one more.

In:   a take with stems beside it; its edit, and how much of the given sound each sample keeps.
Out:  stems that add up to the edited sound to the last bit.

What not to get wrong: stems add up to the mix before the limiter, and samples of the edit outside
of the ranges are those of the file. So the file has to hold just that sum, or what the limiter
makes of it: the limiter looks ahead less than the soft edges of a range are wide, so it does the
same to both outside of them.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from omni2sound.errors import UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.edit import Edited
from omni2sound.generate.edit.source import Source
from omni2sound.generate.output import OutputOptions
from omni2sound.generate.stems.description import MixedStem
from omni2sound.generate.stems.exact import STEP, add, rounded, step_for
from omni2sound.generate.stems.mix import mix_stems, open_mix
from omni2sound.generate.stems.remix import Mixing
from omni2sound.generate.stems.sources import Source as StemSource
from omni2sound.generate.stems.sources import Stem
from omni2sound.media.loudness.level import level
from omni2sound.media.samples import Audio, as_stereo, fit_length

_NAME = "edited"
_NOT_KEPT = ("stems", "notes", "request_sha256")
"""Facts of how old stems were made that an edit changes."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeptStems:
    """Stems of a sound that is edited."""

    mixing: Mixing
    sounds: Mapping[str, Audio]
    """By the names of the stems; of one rate and shape."""
    audio: Audio
    """Their sum."""

    @classmethod
    def of(cls, source: Source, asked: Edit, options: OutputOptions) -> KeptStems:
        """Read the stems beside a sound.

        Args:
            source: The sound; there is a folder of stems beside it.
            asked: What is to be changed.
            options: How the edit is written; from `check_edit`.

        Raises:
            MediaError: A stem can't be read.
            ConfigError: The description does not hold together.
            UserError: The edit can't have stems; the message says why.
        """
        folder, description = open_mix(source.path)
        if not asked.ranges:
            raise UserError("all of it is new")
        for stem in description.stems:
            if replace(_bare(stem), seed=stem.seed) != stem:
                raise UserError("those of its sound have gains, places or rooms")
        mixing = Mixing.read(folder, description)
        sounds = mixing.sounds
        if any(sound.num_channels > 1 for sound in sounds.values()):
            sounds = {name: as_stereo(sound) for name, sound in sounds.items()}
        audio = mix_stems(description, sounds)
        under_limiter, leveling = level(audio)
        if leveling.gain_db < 0:
            raise UserError("its sound was lowered as a whole, since its peaks are too high")
        written = replace(audio, samples_CN=np.concatenate(list(under_limiter.read()), axis=1))
        is_sum = audio.samples_CN.shape == source.audio.samples_CN.shape and np.array_equal(
            _in_bits(written, source.bits), source.audio.samples_CN
        )
        if not is_sum or audio.sample_rate_hz != source.audio.sample_rate_hz:
            raise UserError(
                "its sound is not just their sum: it was leveled or coded, or a stem was changed"
            )
        if options.bits not in (None, source.bits):
            raise UserError(f"its sound has {source.bits} bits, and the edit {options.bits}")
        sounds = {name: fit_length(sound, audio.num_samples) for name, sound in sounds.items()}
        return cls(mixing=mixing, sounds=sounds, audio=audio)

    def after(self, made: Edited, asked: Edit) -> tuple[Audio, tuple[Stem, ...]]:
        """Return the edited sound, and stems that add up to it.

        Raises:
            UserError: No grid holds them all.
        """
        taken = {stem.name for stem in self.mixing.description.stems}
        name = next(n for k in count(1) if (n := f"{_NAME}-{k}" if k > 1 else _NAME) not in taken)
        num_samples = made.audio.num_samples
        longer = {n: fit_length(sound, num_samples) for n, sound in self.sounds.items()}
        kept = {n: replace(s, samples_CN=s.samples_CN * made.kept_N) for n, s in longer.items()}
        # Any sum of some of them, in any order, is at most as large as they are together.
        left = [sound.samples_CN for sound in kept.values()]
        new_CN = made.audio.samples_CN - sum(left)
        together_CN = sum((np.abs(x_CN) for x_CN in left), np.abs(new_CN))
        step = step_for([float(together_CN.max(initial=0.0))] + [STEP] * len(left))
        if not np.array_equal(rounded(self.audio.samples_CN, step), self.audio.samples_CN):
            raise UserError("they are too loud to add up to the last bit")
        audio = replace(made.audio, samples_CN=rounded(made.audio.samples_CN, step))
        kept = {n: replace(s, samples_CN=rounded(s.samples_CN, step)) for n, s in kept.items()}
        rest = add(list(kept.values()))
        new = replace(audio, samples_CN=audio.samples_CN - rest.samples_CN)
        stems = [
            Stem(source=_source_of(stem), seed=stem.seed or 0, audio=kept[stem.name])
            for stem in self.mixing.description.stems
        ]
        spans = tuple((span.start_s, span.end_s) for span in made.ranges)
        text = asked.prompt or ", ".join(dict.fromkeys(cue.text for cue in asked.cues)) or None
        source = StemSource(name=name, text=text, spans=spans)
        return audio, (*stems, Stem(source=source, seed=made.seed, audio=new))

    def made_after(self, stems: tuple[Stem, ...], request_sha256: str) -> dict[str, Any]:
        """Return what the description of the new stems says of how the old ones were made.

        Args:
            stems: From `after`.
            request_sha256: Digest of the edit.
        """
        made, new = self.mixing.made, stems[-1].source
        spans = [list(span) for span in new.spans]
        return {
            **{n: fact for n, fact in self.mixing.description.made.items() if n not in _NOT_KEPT},
            "request_sha256": request_sha256,
            "edits": [*made.edits, new.name],
            "cut": {s.source.name: [*made.cut.get(s.source.name, ()), *spans] for s in stems[:-1]},
        }


def _bare(stem: MixedStem) -> MixedStem:
    """The stem as it was made."""
    return MixedStem(
        name=stem.name, file=stem.file, text=stem.text, spans=stem.spans, at_s=stem.at_s
    )


def _source_of(stem: MixedStem) -> StemSource:
    return StemSource(name=stem.name, text=stem.text, spans=stem.spans, at_s=stem.at_s)


def _in_bits(audio: Audio, bits: int) -> Any:
    """The samples as a file of as many bits gives them back."""
    if bits == 32:
        return audio.samples_CN
    full = 2.0 ** (bits - 1)
    steps_CN = np.floor(audio.samples_CN.astype(np.float64) * full + 0.5)
    return (np.clip(steps_CN, -full, full - 1) / full).astype(np.float32)
