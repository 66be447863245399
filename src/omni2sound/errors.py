"""Every exception that this package raises on purpose.

    Omni2SoundError
      + UserError (also a ValueError)   the caller can fix it
        - ConfigError                   a recipe or a model card does not hold together
        - MediaError                    a file cannot be decoded, or has no usable stream
        - ShapeError                    a tensor at a public boundary has the wrong shape
        - MissingPartError              a carried network, model or package is not installed
      + ModelCallError                  a language model was asked and gave nothing to work with
        - Refused                       it declined to answer
        - Malformed                     its reply is not what was asked for
        - Unavailable                   its endpoint failed for as long as we were ready to try
      + BudgetExceeded                  the next call could cost more than the user's limit allows
      + IntegrityError                  stored bytes do not match their recorded checksum

A `UserError` says in one line what was given, what was expected and what to do; the
command line prints that line and exits with code 2. `assert` is for states that no
input can cause.

The library names fields, never options of the command line:

    raise UserError("expected 1 to 100, got 0; or leave out `seed`", field="takes")

A library user reads "takes: expected ...; or leave out `seed`", a shell user "--takes: expected
...; or leave out --seed": `UserError.rename` puts the caller's names in place of the fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = [
    "BudgetExceeded",
    "ConfigError",
    "IntegrityError",
    "Malformed",
    "MediaError",
    "MissingPartError",
    "ModelCallError",
    "Omni2SoundError",
    "Refused",
    "ShapeError",
    "Unavailable",
    "UserError",
]


class Omni2SoundError(Exception):
    """Base of the tree above."""


class UserError(Omni2SoundError, ValueError):
    """The caller can fix it.

    Attributes:
        field: Name of the argument or dataclass field at fault; None if it is no single one.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    def __str__(self) -> str:
        message = super().__str__()
        return message if self.field is None else f"{self.field}: {message}"

    def rename(self, names: Mapping[str, str]) -> None:
        """Replace the field, and other fields in backquotes, by the caller's names for them."""
        message = re.sub(r"`(\w+)`", lambda m: names.get(m[1], m[0]), super().__str__())
        self.args = (message, *self.args[1:])
        if self.field is not None:
            self.field = names.get(self.field, self.field)


class ConfigError(UserError):
    """A recipe or a model card does not hold together."""


class MediaError(UserError):
    """A media file cannot be decoded, or has no usable stream."""


class ShapeError(UserError):
    """A tensor at a public boundary has the wrong shape."""


class MissingPartError(UserError):
    """A carried network, a model or an optional package is not installed."""


class ModelCallError(Omni2SoundError):
    """A language model was asked and gave nothing to work with."""


class Refused(ModelCallError):
    """It declined to answer."""


class Malformed(ModelCallError):
    """Its reply is not what was asked for, as often as we were ready to ask."""


class Unavailable(ModelCallError):
    """Its endpoint failed for as long as we were ready to try."""


class BudgetExceeded(Omni2SoundError):
    """The next call could cost more than the user's limit allows."""


class IntegrityError(Omni2SoundError):
    """Stored bytes do not match their recorded checksum."""
