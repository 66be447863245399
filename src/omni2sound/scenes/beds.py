"""Draws beds: sounds that begin before a scene and last beyond it, for training.

In:   a generator, recordings, a split, the length of a scene.
Out:  the events of one source: one event from before 0 to the end, or a row of hits throughout.

Scenes of the other kinds begin every sound somewhere inside, so that a model trained on them alone
lets rain begin late. A bed's event has a negative onset, which starts its recording anywhere; what
outlasts its recording is looped when it is rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from omni2sound.errors import ConfigError
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Recording, SoundClass, Split
from omni2sound.scenes.material.levels import level_of
from omni2sound.scenes.scene import SceneEvent

_CONTINUOUS = frozenset(
    {"car", "fire", "insect", "rain", "saw", "sea", "siren", "steam", "train", "water", "bird"}
)
"""Kinds of the benchmark scenes that go on by themselves; their `kind` is older than this one."""
_LEAST_LOOP_S = 1.0
"""Shorter recordings would be heard to repeat."""
_GAPS_S = (0.28, 0.85)
"""Time between hits of a row: running to strolling, quick to slow typing."""


def bed_classes(classes: Sequence[SoundClass]) -> tuple[SoundClass, ...]:
    """Classes whose sounds can fill a scene, in the order given."""
    return tuple(
        c for c in classes if c.kind in ("continuous", "repeated") or c.class_id in _CONTINUOUS
    )


def draw_bed(
    rng: np.random.Generator,
    assets: SceneAssets,
    sound_class: SoundClass,
    *,
    split: Split,
    duration_s: float,
    gain_db: float,
) -> list[SceneEvent]:
    """Draw the events of a bed, source 0.

    Args:
        rng: Random generator.
        assets: Recordings; only those of `split` are used.
        sound_class: One of `bed_classes`.
        split: Split whose families may appear.
        duration_s: Length of the scene.
        gain_db: Level of all its events.

    Raises:
        ConfigError: If the split has no recording of the class.
    """
    recordings = assets.catalogue.recordings_of(sound_class.class_id, split)
    families = list(dict.fromkeys(r.family for r in recordings))
    if not families:
        raise ConfigError(f"no recording of {sound_class.class_id!r} in the {split} split")
    family = families[int(rng.integers(len(families)))]
    takes = [r for r in recordings if r.family == family]
    if sound_class.kind == "repeated":
        return _row(rng, assets, takes, duration_s=duration_s, gain_db=gain_db)
    long = [r for r in takes if level_of(assets, r.recording_id).duration_s >= _LEAST_LOOP_S]
    take = (long or takes)[int(rng.integers(len(long or takes)))]
    length_s = level_of(assets, take.recording_id).duration_s
    return [_event(take, -float(rng.uniform(0, length_s)), duration_s, gain_db)]


def _row(
    rng: np.random.Generator,
    assets: SceneAssets,
    takes: Sequence[Recording],
    *,
    duration_s: float,
    gain_db: float,
) -> list[SceneEvent]:
    """Draw hits at a steady pace, each another take of one family where there are several."""
    gap_s = float(np.exp(rng.uniform(*np.log(_GAPS_S))))
    onsets_s = [float(rng.uniform(0.01, min(gap_s, 0.3)))]
    while (at_s := onsets_s[-1] + gap_s * float(rng.uniform(0.9, 1.1))) < duration_s - 0.05:
        onsets_s.append(at_s)
    events = []
    last = -1
    for at_s, next_s in pairwise([*onsets_s, duration_s]):
        choice = int(rng.integers(len(takes)))
        if choice == last and len(takes) > 1:
            choice = (choice + 1) % len(takes)
        last, take = choice, takes[choice]
        end_s = min(at_s + level_of(assets, take.recording_id).duration_s, duration_s)
        if len(takes) == 1:  # a whole walk in one recording: the next begins when it ends
            end_s = min(end_s, max(next_s, at_s + 0.1))
        events.append(_event(take, at_s, end_s, gain_db + float(rng.uniform(-2, 2))))
    return events


def _event(take: Recording, onset_s: float, offset_s: float, gain_db: float) -> SceneEvent:
    return SceneEvent(
        class_id=take.class_id,
        recording_id=take.recording_id,
        picture_id=None,
        onset_s=round(onset_s, 4),
        offset_s=min(round(offset_s, 4), offset_s),
        gain_db=round(gain_db, 2),
        on_screen=False,
        motion=None,
        source=0,
    )
