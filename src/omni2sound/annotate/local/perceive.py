"""Jobs of the executor: tagging, recognition and caption scores with small networks.

In:   a clip; the folder of the joint heads.
Out:  a `Perception`: YAMNet's tags by patch, things that MobileNetV2 and the joint heads
      recognise by shot, audio-visual similarity; or a `Failure` if its files can't be read.

Networks are loaded once per process. Scores above a floor are stored and thresholds applied later,
so thresholds can change without new tagging.

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
from omni2sound.encoders.joint import JointSpace, heard_patches, views_of
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import MediaError
from omni2sound.scenes.material.catalogue import Catalogue

_FRAME_PX = 240
_FRAMES_PER_SHOT = 2
_KEPT = 12
"""Most classes of a patch, or things of a shot, that are stored."""
_FLOOR = 0.02
_FINE = 4
"""Ratio of YAMNet's hop to the senior's."""
MARGIN_S = 0.25
"""Margin around an event's span in which its sound is scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipJob:
    """A clip and the folder of the joint heads."""

    clip: SourceClip
    joint: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreJob:
    """Captions and the perceptions of their clips."""

    joint: Path
    perceptions: tuple[Perception, ...]
    captions: tuple[Caption, ...]


@lru_cache(maxsize=1)
def _joint(folder: Path) -> JointSpace:
    return JointSpace.load(folder)


@lru_cache(maxsize=1)
def tagger() -> Tagger:
    """Load the in-domain tagger once per process."""
    return Tagger.load()


@lru_cache(maxsize=1)
def _known() -> ClassNames:
    """Return the classes that the joint heads were trained on."""
    return ClassNames(Catalogue.load())


@lru_cache(maxsize=1)
def _likeness(joint: Path) -> NDArray[np.float32]:
    space, catalogue = _joint(joint), Catalogue.load()
    words = vocabulary(space.hearing.class_names)
    classes = [catalogue.sound_class(c).names[0] for c in tagger().class_names]
    return likeness_of_names(space, [thing.name for thing in words.things], classes)


def perceive(job: ClipJob) -> Perception | Failure:
    """Tag the sound, recognise things in the picture, compare both."""
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
        sound=packed(sounds_PE),
        patches=_patches(space.hearing.class_names, scores_PK, heard_P, YamNet.patch_hop_samples),
        looks=tuple(looks),
    )


def tagged(clip: SourceClip, joint: Path | None) -> Perception | Failure:
    """Return the tags and looks that local roles read; nothing without joint heads.

    Scorers with networks of their own replace similarity and embedding.
    """
    if joint is None:
        return Perception(duration_s=0.0, similarity=None, sound="")
    return perceive(ClipJob(clip=clip, joint=joint))


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
    """Take each thing's higher score: ImageNet's probability or the joint similarity."""
    seen = {
        thing.name: max(float(probable_K[list(thing.seen_as)].sum()), float(likeness))
        for thing, likeness in zip(things, likeness_T, strict=True)
    }
    return Look(start_s=shot.start_s, end_s=shot.end_s, seen=_highest(seen))


def best_look(looks: Sequence[Look], name: str) -> float:
    """Bound a thing's score over all shots; unstored scores are below the stored ones."""
    return max(
        (
            look.seen.get(name, min(look.seen.values()) if len(look.seen) >= _KEPT else _FLOOR)
            for look in looks
        ),
        default=0.0,
    )


def _patches(
    names: Sequence[str], scores_PK: NDArray[np.float32], loud_P: NDArray[np.bool_], hop: int
) -> tuple[Patch, ...]:
    """Convert scores to patches, `hop` samples apart; silent ones have no scores."""
    hop_s, length_s = hop / SAMPLE_RATE_HZ, YamNet.patch_samples / SAMPLE_RATE_HZ
    return tuple(
        Patch(
            start_s=round(index * hop_s, 3),
            end_s=round(index * hop_s + length_s, 3),
            heard=_highest(dict(zip(names, map(float, scores_K), strict=True))) if loud else {},
        )
        for index, (scores_K, loud) in enumerate(zip(scores_PK, loud_P, strict=True))
    )


def _highest(scores: dict[str, float]) -> dict[str, float]:
    best = sorted(scores, key=lambda name: -scores[name])[:_KEPT]
    kept = [*best, *([MUSIC] if MUSIC in scores and MUSIC not in best else [])]
    return {name: round(scores[name], 3) for name in kept if scores[name] >= _FLOOR}


def packed(sounds_PE: torch.Tensor) -> str:
    """Pack embeddings for `Perception.sound`."""
    return base64.b64encode(sounds_PE.numpy().astype("<f2").tobytes()).decode()


def unpacked(sound: str, dim: int) -> torch.Tensor:
    """Unpack embeddings of `Perception.sound`: (P, dim)."""
    flat = np.frombuffer(base64.b64decode(sound), dtype="<f2").astype(np.float32)
    return torch.from_numpy(flat.reshape(-1, dim))


def listen_finely(job: ClipJob) -> tuple[Patch, ...] | Failure:
    """Tag things with YAMNet at a quarter of its hop where the in-domain tagger confirms them."""
    space = _joint(job.joint)
    try:
        samples_N = clip_sound(job.clip)
    except MediaError as error:
        return Failure(kind="media", reason=str(error))
    words = vocabulary(space.hearing.class_names)
    step = YamNet.patch_hop_samples // _FINE
    shifted = [samples_N[k * step :] for k in range(_FINE) if len(samples_N) > k * step]
    parts = [space.hearing.scores_and_embeddings(piece)[0] for piece in shifted]
    tagged = [tagger().scores_and_embeddings(piece)[0] for piece in shifted]
    loud_P = _woven([heard_patches(n, len(p)) for n, p in zip(shifted, parts, strict=True)])
    scores_PC, tagged_PK = _smooth(_woven(parts)), _smooth(_woven(tagged))
    # Patches of both taggers begin together; at the end one may have a patch more.
    more = len(scores_PC) - len(tagged_PK)
    tagged_PK = np.pad(tagged_PK[: len(scores_PC)], ((0, max(0, more)), (0, 0)), mode="edge")
    agreed_PT = agreed_scores(
        things_heard(scores_PC, space.hearing.class_names, words), tagged_PK, _likeness(job.joint)
    )
    names = [thing.name for thing in words.things]
    return _patches(names, agreed_PT, loud_P, step)


def _woven(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Interleave the rows of all parts; later ones have as many rows as the first or one fewer."""
    rows = [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]
    return np.stack(rows)


def _smooth(scores_PK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average each patch with its neighbours; single patches are unreliable."""
    near = [scores_PK[max(0, p - 1) : p + 2].mean(axis=0) for p in range(len(scores_PK))]
    return np.stack(near)


def score_captions(job: ScoreJob) -> tuple[Fit, ...]:
    """Score captions and their events against their sounds.

    The heads know the catalogue's classes; anything else scores low whether it sounds or not, so an
    event that names no class gets None.
    """
    space = _joint(job.joint)
    whole_SE = space.sentences([caption.text for caption in job.captions])
    every = {event.what for caption in job.captions for event in caption.events}
    names = sorted(what for what in every if _known().classes(what))
    phrases = dict(zip(names, space.sentences(names), strict=True)) if names else {}
    return tuple(
        _fit(unpacked(perception.sound, len(whole_E)), perception, caption, whole_E, phrases)
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
        start_s = -MARGIN_S if event.start_s is None else event.start_s - MARGIN_S
        end_s = float("inf") if event.end_s is None else event.end_s + MARGIN_S
        near_P = torch.tensor([p.start_s < end_s and p.end_s > start_s for p in perception.patches])
        near_P = near_P & heard_P if (near_P & heard_P).any() else heard_P
        events.append(round(float((sounds_PE[near_P] @ phrases[event.what]).max()), 4))
    return Fit(
        caption=round(JointSpace.says_what_is_heard(sounds_PE, whole_E), 4), events=tuple(events)
    )
