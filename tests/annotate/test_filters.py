from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.annotate.filters import (
    HandOffRules,
    Thresholds,
    hallucination_phrases,
    hand_off,
    post_hoc,
    route,
)
from omni2sound.annotate.records import Caption, Fit, HeardEvent
from omni2sound.errors import UserError

PAPER = Thresholds.of("paper")
PLAIN = Caption(text="A dog barks.", events=(HeardEvent(what="a dog", start_s=0, end_s=1),))
RULES = HandOffRules(phrases=("crowd noise",))


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_more_similar_clips_never_get_a_poorer_path(a: float, b: float) -> None:
    rank = {"drop": 0, "audio-only": 1, "audio-visual": 2}
    low, high = sorted((a, b))
    assert rank[route(low, PAPER).outcome] <= rank[route(high, PAPER).outcome]


@pytest.mark.parametrize(
    ("similarity", "path"),
    [
        (0.31, "audio-visual"),
        (0.30, "audio-only"),
        (0.20, "audio-only"),
        (0.19, "drop"),
        (None, "audio-only"),
    ],
)
def test_the_papers_routes(similarity: float | None, path: str) -> None:
    assert route(similarity, PAPER).outcome == path
    assert route(similarity, PAPER).rule == ("route" if path == "drop" else None)


@given(st.floats(-1, 1))
def test_low_scores_go_to_the_senior_and_music_is_judged_more_kindly(score: float) -> None:
    fit = Fit(caption=score)
    assert (hand_off(PLAIN, fit, PAPER, RULES).outcome == "escalate") == (score < 0.35)
    music = replace(PLAIN, is_music=True)
    assert (hand_off(music, fit, PAPER, RULES).outcome == "escalate") == (score < 0.15)
    assert (post_hoc(PLAIN, fit, PAPER).outcome == "drop") == (score < PAPER.drop)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=4), st.floats(-1, 1))
def test_one_event_that_does_not_fit_is_enough(scores: list[float], least: float) -> None:
    caption = events(*((f"thing {i}", i, i + 1) for i in range(len(scores))))
    fit = Fit(caption=0.9, events=tuple(scores))
    rules = replace(RULES, max_sources=9)
    numbers = replace(PAPER, hand_off_event=least, drop_event=least)
    weak = min(scores) < least
    for decision, bad in (
        (hand_off(caption, fit, numbers, rules), "escalate"),
        (post_hoc(caption, fit, numbers), "drop"),
    ):
        assert (decision.outcome == bad) == weak
        assert decision.scores["weakest_event"] == min(scores)
        named = sum("fits the sound at" in reason for reason in decision.reasons)
        assert named == sum(score < least for score in scores)


def test_what_the_scorer_does_not_know_is_not_judged() -> None:
    caption = events(("a dog", 0, 1), ("a theremin", 1, 2))
    numbers = replace(PAPER, hand_off_event=0.3, drop_event=0.3)
    fits = Fit(caption=0.9, events=(0.8, None))
    assert hand_off(caption, fits, numbers, RULES).outcome == "keep"
    kept = post_hoc(caption, fits, numbers)
    assert kept.outcome == "keep"
    assert kept.scores["weakest_event"] == 0.8
    assert "1 not judged" in kept.reasons[0]
    bad = Fit(caption=0.9, events=(0.1, None))
    assert post_hoc(caption, bad, numbers).outcome == "drop"
    nothing = Fit(caption=0.1, events=(None, None))  # the sentence is judged as ever
    assert post_hoc(caption, nothing, numbers).outcome == "drop"
    assert "weakest_event" not in post_hoc(caption, nothing, numbers).scores


def events(*spans: tuple[str, float, float]) -> Caption:
    return Caption(
        text="...", events=tuple(HeardEvent(what=w, start_s=a, end_s=b) for w, a, b in spans)
    )


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        (events(), "no event"),
        (events(*((f"{i % 2}", i, i + 0.5) for i in range(7))), "7 events"),
        (events(*((w, i, i + 0.5) for i, w in enumerate("abcde"))), "5 sources"),
        (events(*((w, 0, 1) for w in "abab")), "4 sounds at once"),
        (Caption(text="Crowd noise.", events=PLAIN.events), "phrase 'crowd noise'"),
        (Caption(text="A.", events=(HeardEvent(what="a", confidence=0.1),)), "doubts 'a'"),
    ],
)
def test_each_rule_hands_off_and_says_why(caption: Caption, reason: str) -> None:
    decision = hand_off(caption, Fit(caption=0.9), PAPER, RULES)
    assert decision.outcome == "escalate"
    assert any(reason in r for r in decision.reasons)
    kinds = {"phrase": "phrase", "doubts": "doubt"}
    assert decision.rule == kinds.get(reason.split()[0], "complex")


@pytest.mark.parametrize(
    ("score", "event", "is_music", "rule"),
    [
        (0.9, 0.9, False, None),
        (0.3, 0.9, False, "sentence"),
        (0.1, 0.9, True, "music"),
        (0.9, 0.1, True, "event"),
        (0.3, 0.1, False, "sentence"),
    ],
)
def test_a_drop_names_its_rule(score: float, event: float, is_music: bool, rule: str) -> None:
    caption = replace(PLAIN, is_music=is_music)
    numbers = replace(PAPER, drop_event=0.2)
    decision = post_hoc(caption, Fit(caption=score, events=(event,)), numbers)
    assert decision.rule == rule
    assert (decision.outcome == "drop") == (rule is not None)


def test_a_phrase_is_whole_words() -> None:
    caption = replace(PLAIN, text="Acrowd noises.")
    assert hand_off(caption, Fit(caption=0.9), PAPER, RULES).outcome == "keep"


def test_sounds_one_after_another_are_not_at_once() -> None:
    caption = events(("a", 0, 1), ("b", 1, 2), ("a", 2, 3), ("b", 3, 4))
    assert hand_off(caption, Fit(caption=0.9), PAPER, RULES).outcome == "keep"


def test_the_list_of_phrases_is_clean() -> None:
    phrases = hallucination_phrases()
    assert len(phrases) == len(set(phrases)) > 10
    assert all(p == p.strip().lower() and "#" not in p for p in phrases)


def test_an_unknown_scorer_is_named() -> None:
    with pytest.raises(UserError, match="nobody"):
        Thresholds.of("nobody")
