"""Motion of filmed things: free bounces, swings and falls, hand-held cameras, frame rates.

In:   a generator; times in seconds.
Out:  paths of things and of the camera at these times; what a file of some frame rate shows.

The motion of `motion` jolts a thing at rest, so that the largest change of the picture is at its
onset. Here a thing moves all the time, and what marks the onset is that its velocity jumps: the
picture changes least there. Both are what an impact looks like.

Shape suffixes: T times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omni2sound.scenes.render.motion import Poses

Times = NDArray[np.float64]

_CONTACT_S = 0.02
_MOST_PAN = 0.18
"""Picture heights; the background ends a quarter of a height outside the picture."""


def show_times(times_T: Times, fps: float) -> Times:
    """What a file shows at some times: its picture on screen, taken in the middle of its turn."""
    return (np.floor(times_T * fps + 1e-6) + 0.5) / fps


def draw_hits(rng: np.random.Generator, duration_s: float, *, edge_s: float) -> list[float]:
    """Draw onsets of one thing, at least .25 s apart: like a metronome, at will, or dying away."""
    first, gap = float(rng.uniform(edge_s, 1.0)), float(rng.uniform(0.3, 1.1))
    habit = int(rng.integers(3))
    hits, factor = [first], float(rng.uniform(0.7, 0.95))
    while hits[-1] < duration_s:
        if habit == 1:
            gap = float(rng.uniform(0.3, 1.2))
        if habit == 2:
            gap *= factor
        if gap < 0.25:
            break
        hits.append(hits[-1] + gap)
    return [round(t, 4) for t in hits if t < duration_s - edge_s]


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeMotion:
    """Motion of one thing that never rests before its last onset.

    Attributes:
        hits_s: Onsets, at which its velocity jumps; none for a smooth swing.
        x: Position of the contact, picture heights; without hits the middle of the swing.
        y: The same, downward.
        reach: Greatest distance from there, picture heights.
        direction: Angle in which it leaves the contact, radians; -pi/2 is up.
        drift: Speed to the right, picture heights per second.
        spin: Turning speed, radians per second.
        turn: Angle that follows the distance, radians.
        warp: Above 1 it leaves slowly and comes back fast.
        squash: Share of its height that it loses at a contact.
        stays: Whether it lies still after the last onset.
        rate_hz: Rate of the swing without hits.
    """

    hits_s: tuple[float, ...]
    x: float
    y: float
    reach: float
    direction: float
    drift: float
    spin: float
    turn: float
    warp: float
    squash: float
    stays: bool
    rate_hz: float

    def distance(self, times_T: Times) -> Times:
        """Distance from the contact, 0 to 1 of `reach`; at an onset it is 0."""
        if not self.hits_s:
            return np.sin(2 * np.pi * self.rate_hz * times_T)
        hits = np.array(self.hits_s)
        longest = float(max(np.diff(hits).max(initial=0.0), 0.5))
        bounds = np.concatenate([[hits[0] - longest], hits, [hits[-1] + longest]])
        at = np.clip(np.searchsorted(bounds, times_T, side="right") - 1, 0, len(hits))
        gaps = np.diff(bounds)[at]
        u = np.clip((times_T - bounds[at]) / gaps, 0, 1) ** self.warp
        # Thrown things rise with the square of the time that they have.
        far = 4 * u * (1 - u) * (gaps / longest) ** 2
        # It falls from rest, and in the end lies still or comes to rest again.
        first = np.clip((hits[0] - times_T) / (0.5 * longest), 0, 1)
        last = np.clip((times_T - hits[-1]) / (0.5 * longest), 0, 1)
        far = np.where(times_T < hits[0], 1 - (1 - first) ** 2, far)
        end = 0.0 if self.stays else 1 - (1 - last) ** 2
        return np.where(times_T >= hits[-1], end, far)

    def poses(self, times_T: Times) -> Poses:
        """Poses at these times."""
        far = self.distance(times_T)
        near = np.zeros_like(times_T)
        for hit_s in self.hits_s:
            near = np.maximum(near, np.exp(-(((times_T - hit_s) / _CONTACT_S) ** 2)))
        ones = np.ones_like(times_T)
        return Poses(
            x=self.x + self.drift * times_T + self.reach * np.cos(self.direction) * far,
            y=self.y + self.reach * np.sin(self.direction) * far,
            stretch_x=ones + 0.5 * self.squash * near,
            stretch_y=ones - self.squash * near,
            angle=self.spin * times_T + self.turn * far,
            light=np.zeros_like(times_T),
            alpha=ones,
        )


def draw_free_motion(
    rng: np.random.Generator, hits_s: list[float], *, aspect: float, height: float
) -> FreeMotion:
    """Draw a bounce, a swing or a fall with these onsets, or a smooth swing without."""
    falls = bool(rng.random() < 0.7) and bool(hits_s)
    reach = float(rng.uniform(0.12, 0.5))
    direction = -np.pi / 2 if falls else float(rng.uniform(-np.pi, np.pi))
    low = float(rng.uniform(0.55, 0.95)) - 0.5 * height
    return FreeMotion(
        hits_s=tuple(hits_s),
        x=float(rng.uniform(0.25, 0.75)) * aspect,
        y=low if falls else float(rng.uniform(0.35, 0.65)),
        reach=min(reach, low + 0.3 * height) if falls else 0.5 * reach,
        direction=direction,
        drift=float(rng.uniform(-0.08, 0.08)) if rng.random() < 0.5 else 0.0,
        spin=float(rng.uniform(-3, 3)) if rng.random() < 0.4 else 0.0,
        turn=0.0 if falls else float(rng.uniform(-0.8, 0.8)),
        warp=1.0 if falls else float(rng.uniform(1.0, 1.8)),
        squash=float(rng.uniform(0.0, 0.3)) if rng.random() < 0.5 else 0.0,
        stays=bool(rng.random() < 0.3),
        rate_hz=float(rng.uniform(0.4, 1.6)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraMotion:
    """A camera in a hand, that may turn and zoom once; lengths in picture heights."""

    zoom: float
    shake: float
    rates_hz: tuple[float, ...]
    phases: tuple[float, ...]
    pan: tuple[float, float, float]
    """Shift (x, y) and change of zoom."""
    from_s: float
    lasts_s: float

    def view(self, times_T: Times, aspect: float) -> tuple[Times, Times, Times]:
        """Centre (x, y) and zoom at these times, as `render.iter_frames_at` takes them."""
        u = np.clip((times_T - self.from_s) / self.lasts_s, 0, 1)
        part = u * u * (3 - 2 * u) - 0.5
        waves = np.sin(2 * np.pi * (times_T[:, None] * self.rates_hz + np.array(self.phases)))
        tremble = self.shake * waves.reshape(len(times_T), 2, -1).sum(axis=2)
        x, y, zoom = (part * shift for shift in self.pan)
        return (
            0.5 * aspect + x + tremble[:, 0],
            0.5 + y + tremble[:, 1],
            self.zoom + zoom,
        )


def draw_camera(rng: np.random.Generator, duration_s: float) -> CameraMotion:
    """Draw a camera: still in two of five cases, else hand-held, turning, zooming, or all."""
    moves, turns = rng.random() < 0.6, rng.random() < 0.6
    pan = rng.uniform(-_MOST_PAN, _MOST_PAN, 2) * (1, 0.6)
    return CameraMotion(
        zoom=float(rng.uniform(1.0, 1.2)),
        shake=float(np.exp(rng.uniform(np.log(0.001), np.log(0.015)))) if moves else 0.0,
        rates_hz=tuple(float(r) for r in rng.uniform(0.3, 5, 6)),
        phases=tuple(float(p) for p in rng.random(6)),
        pan=(float(pan[0]), float(pan[1]), float(rng.uniform(-0.15, 0.15)))
        if moves and turns
        else (0.0, 0.0, 0.0),
        from_s=float(rng.uniform(-0.3, 0.8) * duration_s),
        lasts_s=float(np.exp(rng.uniform(np.log(0.2), np.log(3.0)))),
    )
