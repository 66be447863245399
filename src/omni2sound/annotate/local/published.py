"""The paper's scorers: ImageBind compares sound and picture, LAION-CLAP caption and sound.

In:   a folder with the published weights of both; clips, captions.
Out:  `Perception`s with ImageBind's similarity and CLAP's embedding of the sound; `Fit`s.

Neither scores single events, so rules on events are skipped, as in the paper. Local roles read the
tags and looks of the joint space, so those are made too where a role is local. Networks are loaded
once per process. What not to get wrong: their thresholds are the paper's and no others.

Shape suffixes: N samples, T pictures, H W K picture, E embedding.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.perceive import packed, tagged, unpacked
from omni2sound.annotate.media import SAMPLE_RATE_HZ, clip_sound
from omni2sound.annotate.records import Failure, Fit, Perception
from omni2sound.annotate.roles import SourceClip, Work
from omni2sound.encoders.metric.clap import Clap
from omni2sound.encoders.metric.imagebind import ImageBind
from omni2sound.encoders.published import CLAP, IMAGEBIND, ROBERTA, Release, resolve
from omni2sound.errors import MediaError
from omni2sound.media.video import iter_frames

_VERSION = 1
"""Incremented when the same clips get other scores."""
_CAPTIONS_A_JOB = 64


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoringNetworks:
    """Both networks."""

    imagebind: ImageBind | None
    """None: no picture is compared."""
    clap: Clap


LoadNetworks = Callable[[Path, str], ScoringNetworks]


def load_networks(folder: Path, device: str) -> ScoringNetworks:
    """Load the published weights.

    Raises:
        MissingPartError: A file is missing.
        ConfigError: A file holds another network.
        IntegrityError: A file differs from the published one.
    """
    return ScoringNetworks(imagebind=ImageBind.load(folder, device), clap=Clap.load(folder, device))


def load_clap(folder: Path, device: str) -> ScoringNetworks:
    """Load LAION-CLAP alone, which scores captions; for clips without pictures.

    Raises:
        MissingPartError: A file is missing.
        ConfigError: A file holds another network.
        IntegrityError: A file differs from the published one.
    """
    return ScoringNetworks(imagebind=None, clap=Clap.load(folder, device))


@lru_cache(maxsize=1)
def _networks(load: LoadNetworks, folder: Path, device: str) -> ScoringNetworks:
    return load(folder, device)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedJob:
    """A clip, and where the networks are."""

    clip: SourceClip
    folder: Path
    device: str
    load: LoadNetworks
    joint: Path | None
    """Joint heads for the tags of local roles; None leaves tags out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SentencesJob:
    """Captions and the embeddings of their sounds."""

    folder: Path
    device: str
    load: LoadNetworks
    sounds: tuple[str, ...]
    captions: tuple[str, ...]


def perceive_published(job: PublishedJob) -> Perception | Failure:
    """Embed the sound and compare it with the picture."""
    found = tagged(job.clip, job.joint)
    if isinstance(found, Failure):
        return found
    networks = _networks(job.load, job.folder, job.device)
    try:
        samples_N = clip_sound(job.clip)
        wide_N = clip_sound(job.clip, sample_rate_hz=Clap.sample_rate_hz)
        pictures_THWK = None if networks.imagebind is None else _pictures(job.clip)
    except MediaError as error:
        return Failure(kind="media", reason=str(error))
    similarity = None
    if networks.imagebind is not None and pictures_THWK is not None:
        least = torch.zeros(max(400, len(samples_N)))
        least[: len(samples_N)] = torch.from_numpy(samples_N)
        sound_E = networks.imagebind.embed_audio(least)
        picture_E = networks.imagebind.embed_pictures(pictures_THWK)
        similarity = round(float(torch.cosine_similarity(sound_E, picture_E, dim=0)), 4)
    sound_E = networks.clap.embed_audio(torch.from_numpy(wide_N)[None])[0]
    return replace(
        found,
        duration_s=len(samples_N) / SAMPLE_RATE_HZ,
        similarity=similarity,
        sound=packed(sound_E),
    )


def _pictures(clip: SourceClip) -> NDArray[np.uint8] | None:
    """Take a picture every two seconds, at least two; None without a video."""
    if clip.video is None:
        return None
    frames = list(
        iter_frames(
            clip.video,
            fps=1,
            size_px=None,
            start_s=clip.start_s,
            duration_s=clip.duration_s,
        )
    )[:: ImageBind.seconds_per_picture]
    return np.stack(frames if len(frames) > 1 else 2 * frames)


def score_sentences(job: SentencesJob) -> tuple[float, ...]:
    """Score captions against their sounds, in one batch."""
    networks = _networks(job.load, job.folder, job.device)
    texts_BE = networks.clap.embed_text(job.captions)
    sounds_BE = torch.cat([unpacked(sound, texts_BE.shape[1]) for sound in job.sounds])
    scores_B = torch.cosine_similarity(sounds_BE, texts_BE, dim=1)
    return tuple(round(float(score), 4) for score in scores_B)


@dataclass(frozen=True, kw_only=True)
class PublishedScorer:
    """ImageBind and LAION-CLAP behind the scorer's protocol."""

    folder: Path
    executor: Executor
    joint: Path | None = None
    device: str = "cpu"
    load: LoadNetworks = load_networks
    name: str = "paper"
    lanes: None = None

    @staticmethod
    def check(folder: Path, releases: Sequence[Release] = (IMAGEBIND, CLAP, ROBERTA)) -> None:
        """Say what is missing before a run begins.

        Raises:
            MissingPartError: A file of the networks is missing.
        """
        for release in releases:
            resolve(release, folder)

    @property
    def identity(self) -> Any:
        """Version of the scores; whether tags come with them."""
        joint = None if self.joint is None else self.joint.name
        return ["imagebind+clap", _VERSION, self.load.__name__, joint]

    def perceive(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Perception | Failure]]:
        """See `roles.Scorer`."""
        jobs = [
            PublishedJob(
                clip=work.clip,
                folder=self.folder,
                device=self.device,
                load=self.load,
                joint=self.joint,
            )
            for work in works
        ]
        return self.executor.map(perceive_published, jobs)

    async def score(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Fit]]:
        """See `roles.Scorer`."""
        jobs = []
        for first in range(0, len(works), _CAPTIONS_A_JOB):
            some = works[first : first + _CAPTIONS_A_JOB]
            perceived = tuple(w.perception.sound for w in some if w.perception is not None)
            captions = tuple(w.caption.text for w in some if w.caption is not None)
            assert len(captions) == len(perceived) == len(some)  # both steps come before
            jobs.append(
                SentencesJob(
                    folder=self.folder,
                    device=self.device,
                    load=self.load,
                    sounds=perceived,
                    captions=captions,
                )
            )
        async for number, scores in self.executor.map(score_sentences, jobs):
            for index, score in enumerate(scores, start=number * _CAPTIONS_A_JOB):
                yield index, Fit(caption=score)
