"""`--set NAME=VALUE`: changes of a recipe or another tree of settings.

In:   settings, texts such as ``stages.1.lr=3e-4``.
Out:  the changed settings; values are JSON, or plain text where they are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import typer

from omni2sound.config import override
from omni2sound.errors import UserError
from omni2sound.readers import loads

T = TypeVar("T")

RECIPE_HELP = "Recipe: one that `omni2sound doctor` lists, such as tiny; also RECIPE+ABLATION."
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a setting, e.g. stages.1.lr=3e-4; may be repeated. Default: no change.",
    ),
]


def apply_changes(settings: T, changes: Iterable[str] | None) -> T:
    """Apply the values of `--set`, in order.

    Raises:
        UserError: If a change is not NAME=VALUE.
        ConfigError: If there is no such setting, or the value does not fit.
    """
    for change in changes or ():
        path, sign, text = change.partition("=")
        if not sign:
            raise UserError(f"expected NAME=VALUE, got {change!r}", field="set_")
        try:
            value: Any = loads(text, not_finite=True)
        except ValueError:
            value = text
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{change!r}: expected a finite number", field="set_")
        settings = override(settings, path, value)
    return settings
