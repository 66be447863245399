"""The proof of `benchmarks/robustness/llm_kills.py`, small: a real process, really killed."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks.robustness.llm_kills import run_of_questions

pytestmark = pytest.mark.slow


def test_killed_again_and_again_every_item_ends_once_and_every_cent_is_known(
    tmp_path: Path,
) -> None:
    report = asyncio.run(run_of_questions(tmp_path, items=100, kills=5, concurrency=8, seed=3))
    assert report.broken() == []
    assert report.num_kills == 5 and sum(report.in_flight) > 0


def test_a_budget_holds_through_kills(tmp_path: Path) -> None:
    budget = Decimal("0.009")  # less than the 0.011 of all answers: reached without any kill too
    report = asyncio.run(
        run_of_questions(tmp_path, items=150, kills=2, concurrency=8, seed=1, budget=budget)
    )
    assert report.broken() == []
    assert report.billed_usd <= budget
    assert report.ends["answered"] > 0 and report.ends["none"] > 0
