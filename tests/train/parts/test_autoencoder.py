"""`omni2sound train-part autoencoder --parts MODEL`: a new vocoder, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omni2sound.generate.model import Model, load_model
from omni2sound.models.autoencoder import MelPcaAutoencoder
from omni2sound.models.vocoder import VocoderConfig
from omni2sound.train.parts import vocoder as vae
from omni2sound.train.parts.autoencoder import save_autoencoder
from omni2sound.train.parts.sync import _num_ancestors
from tests.build import TINY, tiny_model

SMALL = VocoderConfig(width=8, depth=1)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    made = tiny_model(config=replace(TINY, autoencoder=replace(TINY.autoencoder, num_bands=16)))
    replace(made, attribution="id\tlicence\nold\tCC0\n").save(tmp_path / "model")
    return load_model(tmp_path / "model")


def retrain(model: Model, out: Path, *, refit: bool) -> None:
    """The command's part after training: the material is noise, the training two steps."""
    assert model.card is not None
    rng = np.random.default_rng(0)
    sounds = [0.2 * rng.standard_normal(8000).astype(np.float32) for _ in range(3)]
    old = model.autoencoder
    assert isinstance(old, MelPcaAutoencoder)
    new = MelPcaAutoencoder(replace(old.config, vocoder=SMALL))
    new.copy_components(old)
    recipe = vae.VocoderRecipe(num_steps=2, batch_size=2, crop_frames=6, precision="float32")
    vae.train_vocoder(new, sounds, sounds, recipe=recipe, out=out, max_minutes=1)
    save_autoencoder(
        out / "model", new, {"steps": 2}, "id\tlicence\nnew\tCC0\n", model.card, refit=refit
    )


def test_a_whole_model_stays_whole(model: Model, tmp_path: Path) -> None:
    retrain(model, tmp_path / "out", refit=False)
    made = load_model(tmp_path / "out" / "model")
    assert (made.name, made.defaults) == (model.name, model.defaults)
    assert made.config.autoencoder.vocoder == SMALL
    for part in ("dit", "sync"):
        for name, tensor in model.tensors()[part].items():
            assert torch.equal(made.tensors()[part][name], tensor), name
    sound_BN = 0.1 * torch.randn(1, 6400, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made.autoencoder.encode(sound_BN), model.autoencoder.encode(sound_BN))
    assert made.training["autoencoder"] == {"steps": 2}
    assert made.training["note"] == "random"
    assert made.attribution.splitlines() == ["id\tlicence", "old\tCC0", "new\tCC0"]


def test_other_latents_take_the_transformer_away(model: Model, tmp_path: Path) -> None:
    retrain(model, tmp_path / "out", refit=True)
    files = {p.stem for p in (tmp_path / "out" / "model").glob("*.safetensors")}
    assert files == {"autoencoder", "sync"}


def test_each_generation_of_a_part_sees_other_scenes() -> None:
    first = {"max_minutes": 3}
    second = {"max_minutes": 3, "parent": first}
    facts = [first, second, {"max_minutes": 3, "parent": second}]
    assert [_num_ancestors(f) for f in facts] == [0, 1, 2]
