"""A system under test: its sound files by clip, and the names of reference rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omni2sound.bench.systems.folder import Problem, SoundFile
from omni2sound.bench.tracks.track import Track
from omni2sound.generate.request import Task

ORACLE = "oracle"
RETRIEVAL = "retrieval"
REAL_ELSEWHERE = "real, other scenes"
"""Real sound of as many other scenes: the floor of FD and KID at this number of clips."""
NOISE = "noise, same spectrum"
"""`baselines.noise_like` each clip's own sound: the far end of FD."""
RECONSTRUCTION = "reconstruction"
"""Each clip's own sound through the model's autoencoder: its ceiling."""

SystemKey = tuple[str, Task | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A model, a baseline or a reference, with a sound for each clip."""

    name: str
    sounds: Mapping[str, SoundFile]
    """By clip."""
    task: Task | None = None
    """None of baselines, which are all shown everything."""
    is_baseline: bool = False
    is_variant: bool = False
    """A model under test, asked in another way than the run's own."""
    distances_only: bool = False
    """Its sounds belong to no clip: the two ends of distances."""
    is_real: bool = False
    """Its sounds are the track's own in some order: as a set they have no distance to them."""
    problems: tuple[Problem, ...] = ()

    @property
    def key(self) -> SystemKey:
        """Name and task, unique in a run."""
        return self.name, self.task

    @property
    def title(self) -> str:
        """Name and task as text."""
        return self.name if self.task is None else f"{self.name} {self.task}"


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
