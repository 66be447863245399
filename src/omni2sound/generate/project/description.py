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
from omni2sound.generate.studio.job import check_id
from omni2sound.readers import as_object, read_json

FILE = "project.json"
VERSION = 1
_KEY = "omni2sound_project"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step: a sound from a request, from another sound, or from stems.

    Raises:
        UserError: The id is no file name, or `of` is missing.
    """

    id: str
    """Names the output, takes/ID with the suffix."""
    do: Literal["generate", "edit", "mix"]
    of: str | None = None
    """Id of the step that is edited or mixed."""
    seed: int = 0
    suffix: str = ".wav"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of `generate`, fields of `studio.job.Job`; of `edit`, of `edit.asked.Edit`, with `ranges` as
    texts; of `mix`, `changes` by the names of stems, and `anew`."""

    def __post_init__(self) -> None:
        check_id(self.id)
        if (self.of is None) != (self.do == "generate"):
            told = "is for `edit` and `mix`" if self.of else "is missing: name the step"
            raise UserError(f"{self.id}: {told}", field="of")
        if self.suffix not in (".wav", ".flac", ".mov", ".mp4", ".mkv"):
            raise UserError(f"{self.id}: expected .wav, .flac or a video's", field="suffix")


@dataclass(frozen=True, kw_only=True, slots=True)
class HandOverStep:
    """What an editor gets."""

    takes: tuple[str, ...]
    film_start_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """Steps in their order.

    Raises:
        UserError: Two have one id, or one needs a step that comes later or not at all.
    """

    steps: tuple[Step, ...]
    video: str | None = None
    """The film, relative to the folder; what its sounds follow unless a step says `video`: null."""
    hand_over: HandOverStep | None = None

    def __post_init__(self) -> None:
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
    if data.pop(_KEY, None) != VERSION:
        raise ConfigError(f"{path}: no project: expected {_KEY!r}: {VERSION}")
    return from_json(Project, data, where=FILE)
