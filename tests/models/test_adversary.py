"""The adversary: one judgement a resolution, and losses with known values."""

from __future__ import annotations

import pytest
import torch

from omni2sound.errors import ConfigError
from omni2sound.models.adversary import (
    Adversary,
    AdversaryConfig,
    Discrimination,
    feature_distance,
    hinge,
)

TINY = AdversaryConfig(windows=(64, 16), channels=3)


def discriminated(score: float, feature: float) -> list[Discrimination]:
    full = torch.full((1, 1, 2, 2), float(score))
    return [Discrimination(score=full, features=(torch.full((1, 2, 3), float(feature)),))]


def test_each_resolution_judges_every_moment() -> None:
    torch.manual_seed(0)
    adversary = Adversary(TINY)
    waveform = torch.randn(2, 640)
    before = adversary(waveform)
    assert [j.score.shape[2] for j in before] == [640 // 16 + 1, 640 // 4 + 1]
    assert all(len(j.features) == 4 for j in before)
    waveform[0, 320] += 5
    for a, b in zip(before, adversary(waveform), strict=True):
        changed = (a.score != b.score).flatten(1).any(dim=1)
        assert changed.tolist() == [True, False]


@pytest.mark.parametrize(("real", "made", "loss"), [(1, -1, 0), (2, -3, 0), (0, 0, 2), (-1, 1, 4)])
def test_the_hinge_is_zero_where_the_adversary_is_sure_and_right(
    real: float, made: float, loss: float
) -> None:
    assert hinge(discriminated(real, 0), discriminated(made, 0)).item() == loss


def test_the_distance_of_features_is_relative_to_the_real_ones() -> None:
    assert feature_distance(discriminated(0, 4), discriminated(0, 4)).item() == 0
    assert feature_distance(discriminated(0, 4), discriminated(0, 3)).item() == 0.25


def test_an_adversary_without_windows_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs windows"):
        AdversaryConfig(windows=())
