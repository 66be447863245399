"""Replies of six servers: each shape is the right answer, or one failure with its name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.robustness.reply_shapes import SHAPES, ask_all
from benchmarks.robustness.server_doubles import KINDS, Kind


@pytest.mark.parametrize("kind", KINDS)
def test_each_shape_of_a_reply_is_read_and_bought_once(kind: Kind, tmp_path: Path) -> None:
    assert len(SHAPES) >= 40
    found = asyncio.run(ask_all(kind, tmp_path))
    outcomes = {name: outcome for name, outcome, _ in found}
    assert outcomes == {name: shape.outcome for name, shape in SHAPES.items()}
    assert not [(n, calls) for n, _, calls in found if calls > SHAPES[n].calls]
