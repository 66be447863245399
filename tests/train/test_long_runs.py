"""Long runs: checkpoints that stay, allowed changes, spikes, models of checkpoints, samples."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open

from benchmarks.robustness.click_corpus import click_recipe, click_store
from omni2sound.data.store.rows import FeatureStore
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import ConfigError, MissingPartError
from omni2sound.models.autoencoder import MelPcaAutoencoder
from omni2sound.models.dit import DiT
from omni2sound.train import progress as progress_module
from omni2sound.train import state as state_module
from omni2sound.train.export import export_checkpoint
from omni2sound.train.loop import TrainOptions, TrainResult, train
from omni2sound.train.progress import Progress
from omni2sound.train.recipe import Recipe
from omni2sound.weights import load_card
from tests.cli.training import command

OnLog = Callable[[int, Mapping[str, float | str]], None]
Trained = tuple[dict[str, torch.Tensor], TrainResult]


@pytest.fixture
def run(
    store: FeatureStore, vae: MelPcaAutoencoder, encoder: TextEncoder
) -> Callable[..., Trained]:
    def trained(
        out: Path, recipe: Recipe, *, on_log: OnLog | None = None, **options: Any
    ) -> Trained:
        torch.manual_seed(0)
        model, where = DiT(recipe.dit), TrainOptions(out=out, **options)
        return train(model, recipe, store, None, vae, where, prompts=encoder, on_log=on_log)

    return trained


def names(out: Path) -> list[str]:
    return sorted(p.name for p in out.glob("step-*"))


def test_checkpoints_of_round_steps_stay(tmp_path: Path, run: Callable[..., Trained]) -> None:
    seen: list[int] = []
    run(tmp_path, click_recipe(), save_steps=2, keep_every=4, log_every=6, on_log=seen_by(seen))
    assert names(tmp_path) == ["step-00000004", "step-00000008", "step-00000010", "step-00000012"]
    assert seen == [6, 12]


def test_training_goes_on_while_a_checkpoint_is_written(
    tmp_path: Path, run: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the checkpoint is that of its step, not of a later one."""
    recipe, later, write = click_recipe(steps=1), threading.Event(), state_module.save_tensors
    run(tmp_path / "at once", recipe, max_steps=2, log_every=1)

    def held_up(*args: Any, **options: Any) -> None:
        assert later.wait(20)
        write(*args, **options)

    def on_log(step: int, numbers: Mapping[str, float | str]) -> None:
        if step == 3:
            later.set()

    monkeypatch.setattr(state_module, "save_tensors", held_up)
    run(tmp_path / "meanwhile", recipe, save_steps=2, log_every=1, on_log=on_log)
    made = [tmp_path / name / "step-00000002" for name in ("at once", "meanwhile")]
    said, digests = [], []
    for folder in made:
        said.append((folder / "state.json").read_bytes())
        with safe_open(folder / "state-0of1.safetensors", "pt") as file:
            digests.append(file.metadata()["sha256"])
    assert said[0] == said[1]
    assert digests[0] == digests[1]


def seen_by(seen: list[int]) -> OnLog:
    return lambda step, numbers: seen.append(step) if "loss" in numbers else None


def test_an_allowed_change_is_made_and_recorded(
    tmp_path: Path, run: Callable[..., Trained]
) -> None:
    recipe = click_recipe()
    run(tmp_path, recipe, max_steps=4)
    stages = tuple(replace(stage, lr=stage.lr / 2) for stage in recipe.stages)
    changed = replace(recipe, stages=stages, accumulate=2)
    with pytest.raises(ConfigError, match=r"accumulate: was 1, is 2.* allow the change \(lr, data"):
        run(tmp_path, changed, resume=True, allow=("lr",))
    run(tmp_path, changed, resume=True, allow=("lr", "accumulate"), max_steps=6)
    _, result = run(tmp_path, changed, resume=True)
    assert result.finished
    assert result.changes == (
        *(
            f"step 4: recipe.stages.{i}.lr: was {old.lr}, is {new.lr}"
            for i, (old, new) in enumerate(zip(recipe.stages, stages, strict=True))
        ),
        "step 4: recipe.accumulate: was 1, is 2",
    )


def test_a_spike_is_a_rise_of_several_steps() -> None:
    progress = Progress(recipe=replace(click_recipe(), spike_factor=2.0))
    rng = np.random.default_rng(0)
    losses = rng.uniform(0.5, 1.5, 300)
    assert not any(progress.is_spike(float(loss)) for loss in losses)
    assert not progress.is_spike(8.0)  # one hard batch
    assert any(progress.is_spike(4.0) for _ in range(progress_module.SPIKE_STEPS))
    assert Progress.from_json(progress.recipe, progress.to_json()).recent == progress.recent
    without = Progress(recipe=click_recipe())
    assert not any(without.is_spike(loss) for loss in (*[1.0] * 300, 1e9, 1e9))


def test_a_run_goes_back_before_a_spike_and_takes_other_batches(
    tmp_path: Path, run: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(click_recipe(), spike_factor=2.0)
    rises = iter([False] * 6 + [True] + [False] * 99)
    monkeypatch.setattr(Progress, "is_spike", lambda self, loss: next(rises))
    weights, result = run(tmp_path / "a", recipe, save_steps=2)
    assert (result.finished, result.spikes) == (True, (7,))
    log = (tmp_path / "a" / "log.jsonl").read_text()
    assert '"spike_at": 7, "draws": 1' in log
    monkeypatch.setattr(Progress, "is_spike", lambda self, loss: False)
    plain, _ = run(tmp_path / "b", recipe, save_steps=2)
    assert any(not torch.equal(weights[name], plain[name]) for name in plain)
    rises = iter([False] * 6 + [True] + [False] * 99)
    monkeypatch.setattr(Progress, "is_spike", lambda self, loss: next(rises))
    run(tmp_path / "c", recipe, save_steps=2, max_steps=9)
    again, resumed = run(tmp_path / "c", recipe, save_steps=2, resume=True)
    assert resumed.spikes == (7,)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    monkeypatch.setattr(Progress, "is_spike", lambda self, loss: True)
    with pytest.raises(ConfigError, match="rose suddenly at step 1, before the first checkpoint"):
        run(tmp_path / "d", recipe)


def test_a_checkpoint_becomes_the_model_that_the_run_writes(tmp_path: Path) -> None:
    click_store(tmp_path / "features")
    command(tmp_path / "run", keep_every=1)
    export_checkpoint(tmp_path / "run", tmp_path / "last")
    written, exported = load_card(tmp_path / "run" / "model"), load_card(tmp_path / "last")
    assert exported.sha256 == written.sha256
    assert exported.training["dit"] == written.training["dit"]
    export_checkpoint(tmp_path / "run", tmp_path / "first", step=1)
    assert load_card(tmp_path / "first").training["dit"]["steps"] == 1
    with pytest.raises(MissingPartError, match="no checkpoint of step 9; it has: 1, 2"):
        export_checkpoint(tmp_path / "run", tmp_path / "ninth", step=9)
    with pytest.raises(ConfigError, match="exists already"):
        export_checkpoint(tmp_path / "run", tmp_path / "last")


def test_samples_come_with_prompt_and_real_sound(
    tmp_path: Path, run: Callable[..., Trained]
) -> None:
    run(tmp_path, replace(click_recipe(), sample_every=6), max_steps=6)
    folder = tmp_path / "samples" / "step-00000006"
    for task in click_recipe().tasks:
        made, real = (soundfile.read(folder / f"{task}-0{end}.wav")[0] for end in ("", ".real"))
        assert made.shape == real.shape
        prompt = (folder / f"{task}-0.txt").read_text()
        assert ("(no prompt)" in prompt) == (task == "V2A")


def test_the_slurm_script_starts_and_resumes_with_one_line(tmp_path: Path) -> None:
    """With programs of the same names that print what they were called with."""
    script = Path(__file__).parents[2] / "training" / "slurm" / "train.slurm"
    for name, does in (("scontrol", "echo node1"), ("srun", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    settings = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", str(script), "tiny", "--data", "features", "--init-from", "a model"],
        env={**os.environ, **settings, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d")
    assert done.stdout.rstrip().endswith(
        "omni2sound train tiny --data features --init-from a model --resume"
    )
