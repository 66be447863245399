"""Checkpoints of the released layout: in, back bit for bit, and everything that is refused."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.parity._table import randomise
from omni2sound.convert.folder import convert
from omni2sound.convert.names import oobleck_links, to_released
from omni2sound.convert.settings import read_settings
from omni2sound.convert.written import write_settings
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.errors import ConfigError, MissingPartError, UserError
from omni2sound.generate.model import load_model
from omni2sound.models.oobleck import Oobleck, OobleckConfig
from omni2sound.models.released import ReleasedConditionerConfig
from tests.convert.checkpoints import TINY, checkpoint, tensors


def test_a_checkpoint_and_back_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    stored = tensors()
    source = checkpoint(tmp_path / "source", stored)
    done = convert(source, tmp_path / "model")
    assert done.num_tensors == len(stored)
    back = convert(tmp_path / "model", tmp_path / "back")
    again = load_file(back.folder / "model.safetensors")
    assert set(again) == set(stored)
    for name, tensor in stored.items():
        assert again[name].dtype == tensor.dtype, name
        assert torch.equal(again[name], tensor), name
    settings = json.loads((back.folder / "model_config.json").read_text())
    assert read_settings(settings).config == TINY


def test_the_model_that_comes_out_computes_with_these_weights(tmp_path: Path) -> None:
    stored = tensors()
    model = load_model(convert(checkpoint(tmp_path / "s", stored), tmp_path / "model").folder)
    assert model.config == TINY
    weight = model.dit.get_submodule("blocks.1.self_attention.qkv").weight
    assert torch.equal(weight, stored["model.model.transformer.layers.1.self_attn.to_qkv.weight"])
    assert model.defaults.steps == 100
    assert model.defaults.guidance == 2.5
    assert model.sync is None
    assert "sync path" in str(model.training["source"]["unverified"])


@pytest.mark.parametrize("constants", [torch.bfloat16, torch.float32])
def test_half_precision_comes_back_as_it_was(tmp_path: Path, constants: torch.dtype) -> None:
    stored = {k: v.bfloat16() for k, v in tensors().items()}
    name = "model.model.transformer.rotary_pos_emb.inv_freq"
    stored[name] = tensors()[name].to(constants)
    convert(checkpoint(tmp_path / "source", stored), tmp_path / "model")
    again = load_file(convert(tmp_path / "model", tmp_path / "b").folder / "model.safetensors")
    for name, tensor in stored.items():
        assert again[name].dtype == tensor.dtype, name
        assert torch.equal(again[name], tensor), name


WRONG = {
    "missing": lambda t: t.pop("model.model.transformer.layers.1.ff.ff.2.bias"),
    "left over": lambda t: t.update({"model.model.transformer.extra.weight": torch.ones(2)}),
    "expected": lambda t: t.update({"pretransform.model.encoder.layers.0.bias": torch.ones(5)}),
    "does not hold the expected values: zeros": lambda t: t[
        "model.model.transformer.layers.0.pre_norm.beta"
    ].fill_(0.5),
    "the frequencies of rotary positions": lambda t: t[
        "model.model.transformer.rotary_pos_emb.inv_freq"
    ].mul_(2),
}


@pytest.mark.parametrize("said", WRONG)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_written(
    tmp_path: Path, said: str
) -> None:
    stored = tensors()
    before = {k: v.clone() for k, v in stored.items()}
    WRONG[said](stored)
    (changed,) = [
        k
        for k in {*stored, *before}
        if k not in stored
        or k not in before
        or stored[k].shape != before[k].shape
        or not torch.equal(stored[k], before[k])
    ]
    source = checkpoint(tmp_path / "source", stored)
    with pytest.raises(ConfigError) as error:
        convert(source, tmp_path / "model")
    assert said in str(error.value)
    assert changed in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    stored = tensors()
    for change in WRONG.values():
        change(stored)
    with pytest.raises(ConfigError) as error:
        convert(checkpoint(tmp_path / "source", stored), tmp_path / "model")
    for said in WRONG:
        assert said in str(error.value)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_with_code_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    source = checkpoint(tmp_path / "source", tensors())
    if legacy:
        (source / "model.ckpt").write_bytes(pickle.dumps({"state_dict": _Code()}))
    else:
        torch.save({"state_dict": {}, "callback": _Code()}, source / "model.ckpt")
    with pytest.raises(UserError, match="never run"):
        convert(source, tmp_path / "model")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "model").exists()


def training_checkpoint() -> dict[str, Tensor]:
    """As the family's trainer saves it: the network twice, one of them compiled."""
    stored = {}
    for name, value in tensors().items():
        if name.startswith("model."):
            inner = name.removeprefix("model.")
            stored[f"diffusion.model._orig_mod.{inner}"] = value
            stored[f"diffusion_ema.ema_model.{inner}"] = value + 1 if value.any() else value
        else:
            stored[f"diffusion.{name}"] = value
    # Rotary frequencies are no weights, and are the same in both.
    name = "model.transformer.rotary_pos_emb.inv_freq"
    stored[f"diffusion_ema.ema_model.{name}"] = stored[f"diffusion.model._orig_mod.{name}"]
    stored["diffusion_ema.step"] = torch.tensor(3)
    return stored


def test_a_training_checkpoint_asks_which_weights(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source", training_checkpoint())
    with pytest.raises(UserError, match="choose `weights`"):
        convert(source, tmp_path / "model")
    name = "pre.weight"
    trained = convert(source, tmp_path / "trained", weights="trained")
    average = convert(source, tmp_path / "average", weights="average")
    one, two = (load_model(done.folder).dit.state_dict()[name] for done in (trained, average))
    torch.testing.assert_close(one + 1, two)
    assert trained.set_aside > 0
    assert average.set_aside > 0


def test_an_autoencoder_alone_in_both_namings(tmp_path: Path) -> None:
    config = OobleckConfig(channels=4, multiples=(1, 2), strides=(2, 4), latent_dim=2)
    vae = Oobleck(config)
    randomise(vae, seed=2)
    sat, hub = tmp_path / "sat", tmp_path / "diffusers"
    for folder in (sat, hub):
        folder.mkdir()
    data = write_settings(TINY)["model"]["pretransform"]["config"]
    top = {"model_type": "autoencoder", "sample_rate": 16000, "audio_channels": 1, "model": data}
    (sat / "model_config.json").write_text(json.dumps(top))
    links = oobleck_links(config, naming="stable-audio-tools", prefix="autoencoder.")
    torch.save({"state_dict": to_released(vae.state_dict(), links)}, sat / "vae.ckpt")
    described = {
        "_class_name": "AutoencoderOobleck",
        "encoder_hidden_size": 4,
        "decoder_channels": 4,
        "decoder_input_channels": 2,
        "channel_multiples": [1, 2],
        "downsampling_ratios": [2, 4],
        "audio_channels": 1,
        "sampling_rate": 16000,
    }
    (hub / "config.json").write_text(json.dumps(described))
    links = oobleck_links(config, naming="diffusers")
    save_file(to_released(vae.state_dict(), links), hub / "diffusion_pytorch_model.safetensors")
    for source in (sat, hub):
        target = tmp_path / f"{source.name}-model"
        convert(source, target)
        found = load_file(target / "autoencoder.safetensors")
        for name, tensor in vae.state_dict().items():
            assert torch.equal(found[name], tensor), name


def test_what_stands_in_the_way_is_said(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source", tensors())
    with pytest.raises(UserError, match="exists"):
        convert(source, source)
    with pytest.raises(MissingPartError, match="does not exist"):
        convert(tmp_path / "nothing", tmp_path / "model")
    torch.save({}, source / "second.ckpt")
    with pytest.raises(MissingPartError, match=r"found model\.ckpt, second\.ckpt"):
        convert(source, tmp_path / "model")
    (source / "model_config.json").unlink()
    with pytest.raises(MissingPartError, match=r"model_config\.json lies neither"):
        convert(source / "model.ckpt", tmp_path / "model")


def test_a_model_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source", tensors())
    path = source / "model_config.json"
    text, found = re.subn(r'("max_duration": )[\d.]+', rf"\g<1>{2**62}", path.read_text())
    assert found
    path.write_text(text)
    with pytest.raises(ConfigError, match="model_config"):
        convert(source, tmp_path / "model")


CHANGES = [
    ("model_type", "diffusion_uncond"),
    ("audio_channels", 2),
    ("surprise", 1),
    ("model.diffusion.config.global_cond_type", "adaLN"),
    ("model.diffusion.config.attn_kwargs", {"qk_norm": "ln"}),
    ("model.diffusion.config.num_heads", 2),
    ("model.diffusion.config.depth", "deep"),
    ("model.diffusion.global_cond_ids", ["seconds_total", "seconds_start"]),
    ("model.diffusion.prepend_cond_ids", ["audio_prompt"]),
    ("model.pretransform.config.decoder.config.final_tanh", True),
    ("model.pretransform.config.bottleneck.type", "rvq"),
    ("model.conditioning.cond_dim", 16),
]


@pytest.mark.parametrize(("path", "value"), CHANGES, ids=[path for path, _ in CHANGES])
def test_settings_of_another_network_are_refused_by_name(path: str, value: object) -> None:
    data = write_settings(TINY)
    node: Any = data
    *parents, last = path.split(".")
    for key in parents:
        node = node[key]
    node[last] = value
    with pytest.raises(ConfigError, match=r"model_config\.json"):
        read_settings(data)


def test_a_text_encoder_that_is_not_named_is_not_guessed() -> None:
    data = write_settings(TINY)
    (text,) = (c for c in data["model"]["conditioning"]["configs"] if c["type"] == "t5")
    del text["config"]["t5_model_name"]
    with pytest.raises(ConfigError, match="has no 't5_model_name'"):
        read_settings(data)
    text["config"]["t5_model_name"] = "t5-base"
    with pytest.raises(ConfigError, match="is 't5-base'; this layout knows 'google/flan-t5-base'"):
        read_settings(data)


@pytest.mark.parametrize("name", ["seconds_start", "seconds_total"])
def test_seconds_of_different_ranges_are_refused(name: str) -> None:
    data = write_settings(TINY)
    (one,) = (c for c in data["model"]["conditioning"]["configs"] if c["id"] == name)
    one["config"]["max_val"] += 1
    with pytest.raises(ConfigError, match="max_val differs between the seconds"):
        read_settings(data)


@settings(max_examples=25)
@given(
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["v", "rectified"]),
)
def test_settings_that_are_written_are_read_as_the_same_model(
    depth: int, pictures: bool, motion: bool, learned: bool, objective: Any
) -> None:
    conditioner = ReleasedConditionerConfig(
        vision_dim=1024 if pictures else 0,
        sync_dim=768 if motion else 0,
        token_dim=8,
        max_pictures=16 if pictures else 80,
        learned_absence=learned and (pictures or motion),
    )
    config = replace(
        TINY,
        dit=replace(TINY.dit, depth=depth, conditioner=conditioner),
        objective=Objective(kind=objective),
        sampler=TINY.sampler if objective == "v" else SamplerConfig(kind="euler"),
    )
    assert read_settings(json.loads(json.dumps(write_settings(config)))).config == config
