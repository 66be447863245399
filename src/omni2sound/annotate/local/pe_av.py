"""PE-AV and PE-A-Frame as scorers: one space for sound, picture and text, events by frame.

In:   folders or Hub ids of their weights; clips, captions.
Out:  `Perception`s with PE-AV's similarity and its embedding of the sound; `Fit`s, with a score for
      each event in its span and the spans in which it is heard, if PE-A-Frame is there.

PE-A-Frame's frames are too large to store (half a megabyte for 10 s), so it hears a clip again when
a caption is scored; a caption that has not changed since is not scored again in the same process.
What not to get wrong: a batch is one clip's own sentences, so that no score depends on which clips
happen to be scored together. Thresholds come from `annotate calibrate`; none are bundled.

Shape suffixes: N samples, T H W K pictures, B sentences, F frames, E embedding.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.perceive import MARGIN_S, packed, tagged, unpacked
from omni2sound.annotate.media import clip_sound
from omni2sound.annotate.records import Caption, Failure, Fit, HeardEvent, Perception, Spans
from omni2sound.annotate.roles import SourceClip, Work
from omni2sound.encoders.metric.pe_av import FRAME_S, RATE_HZ, PeAFrame, PeAv, read_pictures
from omni2sound.errors import MediaError

_VERSION = 1
"""Incremented when the same clips get other scores."""
_HEARD = 0.3
"""Probability from which a frame counts as heard, as in the authors' code."""
_REMEMBERED = 8192
"""Most scored captions that are remembered."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PeNetworks:
    """Both networks."""

    av: PeAv
    frames: PeAFrame | None
    """None: single events are not scored."""


LoadPe = Callable[[str, str | None, str], PeNetworks]


def load_pe(av: str, frames: str | None, device: str) -> PeNetworks:
    """Load published weights: of PE-AV, and of PE-A-Frame unless it is None.

    Raises:
        MissingPartError: A file or package is missing.
        ConfigError: A file holds another network.
    """
    return PeNetworks(
        av=PeAv.load(av, device),
        frames=None if frames is None else PeAFrame.load(frames, device),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PeSource:
    """Where the networks are."""

    av: str
    frames: str | None = None
    device: str = "cpu"
    load: LoadPe = load_pe


@lru_cache(maxsize=1)
def _networks(source: PeSource) -> PeNetworks:
    return source.load(source.av, source.frames, source.device)


@dataclass(frozen=True, kw_only=True, slots=True)
class PeJob:
    """A clip to perceive."""

    clip: SourceClip
    source: PeSource
    joint: Path | None
    """Joint heads for the tags of local roles; None leaves tags out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PeCaptionJob:
    """A caption to score."""

    clip: SourceClip
    source: PeSource
    sound: str
    caption: Caption


def perceive_pe(job: PeJob) -> Perception | Failure:
    """Embed the sound and compare it with the picture."""
    found = tagged(job.clip, job.joint)
    if isinstance(found, Failure):
        return found
    network = _networks(job.source).av
    try:
        samples_N = clip_sound(job.clip, sample_rate_hz=RATE_HZ)
        pictures_THWK = (
            None
            if job.clip.video is None
            else read_pictures(
                job.clip.video,
                network.pictures,
                start_s=job.clip.start_s,
                duration_s=job.clip.duration_s,
            )
        )
    except MediaError as error:
        return Failure(kind="media", reason=str(error))
    sound_E = network.embed_audio(samples_N)
    similarity = None
    if pictures_THWK is not None:
        similarity = round(float(sound_E @ network.embed_pictures(pictures_THWK)), 4)
    return replace(
        found,
        duration_s=len(samples_N) / RATE_HZ,
        similarity=similarity,
        sound=packed(sound_E),
    )


def score_pe(job: PeCaptionJob) -> Fit:
    """Score a caption and its events against its sound."""
    networks = _networks(job.source)
    text_E = networks.av.embed_text([job.caption.text])[0]
    whole = round(float(unpacked(job.sound, len(text_E))[0] @ text_E), 4)
    if networks.frames is None or not job.caption.events:
        return Fit(caption=whole)
    samples_N = clip_sound(job.clip, sample_rate_hz=RATE_HZ)
    names = list(dict.fromkeys(event.what for event in job.caption.events))
    heard = dict(zip(names, networks.frames.heard(samples_N, names), strict=True))
    return Fit(
        caption=whole,
        events=tuple(_in_span(heard[event.what], event) for event in job.caption.events),
        heard=tuple(spans(heard[event.what]) for event in job.caption.events),
    )


def _in_span(heard_F: NDArray[np.float32], event: HeardEvent) -> float:
    """Highest probability in an event's span; an event without times may be anywhere."""
    start_s = 0.0 if event.start_s is None else max(0.0, event.start_s - MARGIN_S)
    end_s = float("inf") if event.end_s is None else event.end_s + MARGIN_S
    starts_F = np.arange(len(heard_F)) * FRAME_S
    inside = (starts_F < end_s) & (starts_F + FRAME_S > start_s)
    # A span behind the end of the sound holds nothing that could be heard.
    return round(float(heard_F[inside].max()), 4) if inside.any() else 0.0


def spans(heard_F: NDArray[np.float32], least: float = _HEARD) -> Spans:
    """Spans, in seconds, of frames whose probability is above `least`."""
    edges = np.flatnonzero(np.diff(np.pad((heard_F > least).astype(np.int8), 1)))
    times = [round(float(edge) * FRAME_S, 2) for edge in edges]
    return tuple(zip(times[::2], times[1::2], strict=True))


@dataclass(frozen=True, kw_only=True)
class PeScorer:
    """PE-AV and PE-A-Frame behind the scorer's protocol."""

    source: PeSource
    executor: Executor
    weights: str = ""
    """Digest of the weights."""
    joint: Path | None = None
    name: str = "pe-av"
    lanes: None = None
    _known: dict[tuple[str, Caption], Fit] = field(
        default_factory=dict, compare=False, repr=False, init=False
    )

    @property
    def identity(self) -> Any:
        """Version of the scores, weights, whether tags come with them."""
        joint = None if self.joint is None else self.joint.name
        load = self.source.load.__name__
        return ["pe-av", _VERSION, load, self.weights, self.source.frames is not None, joint]

    def perceive(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Perception | Failure]]:
        """See `roles.Scorer`."""
        jobs = [PeJob(clip=work.clip, source=self.source, joint=self.joint) for work in works]
        return self.executor.map(perceive_pe, jobs)

    async def score(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Fit]]:
        """See `roles.Scorer`."""
        left, jobs = [], []
        for index, work in enumerate(works):
            assert work.caption is not None  # both steps come before
            assert work.perception is not None
            known = self._known.get((work.clip.name, work.caption))
            if known is not None:
                yield index, known
                continue
            left.append((index, (work.clip.name, work.caption)))
            jobs.append(
                PeCaptionJob(
                    clip=work.clip,
                    source=self.source,
                    sound=work.perception.sound,
                    caption=work.caption,
                )
            )
        async for number, fit in self.executor.map(score_pe, jobs):
            index, key = left[number]
            self._known[key] = fit
            while len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
            yield index, fit
