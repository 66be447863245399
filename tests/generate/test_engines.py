"""Choice of the engine: what is asked, what is there, and what is said where it is not."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omni2sound.config import from_json, to_json
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, UserError
from omni2sound.files import write_json
from omni2sound.generate import finish
from omni2sound.generate import load as loading
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.onnx.folder import (
    CARD,
    FORMAT,
    GRAPHS,
    TOKENIZER,
    ExportCard,
    default_folder,
    read_card,
)
from omni2sound.generate.onnx.pipeline import OnnxPipeline
from omni2sound.generate.request import Defaults
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.models import band
from omni2sound.timebase import TimeBase
from omni2sound.weights import load_card
from tests.build import tiny_model_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMNI2SOUND_CACHE", str(tmp_path / "cache"))
    return tiny_model_folder(tmp_path / "model")


def test_without_an_export_auto_is_torch(folder: Path) -> None:
    assert isinstance(PipelineOptions(model=folder, device="cpu").load(), TorchPipeline)


def test_onnx_without_an_export_says_how_to_make_one(folder: Path) -> None:
    with pytest.raises(MissingPartError, match="run: omni2sound export"):
        PipelineOptions(model=folder, engine="onnx").load()


def test_an_export_without_the_runtime_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = default_folder(load_card(folder).sha256)
    exported.mkdir(parents=True)
    write_json(exported / CARD, {})
    monkeypatch.setattr(loading, "has_runtime", lambda: False)
    with pytest.raises(MissingPartError, match="pip install onnxruntime"):
        PipelineOptions(model=folder, engine="onnx").load()
    assert isinstance(PipelineOptions(model=folder, device="cpu").load(), TorchPipeline)


@pytest.mark.parametrize(
    ("field", "value"), [("device", "cuda"), ("dtype", "bfloat16"), ("low_memory", True)]
)
def test_onnx_refuses_what_only_torch_can(folder: Path, field: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        PipelineOptions(model=folder, engine="onnx", **{field: value}).load()
    assert caught.value.field in (field, "dtype")


def test_an_unknown_engine_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="auto, onnx, torch"):
        PipelineOptions(model=folder, engine="tensorflow")  # type: ignore[arg-type]


def test_torch_refuses_an_exported_folder(tmp_path: Path) -> None:
    write_json(tmp_path / CARD, {})
    with pytest.raises(UserError, match="is exported"):
        PipelineOptions(model=tmp_path, engine="torch").load()


def _export_card(folder: Path) -> dict[str, Any]:
    """The card of an export without graphs: nothing is computed here."""
    model = load_card(folder)
    card = ExportCard(
        format=FORMAT,
        name=model.name,
        sha256=model.sha256,
        precision="float32",
        opset=20,
        versions={"graphs": GRAPHS},
        timebase=TimeBase(),
        sampler=SamplerConfig(),
        defaults=from_json(Defaults, model.defaults, where="defaults"),
        sample_rate_hz=16_000,
        latent_dim=8,
        goes_on=False,
        silence=(0.0,) * 8,
        text={"dim": 4, "max_tokens": 8, "near": 0.5, "same": 0.9},
        vision={"dim": 4, "height_px": 8, "width_px": 8},
        sync={"dim": 4, "side_px": 8, "fps": 25},
        tags=(),
        graphs={},
        files={TOKENIZER: hashlib.sha256(b"whole").hexdigest()},
    )
    data = to_json(card)
    assert isinstance(data, dict)
    return data


def test_an_export_that_stands_no_longer_for_its_model_is_left_and_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = _export_card(folder)
    exported = default_folder(whole["sha256"])
    exported.mkdir(parents=True)
    options = PipelineOptions(model=folder, device="cpu")
    monkeypatch.setattr(loading, "has_runtime", lambda: True)
    monkeypatch.setattr(PipelineOptions, "load_torch", lambda self: "torch")

    def write(card: dict[str, Any], tokenizer: str = "whole") -> None:
        write_json(exported / CARD, card)
        (exported / TOKENIZER).write_text(tokenizer)

    write(whole)
    assert isinstance(options.load(once=True), OnnxPipeline)
    assert not caplog.records
    for changed in (
        {"format": FORMAT + 1},
        {"versions": {}},  # from before graphs had a version
        {"versions": {"graphs": f"not {GRAPHS}"}},
        {"defaults": {**whole["defaults"], "guidance": 4.5}},
        {"files": {TOKENIZER: "0" * 64}},
        {"graphs": None},
        {},  # the damage is in a file
    ):
        write(whole | changed, "whole" if changed else "who")
        caplog.clear()
        assert options.load(once=True) == "torch"
        (record,) = caplog.records
        assert record.getMessage().count(f"run: omni2sound export {folder}") == 1
        with pytest.raises((ConfigError, IntegrityError)):
            PipelineOptions(model=folder, engine="onnx").load(once=True)
        assert options.identity().sha256 == whole["sha256"]


def test_what_needs_torch_refuses_an_exported_folder(tmp_path: Path) -> None:
    write_json(tmp_path / CARD, {})
    with pytest.raises(UserError, match="is exported, and this needs torch"):
        PipelineOptions(model=tmp_path).load_torch()


def test_a_card_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"has no {CARD}"):
        read_card(tmp_path)
    write_json(tmp_path / CARD, {"format": 2})
    with pytest.raises(ConfigError, match="export the model again"):
        read_card(tmp_path)


def test_the_engine_is_imported_without_torch() -> None:
    code = (
        "import sys, omni2sound.cli.main, omni2sound.generate.onnx.pipeline\n"
        "print([n for n in ('torch', 'transformers', 'diffusers', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_frames_of_the_added_band_are_those_of_its_network() -> None:
    assert finish.RATE_HZ == band.RATE_HZ
    assert finish.HOP_SAMPLES == band.HOP_SAMPLES
    assert finish.LOW_HOP_SAMPLES == band.LOW_HOP_SAMPLES


def test_torch_without_what_it_needs_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "diffusers" else find(name)
    )
    said = r'^this needs diffusers, too; run: pip install "omni2sound\[torch\]"$'
    with pytest.raises(MissingPartError, match=said):
        PipelineOptions(model=folder, engine="torch").load()


def test_without_torch_a_command_says_what_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "has_torch", lambda: False)
    with pytest.raises(MissingPartError, match=r'run: pip install "omni2sound\[torch\]"$'):
        PipelineOptions(model=folder).load()
    with pytest.raises(MissingPartError, match="networks are missing; run: omni2sound setup"):
        PipelineOptions().load()
    with pytest.raises(MissingPartError, match="omni2sound setup"):
        PipelineOptions(engine="onnx").load()
