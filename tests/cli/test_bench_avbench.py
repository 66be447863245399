"""`omni2sound bench avbench` from folders to a table, with a tiny judge."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from omni2sound.bench.metrics.avbench.clips import Networks
from omni2sound.cli.bench.commands import app
from omni2sound.encoders.metric.panns import Cnn14, Panns
from omni2sound.errors import MissingPartError, UserError

pytestmark = pytest.mark.slow


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten short sounds, made and real, and one that is too short to judge."""
    for kind in ("made", "real", "weights"):
        (tmp_path / kind).mkdir()
    rng = np.random.default_rng(0)
    for i in range(11):
        for kind in ("made", "real"):
            samples = rng.normal(0, 0.01 * (i + 1), 1000 if i == 10 else 8000)
            soundfile.write(tmp_path / kind / f"clip{i}.wav", samples, 16_000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judges = Networks(panns=Panns(Cnn14(channels=(2, 2, 2, 2, 2, 4), num_classes=5)))
    monkeypatch.setattr(Networks, "load", lambda folder, device: judges)
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    named = {"--generated": "made", "--reference": "real", "--weights": "weights"}
    return ["avbench", *(str(x) for k, v in named.items() for x in (k, folder / v)), *more]


def test_json_holds_the_scores_and_what_was_left_out(folders: Path) -> None:
    done = CliRunner().invoke(app, arguments(folders, "--device", "cpu", "--json"))
    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    assert [s["name"] for s in report["scores"]] == [
        "FD-PANN",
        "KL-PANNS-softmax",
        "ISC-PANNS-mean",
    ]
    assert all(
        s["protocol"] == "avbench-8s-v1" and s["estimate"]["num_clips"] == 10
        for s in report["scores"]
    )
    assert set(report["dropped"]["generated"]["panns"]) == {"clip10"}


def test_the_table_is_text(folders: Path) -> None:
    done = CliRunner().invoke(app, arguments(folders, "--device", "cpu"))
    assert done.exit_code == 0, done.exception
    assert "KL-PANNS-softmax" in done.stdout
    assert "generated, panns: 1 left out" in done.stdout


def test_bad_folders_are_a_users_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, arguments(tmp_path))
    assert isinstance(done.exception, UserError)
    for kind in ("made", "real", "weights"):
        (tmp_path / kind).mkdir()
        soundfile.write(tmp_path / kind / "a.wav", np.zeros(100), 16_000)
    done = CliRunner().invoke(app, arguments(tmp_path, "--device", "cpu"))
    assert isinstance(done.exception, MissingPartError)
    assert "docs/guides/full-size.md" in str(done.exception)
