"""The exceptions of this package.

    Omni2SoundError
      + UserError (also a ValueError)   the caller can fix it
        - ConfigError                   a recipe, a card or another file is malformed
        - MediaError                    a file cannot be decoded, or has no usable stream
        - ShapeError                    a tensor at a public boundary has the wrong shape
        - MissingPartError              a bundled network, a model or a package is not installed
      + ModelCallError                  a language model gave no usable answer
        - Refused                       it declined to answer
        - Malformed                     its reply does not have the requested form
            CutOff                      ... because it ended at the limit of its tokens
        - Rejected                      its endpoint rejects this request, and not others
        - Unavailable                   its endpoint kept failing until retries ran out
      + BudgetExceeded                  the next call could cost more than the user's limit allows
      + IntegrityError                  stored bytes do not match their recorded checksum

A `UserError` says in one line what was given, what was expected and what to do; the
command line prints that line and exits with code 2. `assert` is for states that no
input can cause.

The library names fields, never options of the command line:

    raise UserError("expected 1 to 100, got 0; or leave out `seed`", field="takes")

A library user reads "takes: expected ...; or leave out `seed`", a shell user "--takes: expected
...; or leave out --seed": `UserError.rename` puts the caller's names in place of the fields, and
`rename_fields` does so in notes and warnings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

MOST_CHARACTERS = 4_000
"""Of a message; what a file holds may be far longer."""


def rename_fields(message: str, names: Mapping[str, str]) -> str:
    """Replace fields in backquotes by the caller's names for them."""
    return re.sub(r"`(\w+)`", lambda m: names.get(m[1], m[0]), message)


class Omni2SoundError(Exception):
    """Base of all exceptions of this package."""


class UserError(Omni2SoundError, ValueError):
    """The caller can fix the cause.

    Attributes:
        field: Name of the argument or dataclass field at fault; None if it is no single one.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        if len(message) > MOST_CHARACTERS:  # a cell of a table may be a book
            message = f"{message[:MOST_CHARACTERS]}..."
        super().__init__(message)
        self.field = field

    def __str__(self) -> str:
        message = super().__str__()
        return message if self.field is None else f"{self.field}: {message}"

    def rename(self, names: Mapping[str, str]) -> None:
        """Replace the field, and other fields in backquotes, by the caller's names for them."""
        message = rename_fields(super().__str__(), names)
        self.args = (message, *self.args[1:])
        if self.field is not None:
            self.field = names.get(self.field, self.field)


class ConfigError(UserError):
    """A recipe, a model card or another file is malformed or contradicts itself."""


class MediaError(UserError):
    """A media file cannot be decoded, or has no usable stream."""


class ShapeError(UserError):
    """A tensor at a public boundary has the wrong shape."""


class MissingPartError(UserError):
    """A bundled network, a model or an optional package is not installed."""


class ModelCallError(Omni2SoundError):
    """A language model gave no usable answer."""


class Refused(ModelCallError):
    """The language model declined to answer."""


class Malformed(ModelCallError):
    """The language model's replies do not have the requested form, after all retries."""


class CutOff(Malformed):
    """The language model's replies ended at the limit of output tokens, the raised one too."""


class Rejected(ModelCallError):
    """The endpoint rejects this request: its pictures, its sound, its length."""


class Unavailable(ModelCallError):
    """The language model's endpoint kept failing until retries ran out."""


class BudgetExceeded(Omni2SoundError):
    """The next call could cost more than the user's limit allows."""


class IntegrityError(Omni2SoundError):
    """Stored bytes do not match their recorded checksum."""


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Put a file's name into a failure to read it; the system says what is wrong, not where."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
