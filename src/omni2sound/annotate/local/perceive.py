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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.annotate.local.agreement import agreed_scores, likeness_of_names, things_heard
from omni2sound.annotate.local.words import MUSIC, ClassNames, Thing, vocabulary
from omni2sound.annotate.media import SAMPLE_RATE_HZ, ShotFrames, clip_sound, shots_of
from omni2sound.annotate.records import Caption, Failure, Fit, Look, Patch, Perception
from omni2sound.annotate.roles import SourceClip
from omni2sound.encoders.joint import JointSpace, views_of
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import MediaError
from omni2sound.scenes.export.joint_examples import heard_patches
from omni2sound.scenes.material.catalogue import Catalogue

__all__ = [
    "FineJob",
    "PerceiveJob",
    "ScoreJob",
    "best_look",
    "listen_finely",
    "perceive",
    "score_captions",
]

_FRAME_PX = 240
_FRAMES_PER_SHOT = 2
_KEPT = 12
"""Classes of a patch, or things of a shot, that are kept."""
_FLOOR = 0.02
_FINE = 4
"""How many times finer the senior listens."""
_MARGIN_S = 0.25
"""An event's sound is looked for so far around its span."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PerceiveJob:
    """One clip."""

    clip: SourceClip
    joint: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class FineJob:
    """One clip, to be heard at a finer hop and by a second judge."""

    clip: SourceClip
    joint: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreJob:
    """Captions, and what was perceived of the sounds that they are of."""

    joint: Path
    perceptions: tuple[Perception, ...]
    captions: tuple[Caption, ...]


@lru_cache(maxsize=1)
def _joint(folder: Path) -> JointSpace:
    return JointSpace.load(folder)


@lru_cache(maxsize=1)
def _tagger() -> Tagger:
    return Tagger.load()


@lru_cache(maxsize=1)
def _known() -> ClassNames:
    """What the joint heads know: they were trained on sounds of the catalogue's classes."""
    return ClassNames(Catalogue.load())


@lru_cache(maxsize=1)
def _likeness(joint: Path) -> NDArray[np.float32]:
    space, catalogue = _joint(joint), Catalogue.load()
    words = vocabulary(space.hearing.class_names)
    classes = [catalogue.sound_class(c).names[0] for c in _tagger().class_names]
    return likeness_of_names(space, [thing.name for thing in words.things], classes)


def perceive(job: PerceiveJob) -> Perception | Failure:
    """Listen and look."""
    space = _joint(job.joint)
    try:
        samples_N = clip_sound(job.clip)
        shots = shots_of(job.clip, height_px=_FRAME_PX, frames_per_shot=_FRAMES_PER_SHOT)
    except MediaError as error:
        return Failure(kind="media", reason=str(error))
    scores_PK, embeddings_PD = space.hearing.scores_and_embeddings(samples_N)
    heard_P = heard_patches(samples_N, len(scores_PK))
    sounds_PE = space.sounds(embeddings_PD) * torch.from_numpy(heard_P)[:, None]
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


def best_look(looks: Sequence[Look], name: str) -> float:
    """The most that a thing's score may be in any shot; what was not kept is below what was."""
    return max(
        (
            look.seen.get(name, min(look.seen.values()) if len(look.seen) >= _KEPT else _FLOOR)
            for look in looks
        ),
        default=0.0,
    )


def _patches(
    hearing: YamNet, scores_PK: NDArray[np.float32], heard_P: NDArray[np.bool_]
) -> list[Patch]:
    hop_s = YamNet.patch_hop_samples / SAMPLE_RATE_HZ
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
    """Things that YAMNet hears at a quarter of its hop and the tagger confirms."""
    space, tagger = _joint(job.joint), _tagger()
    try:
        samples_N = clip_sound(job.clip)
    except MediaError as error:
        return Failure(kind="media", reason=str(error))
    words = vocabulary(space.hearing.class_names)
    step = YamNet.patch_hop_samples // _FINE
    shifted = [samples_N[k * step :] for k in range(_FINE) if len(samples_N) > k * step]
    parts = [space.hearing.scores_and_embeddings(piece)[0] for piece in shifted]
    tagged = [tagger.scores_and_embeddings(piece)[0] for piece in shifted]
    loud_P = _woven([heard_patches(n, len(p)) for n, p in zip(shifted, parts, strict=True)])
    scores_PC, tagged_PK = _smooth(_woven(parts)), _smooth(_woven(tagged))
    # The two judges' patches begin together; at the end one may have a patch more.
    more = len(scores_PC) - len(tagged_PK)
    tagged_PK = np.pad(tagged_PK[: len(scores_PC)], ((0, max(0, more)), (0, 0)), mode="edge")
    agreed_PT = agreed_scores(
        things_heard(scores_PC, space.hearing.class_names, words), tagged_PK, _likeness(job.joint)
    )
    names = [thing.name for thing in words.things]
    hop_s, length_s = step / SAMPLE_RATE_HZ, YamNet.patch_samples / SAMPLE_RATE_HZ
    return tuple(
        Patch(
            start_s=round(place * hop_s, 3),
            end_s=round(place * hop_s + length_s, 3),
            heard=_highest(dict(zip(names, map(float, agreed_T), strict=True))) if loud else {},
        )
        for place, (agreed_T, loud) in enumerate(zip(agreed_PT, loud_P, strict=True))
    )


def _woven(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows of all parts in turn; later parts have as many rows as the first, or one fewer."""
    rows = [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]
    return np.stack(rows)


def _smooth(scores_PK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each patch with the mean of itself and its neighbours: single patches misjudge."""
    near = [scores_PK[max(0, p - 1) : p + 2].mean(axis=0) for p in range(len(scores_PK))]
    return np.stack(near)


def score_captions(job: ScoreJob) -> tuple[Fit, ...]:
    """How captions, and each event that they name, fit their sounds.

    The heads have learnt the catalogue's classes: anything else scores low whether it sounds or
    not, so an event without a name of a class in its phrase gets None.
    """
    space = _joint(job.joint)
    whole_SE = space.sentences([caption.text for caption in job.captions])
    every = {event.what for caption in job.captions for event in caption.events}
    names = sorted(what for what in every if _known().classes(what))
    phrases = dict(zip(names, space.sentences(names), strict=True)) if names else {}
    return tuple(
        _fit(_unpacked(perception.sound, len(whole_E)), perception, caption, whole_E, phrases)
        for perception, caption, whole_E in zip(
            job.perceptions, job.captions, whole_SE, strict=True
        )
    )


def _fit(
    sounds_PE: torch.Tensor,
    perception: Perception,
    caption: Caption,
    whole_E: torch.Tensor,
    phrases: Mapping[str, torch.Tensor],
) -> Fit:
    heard_P = sounds_PE.norm(dim=1) > 0
    events: list[float | None] = []
    for event in caption.events:
        if event.what not in phrases:
            events.append(None)
            continue
        start_s = -_MARGIN_S if event.start_s is None else event.start_s - _MARGIN_S
        end_s = float("inf") if event.end_s is None else event.end_s + _MARGIN_S
        near_P = torch.tensor([p.start_s < end_s and p.end_s > start_s for p in perception.patches])
        near_P = near_P & heard_P if (near_P & heard_P).any() else heard_P
        events.append(round(float((sounds_PE[near_P] @ phrases[event.what]).max()), 4))
    return Fit(
        caption=round(JointSpace.says_what_is_heard(sounds_PE, whole_E), 4), events=tuple(events)
    )
