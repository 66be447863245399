"""Training of the full-size autoencoder at tiny size: it learns, resumes, and knows its latents."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from omni2sound.errors import ConfigError
from omni2sound.models.adversary import AdversaryConfig
from omni2sound.models.oobleck import Oobleck, OobleckConfig
from omni2sound.train.parts.oobleck import (
    OobleckRecipe,
    kl_to_normal,
    spectral_distance,
    train_oobleck,
)
from tests.warm.start import warm

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
CONFIG = OobleckConfig(channels=4, multiples=(1, 2), strides=(2, 4), latent_dim=2)


def recordings() -> list[NDArray[np.float32]]:
    time_s = np.arange(4000) / 16_000
    return [np.sin(2 * np.pi * hz * time_s).astype(np.float32) for hz in (200, 500, 1500)]


def recipe(steps: int) -> OobleckRecipe:
    return OobleckRecipe(
        num_steps=steps,
        batch_size=2,
        crop_frames=100,
        lr=3e-3,
        adversary_lr=1e-3,
        warmup_steps=1,
        adversary_from=steps // 2,
        windows=(128, 32),
        adversary=AdversaryConfig(windows=(64,), channels=2),
        average_decay=0.5,
    )


def model() -> Oobleck:
    torch.manual_seed(0)
    return Oobleck(CONFIG)


def losses(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_spectra_of_equal_sounds_have_no_distance_and_of_others_some() -> None:
    sound = torch.randn(2, 800, generator=torch.Generator().manual_seed(0))
    assert spectral_distance(sound, sound, (128, 32)).item() == 0
    # Half as loud: convergence 1/2, log-magnitudes off by log 2.
    half = spectral_distance(sound / 2, sound, (128, 32)).item()
    assert half == pytest.approx(0.5 + np.log(2), abs=0.01)


def test_the_divergence_of_a_standard_normal_is_zero_and_of_others_known() -> None:
    zeros, ones = torch.zeros(2, 3, 5), torch.ones(2, 3, 5)
    assert kl_to_normal(zeros, ones).item() == 0
    assert kl_to_normal(2 * ones, ones).item() == pytest.approx(3 * 4)
    assert kl_to_normal(zeros, 0.5 * ones).item() == pytest.approx(3 * (0.25 - 2 * np.log(0.5) - 1))


def test_it_learns_and_resumes_exactly_and_standardises_its_latents(tmp_path: Path) -> None:
    whole, parts = model(), model()
    assert train_oobleck(whole, recordings(), recipe=recipe(40), out=tmp_path / "whole") == 40
    out = tmp_path / "parts"
    assert train_oobleck(parts, recordings(), recipe=recipe(40), out=out, max_steps=25) == 25
    again = model()
    train_oobleck(again, recordings(), recipe=recipe(40), out=out, resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    early, late = losses(out)
    assert late["spectral"] < early["spectral"]
    assert "opinion" in late
    sound = torch.from_numpy(np.stack(recordings()))
    latents = whole.encode(sound).flatten(0, 1)
    assert whole.scale_C.min() > 0
    assert latents.abs().mean() < 5
    with pytest.raises(ConfigError, match="holds a run"):
        train_oobleck(model(), recordings(), recipe=recipe(40), out=out)
    with pytest.raises(ConfigError, match='corpus_sha256: was null, is "another"'):
        train_oobleck(
            model(), recordings(), recipe=recipe(40), out=out, resume=True, corpus_sha256="another"
        )


def trained_in_a_process(out: Path, *, at: int, number: signal.Signals) -> int:
    """The exit code of a run whose process gets a signal in the step after `at`."""
    code = f"""
import os
from pathlib import Path
from omni2sound.train.parts import oobleck
from tests.train.parts.test_oobleck import model, recipe, recordings
draw = oobleck.draw_batch
def drawn(*args, step, **options):
    if step == {at}:
        os.kill(os.getpid(), {int(number)})
    return draw(*args, step=step, **options)
oobleck.draw_batch = drawn
oobleck.train_oobleck(
    model(), recordings(), recipe=recipe(20), out=Path({str(out)!r}), save_steps=5
)
"""
    command = warm([sys.executable, "-c", code])
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    return done.returncode


@pytest.mark.parametrize(
    ("number", "kept"), [(signal.SIGTERM, "step-00000014"), (signal.SIGKILL, "step-00000010")]
)
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, number: signal.Signals, kept: str
) -> None:
    whole, again = model(), model()
    train_oobleck(whole, recordings(), recipe=recipe(20), out=tmp_path / "whole")
    out = tmp_path / "killed"
    code = trained_in_a_process(out, at=13, number=number)
    assert code == -signal.SIGKILL if number == signal.SIGKILL else code != 0
    assert sorted(p.name for p in out.glob("step-*"))[-1] == kept
    assert train_oobleck(again, recordings(), recipe=recipe(20), out=out, resume=True) == 20
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_step_that_is_not_finite_changes_nothing_and_twenty_end_the_run(tmp_path: Path) -> None:
    trained = model()
    before = {name: value.clone() for name, value in trained.named_parameters()}
    damaged = [np.full_like(r, np.nan) for r in recordings()]
    with pytest.raises(ConfigError, match=r"20 steps in a row .* not finite"):
        train_oobleck(trained, damaged, recipe=recipe(40), out=tmp_path / "run")
    for name, value in trained.named_parameters():
        assert torch.equal(value, before[name]), name
