"""`omni2sound bench listen`: blinded listening tests.

In:   a track and folders of systems' sounds; later, files of answers.
Out:  a page and its key; a table with intervals.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.options import TableJsonOption, command_group
from omni2sound.errors import UserError

app = command_group("Run a blinded listening test.")


class Kind(StrEnum):
    """What `--kind` takes."""

    PAIRS = "pairs"
    MUSHRA = "mushra"


@app.command()
def build(
    track: Annotated[Path, typer.Argument(help="Folder of a track.")],
    system: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=FOLDER", help="A system and its folder of sounds; may be repeated."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the page and the key, new or empty.")
    ],
    kind: Annotated[
        Kind, typer.Option(help="Kind of trial: pairs, or all systems on MUSHRA scales.")
    ] = Kind.PAIRS,
    clips: Annotated[int, typer.Option(min=2, help="Number of trials.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for clips and their order.")] = 0,
    video: Annotated[bool, typer.Option(help="Play sounds with their video.")] = True,
    caption: Annotated[bool, typer.Option(help="Show the caption.")] = True,
) -> None:
    """Make a blinded page; keep key.json away from listeners."""
    from omni2sound.bench.listening.kit import KEY, PAGE, write_kit
    from omni2sound.bench.systems.folder import check_folder
    from omni2sound.bench.tracks.track import read_track

    opened = read_track(track)
    systems: dict[str, dict[str, Path]] = {}
    for entry in system:
        name, _, folder = entry.partition("=")
        if not name or not folder or name in systems:
            raise UserError(f"--system {entry!r}: expected NAME=FOLDER, each name once")
        check = check_folder(Path(folder), opened.clips)
        systems[name] = {s.clip_id: s.path for s in check.sounds}
    write_kit(
        opened,
        systems,
        out,
        kind=kind.value,
        num_clips=clips,
        seed=seed,
        show_video=video,
        show_caption=caption,
    )
    print(out / PAGE)
    print(out / KEY)


@app.command()
def analyse(
    kit: Annotated[Path, typer.Argument(help="Folder with key.json, which `build` wrote.")],
    answers: Annotated[list[Path], typer.Argument(help="Files that listeners saved.")],
    as_json: TableJsonOption = False,
) -> None:
    """Print preferences or mean scores with 95 % intervals."""
    from omni2sound.bench.listening.kit import read_key
    from omni2sound.bench.listening.scores import analyse as count
    from omni2sound.bench.listening.scores import as_text, read_answers

    key = read_key(kit)
    result = count(key, [read_answers(path, key) for path in answers])
    print(json.dumps(asdict(result)) if as_json else as_text(result))
