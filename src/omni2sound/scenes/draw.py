"""Draws a scene from a seed: which sources sound when, what they look like, what else moves.

In:   recordings and pictures, a split, a seed, an index, a kind.
Out:  a `Scene`, the ground truth that `render` turns into sound and picture.

The same arguments give the same scene on every machine: all randomness comes from one generator
seeded by (seed, split, kind, index), and nothing iterates over a set. What not to get wrong: in
"main" and "strike" scenes nothing is heard that cannot be seen, and a class that sounds is never
among the distractors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, get_args

import numpy as np

from omni2sound.errors import ConfigError, UserError
from omni2sound.scenes.beds import bed_classes, draw_bed
from omni2sound.scenes.distractors import (
    draw_ambience,
    draw_background,
    draw_distractor,
    draw_hard_distractor,
    draw_look,
    draw_places,
    draw_shots,
    draw_sway,
)
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import (
    DISTRACTOR,
    SPLITS,
    Recording,
    SoundClass,
    Split,
)
from omni2sound.scenes.material.levels import level_of
from omni2sound.scenes.scene import (
    Effect,
    Knot,
    Response,
    Scene,
    SceneEvent,
    SceneKind,
    SceneObject,
    Shot,
)

KINDS: tuple[SceneKind, ...] = get_args(SceneKind)

MIN_DURATION_S, MAX_DURATION_S = 1.5, 60.0
STRIKE_MARGINS_S = (0.4, 0.6)
"""Least distance of an impact from the start and from the end."""

_FPS = ("12", "15", "24000/1001", "24", "25", "25", "30000/1001", "30", "30", "50", "60")
_ASPECTS = (1.0, 4 / 3, 16 / 9, 16 / 9)
_EFFECTS: tuple[Effect, ...] = ("none", "none", "sparks", "dust", "halo")
_MAX_EVENT_S = 6.0

_Option = TypeVar("_Option")


def check_duration(duration_s: float, field: str = "duration_s") -> None:
    """Refuse a length that no scene can have.

    Raises:
        UserError: If it is out of range.
    """
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise UserError(
            f"expected {MIN_DURATION_S:g} to {MAX_DURATION_S:g} seconds, got {duration_s:g}",
            field=field,
        )


def draw_scene(
    assets: SceneAssets, *, split: Split, seed: int, index: int, kind: SceneKind, duration_s: float
) -> Scene:
    """Draw one scene.

    Args:
        assets: Recordings and pictures; only those of `split` are used.
        split: Split whose families may appear.
        seed: Random seed of the scenes, >= 0.
        index: Number of this scene, >= 0.
        kind: "main": one to three sources, seen and heard. "strike": one impact among moving
            silent objects. "offscreen": one source seen and heard, one only heard. "audio": one
            or two sources heard, no picture. "bed": one that sounds from the start to the end,
            often another over it, no picture.
        duration_s: Length of the scene.

    Raises:
        UserError: If an argument is outside its range.
        ConfigError: If the split has no class that this kind needs.
    """
    if split not in SPLITS or kind not in KINDS:
        raise UserError(
            f"no scenes of split {split!r}, kind {kind!r}; splits: {', '.join(SPLITS)}; "
            f"kinds: {', '.join(KINDS)}"
        )
    if seed < 0 or index < 0:
        raise UserError(
            f"expected 0 or more, got {min(seed, index)}", field="seed" if seed < 0 else "index"
        )
    check_duration(duration_s)
    rng = np.random.default_rng([seed, SPLITS.index(split), KINDS.index(kind), index])
    aspect = float(rng.choice(_ASPECTS))
    drawer = _Drawer(rng, assets, split, kind, aspect, duration_s)
    shots = draw_shots(rng, kind=kind, duration_s=duration_s, aspect=aspect)
    events: list[SceneEvent] = []
    for source, (sound_class, on_screen) in enumerate(drawer.cast()):
        if kind == "bed" and source == 0:
            events += drawer.bed(sound_class)
        else:
            events += drawer.events(sound_class, source, on_screen=on_screen)
    if kind == "strike":
        shots = _without_cuts_near(shots, [e.onset_s for e in events])
    objects = () if kind in ("audio", "bed") else tuple(drawer.objects(events))
    background, look = draw_background(rng, assets, split), draw_look(rng)
    return Scene(
        scene_id=scene_id_of(split=split, seed=seed, index=index, kind=kind),
        split=split,
        seed=seed,
        index=index,
        kind=kind,
        duration_s=duration_s,
        aspect=aspect,
        fps=str(rng.choice(_FPS)),
        events=tuple(sorted(events, key=lambda e: (e.onset_s, e.source))),
        objects=objects,
        shots=shots,
        background=background,
        look=look,
        ambience=draw_ambience(rng, kind),
    )


def scene_id_of(*, split: Split, seed: int, index: int, kind: SceneKind) -> str:
    """Name a scene before it is drawn."""
    return f"{kind}-{split}-{seed}-{index:06d}"


def _without_cuts_near(shots: tuple[Shot, ...], onsets_s: Sequence[float]) -> tuple[Shot, ...]:
    return tuple(
        s for s in shots if s.start_s == 0 or all(abs(s.start_s - t) > 0.2 for t in onsets_s)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawer:
    """Draws events and objects of one scene. The order of draws is part of what a seed means."""

    rng: np.random.Generator
    assets: SceneAssets
    split: Split
    kind: SceneKind
    aspect: float
    duration_s: float

    def cast(self) -> list[tuple[SoundClass, bool]]:
        """Choose the classes that sound, and whether each is seen."""
        catalogue, rng = self.assets.catalogue, self.rng
        classes = [c for c in catalogue.classes if catalogue.recordings_of(c.class_id, self.split)]
        seen = [c for c in classes if c.motions and catalogue.pictures_of(c.class_id, self.split)]
        if self.kind == "strike":
            return [(self._class([c for c in seen if c.kind == "impulsive"]), True)]
        if self.kind == "bed":
            bed = self._class(bed_classes(classes))
            others = [c for c in classes if c is not bed]
            return [(c, False) for c in (bed, *self._over(others))]
        if self.kind == "audio":
            chosen = [self._class(classes)]
            if rng.random() < 0.4 and len(classes) > 1:
                chosen.append(self._class([c for c in classes if c not in chosen]))
            return [(c, False) for c in chosen]
        first = self._class(seen)
        if self.kind == "offscreen":
            unseen = [c for c in classes if c.class_id != first.class_id]
            return [(first, True), (self._class(unseen), False)]
        num_sources = int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
        cast = [first]
        while len(cast) < min(num_sources, len(seen)):
            cast.append(self._class([c for c in seen if c not in cast]))
        return [(c, True) for c in cast]

    def _over(self, classes: Sequence[SoundClass]) -> list[SoundClass]:
        """Choose what sounds over a bed: half of the beds are heard alone."""
        return [self._class(classes)] if classes and self.rng.random() < 0.5 else []

    def bed(self, sound_class: SoundClass) -> list[SceneEvent]:
        """Draw a sound that fills the scene."""
        return draw_bed(
            self.rng,
            self.assets,
            sound_class,
            split=self.split,
            duration_s=self.duration_s,
            gain_db=float(self.rng.uniform(-9, 0)),
        )

    def _class(self, classes: Sequence[SoundClass]) -> SoundClass:
        if not classes:
            raise ConfigError(
                f"the {self.split} split has too few classes for a {self.kind!r} scene; "
                "allow more licences or run: omni2sound scenes fetch"
            )
        return self._one(classes)

    def _one(self, options: Sequence[_Option]) -> _Option:
        return options[int(self.rng.integers(len(options)))]

    def _recording(self, class_id: str, *, single: bool) -> Recording:
        """Choose a family, then one of its takes, each with equal probability."""
        recordings = self.assets.catalogue.recordings_of(class_id, self.split)
        if single:
            clear = tuple(r for r in recordings if level_of(self.assets, r.recording_id).single)
            recordings = clear or recordings
        family = self._one(list(dict.fromkeys(r.family for r in recordings)))
        return self._one([r for r in recordings if r.family == family])

    def events(self, sound_class: SoundClass, source: int, *, on_screen: bool) -> list[SceneEvent]:
        """Draw the events of one source: one onset, or several of an impulsive class."""
        rng, duration_s = self.rng, self.duration_s
        impulsive = sound_class.kind in ("impulsive", "repeated")
        recording = self._recording(sound_class.class_id, single=impulsive)
        level = level_of(self.assets, recording.recording_id)
        early, late = STRIKE_MARGINS_S if impulsive else (0.15, max(0.8, 0.35 * duration_s))
        onset_s = float(rng.uniform(early, duration_s - late))
        onsets = [onset_s]
        if impulsive and self.kind != "strike" and rng.random() < 0.5:
            gap_s = float(rng.uniform(0.35, 1.0))
            for _ in range(int(rng.integers(1, 4))):
                onset_s += gap_s * float(rng.uniform(0.85, 1.15))
                if onset_s > duration_s - STRIKE_MARGINS_S[1]:
                    break
                onsets.append(onset_s)
        picture_id, motion = None, None
        if on_screen:
            pictures = self.assets.catalogue.pictures_of(sound_class.class_id, self.split)
            picture_id, motion = self._one(pictures).picture_id, self._one(sound_class.motions)
        gain_db = float(rng.uniform(-6, 2))
        cut_s = float(rng.uniform(1.5, _MAX_EVENT_S))
        return [
            SceneEvent(
                class_id=sound_class.class_id,
                recording_id=recording.recording_id,
                picture_id=picture_id,
                onset_s=round(at_s, 4),
                offset_s=min(round(at_s + min(level.duration_s, cut_s), 4), duration_s),
                gain_db=round(gain_db + float(rng.uniform(-2, 2)) * (i > 0), 2),
                on_screen=on_screen,
                motion=motion,
                source=source,
            )
            for i, at_s in enumerate(onsets)
        ]

    def objects(self, events: Sequence[SceneEvent]) -> list[SceneObject]:
        """Draw distractors behind, then sources and strikers."""
        rng, duration_s = self.rng, self.duration_s
        strike = self.kind == "strike"
        sources = list(dict.fromkeys(e.source for e in events if e.on_screen))
        num_smooth = int(rng.integers(2, 4)) if strike else int(rng.integers(0, 3))
        silent = self._silent_pictures({e.class_id for e in events})
        num_hard = 0
        if not strike and silent[0]:  # scenes of impacts must not change
            num_hard = int(rng.choice([0, 1, 2], p=[0.3, 0.5, 0.2]))
        places = draw_places(rng, len(sources) + num_smooth + num_hard, self.aspect)
        behind = [
            draw_distractor(rng, silent, place=place, aspect=self.aspect, duration_s=duration_s)
            for place in places[len(sources) + num_hard :]
        ]
        onsets_s = [e.onset_s for e in events]
        behind += [
            draw_hard_distractor(
                rng, silent[0], onsets_s=onsets_s, place=place, duration_s=duration_s
            )
            for place in places[len(sources) : len(sources) + num_hard]
        ]
        front: list[SceneObject] = []
        for source, place in zip(sources, places, strict=False):
            front += self._source([e for e in events if e.source == source], *place)
        return [*behind, *front]

    def _silent_pictures(self, sounding: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """List pictures of silent things, and of classes that do not sound in this scene."""
        catalogue = self.assets.catalogue
        mute = tuple(p.picture_id for p in catalogue.pictures_of(DISTRACTOR, self.split))
        quiet = tuple(
            p.picture_id
            for c in catalogue.classes
            if c.class_id not in sounding
            for p in catalogue.pictures_of(c.class_id, self.split)
        )
        return mute, quiet

    def _source(self, events: Sequence[SceneEvent], x: float, y: float) -> list[SceneObject]:
        rng, first = self.rng, events[0]
        height = float(rng.uniform(0.34, 0.55))
        sideways = 0.0 if rng.random() < 0.5 else np.pi
        response = Response(
            strength=float(rng.uniform(0.9, 1.4)),
            direction=float(sideways + rng.uniform(-0.9, 0.9)),
            decay_s=float(rng.uniform(0.15, 0.35)),
            rate_hz=float(rng.uniform(1.0, 2.0)),
            flash=float(rng.choice([0.0, rng.uniform(0.1, 0.5)], p=[0.7, 0.3])),
            effect=self._one(_EFFECTS),
        )
        if first.motion == "bounce" and self.kind != "strike":  # scenes of impacts must not change
            y = min(y, 1 - 0.5 * height)  # what falls must be seen to land
        calm = rng.random() < 0.5
        sway = draw_sway(rng, 0.006 if calm else 0.02)
        place = Knot(time_s=0.0, x=x, y=y)
        knots: tuple[Knot, ...] = (place,)
        if not calm:
            drift_x, drift_y = (float(drift) for drift in rng.uniform(-0.1, 0.1, 2))
            knots += (Knot(time_s=self.duration_s, x=x + drift_x, y=y + 0.5 * drift_y),)
        if first.motion == "pass_by":
            knots = self._drive_past(first, y)
        seen_from_s = 0.0
        if rng.random() < 0.15 and first.onset_s > 1.2:
            seen_from_s = float(rng.uniform(0.4, first.onset_s - 0.6))
        thing = SceneObject(
            role="source",
            picture_id=first.picture_id,
            shape_seed=0,
            source=first.source,
            height=height,
            mirrored=bool(rng.random() < 0.5),
            knots=knots,
            sway=sway,
            visible_from_s=seen_from_s,
            visible_until_s=self.duration_s,
            fade_s=0.3,
            response=response,
        )
        if first.motion != "strike" or rng.random() < 0.4:
            return [thing]
        striker = replace(
            thing,
            role="striker",
            picture_id=None,
            shape_seed=int(rng.integers(1 << 31)),
            height=float(rng.uniform(0.12, 0.22)),
            mirrored=False,
            knots=(place,),
            sway=draw_sway(rng, 0.004),
            response=None,
        )
        return [thing, striker]

    def _drive_past(self, event: SceneEvent, y: float) -> tuple[Knot, ...]:
        """Stand near one side, start at the onset, leave at the other side.

        It does not enter: a source half out of the picture would start to sound off screen.
        """
        ends, aspect = (0.2, self.aspect + 0.3), self.aspect
        start, end = ends if self.rng.random() < 0.5 else (aspect - ends[0], aspect - ends[1])
        # Never so fast that driving moves more pixels than the jolt of starting.
        gone_s = max(event.offset_s, event.onset_s + 2.5)
        return Knot(time_s=event.onset_s, x=start, y=y), Knot(time_s=gone_s, x=end, y=y)
