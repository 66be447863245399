"""Clips of any length: windows over one long latent, and chunks for encoders and decoder.

In:   encoders, a network and a decoder that each see a bounded length at once.
Out:  features, predictions and samples of any length; memory grows only by the size of the
      latents, features and samples themselves.

Sampling is joint: at every step each window of the network's native length predicts its
own part, and where windows overlap their predictions are averaged with weights that fade
from one to the other. So all windows are denoised together into one latent, without seams.
Encoders and decoder see chunks with margins, which are discarded. What not to get wrong: all
windows have the same length (the last one is moved back, not cut), because the network treats
a short window as a short clip.

Source: Bar-Tal et al. 2023, MultiDiffusion, arXiv:2302.08113, along time.
Shape suffixes: W windows, L latent frames, C latent channels, T frames, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from omni2sound.timebase import TimeBase

if TYPE_CHECKING:
    from torch import Tensor

    from omni2sound.diffusion.guidance import Predict

    PredictWindows = Callable[[range, Tensor, Tensor], Tensor]
    """(indices of the windows, x_WLC, t_W) to the network's prediction, same shape as x_WLC."""

_DECODE_CHUNK_S = 20
_DECODE_MARGIN_S = 1
_DECODE_FADE_S = Fraction(1, 5)
WINDOW_OVERLAP_S = 2
WINDOWS_PER_CALL = 4
LEAST_WINDOW_S = 2
"""Shorter clips were never trained on; a shorter passage lies within a window of this length."""
MAX_CACHED_WINDOWS = 32
"""Prepared conditions of one window take some megabytes; beyond this many (minutes of
video) they are prepared again at each step, for a few percent of its time."""
VISION_CHUNK = 32
SYNC_CHUNK = 250
"""Pictures that are embedded at once."""
SYNC_MARGIN = 16
"""Pictures on each side of one that its sync feature may depend on (11), and some more."""

F = TypeVar("F")
"""Features of pictures: an array, or a tensor on the encoder's device."""


def window_starts(num_frames: int, *, window: int, overlap: int) -> tuple[int, ...]:
    """Spread windows of one length evenly over `num_frames`; return their first frames.

    Args:
        num_frames: Frames to cover.
        window: Frames of each window; a single one starts at 0 if `num_frames` fits in it.
        overlap: Least overlap of neighbours in frames.
    """
    if num_frames <= window:
        return (0,)
    count = -(-(num_frames - overlap) // (window - overlap))
    last = num_frames - window
    return tuple(i * last // (count - 1) for i in range(count))


def crossfade_weights(
    starts: Sequence[int], num_frames: int, *, window: int
) -> NDArray[np.float32]:
    """Weights (W, window) of the windows' frames; they sum to 1 at every frame.

    They fall linearly to both ends of a window, where the network has least context.
    """
    ramp = np.arange(window, dtype=np.float32) + np.float32(0.5)
    triangle = np.minimum(ramp, window - ramp)
    total = np.zeros(num_frames, np.float32)
    for start in starts:
        total[start : start + window] += triangle
    return np.stack([triangle / total[start : start + window] for start in starts])


def passage_span(share_L: NDArray[np.float32], least: int) -> tuple[int, int]:
    """First frame and end of a text's window: all its passages, and no less than trained on."""
    acting = np.flatnonzero(share_L)
    begin, end = int(acting[0]), int(acting[-1]) + 1
    least = min(least, len(share_L))
    begin = max(0, min(begin - (least - (end - begin)) // 2, begin, len(share_L) - least))
    return begin, max(end, begin + least)


def joint_prediction(
    predict_windows: PredictWindows,
    starts: Sequence[int],
    num_frames: int,
    *,
    window: int,
    windows_per_call: int,
) -> Predict:
    """Average predictions for windows to one for the whole length.

    Args:
        predict_windows: The guided network over some of the windows.
        starts: From `window_starts`.
        num_frames: Latent frames of the whole length.
        window: Latent frames of each window.
        windows_per_call: Most windows in one call of the network.

    Returns:
        A function of one sample, x (1, L, C) and t (1,).
    """
    import torch

    weights_WL = torch.from_numpy(crossfade_weights(starts, num_frames, window=window))
    firsts = range(0, len(starts), windows_per_call)
    groups = [range(i, min(i + windows_per_call, len(starts))) for i in firsts]

    def predict(x_BLC: Tensor, t_B: Tensor) -> Tensor:
        weights = weights_WL.to(x_BLC)
        whole_BLC = torch.zeros_like(x_BLC)
        for group in groups:
            x_WLC = torch.cat([x_BLC[:, starts[i] : starts[i] + window] for i in group])
            parts_WLC = predict_windows(group, x_WLC, t_B.expand(len(group)))
            for part_LC, i in zip(parts_WLC, group, strict=True):
                whole_BLC[0, starts[i] : starts[i] + window] += weights[i, :, None] * part_LC
        return whole_BLC

    return predict


def embed_in_chunks(
    embed: Callable[[NDArray[np.uint8]], F],
    frames: Iterable[NDArray[np.uint8]],
    *,
    chunk: int,
    margin: int,
) -> Iterator[F]:
    """Embed a stream of pictures; the parts joined are as if all had been embedded at once.

    Args:
        embed: Pictures (T, H, W, 3) to features (T, D).
        frames: At least one picture.
        chunk: Pictures whose features are kept from one call of `embed`.
        margin: Pictures on each side on which a feature may depend.
    """
    held: list[NDArray[np.uint8]] = []
    before = 0  # pictures at the start of `held` whose features are already out
    for frame in frames:
        held.append(frame)
        if len(held) == before + chunk + margin:
            yield embed(np.stack(held))[before : before + chunk]  # type: ignore[index]
            done = before + chunk
            before = min(margin, done)
            del held[: done - before]
    if len(held) > before:
        yield embed(np.stack(held))[before:]  # type: ignore[index]


def decode_clips(
    decode: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    latents_BLC: NDArray[np.float32],
    timebase: TimeBase,
) -> NDArray[np.float32]:
    """Decode latents (B, L, C) to samples (B, L * hop); a long clip in chunks."""
    chunk = timebase.num_latent_frames(_DECODE_CHUNK_S)
    if latents_BLC.shape[1] <= chunk:
        return decode(latents_BLC)
    return decode_in_chunks(
        decode,
        latents_BLC[0],
        hop_samples=timebase.hop_samples,
        chunk=chunk,
        margin=timebase.num_latent_frames(_DECODE_MARGIN_S),
        fade=timebase.num_latent_frames(_DECODE_FADE_S),
    )[None]


def decode_in_chunks(
    decode: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    latents_LC: NDArray[np.float32],
    *,
    hop_samples: int,
    chunk: int,
    margin: int,
    fade: int,
) -> NDArray[np.float32]:
    """Decode latents of any length to samples (N,), in constant memory beside the result.

    Neighbouring chunks are decoded `margin` frames into each other. Most of that is discarded,
    since a decoder is least exact at its edges; over `fade` frames in its middle one chunk fades
    into the next, since a decoder that estimates phases need not give the same wave twice.
    Latents of up to one chunk are decoded at once.

    Args:
        decode: Latents (1, L, C) to samples (1, L * hop).
        latents_LC: Latents of the whole length.
        hop_samples: Samples per latent frame.
        chunk: Frames of a chunk without its margins, more than `margin`.
        margin: Frames decoded beyond each end of a chunk.
        fade: Frames of the fade, at most twice the margin.
    """
    num_frames = latents_LC.shape[0]
    whole_N = np.zeros(num_frames * hop_samples, np.float32)
    for begin in range(0, num_frames, chunk):
        end = min(begin + chunk, num_frames)
        first, last = max(0, begin - margin), min(num_frames, end + margin)
        samples_N = decode(latents_LC[None, first:last])[0]
        frame_N = first + (np.arange(len(samples_N), dtype=np.float32) + 0.5) / hop_samples
        if begin > 0:
            samples_N = samples_N * _rise(frame_N - begin, fade)
        if end < num_frames:
            samples_N = samples_N * (1 - _rise(frame_N - end, fade))
        whole_N[first * hop_samples : last * hop_samples] += samples_N
    return whole_N


def _rise(offset: NDArray[np.floating], length: int) -> NDArray[np.floating]:
    """Ramp from 0 to 1 over `length` frames, centred on offset 0."""
    return np.clip(offset / length + np.float32(0.5), 0, 1)
