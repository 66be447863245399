"""Editing with a model: what is kept, what is made new, and from what."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.samplers import sample
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.errors import UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.edit import edit
from omni2sound.generate.edit.holding import held
from omni2sound.generate.edit.ranges import Range
from omni2sound.generate.edit.seams import EDGE_S
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.cues import Cue
from omni2sound.media.samples import Audio
from tests.build import tiny_model_folder, video_with_square

RATE_HZ = 44_100
RAIN = Edit(ranges=(Range(start_s=1.0, end_s=1.6),), prompt="rain", num_inference_steps=2)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> TorchPipeline:
    folder = tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")
    return TorchPipeline.load(folder, device="cpu")


def noise(seconds: float = 3.0, channels: int = 2) -> Audio:
    rng = np.random.default_rng(0)
    samples_CN = (0.05 * rng.normal(size=(channels, round(seconds * RATE_HZ)))).astype(np.float32)
    return Audio(samples_CN=samples_CN, sample_rate_hz=RATE_HZ)


@pytest.mark.parametrize("kind", ["dpmpp-2m", "dpmpp-2m-sde"])
@pytest.mark.parametrize("num_steps", [1, 2, 8])
def test_held_latents_come_back_exactly(kind: str, num_steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    given, noise_BLC = (torch.randn(1, 20, 4, generator=generator) for _ in range(2))
    is_new = torch.arange(20) >= 12
    seen = []

    def predict(x_BLC: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        seen.append((x_BLC.clone(), float(t_B[0])))
        return 0.3 * x_BLC

    objective = Objective(kind="v")
    made = sample(
        held(predict, objective, given, noise_BLC, is_new),
        noise_BLC,
        objective=objective,
        config=SamplerConfig(kind=kind),  # type: ignore[arg-type]
        num_steps=num_steps,
        generator=[generator],
    )
    assert (made - given)[:, ~is_new].abs().max() < 1e-4
    for x_BLC, t in seen:  # the network sees them with the noise of the level
        angle = t * math.pi / 2
        kept = math.cos(angle) * given + math.sin(angle) * noise_BLC
        assert (x_BLC - kept)[:, ~is_new].abs().max() < 1e-5
    assert (made - given)[:, is_new].abs().max() > 0.1


def test_outside_the_range_the_sound_survives_sample_for_sample(
    pipeline: TorchPipeline,
) -> None:
    given = noise()
    (made,) = edit(pipeline, given, RAIN)
    start, end = round((1.0 - EDGE_S) * RATE_HZ), round((1.6 + EDGE_S) * RATE_HZ)
    assert made.audio.samples_CN.shape == given.samples_CN.shape
    for outside in (slice(0, start), slice(end, None)):
        np.testing.assert_array_equal(
            made.audio.samples_CN[:, outside], given.samples_CN[:, outside]
        )
    inside = slice(round(1.1 * RATE_HZ), round(1.5 * RATE_HZ))
    assert np.abs(made.audio.samples_CN - given.samples_CN)[:, inside].max() > 1e-3


def test_equal_seeds_give_equal_edits_and_takes_go_on(pipeline: TorchPipeline) -> None:
    given = noise(channels=1)
    first, second = edit(pipeline, given, replace(RAIN, seed=4, takes=2))
    (alone,) = edit(pipeline, given, replace(RAIN, seed=5))
    assert (first.seed, second.seed) == (4, 5)
    np.testing.assert_array_equal(second.audio.samples_CN, alone.audio.samples_CN)
    assert np.abs(first.audio.samples_CN - alone.audio.samples_CN).max() > 1e-4


def test_a_sound_goes_on_past_its_end(pipeline: TorchPipeline) -> None:
    given = noise(1.0)
    (made,) = edit(pipeline, given, replace(RAIN, ranges=(Range(start_s=1.0, end_s=2.5),)))
    assert made.audio.duration_s == 2.5
    kept = round((1.0 - EDGE_S) * RATE_HZ)
    np.testing.assert_array_equal(made.audio.samples_CN[:, :kept], given.samples_CN[:, :kept])
    with pytest.raises(UserError, match="begins after the sound's end"):
        next(edit(pipeline, given, replace(RAIN, ranges=(Range(start_s=1.2, end_s=2.0),))))


def test_strength_says_how_far_a_variation_goes(pipeline: TorchPipeline) -> None:
    given = noise(1.0, channels=1)
    distances = []
    for strength in (0.05, 0.5, 1.0):
        whole = Edit(ranges=(Range(start_s=0, end_s=1),), prompt="rain", strength=strength, seed=1)
        (made,) = edit(pipeline, given, whole)
        latents = [
            pipeline.model.autoencoder.encode(torch.from_numpy(x.samples_CN[:, ::3].copy()))
            for x in (given, made.audio)
        ]
        distances.append(float((latents[0] - latents[1]).square().mean()))
    assert distances[0] < distances[1] < distances[2]


def test_a_video_and_cues_act_on_the_sounds_own_clock(
    pipeline: TorchPipeline, tmp_path: Path
) -> None:
    video_with_square(tmp_path / "clip.mp4", duration_s=3.0)
    (made,) = edit(pipeline, noise(), replace(RAIN, video=tmp_path / "clip.mp4", prompt=None))
    assert made.audio.duration_s == 3
    cue = Cue(start_s=0.9, end_s=1.2, text="rain")
    wide = replace(RAIN, prompt=None, cues=(cue,), ranges=(Range(start_s=0.5, end_s=2.2),))
    (made,) = edit(pipeline, noise(), wide)
    # After the cue nothing sounds; the given sound begins to come back .27 s before the end.
    silent_CN = made.audio.samples_CN[:, round(1.6 * RATE_HZ) : round(1.9 * RATE_HZ)]
    assert np.abs(silent_CN).max() < 1e-6  # the resampler rings
    far = replace(cue, start_s=4.9, end_s=5.0)
    with pytest.raises(UserError, match="cues: none acts around"):
        next(
            edit(pipeline, noise(6.0), replace(RAIN, prompt=None, cues=(far,), ranges=RAIN.ranges))
        )


def test_what_makes_no_edit_is_refused(pipeline: TorchPipeline) -> None:
    with pytest.raises(UserError, match="nothing to change"):
        Edit(prompt="rain")
    with pytest.raises(UserError, match="strength: expected"):
        Edit(prompt="rain", strength=0)
    with pytest.raises(UserError, match="sound: expected one or two channels, got 6"):
        next(edit(pipeline, noise(channels=6), RAIN))
    with pytest.raises(UserError, match="nothing to generate from"):
        next(edit(pipeline, noise(), replace(RAIN, prompt=None)))
