"""`omni2sound hand-over`: takes as an editor wants them.

In:   outputs of omni2sound, perhaps the film.
Out:  a folder; its path (or JSON) on stdout.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.options import JsonOption

EXAMPLES = """\b
Examples:
  omni2sound hand-over street.wav --film street.mp4 --out-dir editor
  omni2sound hand-over takes-1.wav takes-2.wav --film-start 1:00:00
"""

TakesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="TAKE", help="Outputs of generate, edit or mix, with their sidecars."),
]
FolderOption = Annotated[
    Path,
    typer.Option(
        "--out-dir",
        metavar="DIR",
        help="Folder to write; an old hand-over in it is replaced if no file was changed or added.",
    ),
]
FilmOption = Annotated[
    Path | None,
    typer.Option(metavar="VIDEO", help="Film that the timeline shows above them. Default: none."),
]
FilmStartOption = Annotated[
    str | None,
    typer.Option(
        "--film-start",
        metavar="TIME",
        help="Time of the film's first picture, as 1:00:00, or with --film its timecode, as "
        "01:00:00:00 or, drop frame, 01:00:00;00; the time stamps of all files begin there. "
        "Default: the timecode in the film's file, or 0.",
    ),
]


OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace an old hand-over, too, in which files were changed or added."
    ),
]


def hand_over(
    takes: TakesArgument,
    out_dir: FolderOption = Path("hand-over"),
    film: FilmOption = None,
    film_start: FilmStartOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write takes for an editor: WAVs, a timeline, markers.

    WAVs are 48 kHz, 24 bits, with time stamps. Needs the extra `studio`.
    """
    from omni2sound.generate.hand_over.folder import hand_over as write
    from omni2sound.generate.hand_over.timecode import own_start, parse_film_start

    start_s = 0.0
    if film_start is not None:
        start_s = parse_film_start(film_start, film)
    elif film is not None:
        start_s, said = own_start(film)
        if said:
            print(f"{said}; --film-start chooses another time", file=sys.stderr)
    made = write(takes, out_dir, film=film, film_start_s=start_s, overwrite=overwrite)
    for note in made.notes:
        print(note, file=sys.stderr)
    print(json.dumps(asdict(made) | {"folder": str(made.folder)}) if as_json else made.folder)
