"""`omni2sound annotate`: captions for a corpus, from running to exporting.

In:   a manifest; models by name; a run folder, positional in every command.
Out:  a run folder, resumed if it exists; a data set; tables and pages on stdout.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from omni2sound.cli.options import (
    EngineOption,
    OverwriteOption,
    TableJsonOption,
    WorkersOption,
    command_group,
)
from omni2sound.cli.progress import progress_bar
from omni2sound.cli.streams import clear_screen
from omni2sound.data.workers import Workers, default_workers
from omni2sound.errors import UserError
from omni2sound.readers import loads

if TYPE_CHECKING:
    from omni2sound.annotate.chat.models import ChatOptions

_log = logging.getLogger(__name__)

EXIT_SOME_FAILED = 1
_WATCH_S = 5.0
_MAX_SHOWN = 20
"""Number of failed clips that `status` names."""
_MODEL = "local, scripted:FILE, or NAME@URL of an OpenAI-compatible endpoint."

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
PicturesOption = Annotated[
    Literal["text", "none", "frames"],
    typer.Option(
        help="How captioners get the silent video: text is a description, as in the paper; frames "
        "shows it to the junior; none leaves it out."
    ),
]
WordingOption = Annotated[
    Literal["template", "smollm2"],
    typer.Option(
        help="Wording of local captions; smollm2 lets a small language model reword them and "
        "rejects sentences that add or lose a sound."
    ),
]
KeyOption = Annotated[
    str, typer.Option(help="Environment variable with the API key; none if no key is needed.")
]
PricesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--prices",
        help="Price table that precedes the bundled one; may be repeated. Default: none.",
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="USD",
        help="Send no call that could take the run's total cost above this. Default: no limit.",
    ),
]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Most API calls in flight.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", help="Time limit of one API call, in seconds.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Take the first clips only. Default: all.")
]
JointOption = Annotated[
    str, typer.Option(help="Joint heads that score captions: a model's name or folder.")
]

app = command_group("Caption clips from sound and picture: run, watch, export.")


@app.command()
def run(
    manifest: Annotated[Path, typer.Argument(help="Clips: a manifest that `data import` wrote.")],
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder; an existing run is resumed.")
    ],
    junior: Annotated[str, typer.Option(help=f"Captioner of every clip: {_MODEL}")] = "local",
    senior: Annotated[str, typer.Option(help=f"Captioner of hard clips: {_MODEL}")] = "local",
    vision: Annotated[str, typer.Option(help=f"Describes the video: {_MODEL}")] = "local",
    pictures: PicturesOption = "text",
    wording: WordingOption = "template",
    key_variable: KeyOption = "OPENAI_API_KEY",
    budget_usd: BudgetOption = None,
    price_file: PricesOption = None,
    concurrency: ConcurrencyOption = 16,
    timeout_s: TimeoutOption = 120.0,
    senior_extra: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="JSON object added to the senior's calls, for example an endpoint's cap on "
            "reasoning. Default: nothing.",
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="File in the form of thresholds.toml. Default: the bundled one."),
    ] = None,
    joint: JointOption = "joint-v1",
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    limit: LimitOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print an upper bound of the cost and send nothing.")
    ] = False,
) -> None:
    """Annotate the clips of a manifest.

    Exit code 1 if some could not be finished.
    """
    from omni2sound.annotate.build import CrewSettings, annotate_manifest
    from omni2sound.annotate.chat.estimate import estimate
    from omni2sound.annotate.runs import source_clips
    from omni2sound.data.corpora.manifest import read_manifest

    settings = CrewSettings(
        junior=junior,
        senior=senior,
        vision=vision,
        pictures=pictures,
        wording=wording,
        senior_extra=_json_object(senior_extra),
        chat=_chat_options(key_variable, price_file, concurrency, timeout_s),
        joint=joint,
        thresholds=thresholds,
    )
    budget = _money(budget_usd)
    if dry_run:
        print("\n".join(estimate(source_clips(read_manifest(manifest))[:limit], settings)))
        return
    with progress_bar("clips") as report:
        ends = asyncio.run(
            annotate_manifest(
                manifest,
                run,
                settings,
                budget_usd=budget,
                workers=Workers(engine=engine, count=workers or default_workers()),
                limit=limit,
                on_progress=lambda p: report(p.done, p.total),
            )
        )
    print(json.dumps(ends))
    if ends["failed"] or ends["waiting"]:
        raise typer.Exit(EXIT_SOME_FAILED)


def _chat_options(
    key_variable: str, price_file: list[Path] | None, concurrency: int, timeout_s: float
) -> ChatOptions:
    from omni2sound.annotate.chat.models import ChatOptions

    return ChatOptions(
        key_variable=None if key_variable == "none" else key_variable,
        prices=tuple(price_file or ()),
        concurrency=concurrency,
        timeout_s=timeout_s,
    )


def _money(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not (amount.is_finite() and amount > 0):
        raise UserError(f"expected a number above 0, got {text!r}", field="budget_usd")
    return amount


def _json_object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        data = loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise UserError(f"expected a JSON object, got {text!r}", field="senior_extra")
    return data


@app.command()
def status(
    run: RunArgument,
    as_json: TableJsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Repeat every 5 seconds until all clips have ended.")
    ] = False,
) -> None:
    """Show a run's progress.

    Routes, drops by rule, escalations, money, speed, time left.
    """
    from omni2sound.annotate.report.status import run_status
    from omni2sound.annotate.runs import failures

    while True:
        found = run_status(run)
        if watch and not as_json and sys.stdout.isatty():
            clear_screen()
        _print_status(found, as_json=as_json)
        if not watch or found["ended"] >= found["clips"]:
            break
        time.sleep(_WATCH_S)
    if found["failed"]:
        for name, reason in failures(run, limit=_MAX_SHOWN):
            _log.warning("%s: failed: %s", name, reason)
        if found["failed"] > _MAX_SHOWN:
            _log.warning("... and %d more", found["failed"] - _MAX_SHOWN)


def _print_status(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found), flush=True)
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        print(f"{name:{width}}  {'-' if value is None else value}", flush=True)


@app.command()
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the data set, new or empty.")],
) -> None:
    """Write the kept clips as a data set.

    Manifest, Parquet, card and statistics.
    """
    from omni2sound.annotate.report.export import export as write

    counts = write(run, out)
    print(out)
    _log.info("%d of %d clips kept", counts["kept"], counts["ended"])


@app.command()
def inspect(
    run: RunArgument,
    clip: Annotated[str, typer.Argument(help="CORPUS/CLIP_ID as in the manifest.")],
    output: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Write one clip's history as an HTML page.

    Frames, spectrogram, turns, decisions.
    """
    from omni2sound.annotate.report.page import write_page

    if output.exists() and not overwrite:
        raise UserError(f"{output}: exists already; choose another name or give --overwrite")
    write_page(run, clip, output)
    print(output)


@app.command()
def judge(
    run: RunArgument,
    against: Annotated[
        str,
        typer.Option(help="Other captions: a run folder, or manifest for those of the manifest."),
    ] = "manifest",
    judge_name: Annotated[str, typer.Option("--judge", help=f"Judge: {_MODEL}")] = "local",
    key_variable: KeyOption = "OPENAI_API_KEY",
    price_file: PricesOption = None,
    budget_usd: BudgetOption = None,
    concurrency: ConcurrencyOption = 16,
    timeout_s: TimeoutOption = 120.0,
    joint: JointOption = "joint-v1",
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    limit: LimitOption = None,
) -> None:
    """Compare a run's captions with others of the same clips.

    Prints the win rate over both orders.
    """
    from omni2sound.annotate.executor import Executor
    from omni2sound.annotate.report.judge_run import judge_run
    from omni2sound.weights import resolve_model

    comparison = asyncio.run(
        judge_run(
            run,
            against,
            judge_name,
            joint=resolve_model(joint),
            options=_chat_options(key_variable, price_file, concurrency, timeout_s),
            executor=Executor(workers=Workers(engine=engine, count=workers or default_workers())),
            limit=limit,
            budget_usd=_money(budget_usd),
        )
    )
    print(comparison)


@app.command()
def score(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Runs over the same synthetic scenes.")
    ],
    scenes: Annotated[
        list[Path],
        typer.Option(help="Folder that `scenes build` wrote; may be repeated."),
    ],
) -> None:
    """Compare runs over synthetic scenes with the ground truth."""
    from omni2sound.annotate.report.against_scenes import table

    print("\n".join(list(table(runs, scenes))))  # nothing if a run can't be read
