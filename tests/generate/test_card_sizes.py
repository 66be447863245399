"""A card whose numbers are far above any model is refused before anything is built by them."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from omni2sound.errors import ConfigError
from omni2sound.generate.model import load_model
from omni2sound.generate.request import Defaults
from tests.build import tiny_model_folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


def _with(folder: Path, target: Path, path: str, value: Any) -> Path:
    """A copy of a model folder with one number of its card replaced."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    card = json.loads((target / "card.json").read_text())
    node = card
    *steps, last = path.split(".")
    for step in steps:
        node = node[step]
    assert last in node, f"{last} not in {sorted(node)}"
    node[last] = value
    (target / "card.json").write_text(json.dumps(card))
    return target


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("defaults.steps", 10**9),
        ("defaults.steps", 0),
        ("defaults.guidance", 1e300),
        ("defaults.duration_s", 1e9),
        ("defaults.max_duration_s", -1),
        ("parts.dit.depth", 10**9),
        ("parts.dit.width", 2**40),
        ("parts.sync.channels", [8] * 10**5),
        ("parts.sync.channels", [10**9, 8]),
        ("parts.autoencoder.num_bands", 10**6),
        ("parts.autoencoder.window_samples", 10**9),
        ("parts.autoencoder.sample_rate_hz", 10**12),
        ("parts.sync.channels", [60_000, 60_000]),
    ],
)
def test_a_number_beyond_any_model_is_refused_in_one_line(
    tiny: Path, tmp_path: Path, path: str, value: Any
) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError) as caught:
        load_model(_with(tiny, tmp_path / "model", path, value))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown_kb < 300_000


def test_the_ranges_of_a_request_are_those_of_a_card() -> None:
    Defaults(steps=1000, guidance=100, duration_s=3600, max_duration_s=0.001)
    for name, value in {"steps": 1001, "guidance": float("nan"), "duration_s": 3601}.items():
        with pytest.raises(ConfigError, match=name):
            Defaults(**{name: value})
