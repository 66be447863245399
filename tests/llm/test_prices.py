"""Money: exact, an interval where the endpoint is silent, None where nobody knows."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.llm import AudioPart, ImagePart, ModelId, Price, Prices, Usage, user
from omni2sound.llm.prices import Cost, input_tokens_at_most, usd
from tests.llm.questions import question

GEMINI = ModelId(
    endpoint="https://generativelanguage.googleapis.com/v1beta/openai", model="gemini-2.5-flash"
)
ROW = Price.model_validate(
    {
        "endpoint": "host",
        "model": "m",
        "read_on": "2026-11-24",
        "source": "https://example.org",
        "input": "0.3",
        "audio_input": "1.0",
        "output": "2.5",
        "cached_input": "0.03",
    }
)
SOUND = question(messages=(user("u", AudioPart(data=b"", format="wav", duration_s=10.0)),))

counts = st.integers(0, 10**6)


def test_every_bundled_row_has_a_date_and_a_source() -> None:
    rows = Prices.load().rows
    assert rows
    for (endpoint, model), price in rows.items():
        assert (price.endpoint, price.model) == (endpoint, model)
        assert price.source.startswith("https://")
        assert price.read_on.year >= 2026
        assert price.output > 0


def test_a_model_has_the_price_of_its_endpoint_only() -> None:
    table = Prices.load()
    found = table.of(GEMINI)
    assert found is not None and found.input == Decimal("0.30")
    assert table.of(replace(GEMINI, endpoint="http://127.0.0.1:8000/v1")) is None
    assert table.of(replace(GEMINI, model="gemini-9")) is None


@given(fresh=counts, output=counts)
def test_costs_are_exact(fresh: int, output: int) -> None:
    cost = ROW.after(question(), Usage(input_tokens=fresh, output_tokens=output))
    assert cost is not None and cost.uncertain_pusd == 0
    assert usd(cost.known_pusd) == (fresh * Decimal("0.3") + output * Decimal("2.5")) / 10**6


@given(fresh=counts, audio=counts, cached=counts, output=counts, has_cached_price=st.booleans())
def test_what_the_endpoint_does_not_say_lies_inside_the_interval(
    fresh: int, audio: int, cached: int, output: int, has_cached_price: bool
) -> None:
    row = ROW if has_cached_price else ROW.model_copy(update={"cached_input": None})
    usage = Usage(
        input_tokens=fresh + audio + cached,
        output_tokens=output,
        audio_input_tokens=audio,
        cached_input_tokens=cached,
    )
    at_least = int((fresh * row.input + audio * row.audio_input) * 10**6)
    at_least += int(output * row.output * 10**6)
    for told in (usage, replace(usage, audio_input_tokens=None)):
        cost = row.after(SOUND, told)
        assert cost is not None
        for rate in (row.cached_input,) if has_cached_price else (0, row.input, row.audio_input):
            paid = at_least + int(cached * rate * 10**6)
            assert cost.known_pusd <= paid <= cost.known_pusd + cost.uncertain_pusd


@given(text=st.text(), seconds=st.floats(0.01, 60), output=st.integers(1, 1000))
def test_a_send_never_costs_more_than_was_booked(text: str, seconds: float, output: int) -> None:
    """For any tokenizer that needs a byte for a token, and audio at the row's rate."""
    sound = AudioPart(data=b"", format="wav", duration_s=seconds)
    request = question(messages=(user(text, sound),), max_output_tokens=output, answer=None)
    booked = ROW.before(request)
    audio = int(seconds * ROW.audio_tokens_per_s) + 1
    usage = Usage(input_tokens=len(text.encode()) + audio, output_tokens=output)
    cost = ROW.after(request, usage)
    assert booked is not None and cost is not None
    assert booked.known_pusd == 0
    assert cost.at_most_usd <= booked.at_most_usd


def test_pictures_count_too() -> None:
    picture = ImagePart(data=b"", media_type="image/png")
    with_one = question(messages=(user("u", picture),))
    assert input_tokens_at_most(with_one, ROW) - input_tokens_at_most(question("u"), ROW) == (
        ROW.image_tokens
    )


def test_beyond_its_limit_a_price_is_unknown() -> None:
    row = ROW.model_copy(update={"up_to_input_tokens": 100})
    assert row.before(question("x" * 200)) is None
    assert row.after(question(), Usage(input_tokens=101, output_tokens=1)) is None
    assert row.after(question(), Usage(input_tokens=100, output_tokens=1)) is not None


def test_an_own_file_comes_before_the_bundled_table(tmp_path: Path) -> None:
    head = '[[price]]\nendpoint="generativelanguage.googleapis.com"\nmodel="gemini-2.5-flash"\n'
    rest = 'read_on=2026-11-24\nsource="https://example.org"\noutput="1"\n'
    (tmp_path / "a.toml").write_text(head + rest + 'input="7"\n')
    (tmp_path / "b.toml").write_text(head + rest + "input=0.000001\n")
    first = Prices.load(tmp_path / "a.toml", tmp_path / "b.toml").of(GEMINI)
    second = Prices.load(tmp_path / "b.toml").of(GEMINI)
    assert first is not None and first.input == 7
    assert second is not None and second.input == Decimal("0.000001")
    assert second.before(question("x" * 10)) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not toml", "expected TOML"),
        ("[other]\n", "expected \\[\\[price\\]\\]"),
        ("[[price]]\nmodel='m'\n", "endpoint"),
        (
            "[[price]]\nendpoint='e'\nmodel='m'\nread_on=2026-01-01\nsource='https://s'\n"
            "input='-1'\noutput='1'\n",
            "input is '-1'",
        ),
        (
            "[[price]]\nendpoint='e'\nmodel='m'\nread_on=2026-01-01\nsource='https://s'\n"
            "input='0.0000001'\noutput='1'\n",
            "input is '0.0000001'",
        ),
        (
            "[[price]]\nendpoint='e'\nmodel='m'\nread_on=2026-01-01\nsource='a friend'\n"
            "input='1'\noutput='1'\n",
            "source is 'a friend'",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Prices.load(tmp_path / "p.toml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a price table"):
        Prices.load(tmp_path / "none.toml")


def test_dollars_are_exact() -> None:
    assert usd(1) == Decimal("0.000000000001")
    assert Cost(known_pusd=1, uncertain_pusd=2).at_most_usd == Decimal("0.000000000003")
