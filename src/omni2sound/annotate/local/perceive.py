"""A clip as small networks know it: one job of the executor.

In:   a clip; the folder of the joint heads.
Out:  a `Perception`: what YAMNet hears by patch, what MobileNetV2 and the joint heads see by shot,
      how well sound and picture agree; or a `Failure` if its files can't be read.

Networks are loaded once in each process. Only scores above a floor are kept, the thresholds
come later: they can then be changed without listening again.

Shape suffixes: N samples, P patches, K classes, V views, E joint dimensions.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.annotate.agents import SourceClip
from omni2sound.annotate.local.words import MUSIC, Thing, vocabulary
from omni2sound.annotate.records import Failure, Look, Patch, Perception
from omni2sound.annotate.shots import ShotFrames, shots_of
from omni2sound.annotate.sounds import SAMPLE_RATE_HZ, clip_sound
from omni2sound.data.stage.joint_examples import heard_patches
from omni2sound.encoders.joint import JointSpace, views_of
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import MediaError

__all__ = ["FineJob", "PerceiveJob", "ScoreJob", "listen_finely", "perceive", "score_captions"]

_FRAME_PX = 240
_FRAMES_PER_SHOT = 2
_KEPT = 12
"""Classes of a patch, or things of a shot, that are kept."""
_FLOOR = 0.02
_FINE = 4
"""How many times finer the senior listens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PerceiveJob:
    """One clip."""

    clip: SourceClip
    joint: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class FineJob:
    """One clip, to be heard at a finer hop."""

    clip: SourceClip


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreJob:
    """Captions and the sounds that they are of."""

    joint: Path
    sounds: tuple[str, ...]
    captions: tuple[str, ...]


@lru_cache(maxsize=1)
def _joint(folder: Path) -> JointSpace:
    return JointSpace.load(folder)


@lru_cache(maxsize=1)
def _yamnet() -> YamNet:
    return YamNet.load()


def perceive(job: PerceiveJob) -> Perception | Failure:
    """Listen and look."""
    space = _joint(job.joint)
    try:
        samples_N = clip_sound(job.clip)
        shots = _shots(job.clip)
    except MediaError as error:
        return Failure(kind="media", reason=str(error))
    scores_PK, embeddings_PD = space.hearing.scores_and_embeddings(samples_N)
    heard_P = heard_patches(samples_N, len(scores_PK))
    sounds_PE = space.sounds(embeddings_PD[heard_P])
    similarity, looks = None, []
    if shots:
        things = vocabulary(space.hearing.class_names).visible
        names_TE = _names(job.joint)
        every_view = []
        for shot in shots:
            views = np.concatenate([views_of(frame) for frame in shot.frames_THWC])
            features_VD, probable_VK = space.seeing.embed_and_classify(views)
            views_VE = space.heads.views(features_VD)
            every_view.append(views_VE)
            likeness_T = (views_VE @ names_TE.T).amax(dim=0)
            looks.append(_look(shot, things, likeness_T, probable_VK.amax(dim=0)))
        similarity = space.shows_what_sounds(sounds_PE, torch.cat(every_view))
    return Perception(
        duration_s=len(samples_N) / SAMPLE_RATE_HZ,
        similarity=similarity,
        sound=_packed(sounds_PE.numpy()),
        patches=tuple(_patches(space.hearing, scores_PK, heard_P)),
        looks=tuple(looks),
    )


def _shots(clip: SourceClip) -> tuple[ShotFrames, ...]:
    if clip.video is None:
        return ()
    return shots_of(
        clip.video,
        start_s=clip.start_s,
        duration_s=clip.duration_s,
        height_px=_FRAME_PX,
        frames_per_shot=_FRAMES_PER_SHOT,
    )


@lru_cache(maxsize=1)
def _names(joint: Path) -> torch.Tensor:
    space = _joint(joint)
    things = vocabulary(space.hearing.class_names).visible
    return space.sentences([thing.name for thing in things])


def _look(
    shot: ShotFrames,
    things: Sequence[Thing],
    likeness_T: torch.Tensor,
    probable_K: torch.Tensor,
) -> Look:
    """The better of two opinions on each thing: ImageNet's probability, the joint likeness."""
    seen = {
        thing.name: max(float(probable_K[list(thing.seen_as)].sum()), float(likeness))
        for thing, likeness in zip(things, likeness_T, strict=True)
    }
    return Look(start_s=shot.start_s, end_s=shot.end_s, seen=_highest(seen))


def _patches(
    hearing: YamNet, scores_PK: NDArray[np.float32], heard_P: NDArray[np.bool_], fine: int = 1
) -> list[Patch]:
    hop_s = YamNet.patch_hop_samples / SAMPLE_RATE_HZ / fine
    length_s = YamNet.patch_samples / SAMPLE_RATE_HZ
    return [
        Patch(
            start_s=round(place * hop_s, 3),
            end_s=round(place * hop_s + length_s, 3),
            heard=_highest(dict(zip(hearing.class_names, map(float, scores_K), strict=True)))
            if heard
            else {},
        )
        for place, (scores_K, heard) in enumerate(zip(scores_PK, heard_P, strict=True))
    ]


def _highest(scores: dict[str, float]) -> dict[str, float]:
    best = sorted(scores, key=lambda name: -scores[name])[:_KEPT]
    kept = [*best, *([MUSIC] if MUSIC in scores and MUSIC not in best else [])]
    return {name: round(scores[name], 3) for name in kept if scores[name] >= _FLOOR}


def _packed(sounds_PE: NDArray[np.float32]) -> str:
    return base64.b64encode(sounds_PE.astype("<f2").tobytes()).decode()


def _unpacked(sound: str, dim: int) -> torch.Tensor:
    flat = np.frombuffer(base64.b64decode(sound), dtype="<f2").astype(np.float32)
    return torch.from_numpy(flat.reshape(-1, dim))


def listen_finely(job: FineJob) -> tuple[Patch, ...] | Failure:
    """What YAMNet hears at a quarter of its hop."""
    hearing = _yamnet()
    try:
        samples_N = clip_sound(job.clip)
    except MediaError as error:
        return Failure(kind="media", reason=str(error))
    step = YamNet.patch_hop_samples // _FINE
    shifted = [samples_N[k * step :] for k in range(_FINE)]
    parts = [hearing.scores_and_embeddings(piece)[0] for piece in shifted if len(piece)]
    heard = [heard_patches(p, len(s)) for p, s in zip(shifted, parts, strict=False)]
    count = len(parts[0])  # later starts have as many patches or one fewer
    rows, loud = [], []
    for place in range(count):
        for scores_PK, heard_P in zip(parts, heard, strict=True):
            if place < len(scores_PK):
                rows.append(scores_PK[place])
                loud.append(heard_P[place])
    return tuple(_patches(hearing, np.stack(rows), np.array(loud), fine=_FINE))


def score_captions(job: ScoreJob) -> tuple[float, ...]:
    """Caption-audio scores."""
    space = _joint(job.joint)
    sentences_SE = space.sentences(job.captions)
    dim = sentences_SE.shape[1]
    return tuple(
        round(space.says_what_is_heard(_unpacked(sound, dim), sentence_E), 4)
        for sound, sentence_E in zip(job.sounds, sentences_SE, strict=True)
    )
