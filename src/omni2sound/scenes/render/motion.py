"""Motion of objects over time, caused by sound or not.

In:   a scene, one of its objects, times in seconds.
Out:  poses: position, stretch, angle, light and opacity at each time.

A source jumps at its onset: the largest change of its picture falls within 40 ms of the ground
truth (tested). So an impact is an immediate displacement that then swings back, never a push that
builds up, and other motion of the source waits for a moment after it. Objects that are not sources
move smoothly, except for the gestures of hard distractors: the motion of sources on silent things.

Shape suffixes: T times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.levels import LEVEL_RATE_HZ, Level, level_of
from omni2sound.scenes.scene import Response, Scene, SceneEvent, SceneObject

Times = NDArray[np.float64]

_RISE_S = 0.012
"""An impact reaches its full displacement within this time."""
_REST_S = 0.06
"""Time at the displacement: an immediate swing back would move more pixels than the impact."""
_WINDUP_S = 0.3
_LIFT_S = 0.47
_FALL_S = 0.28
_FLASH_S = 0.12
_CALM_S = 0.2
"""Time after the onset in which no motion may exceed its jolt: a second rise belongs to it, shaking
waits, and motion that follows the sound begins gently. A thin or patterned picture that moves a
tenth of its size changes as many pixels as one that moves a third."""


@dataclass(kw_only=True, slots=True, eq=False)
class Poses:
    """Poses of one object, each (T,). Lengths in picture heights."""

    x: Times
    y: Times
    stretch_x: Times
    stretch_y: Times
    angle: Times
    light: Times
    """Added brightness, 0 to 1 (white)."""
    alpha: Times
    """Opacity, 0 to 1."""


def events_of(scene: Scene, source: int | None) -> tuple[SceneEvent, ...]:
    """Select the on-screen events of one source."""
    return tuple(e for e in scene.events if e.on_screen and e.source == source)


def path_of(thing: SceneObject, times_T: Times) -> tuple[Times, Times, Times, Times]:
    """Compute x, y, scale and angle without any response to sound."""
    knots = thing.knots
    values = np.array([(k.x, k.y, k.scale, k.angle) for k in knots])
    if len(knots) == 1:
        at = np.repeat(values, len(times_T), axis=0)
    else:
        knots_s = np.array([k.time_s for k in knots])
        at = PchipInterpolator(knots_s, values)(np.clip(times_T, knots_s[0], knots_s[-1]))
    sway = thing.sway
    swing = np.sin(2 * np.pi * sway.rate_hz * times_T + sway.phase)
    return (
        at[:, 0] + sway.x * swing,
        at[:, 1] + sway.y * swing,
        at[:, 2],
        at[:, 3] + sway.angle * swing,
    )


def poses_of(
    scene: Scene, thing: SceneObject, times_T: Sequence[float] | Times, assets: SceneAssets
) -> Poses:
    """Compute the poses of one object of the scene."""
    times = np.asarray(times_T, dtype=np.float64)
    x, y, scale, angle = path_of(thing, times)
    alpha = _opacity(thing, times)
    poses = Poses(
        x=x,
        y=y,
        stretch_x=scale.copy(),
        stretch_y=scale.copy(),
        angle=angle,
        light=np.zeros_like(times),
        alpha=alpha,
    )
    # Scenes of impacts must not change: they move as they always did.
    calm_s = 0.0 if scene.kind == "strike" else _CALM_S
    last_s = -np.inf
    if thing.role == "striker":
        _swing_at_target(poses, scene, thing, times)
    if thing.response is None:
        return poses
    mover = _Mover(poses, thing.height, thing.response, calm_s)
    for event in events_of(scene, thing.source) if thing.role == "source" else ():
        level = level_of(assets, event.recording_id)
        mover.respond(event, level, times - event.onset_s, event.onset_s - last_s)
        last_s = event.onset_s
    for gesture in thing.gestures:
        since, room_s = times - gesture.time_s, gesture.time_s - last_s
        mover.impact(gesture.motion, since, gesture.strength, room_s)
        last_s = gesture.time_s
    return poses


def shot_index(scene: Scene, times_T: Times) -> NDArray[np.intp]:
    """Find the index of the shot at each time."""
    starts = np.array([shot.start_s for shot in scene.shots])
    return np.maximum(np.searchsorted(starts, times_T, side="right") - 1, 0)


def view_of(scene: Scene, times_T: Times) -> tuple[Times, Times, Times]:
    """Compute centre (x, y) and zoom of the camera; at zoom z it sees 1/z of the scene."""
    x, y, zoom = (np.empty_like(times_T) for _ in range(3))
    index = shot_index(scene, times_T)
    ends = [*scene.cuts_s, scene.duration_s]
    for i, shot in enumerate(scene.shots):
        on = index == i
        times = times_T[on]
        u = np.clip((times - shot.start_s) / max(ends[i] - shot.start_s, 1e-6), 0, 1)
        rates, phases = np.split(np.random.default_rng(shot.shake_seed).random(8), 2)
        waves = np.sin(2 * np.pi * (times[:, None] * (1 + 4 * rates) + phases))
        x[on] = shot.from_x + u * (shot.to_x - shot.from_x) + shot.shake * waves[:, :2].sum(1)
        y[on] = shot.from_y + u * (shot.to_y - shot.from_y) + shot.shake * waves[:, 2:].sum(1)
        zoom[on] = shot.from_zoom + u * (shot.to_zoom - shot.from_zoom)
    return x, y, zoom


def _opacity(thing: SceneObject, times: Times) -> Times:
    fade = max(thing.fade_s, 1e-6)
    rising = (times - thing.visible_from_s) / fade + 1
    falling = (thing.visible_until_s - times) / fade + 1
    return np.clip(np.minimum(rising, falling), 0, 1)


def _smooth(u: Times) -> Times:
    u = np.clip(u, 0, 1)
    return u * u * (3 - 2 * u)


def _kick(since: Times, decay_s: float, rate_hz: float, rest_s: float = _REST_S) -> Times:
    """0 before the onset, 1 just after it, rest, then a damped swing."""
    rise = np.clip(since / _RISE_S, 0, 1)
    after = np.maximum(since - rest_s, 0)
    return rise * np.exp(-after / decay_s) * np.cos(2 * np.pi * rate_hz * after)


def _windup(since: Times) -> Times:
    """0, then slowly to 1 at the onset, then 0."""
    return np.where(since < 0, _smooth(since / _WINDUP_S + 1), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Mover:
    """Adds the motion of sounds and gestures to the poses of one object."""

    poses: Poses
    height: float
    response: Response
    calm_s: float
    """Time after an onset that what follows the jolt waits for."""

    def respond(self, event: SceneEvent, level: Level, since: Times, room_s: float) -> None:
        """Add the motion of one event; before `calm_s` only that of its onset.

        The previous onset was `room_s` earlier.
        """
        calm_s = self.calm_s
        # A weak hit moves less, but never so little that it cannot be seen.
        strength = self.response.strength * float(np.clip(10 ** (event.gain_db / 40), 0.7, 1.2))
        lasts_s = event.offset_s - event.onset_s
        attack = float(level.curve[:6].max())
        first = strength * max(attack, 0.45)
        self.impact(event.motion, since, first, room_s)
        last_s = 0.0
        for hit_s in level.hits_s:
            if calm_s <= hit_s < lasts_s:
                loud = 0.8 * strength * float(level.curve[round(hit_s * LEVEL_RATE_HZ)])
                self.impact(event.motion, since - hit_s, loud, hit_s - last_s)
                last_s = hit_s
        grid = np.arange(len(level.curve)) / LEVEL_RATE_HZ
        loudness = np.interp(since, grid, level.curve, left=0, right=0) ** 0.6
        loudness = np.where((since >= 0) & (since <= lasts_s), loudness, 0)
        swing = loudness
        if calm_s:
            begun = _smooth((since - _REST_S) / (calm_s - _REST_S))
            jump = attack**0.6 * np.clip(since / _RISE_S, 0, 1)
            loudness = jump + begun * (loudness - jump)
            swing = begun * loudness
        self._follow(event.motion, since, strength * loudness, strength * swing)

    def impact(self, motion: str | None, since: Times, strength: float, room_s: float) -> None:
        """Add the motion of an onset: 0 before it, except for the wind-up, and largest after it.

        The previous onset was `room_s` earlier.
        """
        poses, response, size, calm_s = self.poses, self.response, self.height, self.calm_s
        kick = strength * _kick(since, response.decay_s, response.rate_hz)
        windup = strength * _windup(since)
        along_x, along_y = np.cos(response.direction), np.sin(response.direction)
        turn = 1.0 if along_x >= 0 else -1.0
        after = np.maximum(since, 0)
        poses.light += response.flash * np.where(since >= 0, np.exp(-after / _FLASH_S), 0)
        if motion == "bounce":
            # Lifted as high as time allows, then falls freely and hits the ground at the onset.
            lifting_s = min(_LIFT_S, room_s - calm_s - _FALL_S) if calm_s else _LIFT_S
            high = 0.45 * max(0.0, lifting_s / _LIFT_S)
            lift = _smooth((since + _FALL_S) / max(lifting_s, 1e-6) + 1)
            lift = np.where(since < -_FALL_S, lift, 0.0)
            fall = np.where(
                (since >= -_FALL_S) & (since < 0), 1 - ((since + _FALL_S) / _FALL_S) ** 2, 0.0
            )
            from_s = max(0.08, calm_s)
            hop = np.sin(np.pi * np.clip((since - from_s) / 0.3, 0, 1))
            poses.y -= size * strength * (high * (lift + fall) + 0.04 * hop)
            flat = strength * _kick(since, response.decay_s, 0.0, max(_REST_S, 0.6 * calm_s))
            poses.stretch_y *= 1 - 0.42 * flat
            poses.stretch_x *= 1 + 0.30 * flat
            poses.y += 0.21 * size * flat
        elif motion == "shake":
            buzz = strength * _kick(since, 0.6 * response.decay_s, 7.0, max(_REST_S, calm_s))
            push = 0.27 * kick - 0.06 * windup + 0.05 * buzz
            poses.x += size * along_x * push
            poses.y += 0.6 * size * along_y * push
            poses.angle += turn * (0.20 * kick + 0.06 * buzz)
        elif motion == "pulse":
            poses.stretch_x *= 1 + 0.30 * kick - 0.06 * windup
            poses.stretch_y *= 1 + 0.30 * kick - 0.06 * windup
        elif motion == "speak":
            poses.stretch_y *= 1 + 0.32 * kick - 0.06 * windup
            poses.stretch_x *= 1 - 0.12 * kick
            poses.y -= 0.16 * size * kick
            poses.angle += turn * (0.22 * kick - 0.05 * windup)
        elif motion == "open":
            ajar = np.minimum(after / _RISE_S, 1) * np.exp(-np.maximum(after - 0.15, 0) / 0.35)
            poses.angle += turn * strength * (0.5 * ajar) - turn * 0.06 * windup
            poses.y -= 0.14 * size * strength * ajar
        elif motion == "pass_by":  # a jolt as it starts
            poses.y -= 0.26 * size * kick
            poses.angle += turn * 0.24 * kick
        else:  # struck
            push = 0.27 * kick - 0.06 * windup
            poses.x += size * along_x * push
            poses.y += 0.7 * size * along_y * push
            poses.angle += turn * 0.28 * kick
            poses.stretch_x *= 1 - 0.14 * abs(along_x) * kick
            poses.stretch_y *= 1 - 0.14 * abs(along_y) * kick

    def _follow(self, motion: str | None, since: Times, loudness: Times, swing: Times) -> None:
        """Add motion that follows the loudness of the sound."""
        poses, response, size = self.poses, self.response, self.height
        wave = np.sin(2 * np.pi * (response.rate_hz + 2.5) * since)
        if motion in ("pulse", "speak", "open"):
            throb = 0.10 * loudness + 0.07 * swing * wave
            poses.stretch_y *= 1 + throb
            poses.stretch_x *= 1 + (throb if motion == "pulse" else -0.4 * throb)
            poses.angle += 0.05 * swing * wave
        elif motion == "shake":
            poses.x += 0.05 * size * swing * np.sin(2 * np.pi * 6.3 * since)
            poses.angle += 0.07 * swing * np.sin(2 * np.pi * 5.1 * since)
        elif motion == "pass_by":
            poses.y += 0.025 * size * swing * np.sin(2 * np.pi * 5.7 * since)
            poses.angle += 0.03 * swing * wave
        else:
            poses.angle += 0.05 * swing * wave


def _swing_at_target(poses: Poses, scene: Scene, thing: SceneObject, times: Times) -> None:
    """Move a striker so that it touches its target exactly at each onset."""
    target = next(o for o in scene.objects if o.role == "source" and o.source == thing.source)
    assert target.response is not None
    x, y, scale, _ = path_of(target, times)
    rest = 0.8 * target.height
    gap = np.full_like(times, rest)
    for event in events_of(scene, thing.source):
        gap = np.minimum(gap, rest * _approach(times - event.onset_s))
        # Drawn back before the blow: added, since the gap is a minimum.
        gap += (
            0.15
            * rest
            * np.where(times < event.onset_s - 0.16, 1, 0)
            * _windup(times - event.onset_s + 0.16)
        )
    reach = 0.3 * target.height * scale + 0.4 * thing.height + gap
    along_x, along_y = np.cos(target.response.direction), np.sin(target.response.direction)
    poses.x = x - along_x * reach
    poses.y = y - along_y * reach
    poses.angle = poses.angle + target.response.direction - 0.9 * np.minimum(gap / rest, 1.2)
    poses.alpha = np.minimum(poses.alpha, _opacity(target, times))


def _approach(since: Times) -> Times:
    """1 far from the blow, 0 at it: accelerating before, decelerating after."""
    before = 1 - np.clip((since + 0.16) / 0.16, 0, 1) ** 2
    after = 1 - (1 - np.clip(since / 0.4, 0, 1)) ** 2
    return np.where(since < 0, before, after)
