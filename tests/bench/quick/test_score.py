"""The report on systems whose scores are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from omni2sound.bench.quick.score import (
    Check,
    ImpactResult,
    PromptResult,
    QuickReport,
    score_impacts,
    score_prompts,
)
from omni2sound.bench.report.text import as_text
from omni2sound.bench.stats.bootstrap import bootstrap_mean, bootstrap_ratio
from omni2sound.errors import ShapeError

TRUTHS = list(np.linspace(0.5, 3.4, 60))


def test_a_perfect_system_passes_and_is_wrong_elsewhere() -> None:
    rows, checks = score_impacts(ImpactResult(truths_s=TRUTHS, onsets_s={"generated": TRUTHS}))
    generated, shuffled = rows
    assert (generated.rate.value, generated.rate.low) == (1, 1)
    assert generated.errors is not None
    assert generated.errors.median_s == 0
    # 60 truths 49 ms apart: two neighbours on each side are within 100 ms.
    assert shuffled.rate.value == pytest.approx((60 * 4 - 6) / (60 * 59))
    assert all(check.passed for check in checks)


def test_a_system_that_does_not_look_gains_nothing_over_mismatched_pairs() -> None:
    onsets = [2.0] * 30 + [None] * 30
    truths = [2.05] * 60
    rows, checks = score_impacts(ImpactResult(truths_s=truths, onsets_s={"generated": onsets}))
    assert rows[0].rate.value == rows[1].rate.value == 0.5
    assert [check.passed for check in checks] == [True, False]


def test_baselines_stand_in_the_order_given() -> None:
    onsets = {"generated": TRUTHS, "oracle": TRUTHS, "silence": [None] * 60}
    rows, _ = score_impacts(ImpactResult(truths_s=TRUTHS, onsets_s=onsets))
    assert [r.system for r in rows] == ["generated", "generated, shuffled", "oracle", "silence"]
    assert rows[-1].rate.value == 0


def heard(*classes: str) -> frozenset[str]:
    return frozenset(classes)


def test_class_hits_beside_real_recordings_and_shuffled_prompts() -> None:
    asked = ["dog", "rain"] * 20
    result = PromptResult(
        class_ids=asked,
        found={
            "generated": [heard(c) if i < 30 else heard() for i, c in enumerate(asked)],
            "oracle": [heard(c, "wind") for c in asked],
        },
    )
    rows, checks = score_prompts(result)
    assert [r.system for r in rows] == [
        "generated",
        "generated, shuffled",
        "oracle",
        "oracle, shuffled",
    ]
    assert rows[0].rate.value == 0.75
    assert rows[1].rate.value == pytest.approx(0.75 * 19 / 39)
    assert checks[0].measured.value == 0.75
    assert checks[1].measured.value == pytest.approx(39 / 19)
    assert all(check.passed for check in checks)


def test_a_system_that_always_sounds_like_everything_fails() -> None:
    asked = ["dog", "rain", "bell"] * 10
    everything = [heard("dog", "rain", "bell")] * 30
    _, checks = score_prompts(
        PromptResult(class_ids=asked, found={"generated": everything, "oracle": everything})
    )
    assert [check.passed for check in checks] == [True, False]


def test_a_judge_is_scored_only_on_what_it_is_asked() -> None:
    asked = ["dog", "rain", "bell"] * 10
    right = [heard(c) for c in asked]
    knows = [None if c == "bell" else heard(c) for c in asked]
    rows, _ = score_prompts(
        PromptResult(
            class_ids=asked, found={"generated": right, "oracle": right, "oracle, 2nd": knows}
        )
    )
    rates = {row.system: row.rate for row in rows}
    assert (rates["oracle, 2nd"].value, rates["oracle, 2nd"].num_clips) == (1, 20)
    assert rates["oracle, 2nd, shuffled"].value == pytest.approx(9 / 19)
    assert rates["oracle, shuffled"].value == pytest.approx(9 / 29)


def test_the_gain_over_motion_energy_is_paired() -> None:
    onsets = {"generated": TRUTHS, "motion-energy": [t + (i % 2) for i, t in enumerate(TRUTHS)]}
    rows, checks = score_impacts(ImpactResult(truths_s=TRUTHS, onsets_s=onsets))
    gain = rows[-1]
    assert (gain.system, gain.rate.value) == ("generated minus motion-energy", 0.5)
    assert 0.3 < gain.rate.low < gain.rate.high < 0.7
    assert len(checks) == 2  # no gate


def test_a_system_that_lacks_clips_is_refused() -> None:
    with pytest.raises(ShapeError, match="'generated'"):
        score_impacts(ImpactResult(truths_s=TRUTHS, onsets_s={"generated": TRUTHS[1:]}))
    with pytest.raises(ShapeError, match="at least 2 clips"):
        score_prompts(PromptResult(class_ids=["dog"], found={"generated": [heard()]}))


def small_report(minimum: float) -> QuickReport:
    onsets = {"generated": TRUTHS, "silence": [None] * 60}
    rows, _ = score_impacts(ImpactResult(truths_s=TRUTHS, onsets_s=onsets))
    check = Check(name="hits", measured=bootstrap_mean([1.0, 0.0]), minimum=minimum)
    facts = {"classes_left_out": ("cat",), "oracle_rates": {"cat": 0.5}}
    return QuickReport(rows=rows, checks=(check,), facts=facts)


def test_the_report_passes_if_all_checks_do() -> None:
    assert small_report(0.5).passed
    assert not small_report(0.51).passed


def test_json_is_plain_even_where_numbers_are_not_finite() -> None:
    infinite = Check(name="ratio", measured=bootstrap_ratio([1, 1], [0, 0]), minimum=2)
    report = QuickReport(rows=small_report(0.5).rows, checks=(infinite,))
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["passed"] is True
    assert data["checks"][0]["measured"]["value"] is None
    assert data["rows"][-1]["errors"]["median_s"] is None
    assert math.isclose(data["rows"][0]["rate"]["value"], 1)


def test_the_text_shows_every_row_check_and_class_left_out() -> None:
    text = as_text(small_report(0.9))
    assert max(map(len, text.splitlines())) <= 100
    for part in (
        "generated, shuffled",
        "[1.000, 1.000]",
        "0 ms",
        "FAIL  hits: 0.500",
        "cat (0.50)",
    ):
        assert part in text
