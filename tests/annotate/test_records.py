from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.annotate.records import (
    Caption,
    Decision,
    Failure,
    HeardEvent,
    Look,
    Patch,
    Perception,
    Record,
    SeniorCaption,
    Shot,
    Turn,
    Verdict,
    VisualContext,
    from_json,
    to_json,
)
from omni2sound.errors import ConfigError

text = st.text(min_size=1, max_size=12).filter(str.strip)
numbers = st.floats(0, 100)
spans = st.tuples(numbers, numbers).map(sorted)
scores = st.dictionaries(text, numbers, max_size=3)
events = st.builds(
    lambda what, span, seen, sure: HeardEvent(
        what=what, start_s=span[0], end_s=span[1], on_screen=seen, confidence=sure
    ),
    text,
    spans,
    st.none() | st.booleans(),
    st.none() | st.floats(0, 1),
)
captions = st.builds(
    Caption, text=text, events=st.lists(events, max_size=3).map(tuple), is_music=st.booleans()
)
shots = st.builds(Shot, start_s=numbers, end_s=numbers, text=text, things=st.tuples(text))
turns = st.builds(Turn, reasoning=text, listened_s=st.none() | st.tuples(numbers, numbers))
records = st.one_of(
    captions,
    st.builds(
        Decision, outcome=st.sampled_from(["keep", "drop"]), reasons=st.tuples(text), scores=scores
    ),
    st.builds(VisualContext, shots=st.lists(shots, max_size=2).map(tuple)),
    st.builds(SeniorCaption, caption=captions, turns=st.lists(turns, max_size=2).map(tuple)),
    st.builds(Verdict, plausible=st.booleans(), reason=text),
    st.builds(Failure, kind=st.sampled_from(["refused", "media"]), reason=text),
    st.builds(
        Perception,
        duration_s=numbers,
        similarity=st.none() | numbers,
        sound=text,
        patches=st.tuples(st.builds(Patch, start_s=numbers, end_s=numbers, heard=scores)),
        looks=st.tuples(st.builds(Look, start_s=numbers, end_s=numbers, seen=scores)),
    ),
)


@given(records)
def test_a_record_comes_back_equal(record: Record) -> None:
    assert from_json(to_json(record)) == record


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[]",
        "{}",
        '{"Caption": {}}',
        '{"Other": {}}',
        '{"Verdict": {"plausible": 1, "reason": ""}}',
    ],
)
def test_what_is_no_record_is_refused(damaged: str) -> None:
    with pytest.raises(ConfigError):
        from_json(damaged)


def test_decisions_of_earlier_releases_are_read() -> None:
    old = '{"Decision": {"outcome": "drop", "reasons": ["score"], "scores": {}}}'
    assert from_json(old) == Decision(outcome="drop", reasons=("score",))


def test_a_decision_needs_a_reason() -> None:
    with pytest.raises(ConfigError, match="reason"):
        Decision(outcome="drop", reasons=())


def test_an_event_does_not_end_before_it_starts() -> None:
    with pytest.raises(ConfigError, match="before"):
        HeardEvent(what="a dog", start_s=2.0, end_s=1.0)
