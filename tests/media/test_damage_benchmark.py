"""The benchmark of damaged files, on one file of each kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_one_file_of_each_kind_of_damage() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "robustness" / "damaged_media.py"
    done = subprocess.run(
        [sys.executable, script, "--count", "34", "--seed", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "0 violations"
