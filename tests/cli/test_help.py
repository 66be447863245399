"""What the help of every command must say: one rule for all options, no command left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from omni2sound.cli.data import import_corpus
from omni2sound.cli.main import _only_called, app

WIDTH = 80


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, f"{path} {name}")


COMMANDS = dict(_commands(typer.main.get_command(app), "omni2sound"))
PARAMS = {
    f"{path} {p.opts[0]}": (path, p)
    for path, command in COMMANDS.items()
    for p in command.params
    if not p.name.endswith("_completion")  # typer's own
}


def _is_flag(p: Any) -> bool:
    return p.param_type_name == "option" and bool(p.is_flag)


def _record(path: str, p: Any) -> tuple[str, str]:
    name, text = p.get_help_record(typer.Context(COMMANDS[path], info_name=path))
    return name, text


def test_only_the_command_that_is_called_is_built() -> None:
    for path, command in list(COMMANDS.items())[1::5]:
        words = path.split()[1:]
        built = typer.main.get_command(_only_called(app, ["-q", *words, "--seed", "1"]))
        for word in words:
            assert word == words[-1] or len(built.commands) == 1, path
            built = built.commands[word]
        context = typer.Context(command, info_name=path)
        assert built.get_help(context) == command.get_help(context)
    for others in ((), ("-h",), ("generat",), ("--plugin", "generate")):
        assert _only_called(app, others) is app


# One test for all options: a test each, of which there are thousands, would take its time.


def test_help_is_a_sentence_that_says_the_default() -> None:
    for name, (path, p) in PARAMS.items():
        text = p.help or ""
        assert re.match(r"[A-Z]", text), f"{name}: no sentence: {text!r}"
        assert text.endswith("."), f"{name}: no full stop: {text!r}"
        # A flag with one name is off unless it is given, which needs no words.
        if not (_is_flag(p) and not p.secondary_opts):
            assert re.search(r"[Dd]efault: |[Rr]equired", _record(path, p)[1]), name


def test_help_shows_no_python_type() -> None:
    for name, (path, p) in PARAMS.items():
        shown = _record(path, p)[0]
        types = r"list\[|(?<!--)\brange\b|<(str|path|int|float|text)>"
        assert not re.search(types, shown), f"{name}: {shown}"


def test_flags_have_one_form() -> None:
    # Off by default: one name, `--json`. On by default: two names, `--sound / --no-sound`.
    for name, (_path, p) in PARAMS.items():
        if _is_flag(p):
            assert bool(p.secondary_opts) == bool(p.default), name


def test_help_names_no_file_of_the_repository() -> None:
    for name, (_path, p) in PARAMS.items():
        assert "docs/" not in (p.help or ""), name


def test_one_name_has_one_meaning() -> None:
    # `--output` of `generate` may be left out and is one of a family; `--out-dir` is its folder
    # of several results; all others are `--out`.
    names = {n for _, p in PARAMS.values() for n in p.opts if n.startswith("--o")}
    assert {n for n in names if n.startswith("--out")} == {"--out", "--out-dir", "--output"}
    short = {p.opts[0] for _, p in PARAMS.values() if "-o" in p.opts}
    assert short == {"--out", "--output"}
    for path, p in PARAMS.values():
        if "--out" in p.opts:
            assert "-o" in p.opts, path


@pytest.mark.parametrize("path", COMMANDS)
def test_help_fits_a_terminal(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    context = typer.Context(COMMANDS[path], info_name=path)
    text = COMMANDS[path].get_help(context)
    assert "\b" not in text, "needs an empty line before it"
    assert max(map(len, text.splitlines())) <= WIDTH
    summaries = text.partition("\nCommands:\n")[2]
    assert not re.search(r"\.\.\.$", summaries, re.MULTILINE), "a summary is cut"
    assert (COMMANDS[path].help or "").split("\n\n")[0].strip().endswith(".")


def test_lists_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    import_corpus("list")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= WIDTH
