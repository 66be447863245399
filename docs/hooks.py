"""Generated parts of the documentation: the command-line reference and the tree of modules.

In:   the typer app; the first docstring line of every module.
Out:  Markdown, put in place of ``<!-- generated: NAME -->`` while MkDocs builds the site.

Nothing generated is committed, so nothing can be out of date. Without MkDocs,
``python docs/hooks.py commands`` (or ``tree``) prints the same text.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the generated parts of a page; MkDocs calls this for each one."""
    return _MARKER.sub(lambda match: PARTS[match[1]](), markdown)


def commands() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_sections())


def _sections() -> Iterator[str]:
    import typer

    from omni2sound.cli.main import app

    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="omni2sound")
    yield "## Options of every command\n"
    yield _table("Option", [p for p in root.params if p.param_type_name == "option"], context)
    yield from _children(root, context)


def _children(group: Any, parent: Any) -> Iterator[str]:
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        context = type(parent)(command, info_name=name, parent=parent)
        yield f"## `{context.command_path}`\n"
        yield f"{_paragraphs(command.help or '')}\n"
        if hasattr(command, "list_commands"):
            yield from _children(command, context)
            continue
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"```text\n{context.command_path} {usage}\n```\n"
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option"]
        yield _table("Argument", arguments, context)
        yield _table("Option", options, context)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(p.split()) for p in text.split("\n\n"))


def _table(title: str, params: list[Any], context: Any) -> str:
    rows = [record for p in params if (record := p.get_help_record(context)) is not None]
    if not rows:
        return ""
    lines = [f"| {title} | Meaning |", "|---|---|"]
    lines += [f"| `{_cell(name)}` | {_cell(text).replace('<', '&lt;')} |" for name, text in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def tree() -> str:
    """Every module with the first line of its docstring, as one text block."""
    package = ROOT / "src" / "omni2sound"
    lines = ["```text", "src/omni2sound/", *_entries(package, "  "), "```"]
    return "\n".join(lines)


def _entries(folder: Path, indent: str) -> Iterator[str]:
    paths = sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name))
    for path in paths:
        if path.is_dir() and (path / "__init__.py").exists():
            yield _line(indent + path.name + "/", path / "__init__.py")
            yield from _entries(path, indent + "  ")
        elif path.suffix == ".py" and path.name != "__init__.py":
            yield _line(indent + path.name, path)


def _line(label: str, module: Path) -> str:
    return f"{label:<34} {first_line(module)}"


def first_line(module: Path) -> str:
    """The first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


PARTS: dict[str, Callable[[], str]] = {"commands": commands, "tree": tree}


if __name__ == "__main__":
    print(PARTS[sys.argv[1]]())
