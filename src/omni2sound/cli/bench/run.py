"""`omni2sound bench run`, `score`, `report`, `compare`: a system on a track, and two of them.

In:   a track (a folder, or `stage-omni`, which is built first), a model or folders of sounds.
Out:  OUT/scores.json, OUT/report.{json,md,html}; what was written is named on stdout.

Exit code 1 if anything is wrong with any sound (each problem is a line on stderr), or if a gate
of `run --gates` was missed.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni2sound.cli.options import (
    CorpusOption,
    DtypeOption,
    EncodersOption,
    Engine,
    EngineOption,
    ModelOption,
    PipelineDeviceOption,
    TableJsonOption,
    WorkersOption,
    chosen_workers,
)
from omni2sound.errors import UserError

if TYPE_CHECKING:
    from omni2sound.bench.report.gates import Gate
    from omni2sound.bench.report.results import ScoredRun
    from omni2sound.bench.scoring.options import ScoringOptions
    from omni2sound.bench.systems.model import ModelRun
    from omni2sound.bench.tracks.track import Track

_log = logging.getLogger(__name__)

EXIT_SOME_FAILED = 1
_WATCH_S = 20.0
"""Between two looks at the checkpoints of a run that is followed."""
MAX_SHOWN = 20
"""Problems of one kind on the terminal; the report has all."""
TRACK_HELP = "Folder of a track, or stage-omni, which is built into the cache first."
TAGGERS_HELP = "Audio taggers, separated by commas; the first one's classes lead the tables."
WEIGHTS_HELP = (
    "Folder of the networks of avbench-8s-v1; adds that protocol. Each "
    "of --workers loads them all, so one process does unless --workers is given. Default: none."
)
PE_AV_HELP = (
    "Folder or Hub id (org/name@REVISION) of PE-AV; adds pe-av-v1: how well sounds fit captions "
    "and videos. Default: none."
)
PE_A_FRAME_HELP = (
    "Folder or Hub id of PE-A-Frame; adds pe-a-frame-v1: whether captions, and on scene tracks "
    "true events, are heard. Default: none."
)
AESTHETICS_HELP = (
    "Folder or Hub id of Audiobox-Aesthetics; adds aesthetics-v1. Needs the package "
    "audiobox_aesthetics. Default: none."
)
CACHE_HELP = "Folder for tags of sounds, by digest. Default: bench in the cache folder."

TrackArgument = Annotated[str, typer.Argument(help=TRACK_HELP)]
OutOption = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the run; created if missing, else resumed.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=4, help="Use only the first clips. Default: all.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Part of the sounds to make, from 1/N to N/N, for N tasks of a cluster that share "
        "--out; the same command without it scores them. Default: all.",
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Random seed for noise and for stage-omni.")]
TaggersOption = Annotated[str, typer.Option(help=TAGGERS_HELP)]
WeightsOption = Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)]
PeAvOption = Annotated[str | None, typer.Option(metavar="SOURCE", help=PE_AV_HELP)]
PeAFrameOption = Annotated[str | None, typer.Option(metavar="SOURCE", help=PE_A_FRAME_HELP)]
AestheticsOption = Annotated[str | None, typer.Option(metavar="SOURCE", help=AESTHETICS_HELP)]
StepsOption = Annotated[
    int | None, typer.Option(min=1, help="Sampling steps. Default: the model's.")
]
GuidanceOption = Annotated[
    float | None, typer.Option(min=0, help="Guidance scale. Default: the model's.")
]
SamplerOption = Annotated[
    str | None, typer.Option(help="Solver: dpmpp-2m, dpmpp-2m-sde or euler. Default: the model's.")
]
SigmasOption = Annotated[
    str | None,
    typer.Option(metavar="MIN,MAX", help="Lowest and highest noise level. Default: the model's."),
]
CacheOption = Annotated[Path | None, typer.Option(help=CACHE_HELP)]


class Steps:
    """A line for each step, and the seconds since the first."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, step: str, /) -> Callable[[int, int], None]:
        """Return the progress callback of one step, which logs every 30 s."""
        last = [0.0]

        def report(done: int, total: int) -> None:
            now = time.monotonic()
            if done == total or now - last[0] > 30:
                last[0] = now
                _log.info("%s: %d of %d, %.0f s", step, done, total, now - self._last)

        return report


def run(
    track: TrackArgument,
    out: OutOption,
    model: ModelOption = "embedded",
    tasks: Annotated[str, typer.Option(help="Tasks, separated by commas.")] = "VT2A,V2A,T2A",
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    text_guidance: Annotated[
        float | None,
        typer.Option(
            min=0, help="Guidance scale of the prompt when a video is given. Default: --guidance."
        ),
    ] = None,
    sampler: SamplerOption = None,
    sigmas: SigmasOption = None,
    gates: Annotated[
        bool,
        typer.Option(
            "--gates",
            help="Add the controls that acceptance criteria need, print their verdicts, and exit "
            "with 1 if one is missed. Needs a scene track and the corpus.",
        ),
    ] = False,
    many_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Add VT2A of the main part with this number of sampling steps. Default: not done.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Number of clips generated at once.")] = 8,
    shard: ShardOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    corpus: CorpusOption = None,
    taggers: TaggersOption = "yamnet,tagger",
    weights: WeightsOption = None,
    pe_av: PeAvOption = None,
    pe_a_frame: PeAFrameOption = None,
    aesthetics: AestheticsOption = None,
    encoders: EncodersOption = None,
    device: PipelineDeviceOption = "auto",
    dtype: DtypeOption = "auto",
    cache: CacheOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Generate and score a model's sounds for a track; resumes a run."""
    from omni2sound.bench.systems.model import ModelRun
    from omni2sound.bench.tracks.track import as_task

    chosen = tuple(as_task(task, "tasks") for task in names_in(tasks))
    options = _options(
        *(taggers, cache, corpus, engine, workers, weights, device),
        networks=(pe_av, pe_a_frame, aesthetics),
    )
    asked = ModelRun(
        model=model,
        tasks=chosen,
        seed=seed,
        num_steps=steps,
        guidance=guidance,
        text_guidance=text_guidance,
        sampler=sampler,
        sigmas=None if sigmas is None else _sigmas_in(sigmas),
        many_steps=many_steps,
        with_controls=gates,
        batch_size=batch,
        device=device,
        dtype=dtype,
        encoders=None if encoders is None else str(encoders),
    )
    _run(track, out, asked, options, limit=limit, shard=shard)


def _run(
    track: str,
    out: Path,
    asked: ModelRun,
    options: ScoringOptions,
    *,
    limit: int | None,
    shard: str | None,
) -> None:
    from omni2sound.bench.run import find_track, make_share, run_model
    from omni2sound.data.workers import Share, kept_workers

    share = None if shard is None else Share.parse(shard)
    on_step = Steps()
    with kept_workers():
        opened = find_track(track, options, limit=limit, seed=asked.seed, on_step=on_step)
        _check_tasks(asked.tasks, opened)
        if share is None:
            scored = run_model(opened, out, asked, options, limit=limit, on_step=on_step)
            _finish(scored, gates_decide=asked.with_controls)
        else:
            make = partial(make_share, share=share, limit=limit, on_step=on_step)
            _finish_share(out, *make(opened, out, asked, options))


def _check_tasks(chosen: Sequence[str], track: Track) -> None:
    for unknown in (task for task in chosen if task not in track.info.tasks):
        has = ", ".join(track.info.tasks)
        raise UserError(f"track {track.info.name} has no task {unknown!r}; it has {has}")


def _finish_share(out: Path, failed: Mapping[str, str], num_missing: int) -> None:
    for clip_id, reason in failed.items():
        _log.warning("%s: %s", clip_id, reason)
    _log.info("%d clips are left to other tasks, or failed", num_missing)
    print(out / "sounds")
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def follow(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`; it may still be training.")],
    track: Annotated[str, typer.Option(help=TRACK_HELP)],
    tasks: Annotated[str, typer.Option(help="Tasks, separated by commas.")] = "VT2A,V2A,T2A",
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Wait for more checkpoints until the run has ended. Default: do not."
        ),
    ] = False,
    steps: StepsOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Number of clips generated at once.")] = 8,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    corpus: CorpusOption = None,
    taggers: TaggersOption = "yamnet,tagger",
    encoders: EncodersOption = None,
    device: PipelineDeviceOption = "auto",
    cache: CacheOption = None,
    workers: WorkersOption = None,
) -> None:
    """Score the checkpoints of a training run, as curves."""
    from omni2sound.bench.follow import CURVES
    from omni2sound.bench.follow import follow as score_checkpoints
    from omni2sound.bench.run import find_track
    from omni2sound.bench.systems.model import ModelRun
    from omni2sound.bench.tracks.track import as_task

    if not run.is_dir():
        raise UserError(f"{run}: no such folder", field="run")
    options = _options(taggers, cache, corpus, "local", workers, None, device)
    asked = ModelRun(
        model="",
        tasks=tuple(as_task(task, "tasks") for task in names_in(tasks)),
        seed=seed,
        num_steps=steps,
        batch_size=batch,
        device=device,
        encoders=None if encoders is None else str(encoders),
    )
    on_step = Steps()
    opened = find_track(track, options, limit=limit, seed=seed, on_step=on_step)
    _check_tasks(asked.tasks, opened)
    ended = False
    while not ended:
        ended = not watch or (run / "model").is_dir()  # looked at before the last checkpoint is
        for line in score_checkpoints(run, opened, asked, options, limit=limit, on_step=on_step):
            _log.info("step %d scored", line["step"])
        if not ended:
            time.sleep(_WATCH_S)
    if not (run / CURVES).is_file():
        raise UserError(f"{run} has no checkpoint", field="run")
    print(run / CURVES)


def _sigmas_in(text: str) -> tuple[float, float]:
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError:
        raise UserError(
            f"expected two numbers, such as 0.03,100, got {text!r}", field="sigmas"
        ) from None
    return low, high


def score(
    track: TrackArgument,
    sounds: Annotated[Path, typer.Argument(help="Folder of files named by clip id.")],
    out: OutOption,
    task: Annotated[str, typer.Option(help="What the system was shown: VT2A, V2A or T2A.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the system. Default: the folder's.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(help="Expected sample rate in Hz. Default: the most common one.")
    ] = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    corpus: CorpusOption = None,
    taggers: TaggersOption = "yamnet,tagger",
    weights: WeightsOption = None,
    pe_av: PeAvOption = None,
    pe_a_frame: PeAFrameOption = None,
    aesthetics: AestheticsOption = None,
    device: PipelineDeviceOption = "auto",
    cache: CacheOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Score a folder of sounds or videos named by clip id."""
    from omni2sound.bench.run import score_folder

    networks = (pe_av, pe_a_frame, aesthetics)
    scored = score_folder(
        track,
        sounds,
        task,
        out,
        name=name,
        sample_rate_hz=rate,
        limit=limit,
        seed=seed,
        options=_options(taggers, cache, corpus, engine, workers, weights, device, networks),
        on_step=Steps(),
    )
    _finish(scored)


def report(folder: Annotated[Path, typer.Argument(help="Run folder of `run` or `score`.")]) -> None:
    """Print the tables of a scored run and rewrite its report."""
    from omni2sound.bench.report.results import read_run

    _print_report(read_run(folder))


def publish(
    site: Annotated[Path, typer.Argument(help="Folder of the page; created if missing.")],
    folder: Annotated[
        Path | None,
        typer.Argument(help="Run folder of `run` or `score`. Default: only make the page anew."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run's file. Default: the folder's name.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Who scored it. Default: nobody, so a run is refused.")
    ] = None,
    note: Annotated[str, typer.Option(help="What a reader should know. Default: nothing.")] = "",
) -> None:
    """Add a run to a page of results that others can add to."""
    from omni2sound.bench.report.results import read_run
    from omni2sound.bench.report.site import build_page
    from omni2sound.bench.report.site import publish as add

    if folder is None:
        print(build_page(site))
        return
    if not by:
        raise UserError("expected your name or your group's", field="by")
    chosen = folder.absolute().name.lower() if name is None else name
    for path in add(site, read_run(folder), name=chosen, by=by, note=note):
        print(path)


def _options(
    taggers: str,
    cache: Path | None,
    corpus: Path | None,
    engine: Engine,
    workers: int | None,
    weights: Path | None = None,
    device: str = "cpu",
    networks: tuple[str | None, str | None, str | None] = (None, None, None),
) -> ScoringOptions:
    from omni2sound.bench.scoring.options import ClipNetworkSources, scoring_options
    from omni2sound.data.workers import Workers

    sources = None
    if any(source is not None for source in networks):
        each = Workers(engine=engine, count=workers or 1)
        pe_av, pe_a_frame, aesthetics = networks
        sources = ClipNetworkSources(
            pe_av=pe_av, pe_a_frame=pe_a_frame, aesthetics=aesthetics, device=device, workers=each
        )
        sources.check()
    return scoring_options(
        names_in(taggers),
        cache_folder=cache,
        corpus=corpus,
        weights=weights,
        clip_networks=sources,
        engine=engine,
        num_workers=workers,
        gpus=chosen_workers(workers, engine, device).gpus,
    )


def names_in(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _print_report(scored: ScoredRun) -> Sequence[Gate]:
    from omni2sound.bench.report.gates import gates_as_markdown, gates_of
    from omni2sound.bench.report.tables import as_markdown, tables_of
    from omni2sound.bench.report.write import write_report

    for table in tables_of(scored.evaluation):
        print(as_markdown(table) + "\n")
    gates = gates_of(scored)
    if gates:
        print(gates_as_markdown(gates) + "\n")
    for path in write_report(scored, gates):
        print(path)
    return gates


def _finish(scored: ScoredRun, *, gates_decide: bool = False) -> None:
    gates = _print_report(scored)
    problems = scored.evaluation.problems
    for system, found in problems.items():
        shown: dict[str, int] = {}
        for problem in found:
            shown[problem.kind] = shown.get(problem.kind, 0) + 1
            if shown[problem.kind] <= MAX_SHOWN:
                message = f"{problem.kind}: {problem.name}: {problem.told}"
                print(f"omni2sound: {system}: {message}", file=sys.stderr)
        for kind, count in shown.items():
            if count > MAX_SHOWN:
                more = f"{count - MAX_SHOWN} more; report.md has all"
                print(f"omni2sound: {system}: {kind}: {more}", file=sys.stderr)
    if problems or (gates_decide and any(gate.passed is False for gate in gates)):
        raise typer.Exit(EXIT_SOME_FAILED)


def compare(
    a: Annotated[Path, typer.Argument(help="Run folder of A.")],
    b: Annotated[Path, typer.Argument(help="Run folder of B; may be that of A.")],
    task: Annotated[
        str | None, typer.Option(help="Task of A: VT2A, V2A or T2A. Default: its only one.")
    ] = None,
    task_b: Annotated[str | None, typer.Option(help="Task of B. Default: A's.")] = None,
    system: Annotated[str | None, typer.Option(help="System of A. Default: its model.")] = None,
    system_b: Annotated[
        str | None, typer.Option(help="System of B, such as a baseline. Default: its model.")
    ] = None,
    taggers: TaggersOption = "yamnet,tagger",
    cache: CacheOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    as_json: TableJsonOption = False,
) -> None:
    """Compare two systems by paired tests on their common clips."""
    import json
    from dataclasses import asdict

    from omni2sound.bench.compare import choose_system, compare_runs, comparison_as_markdown
    from omni2sound.bench.report.results import read_run
    from omni2sound.bench.tracks.track import as_task

    run_a, run_b = read_run(a), read_run(b)
    task_a = None if task is None else as_task(task, "task")
    other = task_a if task_b is None else as_task(task_b, "task_b")
    options = _options(taggers, cache, None, engine, workers)
    chosen = choose_system(run_a, task_a, system), choose_system(run_b, other, system_b)
    result = compare_runs(run_a, chosen[0], run_b, chosen[1], options)
    print(json.dumps(asdict(result)) if as_json else comparison_as_markdown(result))
