"""Where a run is: the stage of each step, convergence, and the same after a resume."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import ConfigError
from omni2sound.recipes.tiny import tiny
from omni2sound.train.progress import Progress, learning_rate
from omni2sound.train.recipe import Recipe


def recipe(*, steps: int = 100, extend_steps: int = 0) -> Recipe:
    base = tiny()
    stages = tuple(replace(s, steps=steps, warmup_steps=0) for s in base.stages)
    second = replace(stages[1], extend_steps=extend_steps)
    return replace(base, stages=(stages[0], second, stages[2]), validate_every=1000)


def ran(progress: Progress, losses: dict[int, float], *, until: int = 10**9) -> list[int]:
    """Run to the end; `losses` by step, 1.0 elsewhere. Returns the steps that were validated."""
    validated = []
    while progress.step < min(progress.num_steps, until):
        progress.count(finite=True)
        if progress.validation_is_due():
            validated.append(progress.step)
            progress.record_loss(losses.get(progress.step, 1.0))
    return validated


@pytest.mark.parametrize(
    ("field", "value"), [("step", "3"), ("losses", {"a": [[1]]}), ("converged", {"a": 1}), ("x", 0)]
)
def test_a_damaged_checkpoint_names_the_field(field: str, value: object) -> None:
    data = Progress(recipe=recipe()).to_json()
    assert Progress.from_json(recipe(), data) == Progress(recipe=recipe())
    with pytest.raises(ConfigError, match=f"^progress.*{field}"):
        Progress.from_json(recipe(), data | {field: value})


def test_a_stage_is_measured_where_its_tail_begins_and_where_it_ends() -> None:
    assert ran(Progress(recipe=recipe()), {}) == [90, 100, 190, 200, 290, 300]


@pytest.mark.parametrize(("end", "verdict"), [(0.985, False), (0.995, True), (1.2, True)])
def test_less_than_a_percent_over_the_last_tenth_is_converged(end: float, verdict: bool) -> None:
    progress = Progress(recipe=recipe())
    ran(progress, {50: 5.0, 190: 1.0, 200: end})
    assert progress.converged["2-interleaved"] is verdict
    assert progress.num_steps == 300


def test_a_stage_that_has_not_converged_is_extended_as_far_as_it_may() -> None:
    falling = {step: 0.98 ** (step / 5) for step in range(400)}
    progress = Progress(recipe=recipe(extend_steps=25))
    ran(progress, falling)
    assert progress.added_steps == {"2-interleaved": 25}  # 10, 10 and the rest
    assert progress.num_steps == progress.step == 325
    assert progress.converged["2-interleaved"] is False
    assert progress.stage_at(224)[0].name == "2-interleaved"
    assert progress.stage_at(225) == (progress.recipe.stages[2], 0)


def test_a_stage_that_converges_late_goes_on_from_there() -> None:
    progress = Progress(recipe=recipe(extend_steps=50))
    ran(progress, {190: 1.0, 200: 0.9, 210: 0.9})
    assert progress.added_steps == {"2-interleaved": 10}
    assert progress.converged["2-interleaved"] is True


@given(stop=st.integers(0, 340), fall=st.floats(0.9, 1.0))
def test_a_resumed_run_comes_to_the_same_verdicts(stop: int, fall: float) -> None:
    losses = {step: fall ** (step / 10) for step in range(400)}
    whole = Progress(recipe=recipe(extend_steps=40))
    ran(whole, losses)
    before = Progress(recipe=recipe(extend_steps=40))
    ran(before, losses, until=stop)
    after = Progress.from_json(before.recipe, json.loads(json.dumps(before.to_json())))
    assert after == before
    ran(after, losses)
    assert after == whole


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task_weights": {"T2A": 1.5, "V2A": -0.5}}, "must be 0 or more"),
        ({"task_weights": {"T2A": float("nan"), "V2A": 1.0}}, "must be 0 or more"),
        ({"lr": 0.0}, "lr > 0"),
        ({"lr": -1e-3}, "lr > 0"),
        ({"lr": float("inf")}, "lr > 0"),
        ({"lr": float("nan")}, "lr > 0"),
        ({"final_lr": -1e-5}, "final_lr >= 0"),
    ],
)
def test_a_stage_that_cannot_be_trained_is_refused(changes: dict[str, Any], reason: str) -> None:
    stage = tiny().stages[1]
    assert replace(stage, final_lr=0.0).final_lr == 0
    with pytest.raises(ConfigError, match=reason):
        replace(stage, **changes)


def test_the_last_rate_is_that_of_an_extensions_first_step() -> None:
    stage = replace(tiny().stages[0], steps=20, warmup_steps=2, lr=1.0, final_lr=0.1)
    assert learning_rate(stage, 19) > 0.1
    assert learning_rate(stage, 20) == pytest.approx(0.1)


def test_every_step_has_one_stage_and_no_other_has() -> None:
    progress = Progress(recipe=recipe(steps=7))
    assert [progress.stage_at(s)[1] for s in range(21)] == [*range(7)] * 3
    for step in (-1, 21):
        with pytest.raises(ValueError, match="has steps 0 to 20"):
            progress.stage_at(step)


def test_bad_steps_are_counted_in_all_and_in_a_row() -> None:
    progress = Progress(recipe=recipe())
    for finite in (True, False, False, True, False):
        progress.count(finite=finite)
    assert (progress.step, progress.skipped, progress.skipped_in_a_row) == (5, 3, 1)
