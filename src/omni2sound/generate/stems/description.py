"""The description of a mix: which stems, how loud, where, in which room.

In:   mix.json, or stems.
Out:  `MixDescription`, checked; paths are relative to the file and stay in its folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omni2sound.config import checked_number, from_json, to_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import check_inside, write_json
from omni2sound.readers import as_object, read_json

MIX_FILE = "mix.json"
VERSION = 1
_KEY = "omni2sound_mix"
_MAX_STEMS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """A small room around a stem.

    Raises:
        UserError: A value is out of range.
    """

    seconds: float = 0.4
    """Time in which it dies away by 60 dB, 0.05 to 3 s."""
    wet_db: float = -12.0
    """Its power beside that of the dry sound, -60 to 6 dB."""

    def __post_init__(self) -> None:
        for name, least, most in (("seconds", 0.05, 3), ("wet_db", -60, 6)):
            value = checked_number(getattr(self, name), "room", whole=False, least=least, most=most)
            object.__setattr__(self, name, float(value))


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedStem:
    """A stem and its place in the mix; the defaults leave its samples as they are.

    Raises:
        UserError: A value is out of range, or the file lies outside of the folder.
    """

    name: str
    file: str
    """Relative to the description."""
    text: str | None = None
    seed: int | None = None
    spans: tuple[tuple[float, float], ...] = ()
    at_s: float | None = None
    gain_db: float = 0.0
    """-60 to 24 dB."""
    pan: float = 0.0
    """-1 (left) to 1 (right)."""
    mute: bool = False
    room: Room | None = None

    def __post_init__(self) -> None:
        for name, least, most in (("gain_db", -60, 24), ("pan", -1, 1)):
            value = checked_number(getattr(self, name), name, whole=False, least=least, most=most)
            object.__setattr__(self, name, float(value))
        check_inside(self.file, "file")


@dataclass(frozen=True, kw_only=True, slots=True)
class MixDescription:
    """Stems of one mix.

    Raises:
        UserError: There are none or too many, or two have one name.
    """

    stems: tuple[MixedStem, ...]
    made: Mapping[str, Any] = field(default_factory=dict)
    """How the stems were made."""

    def __post_init__(self) -> None:
        names = [stem.name for stem in self.stems]
        if not 0 < len(names) <= _MAX_STEMS:
            raise UserError(f"expected 1 to {_MAX_STEMS}, got {len(names)}", field="stems")
        if len(set(names)) < len(names):
            raise UserError("two have one name; rename one", field="stems")

    def stem(self, name: str) -> MixedStem:
        """Return the stem of a name.

        Raises:
            UserError: There is none.
        """
        for stem in self.stems:
            if stem.name == name:
                return stem
        known = ", ".join(stem.name for stem in self.stems)
        raise UserError(f"there is no {name[:60]!r}; known are {known}", field="stem")


def read_mix(path: Path) -> MixDescription:
    """Read a description.

    Raises:
        ConfigError: It is none.
        UserError: A value is out of range.
    """
    data = as_object(read_json(path), path)
    if data.pop(_KEY, None) != VERSION:
        raise ConfigError(f"{path}: no description of a mix: expected {_KEY!r}: {VERSION}")
    return from_json(MixDescription, data, where=path.name)


def write_mix(path: Path, description: MixDescription) -> None:
    """Write a description, whole or not at all."""
    write_json(path, {_KEY: VERSION, **to_json(description)})
