"""Files to features, as the protocol avbench-8s-v1 reads them.

In:   folders of sounds and of videos, captions, the judges at hand.
Out:  `SoundFeatures`, `VideoFeatures`: one entry per clip, in the order of file names.

What not to get wrong: a sound is made mono and loses its mean *before* it is resampled, with
torchaudio's filter; it is then cut to 8 s and never padded. For Synchformer it keeps its mean
and must last 8 s; ImageBind gets its first channel, whole. Pictures are those of ffmpeg's fps
filter. A clip that can't be judged is left out of that judge's features, and said so, where
the original silently takes its neighbour.

Shape suffixes: C channels, N samples, K classes, D features, S segments.
Source: hkchengrex/av-benchmark, commit 050a5cd, av_bench/data and extract*.py.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omni2sound.encoders.metric.clap import Clap
from omni2sound.encoders.metric.imagebind import ImageBind
from omni2sound.encoders.metric.panns import Panns
from omni2sound.encoders.metric.passt import Passt
from omni2sound.encoders.metric.spectra import resample
from omni2sound.encoders.metric.synchformer import Synchformer
from omni2sound.encoders.metric.vggish import Vggish
from omni2sound.encoders.pictures import crop_centre, resize_short_side
from omni2sound.encoders.synchformer import SynchformerVisual
from omni2sound.errors import MissingPartError, UserError
from omni2sound.media.audio import Audio, read_audio
from omni2sound.media.fps_filter import iter_filtered_frames

__all__ = [
    "DURATION_S",
    "Judges",
    "SoundFeatures",
    "VideoFeatures",
    "clip_at",
    "embed_captions",
    "embed_sound",
    "embed_sounds",
    "embed_videos",
    "list_files",
    "read_captions",
]

DURATION_S = 8
_SOUNDS = (".wav", ".flac")
_VIDEOS = (".mp4",)
_SYNC_PX = 224

OnClip = Callable[[int, int], None]
"""Told how many clips of how many are done."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judges:
    """The networks at hand; a score whose judge is None is left out."""

    panns: Panns | None = None
    passt: Passt | None = None
    vggish: Vggish | None = None
    clap: Clap | None = None
    sync: Synchformer | None = None
    imagebind: ImageBind | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a judge is None, by its name."""

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Judges:
        """Every judge whose files lie in the folder.

        Raises:
            MissingPartError: There is none.
            ConfigError: A file is not the network that it is named after.
            IntegrityError: A file is not the published one.
        """
        loaders: dict[str, Callable[..., object]] = {
            "panns": Panns.load,
            "passt": Passt.load,
            "vggish": Vggish.load,
            "clap": Clap.load,
            "sync": Synchformer.load,
            "imagebind": ImageBind.load,
        }
        found: dict[str, object] = {}
        missing: dict[str, str] = {}
        for name, load in loaders.items():
            try:
                found[name] = load(folder, device)
            except MissingPartError as error:
                missing[name] = str(error)
        if not found:
            raise MissingPartError(
                f"{folder} holds no judge's weights; see docs/guides/full-size.md"
            )
        return cls(**found, missing=missing)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SoundFeatures:
    """What the judges heard, by judge and then by clip.

    Attributes:
        names: Stems of all files, sorted.
        logits: "panns" and "passt": clip to (527,).
        embeddings: "panns", "passt", "clap", "imagebind": clip to (D,); "vggish": (E, 128);
            "sync": (24, 6, 768).
        dropped: PatchTagger to clip to the reason why it has no entry.
    """

    names: tuple[str, ...]
    logits: Mapping[str, Mapping[str, Tensor]]
    embeddings: Mapping[str, Mapping[str, Tensor]]
    dropped: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoFeatures:
    """What the judges saw: "sync" clip to (24, 8, 768), "imagebind" clip to (1024,)."""

    embeddings: Mapping[str, Mapping[str, Tensor]]
    dropped: Mapping[str, Mapping[str, str]]


def list_files(folder: Path, *, videos: bool = False) -> list[Path]:
    """Sounds (wav, flac) or videos (mp4) of a folder, by name.

    Raises:
        UserError: There is none, or two have one name.
    """
    suffixes = _VIDEOS if videos else _SOUNDS
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one with {', '.join(suffixes)} files")
    paths = sorted((p for p in folder.iterdir() if p.suffix in suffixes), key=lambda p: p.stem)
    stems = [path.stem for path in paths]
    if not paths:
        raise UserError(f"{folder} has no {', '.join(suffixes)} files")
    if len(set(stems)) != len(stems):
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        raise UserError(f"{folder} has two files of one name: {', '.join(twice)}")
    return paths


def read_captions(path: Path) -> dict[str, str]:
    """Captions by clip, of a CSV with the columns `name` and `caption`.

    Raises:
        UserError: It can't be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} can't be read: {error}") from None
    if not rows or not all(row.get("name") and row.get("caption") for row in rows):
        raise UserError(f"{path}: expected a CSV with the columns name and caption, none empty")
    return {row["name"]: row["caption"] for row in rows}


def clip_at(samples_CN: Tensor, from_hz: int, to_hz: int, *, remove_mean: bool = True) -> Tensor:
    """Mono samples (N,) at a judge's rate, the first 8 s of them; shorter clips stay shorter."""
    mono = samples_CN.mean(dim=0)
    if remove_mean:
        mono = mono - mono.mean()
    return resample(mono, from_hz, to_hz)[: to_hz * DURATION_S]


def embed_sounds(
    paths: Sequence[Path], judges: Judges, *, on_clip: OnClip | None = None
) -> SoundFeatures:
    """Let every judge hear every file.

    Args:
        paths: From `list_files`.
        judges: Those at hand.
        on_clip: Called after each clip.

    Raises:
        MediaError: A file can't be read.
    """
    features = _Collector()
    for count, path in enumerate(paths, start=1):
        _hear(read_audio(path), path.stem, judges, features)
        if on_clip is not None:
            on_clip(count, len(paths))
    return _sound_features([path.stem for path in paths], features)


def embed_sound(audio: Audio, name: str, judges: Judges) -> SoundFeatures:
    """Let every judge hear one sound."""
    features = _Collector()
    _hear(audio, name, judges, features)
    return _sound_features([name], features)


def _sound_features(names: Sequence[str], features: _Collector) -> SoundFeatures:
    return SoundFeatures(
        names=tuple(names),
        logits=features.logits,
        embeddings=features.embeddings,
        dropped=features.dropped,
    )


def _hear(audio: Audio, name: str, judges: Judges, features: _Collector) -> None:
    samples_CN, rate_hz = torch.from_numpy(audio.samples_CN), audio.sample_rate_hz
    for judge, tagger in (("panns", judges.panns), ("passt", judges.passt)):
        if tagger is not None:
            clip = clip_at(samples_CN, rate_hz, tagger.sample_rate_hz)
            features.take(judge, name, tagger.logits_and_embeddings, clip[None])
    if judges.vggish is not None:
        clip = clip_at(samples_CN, rate_hz, judges.vggish.sample_rate_hz)
        features.take("vggish", name, judges.vggish.embed, clip[None])
    if judges.clap is not None:
        clip = clip_at(samples_CN, rate_hz, judges.clap.sample_rate_hz)
        features.take("clap", name, judges.clap.embed_audio, clip[None])
    if judges.imagebind is not None:
        whole = resample(samples_CN[0], rate_hz, judges.imagebind.sample_rate_hz)
        features.take("imagebind", name, judges.imagebind.embed_audio, whole)
    if judges.sync is not None:
        rate = judges.sync.sample_rate_hz
        clip = clip_at(samples_CN, rate_hz, rate, remove_mean=False)
        if len(clip) < rate * DURATION_S:
            features.drop("sync", name, f"lasts {len(clip) / rate:.2f} s, not {DURATION_S}")
        else:
            features.take("sync", name, judges.sync.audio_features, clip)


def embed_videos(
    paths: Sequence[Path], judges: Judges, *, on_clip: OnClip | None = None
) -> VideoFeatures:
    """Let the judges that look see every video; one under 8 s is left out.

    Raises:
        MediaError: A file can't be read.
    """
    features = _Collector()
    for count, path in enumerate(paths, start=1):
        if judges.sync is not None:
            pictures = iter_filtered_frames(path, fps=SynchformerVisual.fps)
            cropped = [
                crop_centre(resize_short_side(torch.from_numpy(picture)[None], _SYNC_PX), _SYNC_PX)
                for picture in islice(pictures, SynchformerVisual.fps * DURATION_S)
            ]
            if len(cropped) < SynchformerVisual.fps * DURATION_S:
                features.drop("sync", path.stem, f"has {len(cropped)} pictures at 25 a second")
            else:
                clip = torch.cat(cropped)
                features.take("sync", path.stem, judges.sync.visual_features, clip)
        if judges.imagebind is not None:
            rate = Fraction(1, judges.imagebind.seconds_per_picture)
            wanted = int(DURATION_S * rate)
            pictures = islice(iter_filtered_frames(path, fps=rate), wanted)
            seen = [torch.from_numpy(picture) for picture in pictures]
            if len(seen) < wanted:
                features.drop("imagebind", path.stem, f"has {len(seen)} pictures, one in 2 s")
            else:
                features.take(
                    "imagebind", path.stem, judges.imagebind.embed_pictures, torch.stack(seen)
                )
        if on_clip is not None:
            on_clip(count, len(paths))
    return VideoFeatures(embeddings=features.embeddings, dropped=features.dropped)


def embed_captions(captions: Mapping[str, str], judges: Judges) -> dict[str, Tensor]:
    """Clip to (512,) of its caption.

    Raises:
        MissingPartError: CLAP is not at hand.
    """
    if judges.clap is None:
        raise MissingPartError(judges.missing.get("clap", "captions need CLAP"))
    return {name: judges.clap.embed_text([text])[0] for name, text in captions.items()}


class _Collector:
    """Entries as they come, and what was left out."""

    def __init__(self) -> None:
        self.logits: dict[str, dict[str, Tensor]] = {}
        self.embeddings: dict[str, dict[str, Tensor]] = {}
        self.dropped: dict[str, dict[str, str]] = {}

    def take(self, judge: str, name: str, ask: Callable[[Tensor], Any], clip: Tensor) -> None:
        """Keep what the judge says of a clip, or why it says nothing.

        Taggers answer with logits and embeddings; a batch of one is taken out of its batch.
        """
        try:
            said = ask(clip)
        except UserError as error:
            self.drop(judge, name, str(error))
            return
        if isinstance(said, tuple):
            logits, said = said
            self.logits.setdefault(judge, {})[name] = logits[0]
        is_batch = judge not in ("imagebind", "sync")
        self.embeddings.setdefault(judge, {})[name] = said[0] if is_batch else said

    def drop(self, judge: str, name: str, reason: str) -> None:
        """Leave a clip out."""
        self.dropped.setdefault(judge, {})[name] = reason
