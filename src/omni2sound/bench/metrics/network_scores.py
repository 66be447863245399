"""The protocols `pe-av-v1`, `pe-a-frame-v1`, `aesthetics-v1`: numbers of single clips by networks.

In:   a sound at the clip's length, its caption, video and true events; the networks.
Out:  numbers by the names of `clip_metric.NETWORK_COLUMNS`; what a clip lacks is left out.

Definitions:

* *sound-text*, *sound-video*: cosine of PE-AV's embeddings of the whole sound and the caption, or
  the pictures that its release sees.
* *caption heard*: highest probability, over PE-A-Frame's frames of 40 ms, that the caption is
  heard. *events heard*, on tracks with truth: mean over the true events of the highest probability
  of the class's first name, from .25 s before the event to .25 s after it.
* *enjoyment*, *usefulness*, *production quality*: Audiobox-Aesthetics' CE, CU and PQ. Its
  production complexity is no quality and is left out.

Shape suffixes: N samples, F frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.bench.metrics.clip_metric import Waveform
from omni2sound.encoders.metric import aesthetics, pe_av
from omni2sound.encoders.metric.aesthetics import Aesthetics
from omni2sound.encoders.metric.pe_av import FRAME_S, PeAFrame, PeAv, read_pictures

VERSION = 1
"""Incremented when the same sound gets another number."""
_MARGIN_S = 0.25
Span = tuple[str, float, float]
"""Name, start and end in seconds of a true event."""
NETWORKS = ("pe_av", "pe_a_frame", "aesthetics")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipNetworks:
    """The networks; the protocols of one that is None are left out."""

    pe_av: PeAv | None = None
    pe_a_frame: PeAFrame | None = None
    aesthetics: Aesthetics | None = None

    @classmethod
    def load(
        cls,
        pe_av: str | None,
        pe_a_frame: str | None,
        aesthetics: str | None,
        device: torch.device | str = "cpu",
    ) -> ClipNetworks:
        """Load published weights from folders or Hub ids; None leaves a network out.

        Raises:
            MissingPartError: A file or a package is missing.
            UserError: A Hub id has no pinned revision.
        """
        return cls(
            pe_av=None if pe_av is None else PeAv.load(pe_av, device),
            pe_a_frame=None if pe_a_frame is None else PeAFrame.load(pe_a_frame, device),
            aesthetics=None if aesthetics is None else Aesthetics.load(aesthetics, device),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedClip:
    """What a sound is compared with."""

    caption: str
    duration_s: float
    video: Path | None = None
    events: Sequence[Span] = ()


def rate_of(network: str) -> int:
    """Return the sample rate in Hz that a network of `NETWORKS` hears."""
    return aesthetics.RATE_HZ if network == "aesthetics" else pe_av.RATE_HZ


def network_scores(
    networks: ClipNetworks, name: str, waveform_N: Waveform, clip: AskedClip
) -> dict[str, float]:
    """Measure a sound by one network.

    Args:
        networks: Holds the network.
        name: Its name in `NETWORKS`.
        waveform_N: The sound, mono, at its rate and at the clip's length.
        clip: What it is compared with.

    Raises:
        MediaError: The video can't be read.
    """
    if name == "pe_av":
        assert networks.pe_av is not None  # the caller asks for those that are there
        return _agreement(networks.pe_av, waveform_N, clip)
    if name == "pe_a_frame":
        assert networks.pe_a_frame is not None
        return _heard(networks.pe_a_frame, waveform_N, clip)
    assert networks.aesthetics is not None
    found = networks.aesthetics.scores(waveform_N)
    titles = {"CE": "enjoyment", "CU": "usefulness", "PQ": "production quality"}
    return {title: found[axis] for axis, title in titles.items()}


def _agreement(network: PeAv, waveform_N: Waveform, clip: AskedClip) -> dict[str, float]:
    sound_D = network.embed_audio(waveform_N)
    found = {}
    if clip.caption.strip():
        found["sound-text"] = float(sound_D @ network.embed_text([clip.caption])[0])
    if clip.video is not None:
        pictures = read_pictures(clip.video, network.pictures, duration_s=clip.duration_s)
        found["sound-video"] = float(sound_D @ network.embed_pictures(pictures))
    return found


def _heard(network: PeAFrame, waveform_N: Waveform, clip: AskedClip) -> dict[str, float]:
    names = list(dict.fromkeys(name for name, *_ in clip.events))
    asked = [*([clip.caption] if clip.caption.strip() else []), *names]
    if not asked:
        return {}
    heard: Mapping[str, NDArray[np.float32]] = dict(
        zip(asked, network.heard(waveform_N, asked), strict=True)
    )
    found = {}
    if clip.caption.strip():
        found["caption heard"] = float(heard[clip.caption].max())
    if clip.events:
        peaks = [_peak(heard[name], start_s, end_s) for name, start_s, end_s in clip.events]
        found["events heard"] = float(np.mean(peaks))
    return found


def _peak(heard_F: NDArray[np.float32], start_s: float, end_s: float) -> float:
    """Highest probability around a span; 0 behind the end of the sound."""
    starts_F = np.arange(len(heard_F)) * FRAME_S
    inside_F = (starts_F < end_s + _MARGIN_S) & (starts_F + FRAME_S > start_s - _MARGIN_S)
    return float(heard_F[inside_F].max()) if inside_F.any() else 0.0
