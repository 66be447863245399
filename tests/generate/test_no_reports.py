"""ONNX Runtime has telemetry of its own, in native code that no guard on sockets sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from omni2sound.generate.onnx.folder import NO_REPORTS, has_runtime

pytestmark = pytest.mark.skipif(not has_runtime(), reason="needs onnxruntime")
# It is silent by itself where these name a test or a build.
SILENT = {NO_REPORTS, "ORT_RUNNING_UNIT_TESTS", "CI", "TF_BUILD", "GITHUB_ACTIONS"}


def _started(home: Path, statement: str) -> list[Path]:
    environ = {k: v for k, v in os.environ.items() if k not in SILENT}
    environ |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    subprocess.run([sys.executable, "-c", statement], env=environ, check=True, timeout=60)
    return list(home.rglob("*"))


def test_the_runtime_writes_no_reports(tmp_path: Path) -> None:
    ours = "from omni2sound.generate.onnx.folder import import_runtime; import_runtime()"
    assert not _started(tmp_path, ours)


def test_the_command_line_turns_them_off_before_any_library_is_loaded(tmp_path: Path) -> None:
    ours = "from omni2sound.cli.main import _quieten_libraries; _quieten_libraries()"
    assert not _started(tmp_path, f"{ours}; import onnxruntime")
