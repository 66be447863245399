"""The protocol `stage-v1`: right sound, right time, nothing else.

In:   the truth of a scene, a sound made for it, and the tags of that sound.
Out:  one `ClipScore` per sound; `Score`s with 95 % intervals over many.

Definitions (a changed one needs a new name):

*True onsets*: every event's onset, and the clear rises inside its recording (`Level.hits_s`).
*Onset F1* at 50 and at 100 ms: 2 pairs / (found + true), one-to-one, pooled over clips.
*Median |offset|*: over on-screen events, the offset of an event's own onset; an event without
one counts as 0.5 s, the end of the search range.
*In sync*: share of on-screen events whose own onset lies within 100 ms.
*Invented*: false positives: onsets per clip that lie in no event, from 0.1 s before its onset to
0.1 s after its end.
*Seen heard, unseen heard*: share of on-screen and of off-screen classes that the tagger finds
somewhere in the sound (`tagging`), among the classes that pass the ground-truth rule.
*Seen heard, unseen heard (2nd)*: the same by a second tagger, for the classes that pass by it.
*Speech, music*: share of clips in which either is found, among clips whose classes' real
recordings are not taken for it.

Shape suffixes: N clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.onset import ONSET_TOLERANCE_S, onset_hit
from omni2sound.bench.metrics.onsets import OWN_REACH_S, Onsets, count_pairs
from omni2sound.bench.metrics.tagging import RealTags, Tags
from omni2sound.bench.stats.bootstrap import (
    bootstrap_mean,
    bootstrap_pooled_median,
    bootstrap_ratio,
)
from omni2sound.bench.stats.estimate import Direction, Estimate, Score
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.levels import level_of
from omni2sound.scenes.scene import Scene

STAGE_V1 = "stage-v1"
CLOSE_S = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueEvent:
    """A true event: what should sound, and when."""

    class_id: str
    onset_s: float
    offset_s: float
    hits_s: tuple[float, ...]
    """Clear rises inside the event, seconds from the start of the scene."""
    on_screen: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipScore:
    """Counts and shares of one sound; None where a score does not apply to the clip."""

    num_true: int
    num_found: int
    pairs_close: int
    pairs: int
    own_offsets_s: tuple[float | None, ...]
    num_invented: int
    seen_heard: float | None
    unseen_heard: float | None
    speech: bool | None
    music: bool | None
    seen_heard_2nd: float | None = None
    unseen_heard_2nd: float | None = None


def true_events(scene: Scene, assets: SceneAssets) -> tuple[TrueEvent, ...]:
    """List the events of a scene with the rises in their recordings."""
    return tuple(
        TrueEvent(
            class_id=e.class_id,
            onset_s=e.onset_s,
            offset_s=e.offset_s,
            hits_s=tuple(
                e.onset_s + hit_s
                for hit_s in level_of(assets, e.recording_id).hits_s
                if e.onset_s + hit_s < e.offset_s
            ),
            on_screen=e.on_screen,
        )
        for e in scene.events
    )


def score_clip(
    waveform_N: NDArray[np.float32],
    events: Sequence[TrueEvent],
    tags: Tags,
    real: RealTags,
    *,
    second: tuple[Tags, RealTags] | None = None,
) -> ClipScore:
    """Score one sound.

    Args:
        waveform_N: Mono samples at 16 kHz.
        events: True events.
        tags: Tags of the sound.
        real: Tags of real recordings, by the same tagger.
        second: Tags of the sound and of real recordings by a second tagger.

    Raises:
        ShapeError: If the waveform is not (N,) with N >= 1.
        UserError: If it holds NaN or infinity.
    """
    onsets = Onsets(waveform_N, SAMPLE_RATE_HZ)
    true_s = sorted(t for e in events for t in (e.onset_s, *e.hits_s))
    spans = [(e.onset_s - ONSET_TOLERANCE_S, e.offset_s + ONSET_TOLERANCE_S) for e in events]
    seen_s = [e.onset_s for e in events if e.on_screen]
    classes = {e.class_id for e in events}
    seen = {e.class_id for e in events if e.on_screen}
    unseen = {e.class_id for e in events if not e.on_screen}
    return ClipScore(
        num_true=len(true_s),
        num_found=len(onsets.times_s),
        pairs_close=count_pairs(onsets.times_s, true_s, tolerance_s=CLOSE_S),
        pairs=count_pairs(onsets.times_s, true_s, tolerance_s=ONSET_TOLERANCE_S),
        own_offsets_s=tuple(onsets.own_offsets_s(seen_s, true_s)),
        num_invented=onsets.num_outside(spans),
        seen_heard=_share_found(seen, tags, real),
        unseen_heard=_share_found(unseen, tags, real),
        speech=tags.speech if classes <= real.never_speech else None,
        music=tags.music if classes <= real.never_music else None,
        seen_heard_2nd=None if second is None else _share_found(seen, *second),
        unseen_heard_2nd=None if second is None else _share_found(unseen, *second),
    )


def _share_found(classes: set[str], tags: Tags, real: RealTags) -> float | None:
    scored = classes & set(real.scorable)
    return len(scored & tags.somewhere) / len(scored) if scored else None


def stage_scores(clips: Sequence[ClipScore]) -> tuple[Score, ...]:
    """Scores of the protocol over the clips of one part; a score without any clip is left out.

    Raises:
        ShapeError: If there is no clip.
    """
    asked = [c.num_found + c.num_true for c in clips]
    offsets = [
        [OWN_REACH_S if s is None else min(abs(s), OWN_REACH_S) for s in c.own_offsets_s]
        for c in clips
    ]
    in_sync = [sum(onset_hit(s, 0.0) for s in c.own_offsets_s) for c in clips]
    scores = [
        _score("onset F1 50 ms", bootstrap_ratio([2 * c.pairs_close for c in clips], asked)),
        _score("onset F1 100 ms", bootstrap_ratio([2 * c.pairs for c in clips], asked)),
    ]
    if any(offsets):
        milliseconds = [[1000 * s for s in clip] for clip in offsets]
        median = bootstrap_pooled_median(milliseconds)
        scores.append(_score("median |offset|", median, "lower", "ms"))
        scores.append(_score("in sync", bootstrap_ratio(in_sync, [len(o) for o in offsets])))
    invented = bootstrap_mean([c.num_invented for c in clips])
    scores.append(_score("invented", invented, "lower", "a clip"))
    for name, asked_of in (
        ("seen heard", [c.seen_heard for c in clips]),
        ("seen heard (2nd)", [c.seen_heard_2nd for c in clips]),
        ("unseen heard", [c.unseen_heard for c in clips]),
        ("unseen heard (2nd)", [c.unseen_heard_2nd for c in clips]),
    ):
        if values := [share for share in asked_of if share is not None]:
            scores.append(_score(name, bootstrap_mean(values)))
    for name, flags in (
        ("speech", [c.speech for c in clips if c.speech is not None]),
        ("music", [c.music for c in clips if c.music is not None]),
    ):
        if flags:
            scores.append(_score(name, bootstrap_mean(np.array(flags, float)), "lower"))
    return tuple(scores)


def _score(name: str, estimate: Estimate, direction: Direction = "higher", unit: str = "") -> Score:
    return Score(protocol=STAGE_V1, name=name, direction=direction, unit=unit, estimate=estimate)
