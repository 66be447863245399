"""`omni2sound project`: the steps of a film's sound, run or repeated.

In:   a folder with project.json.
Out:  its takes and its hand-over; their paths (or JSON) on stdout. Of a film: project.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.options import (
    DeterministicOption,
    DtypeOption,
    JsonOption,
    LowMemoryOption,
    ModelOption,
    PipelineDeviceOption,
)

EXAMPLES = """\b
Examples:
  omni2sound project film --film film/film.mp4
  omni2sound project film --deterministic
  omni2sound project film --deterministic --repeat
"""

EXIT_DIFFERS = 1

ProjectArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Folder that holds project.json.")
]
RepeatOption = Annotated[
    bool,
    typer.Option(
        "--repeat",
        help="Make all steps again in another place and print the files whose bytes differ; exit "
        "code 1 if some do.",
    ),
]
FilmOption = Annotated[
    Path | None,
    typer.Option(
        metavar="VIDEO",
        help="Write project.json for this film, with a step for each scene, and make nothing yet; "
        "the film lies in FOLDER. Default: run the project.json that is there.",
    ),
]
ShortestOption = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Least length of a scene of --film; shorter shots go with the one before. Default: 4.",
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace takes, stems and a hand-over, too, that were changed by hand. Default: "
        "refuse to make them again.",
    ),
]


def project(
    folder: ProjectArgument,
    repeat: RepeatOption = False,
    film: FilmOption = None,
    shortest: ShortestOption = None,
    model: ModelOption = "embedded",
    device: PipelineDeviceOption = "auto",
    dtype: DtypeOption = "auto",
    low_memory: LowMemoryOption = False,
    deterministic: DeterministicOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run or repeat a project, or write one of a film.

    What is done and unchanged stays as it is.
    """
    from omni2sound.cli.progress import stages_shown
    from omni2sound.errors import UserError
    from omni2sound.generate.load import PipelineOptions
    from omni2sound.generate.project.run import Runner
    from omni2sound.generate.project.run import repeat as repeat_all

    if film is not None:
        if repeat:
            raise UserError("repeats steps that were made; leave out `film`", field="repeat")
        from omni2sound.generate.project.scenes import SHORTEST_S, write_scenes

        with stages_shown():
            written = write_scenes(
                folder, film, shortest_s=SHORTEST_S if shortest is None else shortest
            )
        print(json.dumps({"project": str(written)}) if as_json else written)
        return
    if shortest is not None:
        raise UserError("is for scenes of a film; give `film`, too", field="shortest")
    options = PipelineOptions(
        model=model, device=device, dtype=dtype, low_memory=low_memory, deterministic=deterministic
    )
    if repeat:
        with stages_shown():
            differing = repeat_all(folder, options)
        if as_json:
            print(json.dumps({"differing": differing}))
        elif differing:
            print("\n".join(differing))
        if differing:
            raise typer.Exit(EXIT_DIFFERS)
        print("omni2sound: all steps give the same bytes", file=sys.stderr)
        return
    runner = Runner.open(folder, options, overwrite=overwrite)
    with stages_shown():
        for _, report, was_done in runner.run():
            if as_json or not was_done:
                print(json.dumps(report) if as_json else report["output"], flush=True)
    handed = runner.hand_over()
    if handed is not None:
        for note in handed.notes:
            print(note, file=sys.stderr)
    if as_json and runner.project.hand_over is not None:
        print(json.dumps({"hand_over": str(runner.handed)}))
    elif handed is not None:
        print(handed.folder)
