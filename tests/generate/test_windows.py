"""Windows cover everything once, and streams give what one call on the whole would."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.encoders.sync import SyncConfig, SyncEncoder
from omni2sound.generate.conditions import window_of
from omni2sound.generate.windows import (
    SYNC_MARGIN,
    crossfade_weights,
    decode_in_chunks,
    embed_in_chunks,
    joint_prediction,
    window_starts,
)
from omni2sound.models.conditioning import Conditions
from omni2sound.timebase import TimeBase


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, int, int]:
    """(frames, window, overlap)."""
    window = draw(st.integers(2, 60))
    return draw(st.integers(1, 600)), window, draw(st.integers(1, window // 2))


@given(plans())
def test_windows_cover_all_frames_and_share_enough(plan: tuple[int, int, int]) -> None:
    num_frames, window, overlap = plan
    starts = window_starts(num_frames, window=window, overlap=overlap)
    assert starts[0] == 0
    if num_frames <= window:
        assert starts == (0,)
        return
    assert starts[-1] == num_frames - window
    steps = np.diff(starts)
    assert steps.min() > 0
    assert steps.max() <= window - overlap


@given(plans())
def test_weights_sum_to_one_and_prediction_of_a_constant_is_itself(
    plan: tuple[int, int, int],
) -> None:
    num_frames, window, overlap = plan
    window = min(window, num_frames)
    starts = window_starts(num_frames, window=window, overlap=min(overlap, max(1, window // 2)))
    weights = crossfade_weights(starts, num_frames, window=window)
    assert weights.min() > 0
    predict = joint_prediction(
        lambda group, x_WLC, t_W: x_WLC * 2 + t_W[:, None, None],
        starts,
        num_frames,
        window=window,
        windows_per_call=3,
    )
    x = torch.randn(1, num_frames, 2, generator=torch.Generator().manual_seed(num_frames))
    torch.testing.assert_close(predict(x, torch.tensor([0.5])), x * 2 + 0.5)


def test_a_single_window_is_the_plain_prediction_bit_for_bit() -> None:
    x = torch.randn(1, 17, 3, generator=torch.Generator().manual_seed(0))
    predict = joint_prediction(
        lambda group, x_WLC, t_W: x_WLC.sin(), (0,), 17, window=17, windows_per_call=4
    )
    assert torch.equal(predict(x, torch.zeros(1)), x.sin())


def test_predictions_fade_from_one_window_to_the_next() -> None:
    """Two windows that disagree by 1 meet without a jump anywhere."""
    starts = window_starts(100, window=60, overlap=20)
    predict = joint_prediction(
        lambda group, x_WLC, t_W: torch.stack(
            [x * 0 + i for x, i in zip(x_WLC, group, strict=True)]
        ),
        starts,
        100,
        window=60,
        windows_per_call=1,
    )
    y = predict(torch.zeros(1, 100, 1), torch.zeros(1))[0, :, 0]
    assert y[0] == 0
    assert y[-1] == 1
    assert y.diff().min() >= 0
    assert y.diff().max() <= 1.01 / 20


def _neighbours(reach: int) -> object:
    """An encoder whose feature i sums pictures i - reach to i + reach."""

    def embed(frames_THWK: NDArray[np.uint8]) -> Tensor:
        values = torch.from_numpy(frames_THWK.reshape(len(frames_THWK), -1)).float()
        padded = torch.nn.functional.pad(values, (0, 0, reach, reach))
        return padded.unfold(0, 2 * reach + 1, 1).sum(dim=-1)

    return embed


@given(st.integers(1, 80), st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
def test_embedding_a_stream_equals_embedding_the_whole(
    count: int, chunk: int, reach: int, spare: int
) -> None:
    frames = np.random.default_rng(count).integers(0, 255, (count, 1, 2, 3), dtype=np.uint8)
    embed = _neighbours(reach)
    parts = embed_in_chunks(embed, iter(frames), chunk=chunk, margin=reach + spare)
    streamed = torch.cat(list(parts))
    assert torch.equal(streamed, embed(frames))


def test_the_sync_margin_is_wide_enough_for_the_default_network() -> None:
    torch.manual_seed(0)
    encoder = SyncEncoder(SyncConfig(frame_px=32, channels=(8, 8, 8, 8))).eval()
    frames = np.random.default_rng(0).integers(0, 255, (90, 32, 32, 3), dtype=np.uint8)
    parts = embed_in_chunks(encoder.embed, iter(frames), chunk=20, margin=SYNC_MARGIN)
    streamed = torch.cat(list(parts))
    torch.testing.assert_close(streamed, encoder.embed(frames), atol=1e-5, rtol=1e-5)


@given(st.integers(1, 90), st.integers(4, 30))
def test_decoding_in_chunks_equals_decoding_at_once(num_frames: int, chunk: int) -> None:
    """A decoder that knows no neighbours and no position: the fades must sum to one."""
    latents = np.random.default_rng(num_frames).normal(size=(num_frames, 5)).astype(np.float32)
    lengths = []

    def decode(latents_BLC: NDArray[np.float32]) -> NDArray[np.float32]:
        lengths.append(latents_BLC.shape[1])
        return latents_BLC.reshape(len(latents_BLC), -1)

    whole = decode_in_chunks(decode, latents, hop_samples=5, chunk=chunk, margin=3, fade=2)
    np.testing.assert_allclose(whole, latents.ravel(), rtol=1e-5, atol=1e-6)
    assert max(lengths) <= chunk + 6


def test_windows_look_at_their_own_pictures() -> None:
    """Picture j shows number j, sync feature j is j: each window gets the numbers of its time."""
    timebase = TimeBase()
    seconds = 6
    conditions = Conditions(
        seconds_start_B=torch.zeros(1),
        seconds_total_B=torch.tensor([6.0]),
        text_BTE=torch.ones(1, 3, 2),
        text_mask_BT=torch.ones(1, 3, dtype=torch.bool),
        vision_BTV=torch.arange(8.0 * seconds).reshape(1, -1, 1),
        sync_BLS=torch.arange(25.0 * seconds).reshape(1, -1, 1),
    )
    windows = window_of(conditions, timebase, [0, 25, 60, 100], window=50)
    assert windows.batch_size == 4
    assert windows.seconds_start_B.tolist() == [0.0] * 4
    assert windows.seconds_total_B.tolist() == [2.0] * 4
    assert windows.text_BTE is not None
    assert windows.text_BTE.shape == (4, 3, 2)
    assert windows.sync_BLS is not None
    assert windows.sync_BLS[:, 0, 0].tolist() == [0, 25, 60, 100]
    assert windows.sync_BLS.shape == (4, 50, 1)
    assert windows.vision_BTV is not None
    # Second 2.4 lies in picture 19, whose interval is [2.375, 2.5).
    assert windows.vision_BTV[:, 0, 0].tolist() == [0, 8, 19, 32]
    assert windows.vision_BTV.shape == (4, 16, 1)
