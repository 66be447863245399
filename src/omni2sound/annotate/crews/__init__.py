"""Crews as presets: models of all roles, what their servers take, prices with date and source.

In:   a crew's name (`paper.toml` and others beside this file), or a file in the same form.
Out:  a `CrewFile`, whose roles a user may replace one by one.

    about = "..."
    [junior]                      # also vision, senior, validator (default: the junior)
    model = "NAME"                # or "local"
    url = "https://..."           # left out where users run the server themselves
    cap = 4000                    # limit of output tokens, hidden thoughts included
    extra = { ... }               # added to the bodies of its calls
    structured = "json_schema"    # and audio_part, max_pictures: see `annotate check`
    [[price]]                     # rows as in `llm/prices.toml`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from omni2sound.config import from_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.llm.servers.options import AudioForm, Structured
from omni2sound.readers import read_toml

CREWS = ("local", "paper", "open", "small")
CREW_ROLES = ("vision", "junior", "senior", "validator")


@dataclass(frozen=True, kw_only=True, slots=True)
class CrewRole:
    """One role of a crew."""

    model: str
    url: str | None = None
    cap: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    structured: Structured | None = None
    audio_part: AudioForm | None = None
    max_pictures: int | None = None

    def name_at(self, role: str, url: str | None) -> str:
        """Return the model's name with its server.

        Args:
            role: The role, for the error.
            url: Server that the user gives; None takes the crew's own.

        Raises:
            UserError: Neither the crew nor the user names a server.
        """
        if self.model == "local" or self.model.startswith("scripted:"):
            return self.model
        where = url or self.url
        if where is None:
            raise UserError(
                f"{role}: {self.model} runs on a server of your own; give {role}=http://HOST/v1",
                field="at",
            )
        return f"{self.model}@{where}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CrewFile:
    """A crew as its file has it."""

    path: str
    about: str
    vision: CrewRole
    junior: CrewRole
    senior: CrewRole
    validator: CrewRole | None = None
    frames_per_second: float | None = None
    """Frames that the viewer sees; None for two a shot."""
    has_prices: bool = False

    def role(self, name: str) -> CrewRole:
        """Return a role; the validator is the junior unless the file says otherwise."""
        found: CrewRole | None = getattr(self, name)
        return found or self.junior


def load_crew(name: str) -> CrewFile:
    """Read a bundled crew by name, or a file.

    Raises:
        UserError: No crew has that name, or the file is malformed.
    """
    path = Path(name)
    if name in CREWS:
        path = Path(str(resources.files(__package__) / f"{name}.toml"))
    elif path.suffix != ".toml":
        raise UserError(
            f"expected one of {', '.join(CREWS)}, or a .toml file, got {name!r}", field="crew"
        )
    try:
        data = dict(read_toml(path))
    except OSError as error:
        raise UserError(f"{path}: expected a crew ({error})", field="crew") from None
    has_prices = data.pop("price", None) is not None
    if unknown := sorted(set(data) - {"about", "frames_per_second", *CREW_ROLES}):
        raise ConfigError(f"{path}: unknown {unknown[0]!r}; roles are {', '.join(CREW_ROLES)}")
    return from_json(
        CrewFile, {**data, "path": str(path), "has_prices": has_prices}, where=str(path)
    )
