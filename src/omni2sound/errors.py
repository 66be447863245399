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
"""

from __future__ import annotations

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
    """The caller can fix it."""


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
