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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni2sound.cli.options import Engine, EngineOption, WorkersOption, default_workers
from omni2sound.errors import UserError

if TYPE_CHECKING:
    from omni2sound.bench.report.gates import Gate
    from omni2sound.bench.report.results import ScoredRun
    from omni2sound.bench.scoring.means import Means
    from omni2sound.bench.tracks.track import Track

__all__ = ["Steps", "compare", "report", "run", "score"]

_log = logging.getLogger(__name__)

EXIT_SOME_FAILED = 1
STAGE_OMNI = "stage-omni"
MAX_SHOWN = 20
"""Problems of one kind on the terminal; the report has all."""
TRACK_HELP = "Folder of a track, or stage-omni, which is built into the cache first."
JUDGES_HELP = "Judges, by commas; the first decides what is heard, the second says it again."
WEIGHTS_HELP = (
    "Folder of the judges' files of avbench-8s-v1 (docs/guides/full-size.md); adds that protocol. "
    "Each of "
    "--workers holds these judges; without it one does."
)
CACHE_HELP = "Where judged sounds are kept; the cache folder by default."
ASSETS_HELP = "Stage corpus, for its track and its baselines; by default where it is fetched to."

TrackArgument = Annotated[str, typer.Argument(help=TRACK_HELP)]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder; made if missing.")]
LimitOption = Annotated[int | None, typer.Option(min=4, help="Only the first clips.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the noise; and of stage-omni.")]
AssetsOption = Annotated[Path | None, typer.Option(help=ASSETS_HELP)]
JudgesOption = Annotated[str, typer.Option(help=JUDGES_HELP)]
WeightsOption = Annotated[Path | None, typer.Option(help=WEIGHTS_HELP)]
CacheOption = Annotated[Path | None, typer.Option(help=CACHE_HELP)]


class Steps:
    """A line for each step, and the seconds since the first."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, step: str, /) -> Callable[[int, int], None]:
        """What to tell about the jobs of one step."""
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
    model: Annotated[str, typer.Option(help="A model's name, folder or Hub id.")] = "embedded",
    tasks: Annotated[str, typer.Option(help="Some of VT2A,V2A,T2A.")] = "VT2A,V2A,T2A",
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale.")] = None,
    text_guidance: Annotated[
        float | None,
        typer.Option(
            min=0, help="Guidance scale of captions beside pictures. Default: --guidance."
        ),
    ] = None,
    gates: Annotated[
        bool,
        typer.Option(
            help="Add the controls that acceptance criteria need, print their verdicts, and exit "
            "with 1 if one is missed. Needs a scene track and the corpus."
        ),
    ] = False,
    many_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Add VT2A of the main part with this number of sampling steps."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips generated at once.")] = 8,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    assets: AssetsOption = None,
    judges: JudgesOption = "yamnet,tagger",
    weights: WeightsOption = None,
    encoders: Annotated[
        Path | None, typer.Option(help="Published encoders of a full-size model.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Precision of the transformer.")] = "auto",
    cache: CacheOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Make a model's sounds for a track, score them, write the report; goes on where it stopped."""
    from omni2sound.bench.run import run_model
    from omni2sound.bench.systems.model import ModelRun
    from omni2sound.data.workers import kept_workers

    chosen = [task.strip() for task in tasks.split(",") if task.strip()]
    means = _means(judges, cache, assets, engine, workers, weights)
    asked = ModelRun(
        model=model,
        tasks=tuple(chosen),  # type: ignore[arg-type]
        seed=seed,
        num_steps=steps,
        guidance=guidance,
        text_guidance=text_guidance,
        many_steps=many_steps,
        with_controls=gates,
        batch_size=batch,
        device=device,
        dtype=dtype,
        encoders=None if encoders is None else str(encoders),
    )
    with kept_workers():
        opened = _open(track, means, limit=limit, seed=seed)
        unknown = tuple(t for t in chosen if t not in opened.info.tasks)
        if unknown:
            raise UserError(
                f"track {opened.info.name} has no task {unknown[0]!r}; it has "
                f"{', '.join(opened.info.tasks)}"
            )
        scored = run_model(opened, out, asked, means, limit=limit, on_step=Steps())
    _finish(scored, gates_decide=gates)


def score(
    track: TrackArgument,
    sounds: Annotated[Path, typer.Argument(help="Folder of files named by clip id.")],
    out: OutOption,
    task: Annotated[str, typer.Option(help="What the system was shown: VT2A, V2A or T2A.")],
    name: Annotated[
        str | None, typer.Option(help="Of the system; the folder's by default.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(help="Sample rate of its files; by default what most have.")
    ] = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    assets: AssetsOption = None,
    judges: JudgesOption = "yamnet,tagger",
    weights: WeightsOption = None,
    cache: CacheOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Score any system's folder of wav, flac, mp4, ... named by clip id."""
    from omni2sound.bench.run import Submission, score_folders
    from omni2sound.bench.tracks.track import TASKS
    from omni2sound.data.workers import kept_workers

    if task not in TASKS:
        raise UserError(f"--task {task!r}: expected one of {', '.join(TASKS)}")
    means = _means(judges, cache, assets, engine, workers, weights)
    submission = Submission(
        name=name or sounds.resolve().name,
        task=task,
        folder=sounds,
        sample_rate_hz=rate,
    )
    with kept_workers():
        opened = _open(track, means, limit=limit, seed=seed)
        scored = score_folders(opened, [submission], out, means, limit=limit, on_step=Steps())
    _finish(scored)


def report(folder: Annotated[Path, typer.Argument(help="What `run` or `score` wrote.")]) -> None:
    """Print the tables of a scored run and write its report again."""
    from omni2sound.bench.report.results import read_run

    _print_report(read_run(folder))


def _means(
    judges: str,
    cache: Path | None,
    assets: Path | None,
    engine: Engine,
    workers: int | None,
    weights: Path | None = None,
) -> Means:
    from omni2sound.bench.metrics.tagging import load_tagger
    from omni2sound.bench.scoring.avbench import PublishedJudges
    from omni2sound.bench.scoring.means import Means
    from omni2sound.files import cache_dir

    names = tuple(dict.fromkeys(n.strip() for n in judges.split(",") if n.strip()))
    if not names:
        raise UserError("--judges: expected at least one name")
    for judge in names:
        load_tagger(judge)
    usual = cache_dir() / "stage"
    corpus = assets or (usual if usual.is_dir() else None)
    return Means(
        judges=names,
        published=None
        if weights is None
        else PublishedJudges(weights=weights, num_workers=workers or 1),
        cache_folder=cache or cache_dir() / "bench",
        assets=corpus,
        engine=engine,
        num_workers=workers or default_workers(),
    )


def _open(name: str, means: Means, *, limit: int | None, seed: int) -> Track:
    from omni2sound.bench.tracks.scenes import StagePlan, build_stage_track
    from omni2sound.bench.tracks.track import TRACK, read_track

    if name != STAGE_OMNI or (Path(name) / TRACK).is_file():
        return read_track(Path(name))
    if means.assets is None:
        raise UserError("stage-omni is made of the stage corpus; run: omni2sound scenes fetch")
    # The first clips of a longer track are the same: no more are built than are asked for.
    plan = StagePlan(num_clips=limit or StagePlan().num_clips, seed=seed)
    folder = means.cache_folder / "tracks" / f"{STAGE_OMNI}-{plan.num_clips}-seed-{seed}"
    return build_stage_track(
        means.assets,
        folder,
        plan,
        engine=means.engine,
        num_workers=means.num_workers,
        on_clip=Steps()("track"),
    )


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
                told = f"{problem.kind}: {problem.name}: {problem.told}"
                print(f"omni2sound: {system}: {told}", file=sys.stderr)
        for kind, count in shown.items():
            if count > MAX_SHOWN:
                more = f"{count - MAX_SHOWN} more; report.md has all"
                print(f"omni2sound: {system}: {kind}: {more}", file=sys.stderr)
    if problems or (gates_decide and any(gate.passed is False for gate in gates)):
        raise typer.Exit(EXIT_SOME_FAILED)


def compare(
    a: Annotated[Path, typer.Argument(help="What `run` or `score` wrote for A.")],
    b: Annotated[Path, typer.Argument(help="The same for B; may be the same folder.")],
    task: Annotated[
        str | None, typer.Option(help="VT2A, V2A or T2A, if there are several.")
    ] = None,
    task_b: Annotated[str | None, typer.Option(help="Of B, if it is another one.")] = None,
    system: Annotated[str | None, typer.Option(help="A's system; its model by default.")] = None,
    system_b: Annotated[str | None, typer.Option(help="B's; baselines can be named.")] = None,
    judges: JudgesOption = "yamnet,tagger",
    cache: CacheOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Is A better than B? Paired tests on the clips that both have."""
    import json
    from dataclasses import asdict

    from omni2sound.bench.compare import choose_system, compare_runs, comparison_as_markdown
    from omni2sound.bench.report.results import read_run

    run_a, run_b = read_run(a), read_run(b)
    means = _means(judges, cache, None, engine, workers)
    result = compare_runs(
        run_a,
        choose_system(run_a, task, system),  # type: ignore[arg-type]
        run_b,
        choose_system(run_b, task_b or task, system_b),  # type: ignore[arg-type]
        means,
    )
    print(json.dumps(asdict(result)) if as_json else comparison_as_markdown(result))
