"""The description of a project: steps in their order, and what an editor gets.

In:   project.json.
Out:  `Project`, checked; paths are relative to its folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omni2sound.config import from_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import check_inside
from omni2sound.generate.studio.job import check_id
from omni2sound.readers import as_object, read_json

FILE = "project.json"
VERSION = 1
KEY = "omni2sound_project"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step: a sound from a request, from another sound, or from stems.

    Raises:
        UserError: The id is no file name, `of` is missing, or `settings` hold what stands beside
            them, or a video outside of the folder.
    """

    id: str
    """Names the output, takes/ID with the suffix."""
    do: Literal["generate", "edit", "mix"]
    of: str | None = None
    """Id of the step that is edited or mixed."""
    seed: int = 0
    suffix: str = ".wav"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of `generate`, keys of a jobs file; of `edit`, fields of `edit.asked.Edit`, with `ranges` as
    texts and of `video` only null; of `mix`, `changes` by the names of stems, and `anew`."""

    def __post_init__(self) -> None:
        check_id(self.id)
        if (self.of is None) != (self.do == "generate"):
            told = "is for `edit` and `mix`" if self.of else "is missing: name the step"
            raise UserError(f"{self.id}: {told}", field="of")
        if self.suffix not in (".wav", ".flac", ".mov", ".mp4", ".mkv"):
            raise UserError(f"{self.id}: expected .wav, .flac or a video's", field="suffix")
        for name in ("id", "seed"):
            if name in self.settings:
                raise UserError(f"{self.id}: stands beside `settings`, not in them", field=name)
        video = self.settings.get("video")
        if video is None:
            return
        if self.do != "generate" or not isinstance(video, str):
            kind = "a path or null" if self.do == "generate" else "null, or nothing to follow it"
            raise UserError(f"{self.id}: expected {kind}, got {repr(video)[:80]}", field="video")
        check_inside(video, "video")


@dataclass(frozen=True, kw_only=True, slots=True)
class HandOverStep:
    """What an editor gets."""

    takes: tuple[str, ...]
    film_start_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """Steps in their order.

    Raises:
        UserError: Two have one id, one needs a step that comes later or not at all, or the film
            lies outside of the folder.
    """

    steps: tuple[Step, ...]
    video: str | None = None
    """The film, inside of the folder; what its sounds follow unless a step says `video`: null."""
    video_sha256: str | None = None
    """Digest of the film whose cuts the steps hold; another film is refused."""
    hand_over: HandOverStep | None = None

    def __post_init__(self) -> None:
        if self.video is not None:
            check_inside(self.video, "video")
        known: set[str] = set()
        for step in self.steps:
            if step.id in known:
                raise UserError(f"two are called {step.id!r}; rename one", field="steps")
            if step.of is not None and step.of not in known:
                raise UserError(f"{step.id}: no earlier step is called {step.of!r}", field="of")
            known.add(step.id)
        for take in self.hand_over.takes if self.hand_over is not None else ():
            if take not in known:
                raise UserError(f"no step is called {take!r}", field="takes")

    def video_of(self, step: Step) -> str | None:
        """Return the video that a step follows: its own, or that of what it is made of."""
        by_id = {one.id: one for one in self.steps}
        while step.of is not None and "video" not in step.settings:
            step = by_id[step.of]
        video: str | None = step.settings.get("video", self.video)
        return video


def read_project(folder: Path) -> Project:
    """Read the description of a project.

    Raises:
        ConfigError: There is none, or it does not hold together.
        UserError: A step is impossible.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder}: holds no {FILE}; give the folder of a project")
    data = as_object(read_json(path), path)
    if data.pop(KEY, None) != VERSION:
        raise ConfigError(f"{path}: no project: expected {KEY!r}: {VERSION}")
    return from_json(Project, data, where=FILE)
