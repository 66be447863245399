"""API keys, from an environment variable to one header and nowhere else.

In:   the name of a variable.
Out:  `ApiKey`, which hides itself and removes itself from texts.

Servers echo keys in error messages, from where they would reach logs, stores and tracebacks; so
every text from an endpoint first goes through `scrub`.
"""

from __future__ import annotations

import json
import os
from typing import NoReturn
from urllib.parse import quote

from omni2sound.errors import UserError

_SHORTEST_SECRET = 8
"""Shorter ones are placeholders ("none") and occur in plain words."""


class ApiKey:
    """Key of an endpoint; "-" for an endpoint without keys."""

    def __init__(self, value: str) -> None:
        self._value = value
        secret = value if len(value) >= _SHORTEST_SECRET else ""
        self._forms = {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]} - {""}

    @classmethod
    def from_variable(cls, name: str | None) -> ApiKey:
        """Read the key from an environment variable; None for an endpoint without keys.

        Raises:
            UserError: The variable is not set, or can't be a key.
        """
        if name is None:
            return cls("-")
        value = os.environ.get(name, "").strip()
        if not value:
            raise UserError(
                f"API key: expected one in the environment variable {name}, it is empty"
            )
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise UserError(
                f"API key in {name}: expected printable ASCII without spaces, got something else"
            )
        return cls(value)

    def __repr__(self) -> str:
        return "ApiKey(...)"

    def __reduce__(self) -> NoReturn:
        raise UserError("an API key stays in its process: give workers the variable's name")

    def reveal(self) -> str:
        """Return the key for a header."""
        return self._value

    def scrub(self, text: str) -> str:
        """Return `text` without the key."""
        for form in self._forms:
            text = text.replace(form, "[key]")
        return text
