"""`omni2sound convert` as a process: exit codes, one line, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.convert.checkpoints import checkpoint, tensors
from tests.warm.start import warm

pytestmark = pytest.mark.slow


def _run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    command = warm([Path(sys.executable).with_name("omni2sound"), "convert", *argv])
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_converts_and_says_what_is_unverified(tmp_path: Path) -> None:
    done = _run(checkpoint(tmp_path / "source", tensors()), tmp_path / "model")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["direction"] == "in"
    assert any("sync path" in line for line in said["unverified"])
    assert (tmp_path / "model" / "card.json").is_file()


@pytest.mark.parametrize("kind", ["missing", "text"])
def test_what_does_not_fit_is_one_line_and_exit_code_2(tmp_path: Path, kind: str) -> None:
    stored = tensors()
    del stored["model.model.preprocess_conv.weight"]
    source = checkpoint(tmp_path / "source", stored)
    if kind == "text":
        (source / "model.ckpt").write_text("no checkpoint")
    done = _run(source, tmp_path / "model")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    if kind == "missing":
        assert "missing model.model.preprocess_conv.weight" in done.stderr
    assert not (tmp_path / "model").exists()
    assert torch.is_tensor(stored["model.model.postprocess_conv.weight"])
