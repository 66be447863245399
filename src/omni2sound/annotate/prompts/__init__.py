"""Prompts: versioned files in our own words.

In:   a role's name and a version.
Out:  the text, with its fields filled in; the version's name for content keys.

A file that has been used is never changed: a new wording is a new number, because answers
are kept under the prompt's version.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from omni2sound.errors import UserError

__all__ = ["Prompt", "load_prompt"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One wording."""

    version: str
    """ "junior/1"."""
    text: str

    def filled(self, **fields: object) -> str:
        """The text with `{name}` replaced."""
        text = self.text
        for name, value in fields.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text


def load_prompt(role: str, version: int = 1) -> Prompt:
    """A prompt that comes with the package.

    Raises:
        UserError: There is none of that name and version.
    """
    file = resources.files(__package__) / f"{role}-{version}.md"
    if not file.is_file():
        raise UserError(f"no prompt {role}-{version}; look into omni2sound/annotate/prompts")
    return Prompt(version=f"{role}/{version}", text=file.read_text(encoding="utf-8").strip())
