"""The order of the modules, the public names, and what a start of the command line may import."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import networkx
import pytest

import omni2sound

ROOT = Path(__file__).parents[1]

PUBLIC = [
    "Audio",
    "ConfigError",
    "GenerationRequest",
    "GenerationResult",
    "IntegrityError",
    "MediaError",
    "MissingPartError",
    "Omni2SoundError",
    "Omni2SoundPipeline",
    "ShapeError",
    "TimeBase",
    "UserError",
    "__version__",
]


def test_modules_import_downwards_only() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("omni2sound", exclude_type_checking_imports=True, cache_dir=None)
    imports = networkx.DiGraph(
        (module, other)
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
    )
    circles = [sorted(c) for c in networkx.strongly_connected_components(imports) if len(c) > 1]
    assert not circles


MODULES = sorted(Path(omni2sound.__file__).parent.rglob("*.py"))
MAX_FILES, MAX_LINES, MAX_FUNCTION_LINES = 16, 500, 80


def test_folders_files_and_functions_can_be_read_in_a_sitting() -> None:
    too_long = []
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if (num_lines := text.count("\n")) > MAX_LINES:
            too_long.append(f"{path}: {num_lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                num_lines = (node.end_lineno or 0) - node.lineno + 1
                if num_lines > MAX_FUNCTION_LINES:
                    too_long.append(f"{path}: {node.name}: {num_lines} lines")
    assert not too_long
    folders = {path.parent for path in MODULES}
    files = {f: [p for p in f.iterdir() if p.is_file()] for f in folders}
    assert not {str(f): len(found) for f, found in files.items() if len(found) > MAX_FILES}


def test_the_public_api_changes_only_on_purpose() -> None:
    assert omni2sound.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(omni2sound))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(omni2sound, name)
    if isinstance(value, type):
        assert (value.__doc__ or "").strip(), f"{name} has no docstring"
        assert value.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        omni2sound.nothing_of_the_kind  # noqa: B018


def _imported_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('|'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stderr.strip().splitlines()[-1].split("|"))


HEAVY = {"torch", "numpy", "scipy", "av", "transformers", "diffusers", "huggingface_hub", "rich"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not _imported_by("import omni2sound") & HEAVY


@pytest.mark.parametrize("argv", [["--help"], ["generate", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    imported = _imported_by(
        f"sys.argv = ['omni2sound', *{argv}]\n"
        "from omni2sound.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert not imported & HEAVY


@pytest.mark.parametrize("package", ["media", "llm", "timebase", "errors", "runtime", "files"])
def test_low_modules_start_without_torch(package: str) -> None:
    code = (
        f"import importlib, pkgutil\nm = importlib.import_module('omni2sound.{package}')\n"
        "for p in pkgutil.iter_modules(getattr(m, '__path__', [])):\n"
        "    importlib.import_module(f'{m.__name__}.{p.name}')"
    )
    assert "torch" not in _imported_by(code)


def test_the_network_is_out_of_reach() -> None:
    with socket.socket() as connection, pytest.raises(AssertionError, match="tried to connect"):
        connection.connect(("192.0.2.1", 80))


def test_loopback_is_within_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as connection:
        connection.connect(server.getsockname())


INDIRECT = {"onnxruntime", "torchsde"}
"""Imported by its name, and by a dependency (diffusers' SDE schedulers)."""


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).partition(".")[0])
    third_party = imported - set(sys.stdlib_module_names) - {"omni2sound"}
    packages_of = importlib.metadata.packages_distributions()
    used = {packages_of[module][0].lower().replace("_", "-") for module in third_party}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {
        extra: {re.split(r"[\[<>=! ;]", requirement)[0] for requirement in requirements}
        for extra, requirements in (
            ("", project["dependencies"]),
            *project["optional-dependencies"].items(),
        )
    }
    extras = ("torch", "annotate", "train", "scale", "studio", "wording")
    optional = set[str]().union(*(names[extra] for extra in extras))
    assert used - names[""] - optional == set(), "imported, but not declared"
    declared = names[""] | names["torch"]
    assert declared - used - INDIRECT == set(), "declared, but not imported"
