"""Each benchmark script starts as its docstring says; none measures when it is asked for help."""

from __future__ import annotations

import ast
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("benchmarks/**/*.py"))
    if "__main__" in path.read_text(encoding="utf-8")
}
_COMMAND = re.compile(r"^(?:Run: *| *)(python (?:-m )?benchmarks[\w./]*|make test-matrix)", re.M)


def _command(script: str) -> str:
    found = _COMMAND.search(ast.get_docstring(ast.parse(SCRIPTS[script])) or "")
    assert found, f"{script} does not say how it is started"
    return found[1]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_command_names_the_script(script: str) -> None:
    command = _command(script)
    if command != "make test-matrix":
        module = script.removesuffix(".py").replace("/", ".").removesuffix(".__main__")
        # Only `-m` puts the repository on the path, which imports of its other files need.
        tree = ast.walk(ast.parse(SCRIPTS[script]))
        imported = {n.module for n in tree if isinstance(n, ast.ImportFrom) and n.module}
        needs_root = any(name.split(".")[0] in ("benchmarks", "tests") for name in imported)
        allowed = {f"python -m {module}"} | (set() if needs_root else {f"python {script}"})
        assert command in allowed


@pytest.mark.parametrize("script", SCRIPTS)
def test_options_are_parsed_before_anything_is_measured(script: str) -> None:
    assert "ArgumentParser(" in SCRIPTS[script]


# One process asks all of them: each alone would import torch anew.
_ASK_ALL = """
import contextlib, io, json, os, runpy, sys
told, path = {}, list(sys.path)
for script in sys.argv[1:]:
    out, code = io.StringIO(), None
    sys.argv = [script, "--help"]
    sys.path[:] = [os.path.dirname(script), *path]
    with contextlib.redirect_stdout(out):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as done:
            code = done.code or 0
    told[script] = [code, out.getvalue()[:6]]
print(json.dumps(told))
"""


@pytest.mark.slow
def test_help() -> None:
    scripts = [script for script in SCRIPTS if "make" not in _command(script)]
    command = [sys.executable, "-c", _ASK_ALL, *scripts]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {script: [0, "usage:"] for script in scripts}


def test_the_mean_ratio_is_geometric_and_its_interval_of_student() -> None:
    # Four logarithms of mean 0 and deviation 2 / sqrt(3): t of 3 degrees of freedom is 3.1824.
    from benchmarks.speed.paired import mean_ratio

    half = 3.182446 * (2 / 3**0.5) / 2
    expected = (1.0, math.exp(-half), math.exp(half))
    assert mean_ratio([math.e, 1 / math.e] * 2) == pytest.approx(expected)
