"""Per-clip metrics, of plugins and of published networks: one number a sound.

In:   a number for each clip, by metric.
Out:  `Score`s with 95 % intervals (bootstrap over clips), one tuple a protocol.

Shape suffixes: N samples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.stats.estimate import Direction, Score
from omni2sound.errors import UserError
from omni2sound.plugins import Registry

if TYPE_CHECKING:
    from omni2sound.bench.tracks.track import TrackClip

Waveform = NDArray[np.float32]
_BUILT_IN = r"stage-v1|copies-v1|.*-8s-v1|kad-.*-v1|(pe-av|pe-a-frame|aesthetics)-v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredClip:
    """A clip, and the files that are compared."""

    clip: TrackClip
    sound: Path
    """File of the sound that is scored."""
    real: Path
    """File of the clip's own sound."""
    video: Path | None
    """File of the clip's video; None on tracks without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipMetric:
    """A metric with one number a clip; its name in `CLIP_METRICS` titles its column.

    Attributes:
        protocol: Title of its table, such as "brightness-v1"; a changed definition needs another.
        direction: Which is better, "higher" or "lower".
        measure: Called with (sound, real sound, `ScoredClip`), both waveforms (N,) mono, of the
            clip's length; returns a finite number, or None where the clip does not count.
        unit: Such as "Hz"; empty for pure numbers.
        sample_rate_hz: Sample rate of both waveforms.

    Raises:
        UserError: If the protocol is a built-in one's.
    """

    protocol: str
    direction: Direction
    measure: Callable[[Waveform, Waveform, ScoredClip], float | None]
    unit: str = ""
    sample_rate_hz: int = 16_000

    def __post_init__(self) -> None:
        if re.fullmatch(_BUILT_IN, self.protocol):
            raise UserError(f"protocol {self.protocol!r} is built in; give the metric its own")


CLIP_METRICS: Registry[ClipMetric] = Registry("metric", {}, kind=ClipMetric)


def measure_clip(
    name: str, waveform_at: Callable[[int], tuple[Waveform, Waveform]], clip: ScoredClip
) -> float | None:
    """Measure one sound by one metric.

    Args:
        name: Name of the metric.
        waveform_at: Gives the sound and the real one at a sample rate.
        clip: The clip and its files.

    Raises:
        UserError: If the result is not finite.
    """
    metric = CLIP_METRICS.find(name)
    value = metric.measure(*waveform_at(metric.sample_rate_hz), clip)
    if value is not None and not math.isfinite(value):
        raise UserError(
            f"metric {name!r}, clip {clip.clip.clip_id}: expected a number, got {value}"
        )
    return value if value is None else float(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkColumn:
    """A number of `network_scores`; its name in `NETWORK_COLUMNS` titles its column."""

    protocol: str
    direction: Direction = "higher"
    unit: str = ""


NETWORK_COLUMNS: Mapping[str, NetworkColumn] = {
    "sound-text": NetworkColumn(protocol="pe-av-v1"),
    "sound-video": NetworkColumn(protocol="pe-av-v1"),
    "caption heard": NetworkColumn(protocol="pe-a-frame-v1"),
    "events heard": NetworkColumn(protocol="pe-a-frame-v1"),
    "enjoyment": NetworkColumn(protocol="aesthetics-v1"),
    "usefulness": NetworkColumn(protocol="aesthetics-v1"),
    "production quality": NetworkColumn(protocol="aesthetics-v1"),
}


def known_metrics() -> dict[str, ClipMetric | NetworkColumn]:
    """Return the columns that a clip's numbers may have, by name."""
    return {**NETWORK_COLUMNS, **dict(CLIP_METRICS.items())}


def clip_metric_scores(clips: Sequence[Mapping[str, float]]) -> list[tuple[Score, ...]]:
    """Scores over clips, one tuple a protocol; metrics without a number are left out.

    Args:
        clips: For each clip, its numbers by metric.
    """
    protocols: dict[str, tuple[Score, ...]] = {}
    for name, metric in known_metrics().items():
        if known := [clip[name] for clip in clips if name in clip]:
            score = Score(
                protocol=metric.protocol,
                name=name,
                direction=metric.direction,
                unit=metric.unit,
                estimate=bootstrap_mean(known),
            )
            protocols[metric.protocol] = (*protocols.get(metric.protocol, ()), score)
    return list(protocols.values())
