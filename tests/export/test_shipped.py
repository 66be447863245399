"""Graphs that ship without numbers: they stand for the default model, and become its export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omni2sound.errors import IntegrityError
from omni2sound.export import shipped
from omni2sound.export.shipped import checksum, graphs_of, make_export
from omni2sound.weights import load_card, resolve_model

MAX_BYTES = 2_000_000


def test_the_default_model_ships_with_graphs_that_stand_for_it() -> None:
    graphs = graphs_of(load_card(resolve_model("embedded")))
    assert graphs is not None
    assert sum(path.stat().st_size for path in graphs.iterdir()) < MAX_BYTES


def test_a_checksum_follows_values_and_places_but_not_rounding() -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    size, whole = np.linalg.norm(values), checksum(values)
    assert abs(checksum(values * np.float32(1 + 1e-7)) - whole) < 1e-5 * size
    assert abs(checksum(values[::-1].copy()) - whole) > 1e-3 * size
    changed = values.copy()
    changed[500] += 1
    assert abs(checksum(changed) - whole) > 1e-3 * size


def test_other_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = shipped.arrays_of
    monkeypatch.setattr(
        shipped,
        "arrays_of",
        lambda *values: {name: 2 * array for name, array in read(*values).items()},
    )
    with pytest.raises(IntegrityError, match="not what this release was made with"):
        make_export(load_card(resolve_model("embedded")), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
