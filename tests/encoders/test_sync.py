"""The sync encoder: aligned with time, local in it, and trainable to find a moment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.encoders.sync import (
    SyncBatch,
    SyncConfig,
    SyncEncoder,
    SyncExample,
    at_rate,
    level_target,
    onset_target,
    stack_examples,
)
from omni2sound.errors import ConfigError, ShapeError
from omni2sound.timebase import even_rate
from omni2sound.train.parts.sync import sync_loss, train_sync

TINY = SyncConfig(frame_px=16, channels=(4, 8), feature_dim=6)


def frames(num_frames: int, *, seed: int = 0) -> np.ndarray:
    shape = (num_frames, 16, 16, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_one_feature_per_frame() -> None:
    encoder = SyncEncoder(TINY).eval()
    assert encoder.embed(frames(30)).shape == (30, 6)
    assert encoder.embed(frames(1)).shape == (1, 6)


def test_a_frame_is_felt_for_about_a_second_and_not_before() -> None:
    torch.manual_seed(0)
    encoder = SyncEncoder(TINY).eval()
    before = frames(80)
    after = before.copy()
    after[40] = 255 - after[40]
    change = (encoder.embed(after) - encoder.embed(before)).abs().amax(dim=1)
    felt = torch.nonzero(change > 1e-6).flatten()
    assert felt.min() >= 40 - 12
    assert felt.max() <= 40 + 12
    assert change[40] > 0


def test_the_last_two_features_are_the_answers() -> None:
    encoder = SyncEncoder(TINY).eval()
    features, answers = encoder(torch.from_numpy(frames(10))[None])
    torch.testing.assert_close(features[..., -2], answers[..., 0].sigmoid())
    torch.testing.assert_close(features[..., -1], answers[..., 1])


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"must be \(B, T, 16, 16, 3\)"):
        SyncEncoder(TINY).embed(np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(ConfigError, match="multiple of 8, got 20"):
        SyncConfig(frame_px=20, channels=(4, 8))


def test_targets_stand_where_the_sound_is() -> None:
    onset = onset_target([0.5], 25, 25)  # between the centres of frames 12 (0.5 s)
    assert int(onset.argmax()) == 12
    assert onset[12] == pytest.approx(1.0)
    assert onset[[9, 15]].max() == 0
    sound = np.zeros(16_000, np.float32)
    sound[8000:] = 1.0
    level = level_target(sound, 25)
    assert level[:12].max() == 0
    assert level[13:].min() == pytest.approx(1.0)


def flash(seed: int) -> SyncExample:
    """A grey noisy clip that turns white for one frame; a bright spot wanders all the time."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(90, 110, (20, 16, 16, 3), dtype=np.uint8)
    for i in range(20):
        pictures[i, rng.integers(12) :, rng.integers(12)] = 200
    at = int(rng.integers(2, 18))
    pictures[at] = 255
    level = np.zeros(20, np.float32)
    level[at:] = 0.5
    return SyncExample(
        frames_THWK=pictures, onset_T=onset_target([(at + 0.5) / 25], 20, 25), level_T=level
    )


def test_it_learns_to_find_a_moment(tmp_path: Path) -> None:
    batches = (stack_examples([flash(100 + 8 * k + i) for i in range(8)]) for k in range(150))
    encoder = train_sync(
        TINY, batches, out=tmp_path, num_steps=150, max_minutes=5, lr=1e-2, precision="float32"
    )
    held_out = [flash(i) for i in range(40)]
    found = [encoder.embed(e.frames_THWK)[:, -2].argmax().item() for e in held_out]
    truth = [int(e.onset_T.argmax()) for e in held_out]
    assert np.mean(np.abs(np.subtract(found, truth)) <= 1) >= 0.9
    assert (tmp_path / "log.jsonl").read_text().count("onset") >= 1


def test_it_can_be_trained_on(tmp_path: Path) -> None:
    """A given network is changed in place, from where it was."""

    def batches(count: int) -> Iterator[SyncBatch]:
        return (stack_examples([flash(8 * k + i) for i in range(8)]) for k in range(count))

    first = train_sync(
        TINY, batches(2), out=tmp_path, num_steps=2, max_minutes=5, precision="float32"
    )
    before = {k: v.clone() for k, v in first.state_dict().items()}
    onset, _ = sync_loss(first, next(batches(1)), precision="float32")
    again = train_sync(
        TINY,
        batches(60),
        out=tmp_path,
        num_steps=60,
        max_minutes=5,
        lr=1e-2,
        precision="float32",
        start=first,
    )
    assert again is first
    assert any(not torch.equal(before[k], v) for k, v in again.state_dict().items())
    later, _ = sync_loss(again.eval(), next(batches(1)), precision="float32")
    assert later < onset


@pytest.mark.parametrize(
    ("file_fps", "rate"),
    [
        (Fraction(24), Fraction(24)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (Fraction(25), Fraction(25)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
        (Fraction(50), Fraction(25)),
        (Fraction(60), Fraction(30)),
        (Fraction(120), Fraction(24)),
        (Fraction(12), Fraction(25)),
        (Fraction(15), Fraction(25)),
        (Fraction(90), Fraction(45, 2)),
        (Fraction(18), Fraction(25)),
        (Fraction(1, 3), Fraction(25)),
    ],
)
def test_the_rate_takes_each_picture_equally_often(file_fps: Fraction, rate: Fraction) -> None:
    assert even_rate(file_fps, 25) == rate


@given(file_fps=st.fractions(Fraction(1, 10), 1000, max_denominator=1001))
def test_the_rate_is_near_and_fits_the_file_or_is_the_networks_own(file_fps: Fraction) -> None:
    rate = even_rate(file_fps, 25)
    assert 20 <= rate <= 31
    ratio = rate / file_fps
    assert rate == 25 or ratio.numerator == 1


@given(
    from_fps=st.sampled_from([Fraction(24), Fraction(30000, 1001), Fraction(25), Fraction(30)]),
    num_frames=st.integers(1, 200),
)
def test_interpolated_features_keep_their_time(from_fps: Fraction, num_frames: int) -> None:
    """Features that are their own times still are, but for half a step at the ends."""
    count = max(1, math.ceil(Fraction(num_frames, 25) * from_fps))
    times = ((torch.arange(count) + 0.5) / float(from_fps))[:, None]
    found = at_rate(times, from_fps, 25, num_frames)[:, 0]
    wanted = ((torch.arange(num_frames) + 0.5) / 25).clamp(float(times[0]), float(times[-1]))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_features_at_the_right_rate_are_returned_as_they_are() -> None:
    features = torch.randn(40, 6)
    assert at_rate(features, Fraction(25), 25, 40) is features


@pytest.mark.parametrize("channels", [(), (8, 0), (8, 16, 16, -1)])
def test_channels_are_counts(channels: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="channels must be one or more, each at least 1"):
        SyncConfig(channels=channels)
