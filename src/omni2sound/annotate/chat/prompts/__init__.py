"""Versioned prompts.

In:   a role's name; a version, or a folder with prompts of one's own.
Out:  the text with its fields filled in; the version's name for content keys.

A prompt that has been used never changes: answers are kept under its version, so another text is
another number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from omni2sound.errors import UserError
from omni2sound.readers import read_text

__all__ = ["PROMPTS", "Prompt", "check_prompts", "load_prompt"]

PROMPTS = ("viewer", "junior", "senior", "validator", "judge")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt's version and text."""

    version: str
    """ "junior/1"."""
    text: str

    def filled(self, **fields: object) -> str:
        """Replace each `{name}`."""
        text = self.text
        for name, value in fields.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text


def check_prompts(folder: Path) -> None:
    """Check a folder of prompts.

    Raises:
        UserError: It holds no prompt, or a file of another name.
    """
    names = sorted(path.name for path in folder.glob("*.md"))
    known = [f"{role}.md" for role in PROMPTS]
    if not names or set(names) - set(known):
        raise UserError(
            f"{folder}: expected some of {', '.join(known)}, got {', '.join(names) or 'none'}",
            field="prompts",
        )


def load_prompt(role: str, version: int = 1, folder: Path | None = None) -> Prompt:
    """Read a bundled prompt, or the one that `folder` has for the role.

    Raises:
        UserError: No prompt has that name and version.
    """
    own = None if folder is None else folder / f"{role}.md"
    if own is not None and own.is_file():
        text = read_text(own).strip()
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return Prompt(version=f"{role}/{digest}", text=text)
    file = resources.files(__package__) / f"{role}-{version}.md"
    if not file.is_file():
        raise UserError(
            f"no prompt {role}-{version}; see the files in omni2sound/annotate/chat/prompts"
        )
    return Prompt(version=f"{role}/{version}", text=file.read_text(encoding="utf-8").strip())
