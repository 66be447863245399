"""Each benchmark script starts as its docstring says; none measures when it is asked for help."""

from __future__ import annotations

import ast
import re
import shlex
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


@pytest.mark.slow
@pytest.mark.parametrize("script", [s for s in SCRIPTS if "make" not in _command(s)])
def test_help(script: str) -> None:
    command = [sys.executable, *shlex.split(_command(script))[1:], "--help"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")
