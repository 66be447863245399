"""Bradley-Terry: closed forms, symmetry, and systems that never lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.bench.listening.ranking import Comparison, rank, strengths
from omni2sound.bench.listening.scores import Answers, analyse, as_text
from omni2sound.errors import UserError


def answers(
    shares: dict[str, float], per_pair: int, seed: int = 0, num_clips: int = 20
) -> list[Comparison]:
    rng = np.random.default_rng(seed)
    names = sorted(shares)
    return [
        Comparison(
            first=a,
            second=b,
            share=float(rng.random() < shares[a] / (shares[a] + shares[b])),
            listener=f"l{n % 5}",
            clip=f"c{n % num_clips}",
        )
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        for n in range(per_pair)
    ]


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_two_systems_differ_by_their_odds(won: int, lost: int) -> None:
    """The phantom's two comparisons hardly count beside many."""
    found = strengths(1000.0 * np.array([[0, won], [lost, 0]]))
    assert found[0] - found[1] == pytest.approx(400 * np.log10(won / lost), abs=1)
    assert found.sum() == pytest.approx(0, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 10))
def test_the_order_of_systems_changes_nothing(order: list[int], seed: int) -> None:
    wins = np.random.default_rng(seed).integers(0, 9, (4, 4)).astype(float)
    np.fill_diagonal(wins, 0)
    shuffled = strengths(wins[np.ix_(order, order)])
    np.testing.assert_allclose(shuffled, strengths(wins)[order], atol=1e-3)


def test_a_system_that_never_lost_grows_with_its_wins() -> None:
    few, many = (strengths(np.array([[0.0, n], [0.0, 0.0]]))[0] for n in (2, 50))
    assert 0 < few < many < 2000
    assert not strengths(np.zeros((3, 3))).any(), "nothing known: all alike"


def test_true_order_is_found_and_intervals_hold_the_truth() -> None:
    truth = {"a": 1.0, "b": 2.0, "c": 6.0}
    found = rank(answers(truth, 200))
    assert [r.system for r in found] == ["c", "b", "a"]
    assert [r.rank for r in found] == [1, 2, 3]
    elo = {name: 400 * np.log10(value) for name, value in truth.items()}
    mean = np.mean(list(elo.values()))
    for r in found:
        assert r.strength.low <= elo[r.system] - mean <= r.strength.high
        assert r.num_comparisons == 400
    assert sum(r.wins for r in found) == 600


def test_one_lucky_win_does_not_lead() -> None:
    """Undefeated in one comparison, beside a system that won most of many."""
    many = answers({"solid": 9.0, "weak": 1.0}, 100)
    lucky = Comparison(first="lucky", second="weak", share=1.0, listener="l0", clip="c0")
    found = rank([*many, lucky])
    assert found[0].system == "solid"
    assert found[0].strength.low > found[1].strength.low


def test_a_kit_of_three_systems_is_ranked_and_one_of_two_is_not() -> None:
    pairs = [("a", "b"), ("b", "c"), ("a", "c")] * 4
    trials: list[dict[str, Any]] = [
        {"trial": f"t{n}", "questions": ["sync"], "stimuli": {f"{n}x": one, f"{n}y": two}}
        for n, (one, two) in enumerate(pairs)
    ]
    for names, wanted in (("abc", ["a", "b", "c"]), ("ab", [])):
        some = [t for t in trials if set(t["stimuli"].values()) <= set(names)]
        values = {(t["trial"], "", "sync"): min(t["stimuli"]) for t in some}  # the first one
        result = analyse({"kind": "pairs", "trials": some}, [Answers(listener="l", values=values)])
        assert [r.system for r in result.rankings.get("sync", ())] == wanted
        assert ("| rank |" in as_text(result)) == bool(wanted)


def test_nothing_to_rank_is_refused() -> None:
    with pytest.raises(UserError, match="kind pairs"):
        rank([])
