"""Features of sounds, videos and captions as the protocol avbench-8s-v1 defines them.

In:   folders of sounds and of videos, captions, the installed networks.
Out:  `SoundFeatures`, `VideoFeatures`: one entry per clip, in the order of file names.

What not to get wrong: a sound is made mono and loses its mean *before* it is resampled, with
torchaudio's filter; it is then cut to 8 s and never padded. For Synchformer it keeps its mean
and must last 8 s; ImageBind gets its first channel, whole. Frames are those of ffmpeg's fps
filter. A clip that a network can't process is left out of its features and reported (the
original silently takes the next clip instead).

Shape suffixes: C channels, N samples, K classes, D features, S segments.
Source: hkchengrex/av-benchmark, commit 050a5cd, av_bench/data and extract*.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omni2sound.data.tables import Problem, csv_lines
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
from omni2sound.media.audio import read_audio
from omni2sound.media.fps_filter import iter_filtered_frames
from omni2sound.media.samples import Audio

DURATION_S = 8
_SOUNDS = (".wav", ".flac")
_VIDEOS = (".mp4",)
_SYNC_PX = 224

OnClip = Callable[[int, int], None]
"""Called with (clips done, number of clips)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Networks:
    """The networks of the protocol; a score whose network is None is left out."""

    panns: Panns | None = None
    passt: Passt | None = None
    vggish: Vggish | None = None
    clap: Clap | None = None
    sync: Synchformer | None = None
    imagebind: ImageBind | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a network is None, by name."""

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Networks:
        """Load every network whose files are in the folder.

        Raises:
            MissingPartError: The folder has none.
            ConfigError: A file holds another network than its name says.
            IntegrityError: A file differs from the published one.
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
                f"{folder} holds none of the protocol's networks; see docs/guides/full-size.md"
            )
        return cls(**found, missing=missing)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SoundFeatures:
    """Features of sounds, by network and then by clip.

    Attributes:
        names: Stems of all files, sorted.
        logits: "panns" and "passt": clip to (527,).
        embeddings: "panns", "passt", "clap", "imagebind": clip to (D,); "vggish": (E, 128);
            "sync": (24, 6, 768).
        dropped: Network to clip to the reason why it has no entry.
    """

    names: tuple[str, ...]
    logits: Mapping[str, Mapping[str, Tensor]]
    embeddings: Mapping[str, Mapping[str, Tensor]]
    dropped: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoFeatures:
    """Features of videos: "sync" clip to (24, 8, 768), "imagebind" clip to (1024,)."""

    embeddings: Mapping[str, Mapping[str, Tensor]]
    dropped: Mapping[str, Mapping[str, str]]


def list_files(folder: Path, *, videos: bool = False) -> list[Path]:
    """List the sounds (wav, flac) or videos (mp4) of a folder, sorted by name.

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
    """Read captions by clip from a CSV with the columns `name` and `caption`.

    Raises:
        UserError: It can't be read, or lacks a column.
    """
    try:
        rows = list(csv_lines(path, strip=False))
    except OSError as error:
        raise UserError(f"{path} can't be read: {error}") from None
    captions: dict[Any, Any] = {}
    for row in rows:
        if isinstance(row, Problem):
            raise UserError(f"{path}:{row.line}: {row.reason}")
        captions[row.cells.get("name")] = row.cells.get("caption")
    if not rows or not all(name and caption for name, caption in captions.items()):
        raise UserError(f"{path}: expected a CSV with the columns name and caption, none empty")
    return captions


def clip_at(samples_CN: Tensor, from_hz: int, to_hz: int, *, remove_mean: bool = True) -> Tensor:
    """Convert to mono (N,) at a network's rate and cut to 8 s; a shorter clip stays shorter."""
    mono = samples_CN.mean(dim=0)
    if remove_mean:
        mono = mono - mono.mean()
    return resample(mono, from_hz, to_hz)[: to_hz * DURATION_S]


def embed_sounds(
    paths: Sequence[Path], networks: Networks, *, on_clip: OnClip | None = None
) -> SoundFeatures:
    """Compute the features of every file.

    Args:
        paths: Result of `list_files`.
        networks: Installed networks.
        on_clip: Called after each clip.

    Raises:
        MediaError: A file can't be read.
    """
    features = _Collector()
    for count, path in enumerate(paths, start=1):
        _add_sound(read_audio(path), path.stem, networks, features)
        if on_clip is not None:
            on_clip(count, len(paths))
    return _sound_features([path.stem for path in paths], features)


def embed_sound(audio: Audio, name: str, networks: Networks) -> SoundFeatures:
    """Compute the features of one sound."""
    features = _Collector()
    _add_sound(audio, name, networks, features)
    return _sound_features([name], features)


def _sound_features(names: Sequence[str], features: _Collector) -> SoundFeatures:
    return SoundFeatures(
        names=tuple(names),
        logits=features.logits,
        embeddings=features.embeddings,
        dropped=features.dropped,
    )


def _add_sound(audio: Audio, name: str, networks: Networks, features: _Collector) -> None:
    samples_CN, rate_hz = torch.from_numpy(audio.samples_CN), audio.sample_rate_hz
    for network, tagger in (("panns", networks.panns), ("passt", networks.passt)):
        if tagger is not None:
            clip = clip_at(samples_CN, rate_hz, tagger.sample_rate_hz)
            features.add(network, name, tagger.logits_and_embeddings, clip[None])
    if networks.vggish is not None:
        clip = clip_at(samples_CN, rate_hz, networks.vggish.sample_rate_hz)
        features.add("vggish", name, networks.vggish.embed, clip[None])
    if networks.clap is not None:
        clip = clip_at(samples_CN, rate_hz, networks.clap.sample_rate_hz)
        features.add("clap", name, networks.clap.embed_audio, clip[None])
    if networks.imagebind is not None:
        whole = resample(samples_CN[0], rate_hz, networks.imagebind.sample_rate_hz)
        features.add("imagebind", name, networks.imagebind.embed_audio, whole)
    if networks.sync is not None:
        rate = networks.sync.sample_rate_hz
        clip = clip_at(samples_CN, rate_hz, rate, remove_mean=False)
        if len(clip) < rate * DURATION_S:
            features.drop("sync", name, f"lasts {len(clip) / rate:.2f} s, not {DURATION_S}")
        else:
            features.add("sync", name, networks.sync.audio_features, clip)


def embed_videos(
    paths: Sequence[Path], networks: Networks, *, on_clip: OnClip | None = None
) -> VideoFeatures:
    """Compute the features of every video; one under 8 s is left out.

    Raises:
        MediaError: A file can't be read.
    """
    features = _Collector()
    for count, path in enumerate(paths, start=1):
        if networks.sync is not None:
            pictures = iter_filtered_frames(path, fps=SynchformerVisual.fps)
            cropped = [
                crop_centre(resize_short_side(torch.from_numpy(picture)[None], _SYNC_PX), _SYNC_PX)
                for picture in islice(pictures, SynchformerVisual.fps * DURATION_S)
            ]
            if len(cropped) < SynchformerVisual.fps * DURATION_S:
                features.drop("sync", path.stem, f"has {len(cropped)} frames at 25 fps")
            else:
                clip = torch.cat(cropped)
                features.add("sync", path.stem, networks.sync.visual_features, clip)
        if networks.imagebind is not None:
            rate = Fraction(1, networks.imagebind.seconds_per_picture)
            wanted = int(DURATION_S * rate)
            pictures = islice(iter_filtered_frames(path, fps=rate), wanted)
            seen = [torch.from_numpy(picture) for picture in pictures]
            if len(seen) < wanted:
                features.drop("imagebind", path.stem, f"has {len(seen)} frames, one every 2 s")
            else:
                features.add(
                    "imagebind", path.stem, networks.imagebind.embed_pictures, torch.stack(seen)
                )
        if on_clip is not None:
            on_clip(count, len(paths))
    return VideoFeatures(embeddings=features.embeddings, dropped=features.dropped)


def embed_captions(captions: Mapping[str, str], networks: Networks) -> dict[str, Tensor]:
    """Compute the embedding (512,) of each clip's caption.

    Raises:
        MissingPartError: CLAP is not installed.
    """
    if networks.clap is None:
        raise MissingPartError(networks.missing.get("clap", "captions need CLAP"))
    return {name: networks.clap.embed_text([text])[0] for name, text in captions.items()}


class _Collector:
    """Features by network and clip, and the clips that were left out."""

    def __init__(self) -> None:
        self.logits: dict[str, dict[str, Tensor]] = {}
        self.embeddings: dict[str, dict[str, Tensor]] = {}
        self.dropped: dict[str, dict[str, str]] = {}

    def add(self, network: str, name: str, embed: Callable[[Tensor], Any], clip: Tensor) -> None:
        """Store a network's output for a clip, or the reason why there is none.

        Taggers return logits and embeddings. Most networks take a batch, here of one clip.
        """
        try:
            output = embed(clip)
        except UserError as error:
            self.drop(network, name, str(error))
            return
        if isinstance(output, tuple):
            logits, output = output
            self.logits.setdefault(network, {})[name] = logits[0]
        is_batch = network not in ("imagebind", "sync")
        self.embeddings.setdefault(network, {})[name] = output[0] if is_batch else output

    def drop(self, network: str, name: str, reason: str) -> None:
        """Leave a clip out."""
        self.dropped.setdefault(network, {})[name] = reason
