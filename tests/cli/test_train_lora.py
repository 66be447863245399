"""`omni2sound train --lora` from the shell: an adapter beside a model, also after a resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.robustness.click_corpus import click_store
from omni2sound.errors import UserError
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.models.lora import load_adapter, merge
from tests.cli.training import command

RUN = {"steps": 4, "lr": 1e-2}


def test_an_adapter_is_trained_resumed_and_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    click_store(tmp_path / "features")
    command(tmp_path / "base", **RUN)
    base = tmp_path / "base" / "model"
    command(tmp_path / "whole", **RUN, lora=2, init_from=str(base))
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "adapter": str(tmp_path / "whole" / "adapter")
    }
    command(tmp_path / "parts", **RUN, lora=2, init_from=str(base), max_steps=2)
    command(tmp_path / "parts", **RUN, lora=2, resume=True)
    whole, parts = (load_adapter(tmp_path / name / "adapter") for name in ("whole", "parts"))
    assert whole.sha256 == parts.sha256
    assert any(v.any() for k, v in whole.tensors.items() if k.endswith(".up"))
    plain = Omni2SoundPipeline.from_pretrained(base, device="cpu", dtype="float32")
    assert whole.model_sha256 == plain.model.sha256
    before = {k: v.clone() for k, v in plain.model.dit.state_dict().items()}
    merge(plain.model.dit, whole, model_sha256=plain.model.sha256)()
    for name, tensor in plain.model.dit.state_dict().items():
        assert torch.equal(tensor, before[name])
    heard = Omni2SoundPipeline.from_pretrained(
        base, device="cpu", lora=tmp_path / "whole" / "adapter"
    )
    assert heard.sha256 != plain.sha256


def test_an_adapter_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name it with `init_from`"):
        command(tmp_path / "out", lora=2)
