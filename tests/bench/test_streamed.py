"""Streamed distances are those of the whole arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.bench.distances import frechet_distance
from omni2sound.bench.streamed import (
    Moments,
    SetOfSounds,
    frechet_of_moments,
    groups_of,
    streamed_scores,
)
from omni2sound.bench.yamnet_8s import JudgedClip, distance_scores
from omni2sound.errors import ShapeError


def sounds(seed: int, *, num_clips: int = 23, shift: float = 0.0) -> list[JudgedClip]:
    rng = np.random.default_rng(seed)
    return [
        JudgedClip(
            embeddings_PD=(rng.standard_normal((int(rng.integers(1, 9)), 12)) + shift).astype(
                np.float32
            ),
            logits_K=rng.standard_normal(7).astype(np.float32),
        )
        for _ in range(num_clips)
    ]


def once(clips: list[JudgedClip]) -> Iterator[JudgedClip]:
    """A stream: it can be read only once."""
    yield from clips


@pytest.mark.parametrize("num_clips", [4, 7, 23, 60])
def test_scores_and_intervals_are_those_of_the_arrays(num_clips: int) -> None:
    real, made = sounds(0, num_clips=num_clips), sounds(1, num_clips=num_clips, shift=0.3)
    group_N = groups_of(num_clips)
    streamed = streamed_scores(
        SetOfSounds(once(real), group_N), SetOfSounds(once(made), group_N), judge_name="judge"
    )
    for ours, theirs in zip(streamed, distance_scores(real, made, judge_name="judge"), strict=True):
        assert (ours.name, ours.protocol, ours.direction, ours.unit) == (
            theirs.name,
            theirs.protocol,
            theirs.direction,
            theirs.unit,
        )
        # With fewer patches than dimensions a covariance has eigenvalues of 0, whose roots
        # keep half of the digits only (there, and in the interval here).
        close = 1e-6 if ours.name == "FD" else 1e-9
        for field in ("value", "low", "high"):
            assert getattr(ours.estimate, field) == pytest.approx(
                getattr(theirs.estimate, field), rel=close, abs=close
            )


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 39))
def test_merged_moments_are_those_of_everything(seed: int, count: int, cut: int) -> None:
    x = 100 + np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)
    cut = min(cut, count - 1)
    merged, whole = Moments.of(x[:cut]).merged(Moments.of(x[cut:])), Moments.of(x)
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean_D, whole.mean_D, rtol=1e-12)
    np.testing.assert_allclose(merged.scatter_DD, whole.scatter_DD, rtol=1e-9, atol=1e-9)


def test_fd_of_moments_is_fd_of_the_sets() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((300, 8)).astype(np.float32)
    y = (rng.standard_normal((200, 8)) @ rng.standard_normal((8, 8)) + 1).astype(np.float32)
    assert frechet_of_moments(Moments.of(x), Moments.of(y)) == pytest.approx(
        frechet_distance(x, y), rel=1e-9
    )
    assert abs(frechet_of_moments(Moments.of(x), Moments.of(x))) < 1e-6


def test_fd_with_itself_is_zero_even_where_nothing_varies() -> None:
    x = 30 * np.random.default_rng(6).random((500, 64)).astype(np.float32)
    x[:, 40:] = 7.0
    moments = Moments.of(x)
    assert abs(frechet_of_moments(moments, moments)) < 1e-6


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least 4"):
        groups_of(3)
    one = Moments.of(np.ones((1, 3), np.float32))
    with pytest.raises(ShapeError, match="two vectors"):
        frechet_of_moments(one, one)
    eight, nine = (SetOfSounds(sounds(0, num_clips=n), groups_of(n)) for n in (8, 9))
    with pytest.raises(ShapeError, match="one sound per real one"):
        streamed_scores(eight, nine, judge_name="judge")
