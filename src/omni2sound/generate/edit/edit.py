"""Editing a sound: ranges made anew in their context, or variations of the whole.

In:   a sound, ranges, what should be heard in them (a video, a prompt, or both).
Out:  the sound with new ranges; outside of their soft edges, sample for sample the given one.

The model works on one channel at its autoencoder's rate. A window around each range is encoded; the
latents outside of the range are held at each noise level (`holding`), and only the part in the
range, with its band above and its place in stereo, goes back into the given sound (`seams`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.diffusion.guidance import Predict
from omni2sound.diffusion.samplers import sample
from omni2sound.diffusion.settings import OnStep
from omni2sound.errors import UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.holding import held
from omni2sound.generate.edit.ranges import Range, Window, joined_ranges, windows
from omni2sound.generate.edit.seams import insert, level_gain
from omni2sound.generate.finish import finish
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.studio.video import spanned
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.plan import Plan, make_plan
from omni2sound.media.samples import Audio, as_stereo, fit_length, resample, round_half_up

_MAX_PEAK = 0.999
"""A new part stays below full scale, so that no limiter has to touch what was given."""
_MIN_RANGE_S = 0.04


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Edited:
    """An edited sound, at the rate and in the channels of the given one."""

    audio: Audio
    seed: int
    ranges: tuple[Range, ...]
    notes: tuple[str, ...]
    kept_N: NDArray[np.float32]
    """Gain of the given sound in each sample: 1 outside of the ranges and their edges."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Part:
    """One window, ready to be sampled for each take."""

    window: Window
    request: GenerationRequest
    plan: Plan
    predict: Predict | None
    """None: silence is asked for."""
    latents_BLC: Tensor
    """Of the given sound."""


def edit(
    pipeline: TorchPipeline, given: Audio, asked: Edit, *, on_step: OnStep | None = None
) -> Iterator[Edited]:
    """Edit a sound; yields the takes one after another.

    Args:
        pipeline: The model.
        given: The sound, one or two channels.
        asked: What is to be changed.
        on_step: Called with (steps done, steps in all) of one window.

    Raises:
        MediaError: The video can't be read.
        UserError: A range leaves a gap, the sound has more than two channels, or the request asks
            for what this model can't do.
    """
    if given.num_channels > 2:
        raise UserError(
            f"expected one or two channels, got {given.num_channels}; mix them down first",
            field="sound",
        )
    length_s = float(given.duration_s)
    whole = (Range(start_s=0, end_s=length_s),)
    ranges = joined_ranges(asked.ranges or whole, length_s)
    for span in ranges:
        if span.end_s - span.start_s < _MIN_RANGE_S:
            raise UserError(f"expected at least {_MIN_RANGE_S} s", field="ranges")
    num_samples = max(
        given.num_samples, round_half_up(Fraction(ranges[-1].end_s) * given.sample_rate_hz)
    )
    padded = fit_length(given, num_samples)
    rate = pipeline.model.config.timebase.latent_rate_hz
    total_s = num_samples / given.sample_rate_hz
    parts = [
        _prepare(pipeline, padded, asked, window)
        for window in windows(ranges, total_s=total_s, frames_per_s=rate)
    ]
    for take in range(asked.takes):
        audio, kept_N = padded, np.ones(num_samples, np.float32)
        for part in parts:
            audio, own_N = _with_part(pipeline, audio, asked, part, asked.seed + take, on_step)
            kept_N *= own_N
        notes = dict.fromkeys(note for part in parts for note in part.plan.notes)
        yield Edited(
            audio=audio,
            seed=asked.seed + take,
            ranges=tuple(ranges),
            notes=tuple(notes),
            kept_N=kept_N,
        )


def _prepare(pipeline: TorchPipeline, given: Audio, asked: Edit, window: Window) -> _Part:
    """Encode a window of the sound, and what is asked for in it."""
    timebase = pipeline.model.config.timebase
    start_s = window.start_s(timebase.latent_rate_hz)
    duration_s = window.duration_s(timebase.latent_rate_hz)
    begin, end = (None, None) if asked.video is None else (start_s, start_s + duration_s)
    with spanned(asked.video, start_s=begin, end_s=end) as video:
        request = asked.request(video, start_s, duration_s)
        plan = make_plan(request, duration_s, pipeline.facts, pipeline.encoder)
        defaults = pipeline.model.defaults
        scale = defaults.guidance if asked.guidance_scale is None else asked.guidance_scale
        layers, _ = pipeline._layers(request, plan, duration_s, scale)
    low = resample(_cut(given, start_s, duration_s), timebase.sample_rate_hz)
    low = fit_length(low, window.num_frames * timebase.hop_samples)
    low_1N = torch.from_numpy(low.samples_CN.mean(axis=0, keepdims=True))
    with torch.inference_mode(), pipeline.offloader.use("autoencoder"):
        latents_BLC = pipeline.model.autoencoder.encode(low_1N.to(pipeline.device))
    return _Part(
        window=window,
        request=request,
        plan=plan,
        predict=layers[0].predict if layers else None,
        latents_BLC=latents_BLC,
    )


def _cut(audio: Audio, start_s: Fraction, duration_s: Fraction) -> Audio:
    """A span of a sound; silence after its end."""
    first = round_half_up(start_s * audio.sample_rate_hz)
    part = replace(audio, samples_CN=np.ascontiguousarray(audio.samples_CN[:, first:]))
    return fit_length(part, round_half_up(duration_s * audio.sample_rate_hz))


def _with_part(
    pipeline: TorchPipeline,
    given: Audio,
    asked: Edit,
    part: _Part,
    seed: int,
    on_step: OnStep | None,
) -> tuple[Audio, NDArray[np.float32]]:
    """Return the sound with one window's ranges made anew, and the gain of the given one in it."""
    timebase = pipeline.model.config.timebase
    start_s = part.window.start_s(timebase.latent_rate_hz)
    duration_s = part.window.duration_s(timebase.latent_rate_hz)
    old = _cut(given, start_s, duration_s)
    made = _sampled(pipeline, asked, part, seed, on_step)
    again_BN = pipeline._decode(made, duration_s).numpy()
    sounds = [] if part.predict is None else [again_BN]
    audible = part.plan.layers(sounds, duration_s, timebase)
    finished = finish(pipeline.facts, part.request, audible, part.plan.placed, pipeline.added_band)
    new = resample(finished, old.sample_rate_hz)
    new = fit_length(as_stereo(new) if old.num_channels == 2 else _mono(new), old.num_samples)
    low = resample(old, timebase.sample_rate_hz).samples_CN.mean(axis=0)
    is_new_L = np.array(part.window.new_frames(timebase.latent_rate_hz))
    kept_N = np.repeat(~is_new_L, timebase.hop_samples)[: min(len(low), again_BN.shape[1])]
    gain = level_gain(low[: len(kept_N)][kept_N], again_BN[0, : len(kept_N)][kept_N])
    peak = float(np.abs(new.samples_CN).max(initial=0.0))
    new_CN = new.samples_CN * np.float32(min(gain, _MAX_PEAK / max(peak, 1e-9)))
    window_CN, kept_N = old.samples_CN, np.ones(given.num_samples, np.float32)
    first = round_half_up(start_s * given.sample_rate_hz)
    for span in part.window.ranges:
        begin, end = (
            round_half_up(Fraction(t) * given.sample_rate_hz) - first
            for t in (span.start_s, span.end_s)
        )
        end = min(end, given.num_samples - first)
        window_CN, own_N = insert(
            window_CN[:, : given.num_samples - first],
            new_CN[:, : given.num_samples - first],
            start=begin,
            end=end,
            sample_rate_hz=given.sample_rate_hz,
        )
        kept_N[first : first + len(own_N)] *= own_N
    samples_CN = given.samples_CN.copy()
    samples_CN[:, first : first + window_CN.shape[1]] = window_CN
    return replace(given, samples_CN=samples_CN), kept_N


def _mono(audio: Audio) -> Audio:
    return replace(audio, samples_CN=audio.samples_CN.mean(axis=0, keepdims=True), layout=None)


@torch.inference_mode()
def _sampled(
    pipeline: TorchPipeline, asked: Edit, part: _Part, seed: int, on_step: OnStep | None
) -> Tensor:
    """Latents of a window, those outside of its ranges as given."""
    given_BLC, config = part.latents_BLC, pipeline.model.config
    if part.predict is None:
        return given_BLC
    generator = torch.Generator().manual_seed(seed)
    noise_BLC = torch.randn(given_BLC.shape[1:], generator=generator)[None].to(pipeline.device)
    is_new_L = torch.tensor(part.window.new_frames(config.timebase.latent_rate_hz))
    is_new_L = is_new_L.to(pipeline.device)
    sampler, start_BLC = config.sampler, None
    if asked.strength < 1:
        if config.objective.kind != "v":
            raise UserError("is for models that predict v; use 1", field="strength")
        level = math.tan(asked.strength * math.pi / 2)
        sigma = min(max(level, sampler.sigma_min * 2), sampler.sigma_max)
        sampler, start_BLC = replace(sampler, sigma_max=sigma), given_BLC
    steps = asked.num_inference_steps
    with pipeline.offloader.use("dit"):
        return sample(
            held(part.predict, config.objective, given_BLC, noise_BLC, is_new_L),
            noise_BLC,
            objective=config.objective,
            config=sampler,
            num_steps=pipeline.model.defaults.steps if steps is None else steps,
            generator=[generator],
            start_BLC=start_BLC,
            on_step=on_step,
        )
