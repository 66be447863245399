"""Low memory: one part at a time, and the same sound."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from omni2sound.errors import UserError
from omni2sound.generate.offload import Offloader
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.models.conditioning import Conditions
from omni2sound.models.lora import LoraConfig, adapter_of, add_lora, save_adapter
from omni2sound.models.oobleck import Oobleck
from tests.build import tiny_model, tiny_model_folder
from tests.convert.checkpoints import checkpoint, tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of the released layout, as a folder."""
    from omni2sound.convert.folder import convert

    root = tmp_path_factory.mktemp("released")
    return convert(checkpoint(root / "source", tensors()), root / "model").folder


def conditions() -> Conditions:
    generator = torch.Generator().manual_seed(0)
    return Conditions(
        seconds_start_B=torch.zeros(2),
        seconds_total_B=torch.full((2,), 0.1),
        text_BTE=torch.randn(2, 128, 768, generator=generator),
        text_mask_BT=torch.arange(128).expand(2, -1) < 9,
        vision_BTV=torch.randn(2, 1, 1024, generator=generator),
        sync_BLS=torch.randn(2, 200, 768, generator=generator),
    )


def sound(pipeline: Omni2SoundPipeline) -> torch.Tensor:
    return pipeline.generate_batch(conditions(), duration_s=0.1, seeds=[1, 2], num_steps=2)


def test_parts_that_wait_on_disk_give_the_same_sound(folder: Path) -> None:
    kept = Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="float32")
    waiting = Omni2SoundPipeline.from_pretrained(
        folder, device="cpu", dtype="float32", low_memory=True
    )
    assert torch.equal(sound(waiting), sound(kept))
    assert isinstance(waiting.model.autoencoder, Oobleck)
    for part in (waiting.model.dit, waiting.model.autoencoder):
        assert all(parameter.is_meta for parameter in part.parameters())
    assert torch.equal(sound(waiting), sound(kept))  # and they come again


def test_low_memory_is_half_precision_unless_told_otherwise(folder: Path) -> None:
    pipeline = Omni2SoundPipeline.from_pretrained(folder, device="cpu", low_memory=True)
    assert pipeline.dtype == torch.bfloat16
    with pipeline.offloader.use("dit"):
        assert {p.dtype for p in pipeline.model.dit.parameters()} == {torch.bfloat16}
    assert sound(pipeline).isfinite().all()


def test_one_part_is_in_memory_at_a_time(folder: Path) -> None:
    pipeline = Omni2SoundPipeline.from_pretrained(folder, device="cpu", low_memory=True)
    dit, vae = pipeline.model.dit, pipeline.model.autoencoder
    with pipeline.offloader.use("dit"):
        assert not next(dit.parameters()).is_meta
        assert next(vae.parameters()).is_meta
    with pipeline.offloader.use("autoencoder"):
        assert next(dit.parameters()).is_meta
        assert not next(vae.parameters()).is_meta


def test_an_adapter_is_heard_wherever_the_transformer_comes_from(
    folder: Path, tmp_path: Path
) -> None:
    plain = Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="float32")
    before = sound(plain)
    config = LoraConfig(rank=2)
    add_lora(plain.model.dit, config)
    state = {
        k: v + 0.5 if k.endswith(".up") else v for k, v in plain.model.dit.state_dict().items()
    }
    save_adapter(tmp_path / "adapter", adapter_of(state, config, model_sha256=plain.model.sha256))
    heard = [
        sound(
            Omni2SoundPipeline.from_pretrained(
                folder,
                device="cpu",
                dtype="float32",
                low_memory=low_memory,
                lora=tmp_path / "adapter",
            )
        )
        for low_memory in (False, True)
    ]
    assert torch.equal(heard[0], heard[1])
    assert not torch.allclose(heard[0], before)


def test_the_embedded_model_runs_with_low_memory_too(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "tiny")
    pipeline = Omni2SoundPipeline.from_pretrained(
        folder, device="cpu", dtype="float32", low_memory=True
    )
    usual = Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="float32")
    given = Conditions(seconds_start_B=torch.zeros(1), seconds_total_B=torch.ones(1))
    one, two = (p.generate_batch(given, duration_s=1.0, seeds=[3]) for p in (pipeline, usual))
    assert torch.equal(one, two)
    with pytest.raises(UserError, match="copy its folder"):
        pipeline.save_pretrained(tmp_path / "again")


def test_a_model_that_was_never_saved_cannot_wait_on_disk() -> None:
    with pytest.raises(UserError, match="save it first"):
        Offloader(tiny_model(), torch.device("cpu"), torch.float32, low_memory=True)
