"""Audiobox-Aesthetics: the authors' own class at a tiny size with random weights, if it is here."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omni2sound.encoders.metric.aesthetics import AXES, RATE_HZ, Aesthetics
from omni2sound.errors import ConfigError, MissingPartError, ShapeError
from omni2sound.files import save_tensors

SETTINGS: dict[str, Any] = {
    "nth_layer": 3,
    "target_transform": {axis: {"mean": 5.0 + n, "std": 0.5} for n, axis in enumerate(AXES)},
}


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the release's form; the real class, narrow and of two layers."""
    aes = pytest.importorskip("audiobox_aesthetics.model.aes")
    small = {
        "encoder_layers": 2,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 48,
        "encoder_attention_heads": 2,
        "conv_feature_layers": "[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2",
        "conv_pos": 16,
        "conv_pos_groups": 2,
    }
    config = type(aes.DEFAULT_AUDIO_CFG)({**vars(aes.DEFAULT_AUDIO_CFG), **small})
    monkeypatch.setattr(aes, "DEFAULT_AUDIO_CFG", config)
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):  # of an old form of weight norm
        network = aes.AesMultiOutput(**SETTINGS)
    save_tensors(tmp_path / "model.safetensors", network.state_dict())
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def noise(seconds: float) -> Any:
    return np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ)).astype(np.float32)


def test_windows_count_by_what_they_hold(release: Path) -> None:
    network = Aesthetics.load(release)
    sound_N = noise(13)
    whole = network.scores(sound_N)
    first, rest = network.scores(sound_N[: 10 * RATE_HZ]), network.scores(sound_N[10 * RATE_HZ :])
    assert set(whole) == set(AXES)
    for axis, value in whole.items():
        assert value == pytest.approx((10 * first[axis] + 3 * rest[axis]) / 13, abs=1e-4)
    assert first != rest


def test_another_folder_is_refused_in_one_line(release: Path) -> None:
    with pytest.raises(ShapeError, match="16 kHz"):
        Aesthetics.load(release).scores(np.zeros(0, np.float32))
    (release / "config.json").write_text(json.dumps({**SETTINGS, "target_transform": {}}))
    with pytest.raises(ConfigError, match=r"config\.json lacks target_transform of CE"):
        Aesthetics.load(release)
    (release / "config.json").write_text(json.dumps({**SETTINGS, "nth_layer": 5}))
    with pytest.raises(ConfigError, match="the file is not this network"):
        Aesthetics.load(release)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        MissingPartError, match=r"lacks model\.safetensors, config\.json; get it from"
    ):
        Aesthetics.check(tmp_path)
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match="pip install --no-deps audiobox_aesthetics"):
        Aesthetics.check(tmp_path)
