"""Claims at small scale: statistics by closed forms, the matrix by its laws, verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student_t
from training.claims import table
from training.claims.differences import (
    Parts,
    compare,
    detectable,
    influence,
    seeds_needed,
    variance_parts,
)
from training.claims.material import other_clips
from training.claims.matrix import (
    CLAIMS,
    COMPARISONS,
    LEADING,
    RECIPES,
    SEEDS,
    base,
    recipe_digests,
    stage_recipe,
)

from omni2sound.config import digest
from omni2sound.errors import UserError

Array = np.ndarray


def means(y_SN: Array) -> Array:
    """Plain means as ratios: every denominator is 1."""
    return np.stack([y_SN, np.ones_like(y_SN)], axis=-1)


def drawn(rng: np.random.Generator, seeds: int, scenes: int, parts: Parts) -> Array:
    y_SN = rng.normal(size=(seeds, scenes)) * parts.rest**0.5
    y_SN += rng.normal(size=(seeds, 1)) * parts.seed**0.5
    return np.asarray(y_SN + rng.normal(size=(1, scenes)) * parts.scene**0.5)


def test_with_one_source_of_variance_the_interval_is_the_known_one() -> None:
    """Seeds alone: Student's over the seeds. The rest alone: its variance over all cells."""
    seed_S1 = np.array([[0.1], [0.4], [0.6]])
    found = compare(means(seed_S1 + np.zeros(50)), means(np.zeros((3, 50))), resamples=50)
    half = student_t.ppf(0.975, 2) * seed_S1.std(ddof=1) / 3**0.5
    assert found.low == pytest.approx(found.value - half)
    assert found.high == pytest.approx(found.value + half)
    assert [found.parts.scene, found.parts.rest] == pytest.approx([0, 0])
    rest = Parts(seed=0, scene=0, rest=2.0)
    assert rest.standard_error(4, 25) == pytest.approx((2.0 / 100) ** 0.5)
    assert Parts(seed=3, scene=0, rest=0).freedom(4, 25) == pytest.approx(3)
    assert Parts(seed=0, scene=3, rest=0).freedom(4, 25) == 3  # never more than the seeds have


def test_parts_of_variance_are_found_and_intervals_hold_what_they_promise() -> None:
    """Where seeds dominate, the bootstrap of three seeds covers far less: hence the other test."""
    rng, true = np.random.default_rng(0), Parts(seed=0.5, scene=2.0, rest=3.0)
    found = [variance_parts(drawn(rng, 20, 60, true)) for _ in range(60)]
    for name in ("seed", "scene", "rest"):
        assert np.mean([getattr(p, name) for p in found]) == pytest.approx(
            getattr(true, name), rel=0.15
        )
    within = np.zeros(2)
    for _ in range(200):
        a_SN = drawn(rng, 3, 20, Parts(seed=1.0, scene=0.5, rest=0.5))
        one = compare(means(a_SN), means(np.zeros((3, 20))), resamples=200)
        within += [one.low <= 0 <= one.high, one.bootstrap[0] <= 0 <= one.bootstrap[1]]
    assert within[0] / 200 > 0.94
    assert within[1] / 200 < 0.8


def test_small_p_values_come_no_oftener_than_they_say() -> None:
    """At the level of a claim, with the registered seeds, where seeds or scenes dominate."""
    rng, level = np.random.default_rng(3), 0.05 / len(LEADING)
    for parts in (Parts(seed=1.0, scene=0.5, rest=0.5), Parts(seed=0.1, scene=2.0, rest=3.0)):
        ps = [
            compare(means(drawn(rng, len(SEEDS), 20, parts)), means(np.zeros((len(SEEDS), 20))),
                    resamples=1).p
            for _ in range(1000)
        ]  # fmt: skip
        assert np.mean(np.array(ps) < level) < 1.5 * level


def test_a_ratio_is_the_mean_of_its_influences_and_equal_recipes_do_not_differ() -> None:
    rng = np.random.default_rng(1)
    x_SN2 = np.stack([rng.integers(0, 5, (3, 30)), rng.integers(5, 9, (3, 30))], -1).astype(float)
    sums = x_SN2.sum(axis=1)
    np.testing.assert_allclose(influence(x_SN2).mean(axis=1), sums[:, 0] / sums[:, 1])
    same = compare(x_SN2, x_SN2)
    assert (same.value, same.p, same.low, same.high) == (0, 1, 0, 0)


def test_power_is_that_of_simulated_experiments_and_more_seeds_find_less() -> None:
    parts, level = Parts(seed=0.02, scene=0.5, rest=2.0), 0.05
    size = detectable(parts, 6, 40, level)
    rng = np.random.default_rng(2)
    hits = [
        compare(means(drawn(rng, 6, 40, parts) + size), means(np.zeros((6, 40))), resamples=2).p
        < level
        for _ in range(300)
    ]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.09)
    assert detectable(parts, 12, 40, level) < size
    one = compare(means(drawn(rng, 3, 40, parts) + 0.5), means(np.zeros((3, 40))), resamples=2)
    needed = seeds_needed(one, 40, level)
    assert needed is not None
    assert detectable(one.parts, needed, 40, level) <= abs(one.value)
    assert detectable(one.parts, needed - 1, 40, level) > abs(one.value)


def test_the_matrix_compares_equal_numbers_of_steps_and_one_thing_at_a_time() -> None:
    assert {sum(s.steps for s in stages) for stages in RECIPES.values()} == {base().num_steps}
    assert len(RECIPES) >= 10
    assert len(SEEDS) >= 3
    assert len({c.name for c in COMPARISONS}) == len(COMPARISONS)
    assert [c.claim for c in COMPARISONS if c.name in LEADING] == list(CLAIMS)
    for c in COMPARISONS:
        assert {c.a, c.b} <= set(RECIPES)
        assert RECIPES[c.a] != RECIPES[c.b]
        better_is_less = c.measure == "KL"
        assert c.sign == (-1 if better_is_less else 1) * (1 if c.better == "A" else -1)


def test_recipes_share_the_runs_that_they_have_in_common_and_seeds_share_none() -> None:
    def runs(name: str, seed: int) -> list[str]:
        stages = RECIPES[name]
        return [digest(stage_recipe(stages, k, seed)) for k in range(len(stages))]

    assert runs("three-stages", 0)[:2] == runs("dropout-alone", 0)[:2]
    assert runs("three-stages", 0)[2] != runs("dropout-alone", 0)[2]
    assert runs("two-stages", 0)[0] == runs("no-bridge-0.1", 0)[0] == runs("wrong-bridge", 0)[0]
    assert not set(runs("two-stages", 0)) & set(runs("two-stages", 1))


def test_wrong_captions_share_no_class_with_the_clip() -> None:
    classes = [frozenset(x) for x in ("a", "a", "b", "ab", "c")]
    found = other_clips(classes)
    assert all(not classes[i] & classes[j] for i, j in enumerate(found))


def cell(recipe: str, seed: int, kl: float, pairs: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    one = {
        **{f"kl_{t}": (kl + 0.01 * rng.normal(size=6)).tolist() for t in ("yamnet", "tagger")},
        "pairs": [pairs] * 6,
        "num_found": [4] * 6,
        "num_true": [4] * 6,
        "loss": [kl / 10] * 6,
    }
    return {
        "recipe": recipe,
        "seed": seed,
        "recipe_sha256": recipe_digests(recipe, seed),
        "weights_sha256": "0",
        "steps": 420,
        "curve": [[20, 1.5], [60, 1.4], [20, 1.3], [360, 1.1]],
        "tracks": dict.fromkeys(("T2A", "V2A", "VT2A", "off-screen"), one),
    }


def test_verdicts_follow_the_registered_signs(tmp_path: Path) -> None:
    """A lower KL of A is as expected, an equal F1 tells nothing, what was not run counts as 1."""
    cells = [cell("two-stages", s, 2.0, 2) for s in SEEDS]
    cells += [cell("no-bridge-0.1", s, 3.0 + 0.1 * s, 2) for s in SEEDS]
    cells += [cell("no-pretraining", s, 1.0, 2) for s in SEEDS]
    (tmp_path / "cells").mkdir()
    for one in cells:
        name = f"{one['recipe']}-{one['seed']}.json"
        (tmp_path / "cells" / name).write_text(json.dumps(one))
    assert table.collect(tmp_path, tmp_path / "cells.jsonl") == 3 * len(SEEDS)
    changed = cells[0] | {"recipe_sha256": ["0"]}
    (tmp_path / "cells" / "two-stages-0.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match="two-stages, seed 0, has changed"):
        table.collect(tmp_path, tmp_path / "cells.jsonl")
    read = table.read_cells(tmp_path / "cells.jsonl")
    verdicts = {line.comparison.name: line.verdict for line in table.lines_of(read)}
    assert verdicts["B3"] == "as expected"
    assert verdicts["B4"] == "can't tell"
    assert verdicts["S1"] == "against"
    assert verdicts["M1"] == "not run"
    lines = table.lines_of(read)
    assert table.verdict_of("bridge", lines) == "holds"
    assert table.verdict_of("stages", lines) == "not run"  # S1 decides no claim
    assert table.verdict_of("bias", lines) == "not run"
    assert "not run" in table.as_markdown({}, {})
    by_loss = {line.comparison.name: line.verdict for line in table.lines_of(read, "loss")}
    assert by_loss["B4"] == by_loss["B3"] == "as expected"
    assert "**holds**" in table.as_markdown(read, read)


def test_nothing_is_decided_before_all_registered_seeds_are_there() -> None:
    cells = {
        (name, seed): cell(name, seed, kl, 2)
        for name, kl in (("two-stages", 2.0), ("no-bridge-0.1", 3.0))
        for seed in SEEDS[:3]
    }
    lines = table.lines_of(cells)
    verdicts = {line.comparison.name: (line.verdict, line.p_holm) for line in lines}
    assert verdicts["B3"] == ("3 of 5 seeds", 1.0)
    assert table.verdict_of("bridge", lines) == "not finished"
    assert "**not finished**" in table.as_markdown(cells, {})


def test_a_run_that_ended_early_is_no_cell(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    short = cell("two-stages", 0, 2.0, 2) | {"curve": [[20, 1.5], [60, 1.4], [20, 1.3], [340, 1.1]]}
    (tmp_path / "cells" / "a.json").write_text(json.dumps(short))
    with pytest.raises(UserError, match="400 of 420 steps"):
        table.collect(tmp_path, tmp_path / "cells.jsonl")


def test_cells_of_other_folders_are_added(tmp_path: Path) -> None:
    out = tmp_path / "cells.jsonl"
    for seed in (1, 0):
        folder = tmp_path / str(seed)
        (folder / "cells").mkdir(parents=True)
        (folder / "cells" / "a.json").write_text(json.dumps(cell("two-stages", seed, 2.0, 2)))
        table.collect(folder, out)
    assert list(table.read_cells(out)) == [("two-stages", 0), ("two-stages", 1)]


def test_the_page_shows_the_table_of_the_kept_cells() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "claims.md"
    _, _, rest = page.read_text(encoding="utf-8").partition(table.BEGIN)
    shown, _, _ = rest.partition(table.END)
    assert shown.strip() == table.as_markdown(
        table.read_cells(table.CELLS), table.read_cells(table.AGAIN)
    )
