"""API keys, and texts that leave the process: without secrets, without control characters.

In:   the name of a variable with a key; any text for a log, a terminal, a database or a file.
Out:  `ApiKey`, for one header and nothing else; the text without keys, plain or encoded.

Servers echo keys, models quote what they are shown, and what quotes a key may escape it: JSON in
JSON, percent signs, HTML, base64. So a text is searched as it stands and once more with its escapes
resolved. What not to get wrong: scrub first and shorten afterwards (`shorten` does both), or the
part of a key before the cut is no longer recognised.
"""

from __future__ import annotations

import base64
import html.entities
import os
import re
from collections.abc import Iterator
from typing import NoReturn

from omni2sound.errors import UserError

MARK = "[key]"
_SHORTEST_SECRET = 8
"""Shorter ones are placeholders ("none") and occur in plain words."""
_RUN = 12
"""No run of a key as long as this survives."""
_WINDOW, _STEP = 8, 5
"""Any run of `_RUN` characters holds a window of `_WINDOW` that starts at a multiple of `_STEP`."""
_BEYOND = 2**17
"""Characters behind a cut that are looked at, too: more than an escaped key has."""
_ROUNDS = 4
"""Depth of escapes within escapes."""

_NAMES = {
    name.rstrip(";"): value
    for name, value in html.entities.html5.items()
    if len(value) == 1 and "!" <= value <= "~"
}
_ESCAPE = re.compile(
    r"\\+(?:u00(?P<u>[0-9a-f]{2})|u\{0*(?P<b>[0-9a-f]{2})\}|x(?P<x>[0-9a-f]{2})"
    r"|(?P<o>[01][0-7]{2})|(?P<nl>[rn])|(?P<lit>[^\w\s]))"
    r"|%(?:25)*(?:u00)?(?P<p>[0-9a-f]{2})"
    r"|&(?:amp;)*(?:\#0*(?P<d>[0-9]{2,3})|\#x0*(?P<h>[0-9a-f]{2})"
    rf"|(?P<n>{'|'.join(sorted(_NAMES, key=len, reverse=True))}));"
    # A run of blanks is tried once, from its start: otherwise time grows with its square.
    r"|=(?P<q>[0-9a-f]{2})"
    r"|(?P<soft>=[ \t]*\r?\n[ \t]*|(?<![ \t])[ \t]+\r?\n[ \t]*|\r?\n[ \t]*)",
    re.IGNORECASE,
)
_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class ApiKey:
    """Key of an endpoint; "-" for an endpoint without keys."""

    def __init__(self, value: str) -> None:
        self._value = value
        add_secret(value)

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


_forms: list[str] = []
_windows: dict[str, tuple[str, int]] = {}
_pattern: re.Pattern[str] | None = None


def add_secret(value: str) -> None:
    """Let `scrub` remove a secret from now on; one of fewer than 8 characters is ignored."""
    global _pattern
    if len(value) < _SHORTEST_SECRET or value.lower() in _forms:
        return
    for form in _spellings(value):
        _forms.append(form)
        last = len(form) - min(_WINDOW, len(form))
        for start in {*range(0, last, _STEP), last}:
            _windows.setdefault(form[start : start + _WINDOW], (form, start))
    _pattern = re.compile("|".join(map(re.escape, _windows)))


def scrub(text: str) -> str:
    """Return `text` with `[key]` in place of secrets, however they are encoded."""
    if _pattern is None:
        return text
    rounds = [(text, [(at, at + 1) for at in range(len(text))] if _ESCAPE.search(text) else [])]
    while len(rounds) <= _ROUNDS and _ESCAPE.search(rounds[-1][0]):
        rounds.append(_resolve(*rounds[-1]))
    for resolved, spans in reversed(rounds):  # what escapes hide is found whole
        if found := list(_found(resolved, _pattern)):
            for start, end in reversed(found):
                if spans:
                    start, end = spans[start][0], spans[end - 1][1]
                text = text[:start] + MARK + text[end:]
            return scrub(text)
    return text


def shorten(text: str, most: int) -> str:
    """Return the first `most` characters of a text, scrubbed before it is cut.

    Of a long text only the part is scrubbed in which what is shown begins and ends.
    """
    shown = scrub(text[: most + _BEYOND])
    return shown if len(shown) <= most and len(text) <= most + _BEYOND else shown[:most] + "..."


def printable(text: str) -> str:
    r"""Return `text` with control characters as escapes (`\x1b`); tab and line feed stay.

    So no name or id can move the cursor, forge a line or turn the direction of writing.
    """
    return _UNPRINTABLE.sub(lambda m: m[0].encode("unicode_escape").decode(), text)


def whole_characters(text: str) -> str:
    """Return `text` with U+FFFD in place of halves of characters, which no file can hold."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _spellings(value: str) -> Iterator[str]:
    """Yield the forms to look for, in lower case: plain, hexadecimal, base64 at three offsets."""
    yield value.lower()
    data = value.encode("utf-8", "surrogatepass")
    yield data.hex()
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + data).decode()
        # Characters at the ends hold bits of neighbours.
        inner = text[(0, 2, 3)[offset] : (offset + len(data)) * 8 // 6].lower()
        yield inner
        if (url := inner.replace("+", "-").replace("/", "_")) != inner:
            yield url


def _found(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of `text` that are a secret or a long run of one."""
    lower = text.lower()
    if len(lower) != len(text):  # a few letters become two in lower case
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    if not any(window in lower for window in _windows):  # ten times as fast as the pattern
        return
    at = 0
    while (match := pattern.search(lower, at)) is not None:
        form, index = _windows[match[0]]
        start, end = match.span()
        before, after = index, index + len(match[0])
        while before > 0 and start > at and form[before - 1] == lower[start - 1]:
            before, start = before - 1, start - 1
        while after < len(form) and end < len(lower) and form[after] == lower[end]:
            after, end = after + 1, end + 1
        if end - start >= min(_RUN, len(form)):
            yield start, end
            at = end
        else:
            at = match.start() + 1


def _resolve(text: str, spans: list[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
    """Resolve one level of escapes; `spans` are the ranges that characters stand for."""
    parts: list[str] = []
    new: list[tuple[int, int]] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        start, end = match.span()
        parts.append(text[at:start])
        new += spans[at:start]
        at = end
        if character := _character(match):
            parts.append(character)
            new.append((spans[start][0], spans[end - 1][1]))
    parts.append(text[at:])
    return "".join(parts), new + spans[at:]


def _character(match: re.Match[str]) -> str:
    """Return the character of an escape; empty for a line break."""
    kind, value = match.lastgroup, match[match.lastgroup or 0]
    if kind in ("nl", "soft"):
        return ""
    if kind == "lit":
        return value
    if kind == "n":
        return next(c for name, c in _NAMES.items() if name.lower() == value.lower())
    return chr(int(value, {"o": 8, "d": 10}.get(kind or "", 16)))
