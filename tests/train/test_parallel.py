"""Two real processes (torchrun, gloo, FSDP2) and a killed run: the proofs, a little shorter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from benchmarks.robustness.click_corpus import click_recipe
from omni2sound.errors import ConfigError
from omni2sound.models.dit import DiT
from omni2sound.train.cost import blank_conditions
from omni2sound.train.parallel import (
    World,
    joined_world,
    local,
    place_in_whole,
    prepare_model,
    whole,
)
from tests.warm.start import warm

ROOT = Path(__file__).parents[2]


def benchmark(name: str, *arguments: str) -> str:
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        warm([sys.executable, ROOT / "benchmarks" / "robustness" / name, *arguments]),
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": source},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_learn_what_one_does() -> None:
    told = benchmark("two_ranks.py", "--steps", "6", "--optimizers", "adamw", "muon")
    assert told.count("computed by both ranks: 0") == 3
    assert told.count("largest relative difference") == 8
    assert "TOO MUCH" not in told


@pytest.mark.slow
def test_a_run_that_is_killed_is_the_same_run() -> None:
    told = benchmark("resume_kills.py", "--kills", "9", "--steps", "8")
    assert "weights are equal" in told


@pytest.mark.slow
def test_two_machines_survive_a_dead_rank() -> None:
    told = benchmark("two_hosts.py", "--steps", "6", "--delay-ms", "2")
    if "can't be made here" in told:
        pytest.skip(told)
    assert "both machines ended by themselves" in told
    assert "largest relative difference" in told


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_world(torch.device("cpu")) as (world, device):
        assert world == World()
        assert device.type == "cpu"
        assert world.flags(True, False) == (True, False)
        values = torch.arange(3)
        assert torch.equal(world.sum(values), values)
        assert not torch.distributed.is_initialized()


def test_a_whole_tensor_is_its_own_part() -> None:
    tensor = torch.arange(6).reshape(3, 2)
    assert local(tensor) is tensor
    assert whole(tensor) is tensor
    assert place_in_whole(tensor) == (None, 3)


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "4", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(ConfigError, match="4 ranks on a machine with 2 CUDA devices"),
        joined_world(torch.device("cuda")),
    ):
        pass


# Dynamo looks at the gradients of what it traces.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_blocks_are_compiled_inside_of_their_checkpoints() -> None:
    recipe = click_recipe()
    gradients = {}
    for compiled in (False, True):
        torch.manual_seed(0)
        model = DiT(recipe.dit)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        counter = CompileCounter()
        torch.compiler.reset()
        prepare_model(
            model,
            World(),
            torch.device("cpu"),
            activation_checkpointing=True,
            compiled=compiled,
            backend=counter,
        )
        conditions = blank_conditions(recipe.dit, "VT2A", 0.8, text_tokens=4, device="cpu")
        x_BLC = torch.ones(1, 20, recipe.dit.latent_dim)
        model(x_BLC, torch.full((1,), 0.5), conditions).square().mean().backward()
        assert (counter.frame_count > 0) == compiled
        gradients[compiled] = [p.grad for p in model.parameters() if p.grad is not None]
    for plain, made in zip(gradients[False], gradients[True], strict=True):
        torch.testing.assert_close(made, plain)
