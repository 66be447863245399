"""`omni2sound annotate calibrate`: thresholds of a scorer, measured on clips with captions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.annotate.options import (
    DeviceOption,
    EventWeightsOption,
    JointOption,
    LimitOption,
    ScorerOption,
    WeightsOption,
)
from omni2sound.cli.options import EngineOption, OverwriteOption, WorkersOption, chosen_workers
from omni2sound.cli.progress import progress_bar
from omni2sound.errors import UserError


def calibrate(
    manifest: Annotated[
        Path, typer.Argument(help="Clips with true captions: a manifest that `data import` wrote.")
    ],
    output: Annotated[
        Path, typer.Option("--out", "-o", help="File for `annotate run --thresholds`.")
    ],
    scorer: ScorerOption = "joint",
    weights: WeightsOption = None,
    event_weights: EventWeightsOption = None,
    device: DeviceOption = "cpu",
    joint: JointOption = "joint-v1",
    scenes: Annotated[
        list[Path] | None,
        typer.Option(
            "--scenes",
            help="Folder of `scenes build`, whose events are known exactly; may be repeated. "
            "Default: thresholds of single sounds stay off.",
        ),
    ] = None,
    lose: Annotated[
        float, typer.Option(help="Share of true pairs of sound and picture that may be dropped.")
    ] = 0.05,
    let_pass: Annotated[
        float, typer.Option(help="Share of wrong captions and sounds that may be kept.")
    ] = 0.05,
    limit: LimitOption = None,
    seed: Annotated[int, typer.Option(help="Random seed for the choice of wrong pairs.")] = 0,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure a scorer's thresholds on clips with captions."""
    import asyncio

    from omni2sound.annotate.build import CrewSettings
    from omni2sound.annotate.calibrate import calibrate_manifest

    if output.exists() and not overwrite:
        raise UserError(f"{output}: exists already; choose another name or give --overwrite")
    for name, share in (("lose", lose), ("let_pass", let_pass)):
        if not 0 <= share < 1:
            raise UserError(f"expected 0 or more and less than 1, got {share:g}", field=name)
    settings = CrewSettings(
        scorer=scorer, weights=weights, event_weights=event_weights, device=device, joint=joint
    )
    with progress_bar("pairs") as report:
        found = asyncio.run(
            calibrate_manifest(
                manifest,
                settings,
                scenes=scenes or (),
                limit=limit,
                lose=lose,
                let_pass=let_pass,
                seed=seed,
                workers=chosen_workers(workers, engine),
                on_progress=report,
            )
        )
    found.write(output)
    print(found)
