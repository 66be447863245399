"""Run folder: settings, source clips, finished clips.

In:   a manifest and settings, or the folder of a run.
Out:  `RunSettings`; `SourceClip`s; a `Story` for each finished clip.

    RUN/run.json       settings: the manifest and the model of each role, never a key
    RUN/steps.sqlite   every step of every clip
    RUN/calls.sqlite   every paid answer and its cost
    RUN/judge.sqlite   the same of `annotate judge`, with a budget of its own
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from omni2sound.annotate.filters import Thresholds
from omni2sound.annotate.records import Caption, Ending, Record, latest_caption
from omni2sound.annotate.roles import SourceClip
from omni2sound.annotate.steps import START_ONE, STEPS_FILE, StepStore
from omni2sound.config import from_json, to_json
from omni2sound.data.corpora.manifest import Clip, Manifest, iter_clips
from omni2sound.errors import UserError
from omni2sound.files import write_json
from omni2sound.llm import CallStore
from omni2sound.readers import interpreting, read_json

SETTINGS_FILE = "run.json"
CALLS_FILE = "calls.sqlite"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """Settings that change results."""

    manifest: str
    junior: str
    senior: str
    vision: str
    scorer: str
    pictures: str
    num_clips: int
    wording: str = "template"
    thresholds: Thresholds | None = None
    """None in runs of earlier releases."""
    validator: str = ""
    """Empty in runs of earlier releases."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Versions of the prompts by role (`Crew`); local roles have none."""

    def write(self, folder: Path) -> None:
        """Write `run.json`, replacing an earlier one."""
        write_json(folder / SETTINGS_FILE, to_json(self))

    @classmethod
    def read(cls, folder: Path) -> RunSettings:
        """Read `run.json`.

        Raises:
            UserError: The folder holds no run.
        """
        try:
            data = read_json(folder / SETTINGS_FILE)
        except OSError:
            raise UserError(f"{folder}: no annotation run; {START_ONE}") from None
        return from_json(cls, data, where=str(folder / SETTINGS_FILE))


def clip_name(clip: Clip) -> str:
    """Return CORPUS/CLIP_ID, unique over corpora."""
    return f"{clip.corpus}/{clip.clip_id}"


def source_clips(manifest: Manifest) -> list[SourceClip]:
    """List the clips of a manifest, in order."""
    return [source_clip(clip, manifest.media) for clip in manifest.clips]


def source_clip(clip: Clip, media: Path) -> SourceClip:
    """Return a clip with its files below the media folder."""
    return SourceClip(
        name=clip_name(clip),
        audio=media / clip.sound_file,
        video=None if clip.video is None else media / clip.video,
        start_s=clip.start_s,
        duration_s=clip.duration_s,
        fingerprint=fingerprint([f"{media}{os.sep}{name}" for name in clip_files(clip)]),
    )


def clip_files(clip: Clip) -> list[str]:
    """List the files of a clip, relative to the media folder."""
    return list(dict.fromkeys(name for name in (clip.sound_file, clip.video) if name is not None))


def fingerprint(paths: Iterable[str]) -> str:
    """Return sizes and modification times; a digest of the content would be as slow as a copy."""
    found = []
    for path in paths:
        try:
            now = os.stat(path)  # noqa: PTH116 - each clip is asked, and a Path takes longer
            found.append(f"{now.st_size}-{now.st_mtime_ns}")
        except OSError:
            found.append("missing")
    return "+".join(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A clip that failed."""

    clip: str
    step: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.clip}: {self.kind} at {self.step}: {self.reason}"


def failures(folder: Path) -> Iterator[Failed]:
    """Yield the failed clips by name, each once.

    Raises:
        UserError: The folder holds no run.
    """
    RunSettings.read(folder)
    last = ""
    with StepStore.open(folder / STEPS_FILE, read_only=True) as store:
        for clip, step, failure in store.failures():
            if clip != last:
                yield Failed(clip=clip, step=step, kind=failure.kind, reason=failure.reason)
            last = clip


def retry_failures(folder: Path, kind: str | None = None) -> list[Failed]:
    """Let the next run ask again for failed clips, as often as for new ones.

    Args:
        folder: Folder of a run that is not under way.
        kind: Kind of failure (`records.Failure`); None takes all.

    Returns:
        The clips that will be asked again; paid answers of earlier steps are kept.

    Raises:
        UserError: The folder holds no run, or no failure is of that kind.
    """
    every = list(failures(folder))
    chosen = [failed for failed in every if kind in (None, failed.kind)]
    if not chosen:
        known = ", ".join(sorted({failed.kind for failed in every})) or "none"
        raise UserError(f"{folder}: no clip to retry; failures there are: {known}")
    if (folder / CALLS_FILE).is_file():
        with CallStore.open(folder / CALLS_FILE) as calls:
            calls.forgive(failed.clip for failed in chosen).result()
    with StepStore.open(folder / STEPS_FILE) as steps:
        steps.forget((failed.clip, failed.step) for failed in chosen)
    return chosen


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """A person's decision on a clip."""

    keep: bool
    caption: str
    """As it was, or as the person wrote it."""
    who: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """A finished clip and its steps."""

    clip: Clip
    ending: Ending
    steps: Mapping[str, Record]
    review: Review | None = None

    @property
    def end(self) -> Literal["kept", "dropped", "failed"]:
        """Outcome; a person's decision goes before the rules'."""
        if self.review is None:
            return self.ending.end
        return "kept" if self.review.keep else "dropped"

    @property
    def caption(self) -> Caption | None:
        """Latest caption; one that a person wrote has no events."""
        found = latest_caption(self.steps)
        if self.review is None or found is None or self.review.caption == found.text:
            return found
        return Caption(text=self.review.caption, is_music=found.is_music)


_STORIES_AT_ONCE = 256


def stories(
    folder: Path, manifest: Manifest | None = None, *, perceptions: bool = True
) -> Iterator[Story]:
    """Yield finished clips in the order of the manifest.

    Args:
        folder: Folder of the run.
        manifest: Its manifest, if it has been read. Default: it is read, a few clips at a time.
        perceptions: Whether steps hold the measurements of sound and picture, which take longest
            to decode.

    Raises:
        UserError: The folder holds no run, or its manifest is missing.
    """
    clips: Iterator[Clip]
    if manifest is not None:
        clips = iter(manifest.clips)
    else:
        clips = iter_clips(Path(RunSettings.read(folder).manifest))
    with StepStore.open(folder / STEPS_FILE, read_only=True) as store:
        while some := list(islice(clips, _STORIES_AT_ONCE)):
            found = store.of_clips([clip_name(clip) for clip in some])
            for clip in some:
                texts = found.get(clip_name(clip), {})
                ending = store.decoded(texts["end"][1]) if "end" in texts else None
                if isinstance(ending, Ending):
                    # The store may also hold steps of earlier runs with other settings.
                    with interpreting(folder / STEPS_FILE, "a whole run"):
                        steps = {
                            name: store.decoded(texts[name][1])
                            for name in ending.steps
                            if perceptions or not texts[name][1].startswith(_PERCEPTION)
                        }
                    yield Story(clip=clip, ending=ending, steps=steps)


_PERCEPTION = '{"Perception"'
