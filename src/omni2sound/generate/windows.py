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

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.diffusion.guidance import Predict
from omni2sound.timebase import TimeBase

_DECODE_CHUNK_S = 20
_DECODE_MARGIN_S = 1
_DECODE_FADE_S = Fraction(1, 5)

PredictWindows = Callable[[range, Tensor, Tensor], Tensor]
"""(indices of the windows, x_WLC, t_W) to the network's prediction, same shape as x_WLC."""


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


def crossfade_weights(starts: Sequence[int], num_frames: int, *, window: int) -> Tensor:
    """Weights (W, window) of the windows' frames; they sum to 1 at every frame.

    They fall linearly to both ends of a window, where the network has least context.
    """
    ramp = torch.arange(window) + 0.5
    triangle = torch.minimum(ramp, window - ramp)
    total = torch.zeros(num_frames)
    for start in starts:
        total[start : start + window] += triangle
    return torch.stack([triangle / total[start : start + window] for start in starts])


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
    weights_WL = crossfade_weights(starts, num_frames, window=window)
    groups = [
        range(i, min(i + windows_per_call, len(starts)))
        for i in range(0, len(starts), windows_per_call)
    ]

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
    embed: Callable[[NDArray[np.uint8]], Tensor],
    frames: Iterable[NDArray[np.uint8]],
    *,
    chunk: int,
    margin: int,
) -> Tensor:
    """Embed a stream of pictures, as if all had been embedded at once.

    Args:
        embed: Pictures (T, H, W, 3) to features (T, D).
        frames: At least one picture.
        chunk: Pictures whose features are kept from one call of `embed`.
        margin: Pictures on each side on which a feature may depend.
    """
    features: list[Tensor] = []
    held: list[NDArray[np.uint8]] = []
    before = 0  # pictures at the start of `held` whose features are already out
    for frame in frames:
        held.append(frame)
        if len(held) == before + chunk + margin:
            features.append(embed(np.stack(held))[before : before + chunk])
            done = before + chunk
            before = min(margin, done)
            del held[: done - before]
    if len(held) > before:
        features.append(embed(np.stack(held))[before:])
    return torch.cat(features)


def decode_clips(
    decode: Callable[[Tensor], Tensor], latents_BLC: Tensor, timebase: TimeBase
) -> Tensor:
    """Decode latents (B, L, C) to samples (B, L * hop) on the CPU; a long clip in chunks."""
    chunk = timebase.num_latent_frames(_DECODE_CHUNK_S)
    if latents_BLC.shape[1] <= chunk:
        return decode(latents_BLC).float().cpu()
    return decode_in_chunks(
        decode,
        latents_BLC[0],
        hop_samples=timebase.hop_samples,
        chunk=chunk,
        margin=timebase.num_latent_frames(_DECODE_MARGIN_S),
        fade=timebase.num_latent_frames(_DECODE_FADE_S),
    )[None]


def decode_in_chunks(
    decode: Callable[[Tensor], Tensor],
    latents_LC: Tensor,
    *,
    hop_samples: int,
    chunk: int,
    margin: int,
    fade: int,
) -> Tensor:
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
    whole_N = torch.zeros(num_frames * hop_samples)
    for begin in range(0, num_frames, chunk):
        end = min(begin + chunk, num_frames)
        first, last = max(0, begin - margin), min(num_frames, end + margin)
        samples_N = decode(latents_LC[None, first:last])[0].float().cpu()
        frame_N = first + (torch.arange(len(samples_N)) + 0.5) / hop_samples
        if begin > 0:
            samples_N = samples_N * _rise(frame_N - begin, fade)
        if end < num_frames:
            samples_N = samples_N * (1 - _rise(frame_N - end, fade))
        whole_N[first * hop_samples : last * hop_samples] += samples_N
    return whole_N


def _rise(offset: Tensor, length: int) -> Tensor:
    """Ramp from 0 to 1 over `length` frames, centred on offset 0."""
    return (offset / length + 0.5).clamp(0, 1)
