"""From the autoencoder's sound to what a request asks for: band extension, channels, rate.

In:   a mono sound and its bed at the autoencoder's rate, a model, a request, what is seen.
Out:  an `Audio` at the model's rate or the one that was asked for, in stereo if the model places
      sounds.

What not to get wrong: at the autoencoder's rate and below nothing is added, so the sound is that
of the autoencoder alone.

Shape suffixes: B batch, N samples, T frames of 10 ms, S samples of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from omni2sound.generate.request import GenerationRequest, ModelFacts
from omni2sound.generate.stereo import to_stereo, widened
from omni2sound.generate.windows import decode_in_chunks
from omni2sound.media.samples import Audio, as_stereo, fit_length, resample, round_half_up
from omni2sound.recognise.observe import SeenThing

AddedBand = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Sound (1, N) at 16 kHz to the band above it (1, N * 441 / 160) at 44.1 kHz."""

RATE_HZ = 44_100
LOW_HOP_SAMPLES, HOP_SAMPLES = 160, 441
"""Samples of a frame of 10 ms below and above; as in `models.band`, which needs torch."""
_FRAMES_PER_S = 100
_CHUNK_S, _MARGIN_S, _FADE_S = 20, 2, 0.2


def finish(
    model: ModelFacts,
    request: GenerationRequest,
    layers: Sequence[Audio],
    placed: Sequence[SeenThing],
    added_band: AddedBand | None,
) -> Audio:
    """Add the band above, place sound and bed in stereo, and change the rate if asked.

    Args:
        model: The model.
        request: What was asked.
        layers: The sound, and its bed if there is one, mono at the rate of the autoencoder.
        placed: Seen things that are in the sound.
        added_band: The model's band extension; None: the sound stays at its rate.
    """
    asked_hz = request.sample_rate_hz
    rate_hz = layers[0].sample_rate_hz
    if added_band is not None and (asked_hz is None or asked_hz > rate_hz):
        layers = [extend(layer, added_band) for layer in layers]
        rate_hz = layers[0].sample_rate_hz
    mono = [layer.samples_CN[0] for layer in layers]
    if model.defaults.stereo and request.video is not None and request.channels != 1:
        beds = [widened(bed_N, rate_hz) for bed_N in mono[1:]]
        samples_CN = sum(beds, start=to_stereo(mono[0], rate_hz, placed))
    else:
        samples_CN = sum(mono[1:], start=mono[0])[None]
    audio = Audio(samples_CN=samples_CN, sample_rate_hz=rate_hz)
    if request.channels == 2:
        audio = as_stereo(audio)
    return resample(audio, rate_hz if asked_hz is None else asked_hz)


def extend(low: Audio, added_band: AddedBand) -> Audio:
    """Resample mono sound of 16 kHz to 44.1 kHz and add the band above it, chunk by chunk."""
    num_samples = round_half_up(low.duration_s * RATE_HZ)
    low_N = low.samples_CN[0]
    padded_N = np.pad(low_N, (0, -len(low_N) % LOW_HOP_SAMPLES))
    added_N = decode_in_chunks(
        lambda frames_1TS: added_band(frames_1TS.reshape(1, -1)),
        padded_N.reshape(-1, LOW_HOP_SAMPLES),
        hop_samples=HOP_SAMPLES,
        chunk=_CHUNK_S * _FRAMES_PER_S,
        margin=_MARGIN_S * _FRAMES_PER_S,
        fade=round(_FADE_S * _FRAMES_PER_S),
    )
    audio = fit_length(resample(low, RATE_HZ), num_samples)
    audio.samples_CN[0] += added_N[:num_samples]
    return audio
