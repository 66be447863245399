"""A model folder is whole, verified and strict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, UserError
from omni2sound.generate.model import load_model
from omni2sound.weights import load_card, load_part, resolve_model, save_model


def saved(tmp_path: Path, module: nn.Module, *, half: bool = False) -> Path:
    folder = tmp_path / "model"
    save_model(
        folder,
        name="test",
        parts={"dit": {"width": 3}},
        tensors={"dit": module.state_dict()},
        defaults={"steps": 2},
        training={},
        attribution="id\tlicence\nbell-1\tCC0-1.0\n",
        half=half,
    )
    return folder


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    module, other = nn.Linear(3, 2), nn.Linear(3, 2)
    card = load_card(saved(tmp_path, module))
    load_part(card, "dit", other)
    torch.testing.assert_close(other.state_dict(), module.state_dict(), rtol=0, atol=0)
    assert card.defaults == {"steps": 2}
    assert card.attribution == "id\tlicence\nbell-1\tCC0-1.0\n"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_half_precision_on_disk_keeps_the_modules_dtype(tmp_path: Path) -> None:
    module, other = nn.Linear(3, 2), nn.Linear(3, 2)
    load_part(load_card(saved(tmp_path, module, half=True)), "dit", other)
    assert other.weight.dtype == torch.float32
    assert torch.equal(other.weight, module.weight.half().float())


def test_a_large_part_lies_in_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omni2sound.weights.MAX_FILE_BYTES", 30)
    module, other = nn.Linear(3, 2), nn.Linear(3, 2)
    card = load_card(saved(tmp_path, module))
    assert sorted(card.files) == ["dit-1", "dit-2"]
    load_part(card, "dit", other)
    torch.testing.assert_close(other.state_dict(), module.state_dict(), rtol=0, atol=0)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    folder = saved(tmp_path, nn.Linear(3, 2))
    path = folder / "dit.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="fetch the model again"):
        load_card(folder)


def test_the_digest_follows_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one = load_card(saved(tmp_path, nn.Linear(3, 2))).sha256
    two = load_card(saved(tmp_path, nn.Linear(3, 2))).sha256
    assert one != two


@pytest.mark.parametrize("other", [nn.Linear(4, 2), nn.Linear(3, 2, bias=False), nn.LSTM(3, 2)])
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, other: nn.Module) -> None:
    card = load_card(saved(tmp_path, nn.Linear(3, 2)))
    with pytest.raises(ConfigError, match=r"bias|weight"):
        load_part(card, "dit", other)


def test_a_card_must_be_whole(tmp_path: Path) -> None:
    folder = saved(tmp_path, nn.Linear(3, 2))
    card = json.loads((folder / "card.json").read_text())
    for change in ({"format": 99}, {"extra": 1}):
        (folder / "card.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(ConfigError, match=r"card\.json"):
            load_card(folder)
    with pytest.raises(ConfigError, match=r"no card\.json"):
        load_card(tmp_path)


def test_names_are_resolved_or_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, nn.Linear(3, 2))
    assert resolve_model(folder) == folder
    with pytest.raises(MissingPartError, match="no model 'nothing'"):
        resolve_model("nothing")
    with pytest.raises(UserError, match="needs a pinned revision"):
        resolve_model("someone/model")
    with pytest.raises(UserError, match="40 hex digits"):
        resolve_model("someone/model@main")


def test_only_models_with_the_component_are_offered() -> None:
    with pytest.raises(MissingPartError, match="give one of embedded, embedded-v3, a model folder"):
        resolve_model("nothing", component="dit")
    with pytest.raises(MissingPartError, match="joint-v1, tagger, a model folder"):
        resolve_model("nothing")


@pytest.mark.parametrize("name", ["tagger", "joint-v1"])
def test_what_generates_no_sound_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"model: model .* generates no sound: it has no dit"):
        load_model(name)


def test_a_folder_that_is_no_model_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is no model folder"):
        saved(tmp_path, nn.Linear(3, 2))
    assert (tmp_path / "model" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["../other", "/etc/x", "a/b", "a\\b", ""])
def test_a_card_names_files_of_its_own_folder_only(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path, nn.Linear(3, 2))
    data = json.loads((folder / "card.json").read_text())
    data["files"][name] = data["files"]["dit"]
    (folder / "card.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="files: expected names of files beside the card"):
        load_card(folder)
