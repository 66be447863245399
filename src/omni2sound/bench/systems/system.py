"""A system under test: its sound files by clip, and the names of reference rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omni2sound.bench.systems.folder import Problem, SoundFile
from omni2sound.bench.tracks.track import Task, Track

__all__ = ["NOISE", "ORACLE", "REAL_ELSEWHERE", "RECONSTRUCTION", "System", "real_sounds"]

ORACLE = "oracle"
REAL_ELSEWHERE = "real, other scenes"
"""Real sound of as many other scenes: the floor of FD and KID at this number of clips."""
NOISE = "noise, same spectrum"
"""`baselines.noise_like` each clip's own sound: the far end of FD."""
RECONSTRUCTION = "reconstruction"
"""Each clip's own sound through the model's autoencoder: its ceiling."""


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """Something that made sounds for a track."""

    name: str
    sounds: Mapping[str, SoundFile]
    """By clip."""
    task: Task | None = None
    """None of baselines, which are all shown everything."""
    is_baseline: bool = False
    distances_only: bool = False
    """Its sounds are of no clip: the floor of real sound."""
    is_real: bool = False
    """Its sounds are the track's own in some order: as a set they have no distance to them."""
    problems: tuple[Problem, ...] = ()


def real_sounds(track: Track) -> dict[str, SoundFile]:
    """The track's own sounds, by clip."""
    return {
        c.clip_id: SoundFile(
            clip_id=c.clip_id,
            path=track.path(c.audio),
            sha256=track.digests[c.clip_id].audio,
        )
        for c in track.clips
    }
