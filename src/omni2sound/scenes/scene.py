"""Records of a scene: the ground truth that sound, picture, captions and metrics follow.

In:   numbers and names, drawn by `draw.draw_scene` or read from an events file.
Out:  frozen records, and JSON that reads back as an equal record.

Geometry is in picture heights: x from 0 to `aspect`, y from 0 (top) to 1 (bottom), so that a scene
is the same at any size. Time is in seconds from the start of the scene, gain in decibels, angles
in radians. An event is one onset; repeated hits of one object are events that share `source`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from omni2sound.config import from_json
from omni2sound.errors import ConfigError
from omni2sound.readers import loads
from omni2sound.scenes.material.catalogue import Motion, Split

RENDER_VERSION = 2
"""Version of what a seed renders: a change of drawing, motion or mix needs a new number, or results
of two renderers end up in one table. (2: the jolt of an onset is the largest change.)"""

SceneKind = Literal["main", "strike", "offscreen", "audio", "bed"]
Role = Literal["source", "distractor", "striker"]
Effect = Literal["none", "sparks", "dust", "halo"]
BackgroundKind = Literal["gradient", "noise", "picture", "flat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneEvent:
    """One onset of a sound."""

    class_id: str
    recording_id: str
    picture_id: str | None
    """The picture that moves with it; None off screen."""
    onset_s: float
    """When it becomes audible; negative for a bed, which sounds from the start."""
    offset_s: float
    """When it is over or cut."""
    gain_db: float
    """Level against `levels.REFERENCE_DB`."""
    on_screen: bool
    motion: Motion | None
    """How its picture shows it; None off screen."""
    source: int
    """Number of the source; repeated hits share it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Knot:
    """Position of an object at one time; between knots it moves smoothly."""

    time_s: float
    x: float
    y: float
    scale: float = 1.0
    angle: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sway:
    """Small periodic motion on top of the path."""

    x: float
    y: float
    angle: float
    rate_hz: float
    phase: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """Motion of a source when it sounds; the event's motion selects which values are used."""

    strength: float
    """Scale of everything below; 1 is a clear hit."""
    direction: float
    """Angle of the push."""
    decay_s: float
    """Time in which ringing falls to 1/e."""
    rate_hz: float
    """Rate of ringing or vibration."""
    flash: float
    """Jump in brightness at the onset, 0 to 1."""
    effect: Effect
    """Particles or light at the onset."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gesture:
    """Abrupt motion of a silent object: a hard visual distractor."""

    time_s: float
    motion: Motion
    strength: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneObject:
    """One object in the picture."""

    role: Role
    picture_id: str | None
    """None: a drawn tool, by `shape_seed`."""
    shape_seed: int
    source: int | None
    """Source that it shows or strikes; None for distractors."""
    height: float
    """Height at scale 1, in picture heights."""
    mirrored: bool
    knots: tuple[Knot, ...]
    sway: Sway
    visible_from_s: float
    visible_until_s: float
    fade_s: float
    response: Response | None
    """For sources and for distractors with gestures; None for others."""
    gestures: tuple[Gesture, ...] = ()
    """Abrupt motion of a distractor, without a sound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """The camera between two cuts."""

    start_s: float
    from_x: float
    from_y: float
    from_zoom: float
    to_x: float
    to_y: float
    to_zoom: float
    shake: float
    """Amplitude in picture heights."""
    shake_seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """Background behind all objects."""

    kind: BackgroundKind
    picture_id: str | None
    colours: tuple[tuple[int, int, int], ...]
    detail: int
    """Octaves of noise."""
    num_clutter: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Artefacts of camera and codec."""

    noise: float
    """Standard deviation in 8-bit steps."""
    blur: float
    """Gaussian radius in picture heights."""
    exposure: float
    """Factor on brightness."""
    flicker: float
    """Amplitude of slow changes of exposure."""
    blockiness: float
    """Blend of blocks with their mean, 0 to 1."""
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ambience:
    """Faint coloured noise; `level_db` is its RMS in dBFS."""

    level_db: float
    tilt: float
    """Power falls with frequency to this exponent: 0 white, 1 pink, 2 brown."""
    seed: int


_VARIABLE_SHARE = 1 / 6
_LEFT_OUT_SHARE = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One scene."""

    scene_id: str
    split: Split
    seed: int
    index: int
    kind: SceneKind
    duration_s: float
    aspect: float
    """Width over height of the picture."""
    fps: str
    """Frame rate of the written file, as a fraction: "30000/1001"."""
    events: tuple[SceneEvent, ...]
    """Sorted by onset."""
    objects: tuple[SceneObject, ...]
    """From back to front."""
    shots: tuple[Shot, ...]
    """The first starts at 0."""
    background: Background
    look: Look
    ambience: Ambience | None

    @property
    def cuts_s(self) -> tuple[float, ...]:
        """Times of the cuts."""
        return tuple(shot.start_s for shot in self.shots[1:])

    def shown_frames(self, num_frames: int) -> tuple[int, ...]:
        """Choose which frames at `fps` the written file holds, always the first and the last.

        One scene in six has a variable frame rate: some frames are left out, never two in a row.
        The choice follows from `scene_id`.
        """
        rng = np.random.default_rng(list(self.scene_id.encode()))
        if rng.random() >= _VARIABLE_SHARE:
            return tuple(range(num_frames))
        shown = [0]
        for i in range(1, num_frames):
            last = i == num_frames - 1
            if last or shown[-1] != i - 1 or rng.random() >= _LEFT_OUT_SHARE:
                shown.append(i)
        return tuple(shown)

    @property
    def has_picture(self) -> bool:
        """Whether the scene has a picture; False for the kinds "audio" and "bed"."""
        return self.kind not in ("audio", "bed")

    def to_json(self) -> str:
        """Write as JSON that `from_json` reads as an equal scene."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Scene:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: If the text does not hold a scene.
        """
        try:
            return from_json(cls, loads(text), where="scene")
        except ValueError as error:
            raise ConfigError(
                f"this is not a scene: {error}; expected JSON that `scenes build` wrote"
            ) from error
