"""Secrets and control characters leave in no spelling."""

from __future__ import annotations

import base64
import html
import json
import time
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound import redact

KEY = 'sk-planted/Ab"+9_Zx-0123456789abcdefGHIJ&<klmno=pqrs'
ENCODINGS = {
    "plain": lambda key: key,
    "json": lambda key: json.dumps(key),
    "json in json": lambda key: json.dumps(json.dumps(json.dumps(key))),
    "unicode escapes": lambda key: "".join(f"\\u{ord(c):04X}" for c in key),
    "unicode escapes in json": lambda key: json.dumps("".join(f"\\u{ord(c):04x}" for c in key)),
    "hexadecimal escapes": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "octal escapes": lambda key: "".join(f"\\{ord(c):03o}" for c in key),
    "percent": lambda key: urllib.parse.quote(key, safe=""),
    "percent twice": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
    "every character in percent": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "html": lambda key: html.escape(html.escape(key)),
    "html numbers": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "html hexadecimal": lambda key: "".join(f"&#x{ord(c):X};" for c in key),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 behind one": lambda key: base64.b64encode(b"a" + key.encode() + b"b").decode(),
    "base64 behind two": lambda key: base64.b64encode(b"aa" + key.encode() + b"b").decode(),
    "base64 for urls": lambda key: base64.urlsafe_b64encode(b"user:" + key.encode()).decode(),
    "base64 in lines": lambda key: base64.encodebytes(b"Bearer " + key.encode() * 3).decode(),
    "hexadecimal": lambda key: key.encode().hex(),
    "quoted-printable": lambda key: "".join(f"={ord(c):02X}" for c in key),
    "capitals": lambda key: key.upper(),
}


@pytest.fixture(autouse=True)
def _only_this_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_forms", [])
    monkeypatch.setattr(redact, "_windows", {})
    monkeypatch.setattr(redact, "_pattern", None)
    redact.add_secret(KEY)


def longest_run(text: str, secret: str) -> int:
    """The longest run of `secret` that stands in `text`, or in what its escapes stand for."""
    texts = [text, urllib.parse.unquote(urllib.parse.unquote(text)), html.unescape(text)]
    texts += [html.unescape(html.unescape(text))]
    for _ in range(3):
        texts.append(texts[-1] if "\\" not in texts[-1] else texts[-1].replace("\\\\", "\\"))
    longest = 0
    for spelt in texts:
        for start in range(len(secret)):
            while secret[start : start + longest + 1] in spelt and start + longest < len(secret):
                longest += 1
    return longest


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("part", ["whole", "the first 49 characters", "the last 30"])
def test_a_key_is_removed_in_each_spelling_and_in_parts(name: str, part: str) -> None:
    key = {"whole": KEY, "the first 49 characters": KEY[:49], "the last 30": KEY[-30:]}[part]
    spelt = ENCODINGS[name](key)
    scrubbed = redact.scrub(f"an error: {spelt} and more")
    assert redact.MARK in scrubbed
    assert scrubbed.startswith("an error: ") and scrubbed.endswith(" and more")
    assert longest_run(scrubbed.lower(), spelt.lower()) < 12 or len(spelt) > 4 * len(key)
    assert longest_run(scrubbed.lower(), KEY.lower()) < 12


@given(st.text(), st.text())
def test_texts_around_a_key_stay(before: str, after: str) -> None:
    if KEY.lower() in (before + after).lower():
        return
    assert redact.scrub(f"{before} {KEY} {after}") == f"{before} {redact.MARK} {after}"


@given(st.text())
def test_texts_without_a_key_are_not_changed(text: str) -> None:
    assert redact.scrub(text) == text


@pytest.mark.parametrize("at", range(400, 520, 7))
def test_a_text_is_scrubbed_before_it_is_cut(at: int) -> None:
    text = "x" * at + KEY + "y" * 100
    assert longest_run(redact.shorten(text, 500), KEY) < 12


def test_short_values_are_no_secrets() -> None:
    redact.add_secret("none")
    assert redact.scrub("none of them") == "none of them"


def test_a_megabyte_takes_no_longer_than_a_few_seconds() -> None:
    text = json.dumps({"caption": 'a dog barks "loud"\n' * 50_000})
    begin = time.perf_counter()
    redact.scrub(text)
    assert time.perf_counter() - begin < 10


@given(st.text())
def test_printable_text_has_no_control_characters_and_can_be_written(text: str) -> None:
    shown = redact.printable(text)
    shown.encode()
    assert not set(shown) & (
        {chr(c) for c in range(32)} - {"\t", "\n"} | {"\x7f", "\x9b", "\u202e"}
    )
    assert redact.printable(shown) == shown


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_whole_characters_can_be_written_and_nothing_else_changes(text: str) -> None:
    whole = redact.whole_characters(text)
    whole.encode()
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert whole == text


def test_a_long_text_is_looked_at_near_its_cut_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes of a reply are not gone through to show its first line; a key at the cut goes."""
    redact.add_secret(KEY)
    looked: list[int] = []
    scrub = redact.scrub

    def counted(text: str) -> str:
        looked.append(len(text))
        return scrub(text)

    monkeypatch.setattr(redact, "scrub", counted)
    for spell in (ENCODINGS["plain"], ENCODINGS["json in json"], ENCODINGS["percent twice"]):
        shown = redact.shorten(f"{'a ' * 235}{spell(KEY)} {'b' * 4_000_000}", 500)
        assert "sk-planted" not in shown
        assert shown.startswith("a " * 235)
        assert "[key]" in shown
        assert shown.endswith("...")
    assert max(looked) < 200_000
