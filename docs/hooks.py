"""Generated parts of the documentation: the command-line reference, the modules.

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

_RECORDS = {"experiments": "All experiments", "decisions": "All decisions"}
_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the generated parts of a page; MkDocs calls this for each one.

    A record (an experiment, a decision) is in no menu, so it gets a link to its index.
    """
    folder, _slash, name = page.file.src_uri.rpartition("/")
    if folder in _RECORDS and name[0].isdigit():
        title, _newline, rest = markdown.partition("\n")
        date = f" · {name[:10]}" if folder == "experiments" else ""
        markdown = f"{title}\n\n[{_RECORDS[folder]}](index.md){date}\n{rest}"
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
    """Every module with the first sentence of its docstring, a table for each package."""
    package = ROOT / "src" / "omni2sound"
    folders = sorted(path for path in package.iterdir() if (path / "__init__.py").exists())
    loose = [path for path in package.glob("*.py") if path.name != "__init__.py"]
    lines = ["### `omni2sound`\n", *_modules(sorted(loose), package)]
    for folder in folders:
        lines += [f"\n### `omni2sound.{folder.name}`\n", f"{first_line(folder / '__init__.py')}\n"]
        lines += _modules(sorted(folder.rglob("*.py"), key=_files_first), folder)
    return "\n".join(lines)


def _files_first(path: Path) -> tuple[int, str]:
    return (len(path.parts), str(path))


def _modules(paths: list[Path], top: Path) -> list[str]:
    lines = []
    for path in paths:
        name = path.relative_to(top).as_posix().removesuffix("__init__.py")
        if name:
            lines.append(f"| `{name}` | {_cell(first_line(path))} |")
    return ["| module | what it does |", "|---|---|", *lines] if lines else []


def first_line(module: Path) -> str:
    """The first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


PARTS: dict[str, Callable[[], str]] = {"commands": commands, "tree": tree}


if __name__ == "__main__":
    print(PARTS[sys.argv[1]]())
