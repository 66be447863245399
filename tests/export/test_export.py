"""A tiny model is exported with every part, equals torch, and generates without it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omni2sound.errors import IntegrityError, UserError
from omni2sound.export.folder import NEEDED, TOLERANCE, export_model, relative_difference
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.onnx.folder import read_card
from omni2sound.generate.onnx.pipeline import OnnxPipeline
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.cues import Cue
from tests.build import tiny_model_folder, video_with_square

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED), reason="extra `export`"
    ),
]

FRESH = """
import sys
from omni2sound import Omni2SoundPipeline
pipeline = Omni2SoundPipeline.from_pretrained(sys.argv[1])
pipeline(prompt="a dog barks", seed=1).save(sys.argv[2])
pipeline(video=sys.argv[3], seed=1).save(sys.argv[4])
print([n for n in ("torch", "transformers", "diffusers") if n in sys.modules])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    made = export_model(str(model), folder)
    assert max(made.errors.values()) <= TOLERANCE
    return folder


def test_the_card_names_every_part(exported: Path) -> None:
    card = read_card(exported)
    parts = "prepare denoise level decoder sync text vision detector labeller tagger"
    assert set(card.graphs) == set(parts.split())
    assert {f"{name}.onnx" for name in card.graphs} <= {p.name for p in exported.iterdir()}


def test_both_engines_give_one_sound(model: Path, exported: Path, tmp_path: Path) -> None:
    video = video_with_square(tmp_path / "square.mp4", duration_s=2.5)
    light = OnnxPipeline.load(exported)
    heavy = TorchPipeline.load(model, device="cpu", dtype="float32")
    cue = Cue(start_s=0.5, end_s=1.0, text="a dog barks")
    for request in (
        GenerationRequest(prompt="rain", seed=5, negative_prompt="wind"),
        GenerationRequest(prompt="rain", duration_s=3.3),  # beyond the native window
        GenerationRequest(cues=(cue,), duration_s=1.5),
        GenerationRequest(video=video, sample_rate_hz=22_050),
        GenerationRequest(video=video, prompt="rain", text_guidance_scale=4.0),
    ):
        found, expected = next(light.run(request)), next(heavy.run(request))
        difference = relative_difference(found.audio.samples_CN, expected.audio.samples_CN)
        assert difference <= TOLERANCE
        assert found.facts() == expected.facts()


def test_a_pipeline_for_one_request_gives_the_same(exported: Path, tmp_path: Path) -> None:
    video = video_with_square(tmp_path / "square.mp4", duration_s=1.0)
    request = GenerationRequest(video=video, prompt="rain", takes=2)
    for once, kept in zip(
        *(OnnxPipeline.load(exported, once=x).run(request) for x in (True, False)), strict=True
    ):
        np.testing.assert_array_equal(once.audio.samples_CN, kept.audio.samples_CN)


def test_a_fresh_process_generates_without_torch(exported: Path, tmp_path: Path) -> None:
    video = video_with_square(tmp_path / "square.mp4", duration_s=1.0)
    arguments = [exported, tmp_path / "a.wav", video, tmp_path / "b.mp4"]
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"
    assert json.loads((tmp_path / "a.wav.json").read_text())["model"] == "tiny"


@pytest.mark.parametrize("name", ["denoise.onnx", "decoder.data"])
def test_a_changed_graph_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in exported.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / name).write_bytes(b"no graph")
    with pytest.raises(IntegrityError, match="export the model again"):
        PipelineOptions(model=copy).load()


def test_an_exported_model_is_not_saved_as_weights(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="copy its folder"):
        OnnxPipeline.load(exported).save_pretrained(tmp_path / "m")


def test_differences_are_relative_and_never_hide_nan() -> None:
    ones = np.ones(3, np.float32)
    assert relative_difference(ones * 1.5, ones) == pytest.approx(0.5)
    assert relative_difference(ones * np.nan, ones) == float("inf")
    assert relative_difference(ones[:2], ones) == float("inf")
