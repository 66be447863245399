"""A run's folder: what it was asked to do, and where each clip stands.

In:   a manifest and settings, or a folder that a run has made.
Out:  `RunSettings` beside the step store; source clips; finished clips with their stories.

    RUN/run.json       settings: the manifest, who played which role, thresholds
    RUN/steps.sqlite   every step of every clip
    RUN/calls.sqlite   every answer that was bought, and what it cost
    RUN/judge.sqlite   the same of `annotate judge`, with a budget of its own

The settings hold names of models and of environment variables, never a key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from omni2sound.annotate.records import Caption, Ending, Record, SeniorCaption
from omni2sound.annotate.roles import SourceClip
from omni2sound.annotate.steps import STEPS_FILE, StepStore
from omni2sound.config import from_json, to_json
from omni2sound.data.corpora.manifest import Clip, Manifest, read_manifest
from omni2sound.errors import UserError
from omni2sound.files import atomic_path

__all__ = ["CALLS_FILE", "RunSettings", "Story", "clip_name", "source_clips", "stories"]

SETTINGS_FILE = "run.json"
CALLS_FILE = "calls.sqlite"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What `annotate run` was called with, as far as it changes results."""

    manifest: str
    junior: str
    senior: str
    vision: str
    scorer: str
    pictures: str
    num_clips: int
    wording: str = "template"

    def write(self, folder: Path) -> None:
        """Into the run's folder, replacing what was there."""
        with atomic_path(folder / SETTINGS_FILE) as temporary:
            temporary.write_text(json.dumps(to_json(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> RunSettings:
        """From a run's folder.

        Raises:
            UserError: It is none.
        """
        try:
            data = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UserError(
                f"{folder}: no annotation run; start one: omni2sound annotate run"
            ) from None
        return from_json(cls, data, where=SETTINGS_FILE)


def clip_name(clip: Clip) -> str:
    """Unique over corpora."""
    return f"{clip.corpus}/{clip.clip_id}"


def source_clips(manifest: Manifest) -> list[SourceClip]:
    """The clips of a manifest, in order."""
    return [
        SourceClip(
            name=clip_name(clip),
            audio=manifest.media / clip.sound_file,
            video=None if clip.video is None else manifest.media / clip.video,
            start_s=clip.start_s,
            duration_s=clip.duration_s,
            fingerprint="+".join(
                _fingerprint(manifest.media / path)
                for path in dict.fromkeys((clip.sound_file, clip.video))
                if path is not None
            ),
        )
        for clip in manifest.clips
    ]


def _fingerprint(path: Path) -> str:
    """Changes when somebody writes the file. Its content would be surer, and as slow as a copy."""
    try:
        found = path.stat()
    except OSError:
        return "missing"
    return f"{found.st_size}-{found.st_mtime_ns}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """A clip that ended, and the steps of its way."""

    clip: Clip
    ending: Ending
    steps: Mapping[str, Record]

    @property
    def caption(self) -> Caption | None:
        """The last one."""
        senior = self.steps.get("senior")
        if isinstance(senior, SeniorCaption):
            return senior.caption
        junior = self.steps.get("junior")
        return junior if isinstance(junior, Caption) else None


def stories(folder: Path) -> Iterator[Story]:
    """Clips that ended, in the order of the manifest.

    Raises:
        UserError: The folder holds no run, or its manifest is gone.
    """
    settings = RunSettings.read(folder)
    manifest = read_manifest(Path(settings.manifest))
    with StepStore.open(folder / STEPS_FILE, read_only=True) as store:
        for clip in manifest.clips:
            found = store.of_clip(clip_name(clip))
            _, ending = found.get("end", ("", None))
            if isinstance(ending, Ending):
                # Steps of earlier runs with other settings may lie there too.
                steps = {name: found[name][1] for name in ending.steps}
                yield Story(clip=clip, ending=ending, steps=steps)
