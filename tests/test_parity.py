"""The table of `make parity`: what counts as the same, and what as not compared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.parity.__main__ import find_rows
from benchmarks.parity._table import Row, print_table, randomise, relative


def _row(difference: float, *, limit: float) -> Row:
    return Row(part="p", against="r", what="w", limit=limit, measure=lambda: difference)


def test_every_row_is_named_once() -> None:
    names = [(row.part, row.against, row.what) for row in find_rows()]
    assert names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("difference", "limit", "code"), [(0.0, 0.0, 0), (1e-9, 0.0, 1)])
def test_a_row_beyond_its_limit_fails_the_table(difference: float, limit: float, code: int) -> None:
    assert print_table([_row(0.0, limit=0.0), _row(difference, limit=limit)]) == code


def test_a_missing_reference_is_said_and_fails_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def measure() -> float:
        raise ModuleNotFoundError("No module named 'original'", name="original")

    row = Row(part="p", against="r", what="w", limit=0.0, measure=measure)
    assert print_table([row]) == 0
    printed = capsys.readouterr().out
    assert "unverified: no original" in printed
    assert "0 same, 0 different, 1 unverified" in printed


def test_the_difference_is_relative_to_the_largest_value() -> None:
    reference = torch.tensor([0.0, 4.0])
    assert relative(reference + 1, reference) == 0.25
    assert relative(reference, reference) == 0
    assert relative(torch.tensor([float("nan"), 4.0]), reference) == float("inf")


@pytest.mark.parametrize("reference", [torch.ones(3), torch.tensor([1.0, float("inf"), 0.0])])
def test_a_reference_that_says_nothing_is_refused(reference: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="nothing can be compared"):
        relative(reference, reference)


def test_no_parameter_keeps_its_start() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    nn.init.zeros_(module[0].weight)
    randomise(module)
    for parameter in module.parameters():
        assert not ((parameter == 0) | (parameter == 1)).any()
