"""The clips that a system did best and worst on, ready to be looked at and listened to.

In:   a scored run, its track.
Out:  `Example`s: caption, pictures, sounds and spectrograms as bytes.

What decides: for systems that see the video of a stage clip, the clip's onset F1 within 100 ms;
for all others KL to the real sound by the first tagger. Ties go to the smaller KL, then to
the clip's name, so that a report does not change from one printing to the next.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from omni2sound.bench.scoring.evaluate import ClipRecord
from omni2sound.bench.systems.folder import SoundFile
from omni2sound.bench.systems.system import System
from omni2sound.bench.tracks.scenes import read_truth
from omni2sound.bench.tracks.track import Track, TrackClip
from omni2sound.media.audio import read_audio, write_audio
from omni2sound.media.spectrogram import colours_of, log_spectrogram_FT
from omni2sound.media.video import iter_frames

NUM_EACH = 2
_STRIP_FRAMES, _STRIP_PX = 8, 72
_SPECTROGRAM_PX = (560, 110)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Example:
    """One clip of one system."""

    verdict: Literal["best", "worst"]
    system: str
    task: str
    clip: TrackClip
    measured: str
    """What put it here, in words."""
    strip_jpeg: bytes | None
    made_flac: bytes
    made_png: bytes
    real_flac: bytes
    real_png: bytes
    onsets_s: tuple[float, ...]
    """True ones, on stage tracks."""


def choose_examples(
    track: Track,
    systems: Sequence[System],
    records: Sequence[ClipRecord],
    *,
    num_each: int = NUM_EACH,
) -> list[Example]:
    """Best and worst clips of every system that is no baseline."""
    clips = {c.clip_id: c for c in track.clips}
    real = {c.clip_id: track.path(c.audio) for c in track.clips}
    examples: list[Example] = []
    for system in systems:
        if system.is_baseline or system.is_variant:
            continue
        own = [r for r in records if (r.system, r.task) == system.key]
        ranked = sorted(own, key=_rank)
        # A clip is never both best and worst.
        count = min(num_each, len(ranked) // 2)
        chosen: list[tuple[Literal["best", "worst"], ClipRecord]] = [
            *(("best", r) for r in ranked[:count]),
            *(("worst", r) for r in reversed(ranked[len(ranked) - count :])),
        ]
        examples += [
            _example(track, system, clips[r.clip_id], r, verdict, real[r.clip_id])
            for verdict, r in chosen
        ]
    return examples


def _f1(record: ClipRecord) -> float | None:
    if record.stage is None or record.task == "T2A":
        return None
    asked = record.stage.num_found + record.stage.num_true
    return 2 * record.stage.pairs / asked if asked else None


def _kl(record: ClipRecord) -> float:
    return next(iter(record.kl.values()), 0.0)


def _rank(record: ClipRecord) -> tuple[float, float, str]:
    f1 = _f1(record)
    return (0.0 if f1 is None else -f1, _kl(record), record.clip_id)


def _example(
    track: Track,
    system: System,
    clip: TrackClip,
    record: ClipRecord,
    verdict: Literal["best", "worst"],
    real: Path,
) -> Example:
    f1 = _f1(record)
    values = [] if f1 is None else [f"onset F1 {f1:.2f}"]
    values.append(f"KL {_kl(record):.2f}")
    made: SoundFile = system.sounds[clip.clip_id]
    onsets: tuple[float, ...] = ()
    if clip.truth is not None:
        onsets = tuple(e.onset_s for e in read_truth(track.path(clip.truth))[1])
    return Example(
        verdict=verdict,
        system=system.name,
        task=system.task or "",
        clip=clip,
        measured=", ".join(values),
        strip_jpeg=None if clip.video is None else _strip(track.path(clip.video), clip.duration_s),
        made_flac=flac_bytes(made.path, clip.duration_s),
        made_png=spectrogram_png(made.path, clip.duration_s),
        real_flac=flac_bytes(real, clip.duration_s),
        real_png=spectrogram_png(real, clip.duration_s),
        onsets_s=onsets,
    )


def flac_bytes(path: Path, duration_s: float) -> bytes:
    """The first seconds of any file's sound, as FLAC: without loss, and every browser plays it."""
    audio = read_audio(path, duration_s=Fraction(duration_s))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sound.flac"
        write_audio(target, audio)
        return target.read_bytes()


def spectrogram_png(path: Path, duration_s: float) -> bytes:
    """Its spectrogram over the clip's length; a shorter sound ends in silence."""
    audio = read_audio(path, sample_rate_hz=16_000, mono=True, duration_s=Fraction(duration_s))
    samples_N = np.zeros(round(duration_s * 16_000), np.float32)
    samples_N[: audio.samples_CN.shape[1]] = audio.samples_CN[0][: len(samples_N)]
    width, height = _SPECTROGRAM_PX
    return _encoded(
        Image.fromarray(colours_of(log_spectrogram_FT(samples_N, 16_000, height, width))).quantize(
            64
        ),
        "PNG",
    )


def _strip(path: Path, duration_s: float) -> bytes:
    rate = Fraction(_STRIP_FRAMES) / Fraction(duration_s)
    frames = list(iter_frames(path, fps=rate, duration_s=Fraction(duration_s)))
    pictures = [Image.fromarray(f) for f in frames[:_STRIP_FRAMES]]
    width = round(pictures[0].width * _STRIP_PX / pictures[0].height)
    strip = Image.new("RGB", (width * len(pictures), _STRIP_PX))
    for k, picture in enumerate(pictures):
        strip.paste(picture.resize((width, _STRIP_PX), Image.Resampling.LANCZOS), (k * width, 0))
    return _encoded(strip, "JPEG")


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()
