"""Draws what makes a scene hard: distractors, camera, cuts, backgrounds, noise.

In:   a generator, and what the scene already fixes (duration, aspect, kind).
Out:  records of `scene`.

A distractor may be as fast as a hit but is never as abrupt: its path is a smooth curve through
knots, or an impact could not be distinguished from it. A *hard* distractor does jump, but is always
a thing that makes no sound: recognising things tells it apart, motion alone does not. Its gestures
keep `GESTURE_APART_S` from every onset, so that no prediction is right by accident.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import DISTRACTOR, Motion, Split
from omni2sound.scenes.scene import (
    Ambience,
    Background,
    BackgroundKind,
    Gesture,
    Knot,
    Look,
    Response,
    SceneKind,
    SceneObject,
    Shot,
    Sway,
)

_BACKGROUNDS: tuple[BackgroundKind, ...] = ("gradient", "noise", "noise", "picture", "flat")
_MARGIN = 0.2
"""Least distance of sources from the border."""
GESTURE_APART_S = 0.3
_GESTURES: tuple[Motion, ...] = ("strike", "bounce", "shake", "pulse", "speak")


def draw_sway(rng: np.random.Generator, amplitude: float) -> Sway:
    """Draw gentle periodic motion of about `amplitude` picture heights."""
    return Sway(
        x=float(rng.normal(0, amplitude)),
        y=float(rng.normal(0, 0.6 * amplitude)),
        angle=float(rng.normal(0, 3 * amplitude)),
        rate_hz=float(rng.uniform(0.2, 1.0)),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def draw_places(rng: np.random.Generator, count: int, aspect: float) -> list[tuple[float, float]]:
    """Draw centres, each the best of a few tries at keeping apart."""
    places: list[tuple[float, float]] = []
    for _ in range(count):
        tries = np.column_stack(
            [
                rng.uniform(_MARGIN + 0.05, aspect - _MARGIN - 0.05, 8),
                rng.uniform(_MARGIN + 0.05, 1 - _MARGIN, 8),
            ]
        )
        if places:
            apart = np.linalg.norm(tries[:, None] - np.array(places)[None], axis=2).min(axis=1)
            best = tries[int(np.argmax(apart))]
        else:
            best = tries[0]
        places.append((float(best[0]), float(best[1])))
    return places


def draw_distractor(
    rng: np.random.Generator,
    pictures: tuple[Sequence[str], Sequence[str]],
    *,
    place: tuple[float, float],
    aspect: float,
    duration_s: float,
) -> SceneObject:
    """Draw an object that moves smoothly and makes no sound.

    Args:
        rng: Random generator.
        pictures: Ids of silent things, and of classes that do not sound in this scene.
        place: Start in picture heights.
        aspect: Width over height of the picture.
        duration_s: Length of the scene.
    """
    mute, quiet = pictures
    pool = mute if mute and (not quiet or rng.random() < 0.5) else quiet
    picture_id = None
    if pool and rng.random() < 0.9:  # else a tool, so that a tool alone does not mean a hit
        picture_id = pool[int(rng.integers(len(pool)))]
    appears_s, vanishes_s = 0.0, duration_s
    if rng.random() < 0.2:
        appears_s = float(rng.uniform(0.3, 0.5 * duration_s))
    if rng.random() < 0.2:
        vanishes_s = float(rng.uniform(0.6, 0.95) * duration_s)
    habit = str(rng.choice(["drift", "sway", "wander", "dart", "spin", "swell"]))
    return SceneObject(
        role="distractor",
        picture_id=picture_id,
        shape_seed=int(rng.integers(1 << 31)),
        source=None,
        height=float(rng.uniform(0.2, 0.45)) * (1.0 if picture_id else 0.5),
        mirrored=bool(rng.random() < 0.5),
        knots=_habit_knots(rng, habit, place, aspect, duration_s),
        sway=draw_sway(rng, 0.05 if habit == "sway" else 0.01),
        visible_from_s=appears_s,
        visible_until_s=vanishes_s,
        fade_s=float(rng.uniform(0.25, 0.7)),
        response=None,
    )


def draw_hard_distractor(
    rng: np.random.Generator,
    mute: Sequence[str],
    *,
    onsets_s: Sequence[float],
    place: tuple[float, float],
    duration_s: float,
) -> SceneObject:
    """Draw a hard distractor: a silent thing that moves like a source.

    Args:
        rng: Random generator.
        mute: Ids of silent things, at least one.
        onsets_s: Onsets, which gestures keep away from.
        place: Position in picture heights.
        duration_s: Length of the scene.
    """
    motion = _GESTURES[int(rng.integers(len(_GESTURES)))]
    tries_s = rng.uniform(0.3, duration_s - 0.3, int(rng.integers(2, 6)))
    times_s: list[float] = []
    for time_s in sorted(float(t) for t in tries_s):
        if all(abs(time_s - t) >= GESTURE_APART_S for t in (*onsets_s, *times_s)):
            times_s.append(time_s)
    sideways = 0.0 if rng.random() < 0.5 else np.pi
    return SceneObject(
        role="distractor",
        picture_id=mute[int(rng.integers(len(mute)))],
        shape_seed=0,
        source=None,
        height=float(rng.uniform(0.32, 0.52)),
        mirrored=bool(rng.random() < 0.5),
        knots=(Knot(time_s=0.0, x=place[0], y=place[1]),),
        sway=draw_sway(rng, 0.01),
        visible_from_s=0.0,
        visible_until_s=duration_s,
        fade_s=0.3,
        response=Response(
            strength=1.0,
            direction=float(sideways + rng.uniform(-0.9, 0.9)),
            decay_s=float(rng.uniform(0.15, 0.35)),
            rate_hz=float(rng.uniform(1.0, 2.0)),
            flash=float(rng.choice([0.0, rng.uniform(0.1, 0.4)], p=[0.7, 0.3])),
            effect="none",
        ),
        gestures=tuple(
            Gesture(time_s=round(t, 4), motion=motion, strength=float(rng.uniform(0.8, 1.4)))
            for t in times_s
        ),
    )


def _habit_knots(
    rng: np.random.Generator,
    habit: str,
    place: tuple[float, float],
    aspect: float,
    duration_s: float,
) -> tuple[Knot, ...]:
    x, y = place
    start = Knot(time_s=0.0, x=x, y=y)

    def somewhere(reach: float) -> tuple[float, float]:
        return (
            float(np.clip(x + rng.uniform(-reach, reach), 0, aspect)),
            float(np.clip(y + rng.uniform(-reach, reach), 0.05, 0.95)),
        )

    if habit == "sway":
        return (start,)
    if habit == "drift":
        end_x, end_y = somewhere(0.5)
        return (start, Knot(time_s=duration_s, x=end_x, y=end_y, scale=rng.uniform(0.8, 1.25)))
    if habit == "spin":
        turn = float(rng.uniform(-1.5, 1.5) * duration_s)
        return (start, Knot(time_s=duration_s, x=x, y=y, angle=turn))
    if habit == "swell":
        times = np.linspace(0, duration_s, max(3, round(duration_s / rng.uniform(0.7, 1.6))))
        return tuple(
            Knot(time_s=float(t), x=x, y=y, scale=float(rng.uniform(0.75, 1.3))) for t in times
        )
    if habit == "wander":  # changes direction every 0.4 to 1.2 s
        knots, time_s = [start], 0.0
        while time_s < duration_s:
            time_s += float(rng.uniform(0.4, 1.2))
            x, y = somewhere(0.3)
            knots.append(Knot(time_s=time_s, x=x, y=y, angle=float(rng.normal(0, 0.15))))
        return tuple(knots)
    # Darts: rests, then a quick smooth move of 0.25 to 0.5 s, and rests again.
    knots, time_s = [start], 0.0
    while True:
        time_s += float(rng.uniform(0.4, 1.5))
        if time_s >= duration_s:
            return tuple(knots)
        last = knots[-1]
        knots.append(Knot(time_s=time_s, x=last.x, y=last.y, angle=last.angle))
        time_s += float(rng.uniform(0.25, 0.5))
        x, y = somewhere(0.3)
        knots.append(Knot(time_s=time_s, x=x, y=y, angle=float(rng.normal(0, 0.25))))


def draw_shots(
    rng: np.random.Generator, *, kind: SceneKind, duration_s: float, aspect: float
) -> tuple[Shot, ...]:
    """Draw fixed, panning, zooming or hand-held shots; sometimes a cut."""
    starts = [0.0]
    if rng.random() < (0.12 if kind == "strike" else 0.2):
        starts.append(float(rng.uniform(0.25, 0.75) * duration_s))
    shots = []
    for start_s in starts:
        fixed = rng.random() < 0.45
        zoom = float(rng.uniform(1.0, 1.15))
        to_zoom = zoom if fixed else float(np.clip(zoom + rng.uniform(-0.15, 0.15), 0.95, 1.25))
        x, y = 0.5 * aspect + rng.uniform(-0.05, 0.05), 0.5 + rng.uniform(-0.04, 0.04)
        pan_x, pan_y = (0.0, 0.0) if fixed else (rng.uniform(-0.1, 0.1), rng.uniform(-0.06, 0.06))
        shots.append(
            Shot(
                start_s=start_s,
                from_x=float(x),
                from_y=float(y),
                from_zoom=zoom,
                to_x=float(x + pan_x),
                to_y=float(y + pan_y),
                to_zoom=to_zoom,
                shake=float(rng.uniform(0.001, 0.006)) if rng.random() < 0.3 else 0.0,
                shake_seed=int(rng.integers(1 << 31)),
            )
        )
    return tuple(shots)


def draw_background(rng: np.random.Generator, assets: SceneAssets, split: Split) -> Background:
    """Draw a background, busy enough to be real and calm enough to see things on."""
    kind = _BACKGROUNDS[int(rng.integers(len(_BACKGROUNDS)))]
    picture_id = None
    pictures = assets.catalogue.pictures_of(DISTRACTOR, split)
    if kind == "picture" and pictures:
        picture_id = pictures[int(rng.integers(len(pictures)))].picture_id
    # Rooms and landscapes are mostly dull: a grey level, and a tint that is seldom strong.
    base = rng.uniform(65, 220) + rng.normal(0, 8 + 30 * rng.random() ** 2, 3)
    colours = [
        np.clip(base + rng.normal(0, 35) + rng.normal(0, 12, 3), 5, 250).astype(int).tolist()
        for _ in range(3)
    ]
    return Background(
        kind=kind if kind != "picture" or picture_id else "noise",
        picture_id=picture_id,
        colours=tuple((c[0], c[1], c[2]) for c in colours),
        detail=int(rng.integers(1, 6)),
        num_clutter=int(rng.choice([0, 2, 5, 9])),
        seed=int(rng.integers(1 << 31)),
    )


def draw_look(rng: np.random.Generator) -> Look:
    """Draw artefacts of camera and codec; each is absent in most scenes."""

    def sometimes(chance: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < chance else 0.0

    return Look(
        noise=sometimes(0.6, 1.0, 8.0),
        blur=sometimes(0.25, 0.002, 0.008),
        exposure=float(rng.uniform(0.85, 1.15)),
        flicker=sometimes(0.25, 0.01, 0.06),
        blockiness=sometimes(0.2, 0.2, 0.6),
        seed=int(rng.integers(1 << 31)),
    )


def draw_ambience(rng: np.random.Generator, kind: SceneKind) -> Ambience | None:
    """Draw room tone, too faint to be an event: in two of five scenes, in one of eight without
    picture, where a prompt for a sound rarely means the room around it.
    """
    if rng.random() > (0.125 if kind in ("audio", "bed") else 0.4):
        return None
    return Ambience(
        level_db=float(rng.uniform(-70, -52)),
        tilt=float(rng.uniform(0.5, 2.0)),
        seed=int(rng.integers(1 << 31)),
    )
