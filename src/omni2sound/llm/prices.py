"""Cost of a call: an upper bound before it is sent, an interval from token counts afterwards.

In:   the table `prices.toml` and the user's own files; `ChatRequest`s, `Usage`s.
Out:  `Cost`: an interval, because endpoints don't always report enough; None without a price.

What not to get wrong: an unknown price is None, never 0, and money is never a float. All amounts
are whole picodollars (a token at $0.000001 per million costs one), so sums in SQLite and here are
equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omni2sound.errors import ConfigError, UserError
from omni2sound.llm.answers import in_words
from omni2sound.llm.chat import AudioPart, ChatRequest, ImagePart, ModelId, TextPart, Usage
from omni2sound.readers import MAX_TOML_BYTES, parse_toml, read_text

_PICODOLLARS = 10**12
_MESSAGE_TOKENS = 16
"""Bound for role names and separators of a message; known chat templates take fewer than ten."""
_AUDIO_TOKENS_PER_S = 100
_IMAGE_TOKENS = 2048
"""Bound for models without a row, above all known models; used for rate limits only."""


def usd(picodollars: int) -> Decimal:
    """Convert to exact dollars."""
    return Decimal(picodollars).scaleb(-12)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Between `known_pusd` and `known_pusd + uncertain_pusd` picodollars."""

    known_pusd: int
    uncertain_pusd: int = 0

    @property
    def at_most_usd(self) -> Decimal:
        """Upper end."""
        return usd(self.known_pusd + self.uncertain_pusd)


class Price(BaseModel):
    """Row of the table; amounts are US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str
    model: str
    read_on: date
    source: str = Field(pattern=r"^https?://")
    input: Decimal = Field(ge=0, decimal_places=6)
    output: Decimal = Field(ge=0, decimal_places=6)
    audio_input: Decimal | None = Field(default=None, ge=0, decimal_places=6)
    cached_input: Decimal | None = Field(default=None, ge=0, decimal_places=6)
    up_to_input_tokens: int | None = Field(default=None, ge=1)
    audio_tokens_per_s: int = Field(default=_AUDIO_TOKENS_PER_S, ge=1)
    image_tokens: int = Field(default=_IMAGE_TOKENS, ge=1)

    def before(self, request: ChatRequest) -> Cost | None:
        """Bound the cost of a send; None if the request is too long for this price."""
        tokens = input_tokens_at_most(request, self)
        if self.up_to_input_tokens is not None and tokens > self.up_to_input_tokens:
            return None
        dearest = self._dearest_input(_has_sound(request))
        most = _pusd(tokens, dearest) + _pusd(request.max_output_tokens, self.output)
        return Cost(known_pusd=0, uncertain_pusd=most)

    def after(self, request: ChatRequest, usage: Usage) -> Cost | None:
        """Compute the cost of a send; what the endpoint did not report is uncertain.

        Cached tokens that it does not mention count as none; without a price of their own they
        cost at most as much as others.
        """
        if self.up_to_input_tokens is not None and usage.input_tokens > self.up_to_input_tokens:
            return None
        has_sound = _has_sound(request)
        cached = usage.cached_input_tokens or 0
        fresh = usage.input_tokens - cached
        dearest = self._dearest_input(has_sound)
        output = _pusd(usage.output_tokens, self.output)
        if self.cached_input is not None:
            low = high = output + _pusd(cached, self.cached_input)
        else:
            low, high = output, output + _pusd(cached, dearest)
        if self.audio_input is None or not has_sound:
            low, high = low + _pusd(fresh, self.input), high + _pusd(fresh, self.input)
        elif usage.audio_input_tokens is not None and not cached:
            audio = min(usage.audio_input_tokens, fresh)
            sure = _pusd(audio, self.audio_input) + _pusd(fresh - audio, self.input)
            low, high = low + sure, high + sure
        else:  # not reported, or not how much of it was cached
            low += _pusd(fresh, min(self.input, self.audio_input))
            high += _pusd(fresh, dearest)
        return Cost(known_pusd=low, uncertain_pusd=high - low)

    def _dearest_input(self, has_sound: bool) -> Decimal:
        return max(self.input, (self.audio_input or self.input) if has_sound else self.input)


def _pusd(tokens: int, usd_per_million: Decimal) -> int:
    return int(tokens * usd_per_million * (_PICODOLLARS // 10**6))


def _has_sound(request: ChatRequest) -> bool:
    return any(isinstance(part, AudioPart) for m in request.messages for part in m.parts)


def input_tokens_at_most(request: ChatRequest, price: Price | None) -> int:
    """Bound the input tokens; no known tokenizer makes more tokens than bytes."""
    per_second = _AUDIO_TOKENS_PER_S if price is None else price.audio_tokens_per_s
    per_image = _IMAGE_TOKENS if price is None else price.image_tokens
    tokens = 0 if request.answer is None else len(in_words(request.answer).encode())
    for message in request.messages:
        tokens += _MESSAGE_TOKENS
        for part in message.parts:
            if isinstance(part, TextPart):
                tokens += len(part.text.encode(errors="surrogatepass"))
            elif isinstance(part, ImagePart):
                tokens += per_image
            else:
                tokens += int(part.duration_s * per_second) + per_second
    return tokens


@dataclass(frozen=True, slots=True)
class Prices:
    """Rows by host name and model."""

    rows: Mapping[tuple[str, str], Price]

    @classmethod
    def load(cls, *files: str | Path) -> Prices:
        """Read the bundled table; `files` take precedence, earlier ones first.

        Raises:
            UserError: A file can't be read, or a row in it is wrong.
        """
        bundled = resources.files("omni2sound.llm").joinpath("prices.toml")
        rows: dict[tuple[str, str], Price] = {}
        for price in _rows("prices.toml of omni2sound", bundled.read_text(encoding="utf-8")):
            rows[price.endpoint, price.model] = price
        for file in reversed(files):
            try:
                text = read_text(Path(file), max_bytes=MAX_TOML_BYTES)
            except (OSError, ConfigError) as error:
                raise UserError(f"{file}: expected a price table ({error})") from None
            for price in _rows(str(file), text):
                rows[price.endpoint, price.model] = price
        return cls(rows)

    def of(self, model: ModelId) -> Price | None:
        """Return the row of `model`, if any."""
        return self.rows.get((urlsplit(model.endpoint).hostname or model.endpoint, model.model))


def _rows(file: str, text: str) -> Sequence[Price]:
    data = parse_toml(text, file, parse_float=Decimal)  # exact digits
    try:
        if not isinstance(data.get("price"), list):  # crews have other tables beside them
            raise UserError(f"{file}: expected [[price]] tables")
        return [Price.model_validate(row) for row in data["price"]]
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise UserError(
            f"{file}: {where} is {repr(problem['input'])[:80]}: {problem['msg']}; "
            "prices.toml of the package describes the fields"
        ) from None
