"""What is known of a project's outputs: takes/steps.json.

In:   takes/ID.wav with its stems.
Out:  digests of what each step was made of and of the files that it wrote.

What not to get wrong: people mend takes and stems by hand. What differs from its digest is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omni2sound.config import from_json, to_json
from omni2sound.errors import UserError
from omni2sound.files import LEFT_BY_SYSTEMS, file_sha256, write_json
from omni2sound.generate.output import read_sidecar
from omni2sound.generate.stems.files import stems_folder
from omni2sound.readers import as_object, read_json

STATE = "steps.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """One step as it was made."""

    asked: str | None
    """Digest of its settings, inputs and model; None while it is being made."""
    files: Mapping[str, str]
    """SHA-256 of the output and its stems, by paths in the folder of takes."""


@dataclass(kw_only=True, slots=True)
class State:
    """All steps that were made, and what the hand-over was made of."""

    steps: dict[str, Done] = field(default_factory=dict)
    hand_over: str | None = None

    @classmethod
    def read(cls, takes: Path) -> State:
        """Read the state of a project; an empty one if nothing was made.

        Raises:
            ConfigError: The file is damaged.
        """
        path = takes / STATE
        if not path.is_file():
            return cls()
        return from_json(cls, as_object(read_json(path), path), where=STATE)

    def write(self, takes: Path) -> None:
        """Write the state, whole or not at all."""
        write_json(takes / STATE, to_json(self))


def files_of(output: Path) -> dict[str, str]:
    """Return the digests of an output and its stems, by their paths beside it."""
    paths = [output, *sorted(stems_folder(output).rglob("*"))]
    return {
        path.relative_to(output.parent).as_posix(): file_sha256(path)
        for path in paths
        if path.is_file() and path.name not in LEFT_BY_SYSTEMS
    }


def check_untouched(output: Path, done: Done | None, files: Mapping[str, str]) -> None:
    """Refuse to replace an output, or stems, that somebody has mended by hand.

    Args:
        output: The output.
        done: What is known of it; without, its sidecar counts.
        files: From `files_of`.

    Raises:
        UserError: A file is not as it was made.
    """
    if done is None:
        made = read_sidecar(output)
        known: Mapping[str, str] = {} if made is None else {output.name: made["output_sha256"]}
    elif done.asked is None:
        return  # a run was killed
    else:
        known = done.files
    for name, sha256 in files.items():
        if known.get(name) != sha256 and (output.parent / name).stat().st_size:
            raise UserError(
                f"{output.parent.name}/{name}: is not as this step made it; expected no change by "
                "hand: move it away to have it made again, or set `overwrite`"
            )
