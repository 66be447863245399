"""Off-screen sound by synthesis: music mixed under a clip's own sound.

In:   a clip's sound, a piece of music, a draw.
Out:  the mix; the draw records everything that it is made of.

Signal-to-noise ratio: mean power of the clip's own sound over that of the music, over the span
in which the music plays. The mix keeps the clip's rate and is mono; a mix beyond full scale is
scaled down as a whole, and the factor is recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from omni2sound.bench.metrics.onset import is_silent
from omni2sound.data.corpora.manifest import Clip, Manifest
from omni2sound.errors import UserError
from omni2sound.media.audio import read_audio, write_audio
from omni2sound.media.samples import Audio

CAPTION = "{caption} In the background, unseen, music plays: {music}"
_FADE_S = 0.05
_PEAK = 0.999


@dataclass(frozen=True, kw_only=True, slots=True)
class MixPlan:
    """Distribution of the mixes; the paper gives none, so these are chosen.

    Raises:
        UserError: A number is out of range.
    """

    count: int
    seed: int
    lowest_snr_db: float = -5.0
    highest_snr_db: float = 10.0
    latest_onset_share: float = 0.5
    """Latest onset of the music, as a share of the clip."""

    def __post_init__(self) -> None:
        if self.count < 0 or self.seed < 0 or self.lowest_snr_db > self.highest_snr_db:
            raise UserError(f"mixes: expected a count and a seed >= 0 and an SNR range, got {self}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MusicDraw:
    """The piece of a mix, its level and its position."""

    music_id: str
    music_caption: str
    snr_db: float
    onset_s: float
    music_start_s: float
    """Start of the excerpt within the piece."""

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON data for the clip's origin."""
        return asdict(self)


def choose_clips(clip_ids: Sequence[str], plan: MixPlan) -> list[str]:
    """Choose clips that get music, by digest of seed and id: a missing clip moves no other."""
    return sorted(clip_ids, key=lambda i: hashlib.sha256(f"{plan.seed}/{i}".encode()).digest())[
        : plan.count
    ]


def draw_music(clip_id: str, duration_s: float, music: Sequence[Clip], plan: MixPlan) -> MusicDraw:
    """Draw piece, level and position for one clip.

    Raises:
        UserError: No piece of music has a caption.
    """
    pieces = sorted((m for m in music if m.captions), key=lambda m: m.clip_id)
    if not pieces:
        raise UserError("the music manifest has no clip with a caption")
    digest = hashlib.sha256(f"{plan.seed}/mix/{clip_id}".encode()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    piece = pieces[int(rng.integers(len(pieces)))]
    spare_s = max(0.0, (piece.duration_s or 0.0) - duration_s)
    return MusicDraw(
        music_id=piece.clip_id,
        music_caption=piece.captions[0],
        snr_db=round(float(rng.uniform(plan.lowest_snr_db, plan.highest_snr_db)), 2),
        onset_s=round(float(rng.uniform(0, plan.latest_onset_share * duration_s)), 3),
        music_start_s=round(piece.start_s + float(rng.uniform(0, spare_s)), 3),
    )


def mix_music(
    sound: Path, duration_s: float, music: Manifest, draw: MusicDraw, target: Path
) -> float:
    """Write the mix of a clip's sound and an excerpt of music.

    Returns:
        The factor by which the mix was scaled; 1 if it fits full scale.

    Raises:
        UserError: The clip or the piece is silent where they overlap.
        MediaError: A file can't be read.
    """
    own = read_audio(sound, mono=True, duration_s=Fraction(duration_s))
    rate_hz = own.sample_rate_hz
    piece = next(c for c in music.clips if c.clip_id == draw.music_id)
    played = read_audio(
        music.media / piece.sound_file,
        sample_rate_hz=rate_hz,
        mono=True,
        start_s=Fraction(draw.music_start_s),
        duration_s=Fraction(duration_s - draw.onset_s),
    ).samples_CN[0]
    own_N = own.samples_CN[0].astype(np.float64)
    first = round(draw.onset_s * rate_hz)
    played_N = played[: len(own_N) - first].astype(np.float64)
    span = slice(first, first + len(played_N))
    if not len(played_N) or is_silent(own_N[span], rate_hz) or is_silent(played_N, rate_hz):
        raise UserError("the clip or the music is silent where they overlap")
    fade = min(len(played_N), round(_FADE_S * rate_hz))
    played_N[:fade] *= np.linspace(0, 1, fade)
    power = float(np.mean(own_N[span] ** 2)) / float(np.mean(played_N**2))
    own_N[span] += played_N * np.sqrt(power * 10 ** (-draw.snr_db / 10))
    factor = min(1.0, _PEAK / float(np.abs(own_N).max()))
    mix = Audio(samples_CN=(own_N * factor).astype(np.float32)[None], sample_rate_hz=rate_hz)
    write_audio(target, mix, overwrite=True)
    return factor
