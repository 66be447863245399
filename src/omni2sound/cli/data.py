"""Placeholder until the commands are written."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(help="Not written yet.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def data() -> None:
    """Not written yet."""
