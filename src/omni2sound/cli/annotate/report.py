"""`omni2sound annotate status`, `retry`, `export`, `inspect`, `review`, `judge` and `score`."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from omni2sound.cli.annotate.options import (
    EXIT_SOME_FAILED,
    MODEL,
    AudioPartOption,
    BudgetOption,
    CapOption,
    ConcurrencyOption,
    ExtraOption,
    JointOption,
    KeyOption,
    LimitOption,
    PricesOption,
    PromptsOption,
    RunArgument,
    StructuredOption,
    TimeoutOption,
    by_role,
    chat_options,
    count,
    json_object,
    money,
)
from omni2sound.cli.options import (
    EngineOption,
    OverwriteOption,
    TableJsonOption,
    WorkersOption,
    chosen_workers,
)
from omni2sound.cli.progress import progress_bar
from omni2sound.cli.streams import clear_screen
from omni2sound.errors import UserError

_log = logging.getLogger(__name__)

_WATCH_S = 5.0
_MAX_SHOWN = 20
"""Number of failed clips that `status` names."""


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
    for number, failed in enumerate(failures(run)):
        if number == _MAX_SHOWN:
            _log.warning("... and %d more", found["failed"] - _MAX_SHOWN)
            break
        _log.warning("%s", failed)


def _print_status(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found), flush=True)
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        print(f"{name:{width}}  {'-' if value is None else value}", flush=True)


def retry(
    run: RunArgument,
    kind: Annotated[
        Literal["refused", "malformed", "cut", "rejected", "media"] | None,
        typer.Argument(metavar="[KIND]", help="Kind of failure. Default: all."),
    ] = None,
) -> None:
    """Let the next run ask again for failed clips.

    Kinds: refused, malformed, cut, rejected, media. Paid answers of earlier steps are kept.
    """
    from omni2sound.annotate.runs import retry_failures

    found = retry_failures(run, kind)
    for name, num in sorted(Counter(f"{f.kind} at {f.step}" for f in found).items()):
        print(f"{num} {name}")
    _log.info("start the same `annotate run` again: it asks for these %d clips", len(found))


def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the data set, new or empty.")],
    sounds: Annotated[
        bool,
        typer.Option(
            "--sounds", help="Embed the sounds of kept clips (FLAC). Default: rows name files."
        ),
    ] = False,
    tars: Annotated[
        bool,
        typer.Option(
            "--tars", help="Write kept clips and sounds as WebDataset tar files, too. Default: no."
        ),
    ] = False,
    dropped: Annotated[
        bool,
        typer.Option(
            "--dropped", help="Add the rows of dropped clips, with the reason. Default: no."
        ),
    ] = False,
    reviews: Annotated[
        list[Path] | None,
        typer.Option(
            help="File that a page of `annotate review` saved; a person's decision goes before the "
            "filter's; may be repeated. Default: none."
        ),
    ] = None,
) -> None:
    """Write the kept clips as a data set.

    Manifest, Parquet by split, card and statistics. Exit code 1 if a sound can't be read.
    """
    from omni2sound.annotate.report.export import ExportOptions
    from omni2sound.annotate.report.export import export as write

    options = ExportOptions(sounds=sounds, tars=tars, dropped=dropped, reviews=tuple(reviews or ()))
    with progress_bar("clips") as report:
        counts = write(run, out, options, on_clip=report)
    print(out)
    _log.info("%d of %d clips kept", counts["kept"], counts["ended"])
    if counts["sounds_not_read"]:
        _log.warning("%d sounds could not be read and are missing", counts["sounds_not_read"])
        raise typer.Exit(EXIT_SOME_FAILED)


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


def review(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")],
    num_clips: Annotated[
        int, typer.Option("--clips", min=1, help="Most clips; their media are in the page.")
    ] = 50,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a page of clips that the filter is unsure of.

    A person listens, corrects, keeps or drops; `annotate export --reviews` applies it.
    """
    from omni2sound.annotate.report.review import write_review_page

    if output.exists() and not overwrite:
        raise UserError(f"{output}: exists already; choose another name or give --overwrite")
    _log.info("%d clips", write_review_page(run, output, num_clips=num_clips))
    print(output)


def judge(
    run: RunArgument,
    against: Annotated[
        str,
        typer.Option(help="Other captions: a run folder, or manifest for those of the manifest."),
    ] = "manifest",
    judge_name: Annotated[str, typer.Option("--judge", help=f"Judge: {MODEL}")] = "local",
    key_variable: KeyOption = None,
    structured: StructuredOption = None,
    audio_part: AudioPartOption = None,
    cap: CapOption = None,
    extra: ExtraOption = None,
    prompts: PromptsOption = None,
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
    import asyncio

    from omni2sound.annotate.executor import Executor
    from omni2sound.annotate.report.judge_run import judge_run
    from omni2sound.weights import resolve_model

    comparison = asyncio.run(
        judge_run(
            run,
            against,
            judge_name,
            joint=resolve_model(joint),
            options=chat_options(
                key_variable, price_file, concurrency, timeout_s, structured, audio_part
            ),
            executor=Executor(workers=chosen_workers(workers, engine)),
            limit=limit,
            budget_usd=money(budget_usd),
            cap=by_role(cap, "cap", count).get("judge"),
            extra=by_role(extra, "extra", json_object).get("judge"),
            prompts=prompts,
        )
    )
    print(comparison)


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
