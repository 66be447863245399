"""Options of `omni2sound annotate` that name roles and endpoints.

In:   texts such as `NAME`, `junior=NAME` or `host:port=NAME`, given once or more.
Out:  `Targeted` values, values by role, `ChatOptions`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from omni2sound.errors import UserError
from omni2sound.readers import loads

if TYPE_CHECKING:
    from omni2sound.annotate.chat.models import ChatOptions, Targeted

Value = TypeVar("Value")

EXIT_SOME_FAILED = 1
MODEL = "local, scripted:FILE, or NAME@URL of an OpenAI-compatible endpoint."
_FOR = "for all endpoints, or for one as ROLE=, HOST= or HOST:PORT=; may be repeated."

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
KeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--key-variable",
        metavar="[TARGET=]NAME",
        help=f"Environment variable with the API key, {_FOR} none sends no key. Default: "
        "OPENAI_API_KEY for OpenAI's host, GEMINI_API_KEY for Gemini's, no key for others.",
    ),
]
StructuredOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[TARGET=]FORM",
        help="How an endpoint gets the form of an answer: json_schema, json_object or text, "
        f"{_FOR} Default: json_schema, or the crew's.",
    ),
]
AudioPartOption = Annotated[
    list[str] | None,
    typer.Option(
        "--audio-part",
        metavar="[TARGET=]FORM",
        help="How an endpoint gets a sound: input_audio, audio_url or data_uri, "
        f"{_FOR} Default: input_audio, or the crew's.",
    ),
]
MaxPicturesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--max-pictures",
        metavar="[TARGET=]N",
        help=f"Most pictures of a request, {_FOR} Default: no limit, or the crew's.",
    ),
]
CapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cap",
        metavar="ROLE=TOKENS",
        help="Limit of output tokens of a role, hidden thoughts included; raised once for a reply "
        "that was cut; may be repeated. Default: 200 to 900, or the crew's.",
    ),
]
ExtraOption = Annotated[
    list[str] | None,
    typer.Option(
        "--extra",
        metavar="ROLE=JSON",
        help="JSON object added to the calls of a role, for example an endpoint's cap on "
        "reasoning; may be repeated. Default: nothing, or the crew's.",
    ),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder with prompts of your own: viewer.md, junior.md, senior.md, validator.md, "
        "judge.md. Default: the bundled ones."
    ),
]
PricesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--prices",
        help="Price table that precedes the bundled one; may be repeated. Default: none.",
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="USD",
        help="Send no call that could take the run's total cost above this. Default: no limit.",
    ),
]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Most API calls in flight.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", help="Time limit of one API call, in seconds.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Take the first clips only. Default: all.")
]
ScorerOption = Annotated[
    Literal["joint", "imagebind+clap", "pe-av"],
    typer.Option(
        help="Networks that route clips and score captions: joint is bundled and knows 43 classes; "
        "imagebind+clap are the paper's, pe-av is open for any use; both with weights of your own."
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the scorer's published files; for pe-av also a Hub id with its revision. "
        "Default: none, for joint."
    ),
]
EventWeightsOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder or Hub id of PE-A-Frame, which scores each named sound in its span, beside "
        "pe-av. Default: sounds are not scored one by one."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Device of the scorer's published networks.")]
JointOption = Annotated[
    str, typer.Option(help="Joint heads that score captions: a model's name or folder.")
]


def targeted(
    texts: Sequence[str] | None, field: str, read: Callable[[str], Value]
) -> Targeted[Value]:
    """Read `VALUE` and `TARGET=VALUE`; the last of a target counts."""
    from omni2sound.annotate.chat.models import Targeted

    default: Value | None = None
    by: dict[str, Value] = {}
    for text in texts or ():
        target, equals, value = text.partition("=")
        if not equals or target.startswith(("http:", "https:")):
            default = _read(text, field, read)
        else:
            by[target] = _read(value, field, read)
    return Targeted(default, by)


def by_role(
    texts: Sequence[str] | None, field: str, read: Callable[[str], Value]
) -> dict[str, Value]:
    """Read `ROLE=VALUE`."""
    found: dict[str, Value] = {}
    for text in texts or ():
        role, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"expected ROLE=..., got {text!r}", field=field)
        found[role] = _read(value, field, read)
    return found


def _read(text: str, field: str, read: Callable[[str], Value]) -> Value:
    try:
        return read(text)
    except (ValueError, TypeError) as error:
        raise UserError(str(error), field=field) from None


def count(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isascii() or not text.isdigit() or int(text[:9]) < 1:
        raise ValueError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def one_of(*known: str) -> Callable[[str], Any]:
    """Make a reader of one of several names."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {text!r}")
        return text

    return read


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        data = loads(text)
    except json.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {text!r}")
    return data


def chat_options(
    key_variable: list[str] | None,
    price_file: list[Path] | None,
    concurrency: int,
    timeout_s: float,
    structured: list[str] | None,
    audio_part: list[str] | None,
) -> ChatOptions:
    """Build the options of endpoints."""
    from omni2sound.annotate.chat.models import ChatOptions

    forms = one_of("json_schema", "json_object", "text")
    return ChatOptions(
        key_variable=targeted(key_variable, "key_variable", str),
        prices=tuple(price_file or ()),
        concurrency=concurrency,
        timeout_s=timeout_s,
        structured=targeted(structured, "structured", forms),
        audio_part=targeted(
            audio_part, "audio_part", one_of("input_audio", "audio_url", "data_uri")
        ),
    )


def money(text: str | None) -> Decimal | None:
    """Read an amount of dollars above 0."""
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not (amount.is_finite() and amount > 0):
        raise UserError(f"expected a number above 0, got {text!r}", field="budget_usd")
    return amount
