"""Versioned prompts.

In:   a role's name and a version.
Out:  the text with its fields filled in; the version's name for content keys.

A prompt that has been used never changes: answers are kept under its version, so another text is
another number.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from omni2sound.errors import UserError

__all__ = ["Prompt", "load_prompt"]


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


def load_prompt(role: str, version: int = 1) -> Prompt:
    """Read a bundled prompt.

    Raises:
        UserError: No prompt has that name and version.
    """
    file = resources.files(__package__) / f"{role}-{version}.md"
    if not file.is_file():
        raise UserError(
            f"no prompt {role}-{version}; see the files in omni2sound/annotate/chat/prompts"
        )
    return Prompt(version=f"{role}/{version}", text=file.read_text(encoding="utf-8").strip())
