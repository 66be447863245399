"""`omni2sound train` and `cost` from the shell: refusals, and where a model came from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.robustness.click_corpus import click_clip, click_store
from omni2sound.cli.train.cost import cost
from omni2sound.config import from_json
from omni2sound.data.store.index import describe_store
from omni2sound.data.store.rows import write_shard
from omni2sound.errors import ConfigError, UserError
from omni2sound.generate.model import PipelineConfig
from omni2sound.models import registry
from omni2sound.models.autoencoder import AudioVAE
from omni2sound.models.dit import DiT
from omni2sound.plugins import Registry
from omni2sound.recipes.tiny import tiny
from omni2sound.staging import alone_in
from omni2sound.train.cost import recipe_cost
from omni2sound.train.session import (
    RunRequest,
    _habits,
    _start_from,
    load_components,
    train_recipe,
)
from omni2sound.weights import load_card, resolve_model
from tests.build import TINY, tiny_model
from tests.cli.training import command

ROOT = Path(__file__).parents[2]
BUILT_IN = dict(registry.AUTOENCODERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainConfig:
    kind: str = "plain"
    sample_rate_hz: int = 16_000
    hop_samples: int = 640
    latent_dim: int = 64


class Plain(AudioVAE):
    """An autoencoder of another kind than mel-pca."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("scale_C", torch.ones(config.latent_dim))


@pytest.mark.parametrize(
    ("recipe", "millions", "clip_s"),
    [("tiny", "1.9 M", 4.0), pytest.param("paper", "1,1", 10.0, marks=pytest.mark.slow)],
)
def test_the_cost_of_a_recipe(
    capsys: pytest.CaptureFixture[str], recipe: str, millions: str, clip_s: float
) -> None:
    cost(recipe=recipe, on="h100", devices=8, clip_s=clip_s)
    table = capsys.readouterr().out
    assert table.startswith(f"{recipe}: {millions}")
    for entry in ("memory per device", "operations per step", "VT2A", "2-interleaved", "8 x h100"):
        assert entry in table


def test_the_cost_on_an_unknown_device_is_refused() -> None:
    with pytest.raises(UserError, match="known: a100"):
        cost(recipe="tiny", on="abacus")


def test_a_model_names_its_parent_also_after_a_resume(tmp_path: Path) -> None:
    click_store(tmp_path / "features")
    command(tmp_path / "first")
    parent = load_card(tmp_path / "first" / "model")
    assert parent.training["dit"]["parent_sha256"] is None
    assert parent.defaults["stereo"]  # as the parts' model
    assert not parent.defaults["recognise"]  # which names kinds of the scene catalogue
    command(tmp_path / "second", init_from=str(tmp_path / "first" / "model"), max_steps=1)
    command(tmp_path / "second", resume=True)
    child = load_card(tmp_path / "second" / "model").training["dit"]
    assert child["parent_sha256"] == parent.sha256
    assert child["steps"] == 2
    assert child["finished"]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    click_store(tmp_path / "features")
    (tmp_path / "run").mkdir()
    with alone_in(tmp_path / "run"), pytest.raises(UserError, match="another process is writing"):
        command(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_without_validation_features_it_is_said_once_and_in_the_card(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    click_store(tmp_path / "features")
    command(tmp_path / "run")
    assert sum("no validation features" in message for message in caplog.messages) == 1
    training = load_card(tmp_path / "run" / "model").training["dit"]
    assert training["validation"] == "no validation features"
    assert training["stage_converged"] == {}
    caplog.clear()
    command(tmp_path / "judged", validation=tmp_path / "features")
    assert not any("no validation features" in message for message in caplog.messages)
    training = load_card(tmp_path / "judged" / "model").training["dit"]
    assert training["validation"] == [{"made": "in code"}]
    assert set(training["stage_converged"]) == {"1-pretraining"}


def test_another_autoencoder_is_refused_on_resume(tmp_path: Path) -> None:
    click_store(tmp_path / "features")
    command(tmp_path / "run", max_steps=1)
    parts = tmp_path / "parts"
    shipped = resolve_model("embedded")
    parts.mkdir()
    for path in shipped.iterdir():
        if path.is_file():
            (parts / path.name).write_bytes(path.read_bytes())
    card = json.loads((parts / "card.json").read_text())
    from safetensors.torch import load_file, save_file

    from omni2sound.weights import _sha256

    tensors = load_file(parts / "autoencoder.safetensors")
    save_file({k: v * 1.01 for k, v in tensors.items()}, parts / "autoencoder.safetensors")
    card["files"]["autoencoder"] = _sha256(parts / "autoencoder.safetensors")
    (parts / "card.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="vae_sha256: was"):
        command(tmp_path / "run", resume=True, parts=str(parts))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"allow_change": ["seed"]}, "expected some of lr, data, accumulate, compile, got 'seed'"),
        ({"max_minutes": 0.0}, "max_minutes: expected a number above 0, got 0.0"),
        ({"set_": ["lr"]}, "set_: expected NAME=VALUE"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, object], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        command(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("recipe", "tiny", "expected a recipe, got 'tiny'"),
        ("data", "features", "expected a list of folders, got 'features'"),
        ("data", [3], "expected a path, got 3"),
        ("data", [], "is empty"),
        ("data", None, "expected a list of folders"),
        ("out", None, "expected a path, got None"),
        ("validation", 3, "expected a path, got 3"),
        ("encoders", 3, "expected a path"),
        ("parts", None, "expected a path"),
        ("init_from", 3, "expected a path"),
        ("lora", -1, "expected a whole number from 1, got -1"),
        ("lora", 0, "expected a whole number from 1"),
        ("lora", 2, "an adapter is trained on an existing model"),
        ("max_steps", -3, "expected a whole number from 1, got -3"),
        ("max_steps", 2.5, "expected a whole number from 1, got 2.5"),
        ("max_minutes", float("nan"), "expected a number above 0, got nan"),
        ("max_minutes", "5", "expected a number above 0, got '5'"),
        ("resume", "no", "expected True or False"),
        ("device", None, "expected a text"),
    ],
)
def test_a_request_names_the_field_at_fault(field: str, value: object, reason: str) -> None:
    fields: dict[str, object] = {"recipe": tiny(), "data": ["features"], "out": "run"}
    with pytest.raises(UserError, match=f"^{field}: {re.escape(reason)}") as error:
        RunRequest(**(fields | {field: value}))  # type: ignore[arg-type]
    assert error.value.field == field


def test_a_request_holds_paths_and_plain_numbers() -> None:
    request = RunRequest(
        recipe=tiny(),
        data=["features"],  # type: ignore[list-item]
        out="run",  # type: ignore[arg-type]
        max_steps=np.int64(3),  # type: ignore[arg-type]
        max_minutes=2,
    )
    assert request.data == (Path("features"),)
    assert request.out == Path("run")
    assert type(request.max_steps) is int
    assert type(request.max_minutes) is float


def test_parts_without_an_autoencoder_are_refused(tmp_path: Path) -> None:
    request = RunRequest(recipe=tiny(), data=[tmp_path], out=tmp_path / "run", parts="tagger")
    with pytest.raises(UserError, match=r"parts: model 'tagger' .* no autoencoder"):
        train_recipe(request)


def test_a_run_is_not_overwritten_and_refused_first(tmp_path: Path) -> None:
    (tmp_path / "run" / "step-00000004").mkdir(parents=True)
    (tmp_path / "run" / "step-00000004" / "state.json").write_text("{}")
    request = RunRequest(recipe=tiny(), data=[tmp_path / "no"], out=tmp_path / "run", parts="no")
    with pytest.raises(ConfigError, match=r"holds a run .*set `resume`, or give another folder"):
        train_recipe(request)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"width": 0}, "width"),
        ({"depth": 1_000_000}, "depth"),
        ({"num_heads": 0}, "num_heads"),
        ({"latent_dim": -1}, "latent_dim"),
        ({"feed_forward_expansion": 10**9}, "feed_forward_expansion"),
    ],
)
def test_sizes_without_bounds_are_refused(change: dict[str, int], field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}: expected 1 to"):
        replace(tiny().dit, **change)


@pytest.mark.parametrize("clip_s", [1e300, 0.0, -1.0, float("nan")])
def test_the_cost_of_odd_clips_is_refused(clip_s: float) -> None:
    with pytest.raises(UserError, match=r"clip_s: expected 0\.1 to 3600"):
        recipe_cost(tiny(), clip_s=clip_s, num_devices=1)


def test_a_model_of_another_latent_space_is_not_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal shapes say nothing: only equal autoencoders have one latent space."""
    click_store(tmp_path / "features")
    small = TINY.dit
    monkeypatch.setattr(registry, "AUTOENCODERS", Registry("autoencoder", {}))
    spec = registry.AutoencoderSpec(config=PlainConfig, build=Plain)
    for name, entry in (*BUILT_IN.items(), ("plain", spec)):
        registry.AUTOENCODERS.register(name, entry)
    parent = tiny_model()
    parent.save(tmp_path / "mel", half=False)
    for name, scale in (("plain", 1.0), ("louder", 2.0)):
        plain = PlainConfig(latent_dim=small.latent_dim)
        autoencoder = Plain(plain)
        autoencoder.scale_C.fill_(scale)
        config = replace(parent.config, autoencoder=plain)
        replace(parent, config=config, autoencoder=autoencoder).save(tmp_path / name, half=False)
    cards = {name: load_card(tmp_path / name) for name in ("mel", "plain", "louder")}

    def start(parent: str, parts: str) -> DiT:
        config = from_json(PipelineConfig, cards[parts].parts)
        model = DiT(config.dit)
        _start_from(cards[parent], model, load_components(cards[parts], tiny(), config))
        return model

    for of, parts in (("mel", "plain"), ("plain", "mel"), ("plain", "louder")):
        with pytest.raises(ConfigError, match=r"init_from: .* another autoencoder"):
            start(of, parts)
    for name in cards:
        for key, value in start(name, name).state_dict().items():
            assert torch.equal(value, parent.dit.state_dict()[key])


def test_a_card_holds_just_the_recipe_that_its_digest_names(tmp_path: Path) -> None:
    click_store(tmp_path / "features")
    command(tmp_path / "run", max_steps=1)
    trained = load_card(tmp_path / "run" / "model").training["dit"]
    assert sha256_of(trained["recipe"]) == trained["recipe_sha256"]


def test_the_shipped_card_holds_the_recipe_that_its_digest_names() -> None:
    """Made when cards also held what changes no result; those fields are left out here."""
    trained = load_card(resolve_model("embedded")).training["dit"]
    runtime = ("validate_every", "activation_checkpointing", "sample_every")
    recipe = {k: v for k, v in trained["recipe"].items() if k not in runtime}
    assert sha256_of(recipe) == trained["recipe_sha256"]


def sha256_of(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize(
    ("description", "which"),
    [
        ({"text": "flan-t5-base"}, "text"),
        ({"vision": "dfn5b-clip-vit-h-14-384"}, "vision"),
        ({"sync": "synchformer"}, "sync"),
        ({"sync_sha256": "0" * 64}, "sync"),
    ],
)
def test_features_of_other_encoders_are_refused(
    tmp_path: Path, description: dict[str, str], which: str
) -> None:
    features = tmp_path / "features"
    describe_store(features, description)
    write_shard(features / "shard.arrow", [click_clip(0, video=True)])
    with pytest.raises(ConfigError, match=f"made with another {which} encoder"):
        command(tmp_path / "run")


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.cli.training import command
command(Path({out!r}))
"""


@pytest.mark.slow
def test_training_needs_few_packages(tmp_path: Path) -> None:
    click_store(tmp_path / "features")
    blocked = {
        "pydantic",
        "datasets",
        "diffusers",
        "av",
        "soundfile",
        "soxr",
        "transformers",
        "scipy",
    }
    code = BLOCKED.format(blocked=blocked, root=str(ROOT), out=str(tmp_path / "run"))
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": source},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "card.json").is_file()


def test_a_model_of_scenes_recognises_as_its_parts_do() -> None:
    scenes, clips = {"catalogue_sha256": "0"}, {"made": "in code"}
    parts = {"steps": 8, "recognise": True, "stereo": True}
    assert _habits(parts, [scenes]) == {"recognise": True, "stereo": True}
    assert _habits(parts, [scenes, clips]) == {"recognise": False, "stereo": True}
    assert _habits({}, [scenes]) == {"recognise": False, "stereo": False}
