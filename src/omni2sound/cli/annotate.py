"""`omni2sound annotate`: captions for a corpus; how far it is; what came out.

In:   a manifest, models by name: `local`, `scripted:FILE`, or NAME@URL of an OpenAI-compatible
      endpoint.
Out:  a run's folder, which goes on where it was; a data set; tables and pages on stdout.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from contextlib import AsyncExitStack
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni2sound.annotate.chat_models import MODEL_HELP, ChatOptions, chat_model
from omni2sound.cli.options import Engine, EngineOption, WorkersOption, default_workers
from omni2sound.cli.progress import progress_bar
from omni2sound.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omni2sound.annotate import Crew, SourceClip
    from omni2sound.annotate.executor import Executor
    from omni2sound.annotate.roles import Scorer
    from omni2sound.llm import CallStore, ChatModel

__all__ = ["app"]

_log = logging.getLogger(__name__)

EXIT_SOME_FAILED = 1
_WATCH_S = 5.0
_PICTURES = ("text", "none", "frames")
_WORDINGS = ("template", "smollm2")

app = typer.Typer(
    help="Captions from sound and picture: run, watch, export.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    manifest: Annotated[Path, typer.Argument(help="The clips: omni2sound data import.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an old run goes on.")],
    junior: Annotated[str, typer.Option(help=MODEL_HELP)] = "local",
    senior: Annotated[str, typer.Option(help=MODEL_HELP)] = "local",
    vision: Annotated[str, typer.Option(help=MODEL_HELP)] = "local",
    pictures: Annotated[
        str,
        typer.Option(help="text: as the paper. none: no picture at all. frames: to the captioner."),
    ] = "text",
    wording: Annotated[
        str,
        typer.Option(
            help="Of local captions. smollm2: a small network rewords them; what it adds or "
            "loses is refused."
        ),
    ] = "template",
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the API key; `none` if none is needed.")
    ] = "OPENAI_API_KEY",
    budget_usd: Annotated[str | None, typer.Option(help="Stop before more is spent.")] = None,
    price_file: Annotated[
        list[Path] | None, typer.Option("--prices", help="Price table of your own; may repeat.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="API calls at a time.")] = 16,
    timeout: Annotated[float, typer.Option(help="Seconds that one API call may take.")] = 120.0,
    senior_extra: Annotated[
        str | None,
        typer.Option(help="JSON sent with the senior's calls, e.g. an endpoint's reasoning cap."),
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="Thresholds of your own, as thresholds.toml.")
    ] = None,
    joint: Annotated[str, typer.Option(help="Joint heads of the local scorer.")] = "joint-v1",
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first clips.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; ask nobody.")
    ] = False,
) -> None:
    """Annotate the clips of a manifest. Exit code 1 if some could not be finished."""
    from omni2sound.annotate.runs import RunSettings, source_clips
    from omni2sound.data.corpora.manifest import read_manifest

    if pictures not in _PICTURES:
        raise UserError(f"--pictures {pictures!r}: expected one of {', '.join(_PICTURES)}")
    if wording not in _WORDINGS:
        raise UserError(f"--wording {wording!r}: expected one of {', '.join(_WORDINGS)}")
    if wording != "template" and "local" not in (junior, senior):
        raise UserError(
            f"--wording {wording}: rewords local captions, but neither --junior nor --senior is "
            "local; leave it out"
        )
    budget = _money(budget_usd)
    clips = source_clips(read_manifest(manifest))[:limit]
    if dry_run:
        _say_what_would_be_done(
            clips, price_file or [], junior=junior, senior=senior, vision=vision
        )
        return
    wording_sha256 = _digest_of(wording)
    out.mkdir(parents=True, exist_ok=True)
    settings = RunSettings(
        manifest=str(manifest.resolve()),
        junior=junior,
        senior=senior,
        vision=vision,
        scorer="scripted" if junior.startswith("scripted:") else "local",
        pictures=pictures,
        num_clips=len(clips),
        wording=wording,
    )
    settings.write(out)
    options = _Options(
        chat=ChatOptions(
            key_variable=key_variable,
            prices=tuple(price_file or ()),
            concurrency=concurrency,
            timeout_s=timeout,
        ),
        senior_extra=_json_object(senior_extra),
        thresholds=thresholds,
        joint=joint,
        engine=engine,
        workers=workers or default_workers(),
        wording_sha256=wording_sha256,
    )
    ends = asyncio.run(_run(clips, out, settings, options, budget))
    print(json.dumps(ends))
    if ends["failed"] or ends["waiting"]:
        raise typer.Exit(EXIT_SOME_FAILED)


def _digest_of(wording: str) -> str | None:
    if wording == "template":
        return None
    from omni2sound.annotate.local.smollm2 import SmolLM2

    return SmolLM2.digest()


def _money(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not (amount.is_finite() and amount > 0):
        raise UserError(f"--budget-usd {text!r}: expected a number above 0")
    return amount


def _json_object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise UserError(f"--senior-extra {text!r}: expected a JSON object")
    return data


class _Options:
    """What changes no name in the settings."""

    def __init__(self, **values: Any) -> None:
        self.chat: ChatOptions = values["chat"]
        self.senior_extra: dict[str, Any] = values["senior_extra"]
        self.thresholds: Path | None = values["thresholds"]
        self.joint: str = values["joint"]
        self.engine: Engine = values["engine"]
        self.workers: int = values["workers"]
        self.wording_sha256: str | None = values["wording_sha256"]
        """Of the network that rewords; None for templates."""


async def _run(
    clips: Sequence[SourceClip], out: Path, settings: Any, options: _Options, budget: Decimal | None
) -> dict[str, int]:
    from omni2sound.annotate import STEPS_FILE, StepStore, annotate
    from omni2sound.annotate.executor import Executor
    from omni2sound.annotate.runs import CALLS_FILE
    from omni2sound.llm import CallStore

    ends = {"kept": 0, "dropped": 0, "failed": 0, "waiting": 0}
    async with AsyncExitStack() as stack:
        steps = stack.enter_context(StepStore.open(out / STEPS_FILE))
        calls = stack.enter_context(CallStore.open(out / CALLS_FILE, budget_usd=budget))
        executor = Executor(
            engine=options.engine, num_workers=options.workers, effort=steps.pending_effort
        )
        crew = _crew(stack, calls, executor, settings, options)
        report = stack.enter_context(progress_bar("clips", len(clips)))
        async for journey in annotate(
            clips, crew, steps, on_progress=lambda p: report(p.done, p.total)
        ):
            ends[journey.end or "waiting"] += 1
        if any("@" in model for model in (settings.junior, settings.senior, settings.vision)):
            spend = calls.spend()
            _log.info("spent %f USD, perhaps %f more", spend.known_usd, spend.uncertain_usd)
    return ends


def _crew(
    stack: AsyncExitStack, calls: CallStore, executor: Executor, settings: Any, options: _Options
) -> Crew:
    from omni2sound.annotate import Crew, HandOffRules, Thresholds, hallucination_phrases
    from omni2sound.annotate.chat_agents import ChatJunior, ChatSenior, ChatValidator, ChatViewer

    models: dict[str, ChatModel] = {}
    for name in (settings.junior, settings.senior, settings.vision):
        if name != "local" and name not in models:
            models[name] = chat_model(name, stack, calls, options.chat)
    scorer, local = _local(settings, options, executor)
    frames, text = settings.pictures == "frames", settings.pictures == "text"
    junior_model = models.get(settings.junior)
    vision_model = models.get(settings.vision)
    senior_model = models.get(settings.senior)
    return Crew(
        scorer=scorer,
        viewer=(
            None
            if not text
            else local["viewer"]
            if vision_model is None
            else ChatViewer(vision_model, concurrency=options.chat.concurrency)
        ),
        junior=(
            local["junior"]
            if junior_model is None
            else ChatJunior(junior_model, shows_frames=frames, concurrency=options.chat.concurrency)
        ),
        senior=(
            local["senior"]
            if senior_model is None
            else ChatSenior(
                senior_model, extra=options.senior_extra, concurrency=options.chat.concurrency
            )
        ),
        validator=(
            None
            if not text
            else local["validator"]
            if junior_model is None
            else ChatValidator(junior_model, concurrency=options.chat.concurrency)
        ),
        thresholds=Thresholds.of(scorer.name, options.thresholds),
        rules=HandOffRules(phrases=hallucination_phrases()),
    )


def _local(settings: Any, options: _Options, executor: Executor) -> tuple[Scorer, dict[str, Any]]:
    if settings.scorer == "scripted":
        from omni2sound.annotate.scripted import ScriptedScorer

        script = Path(settings.junior.removeprefix("scripted:"))
        return ScriptedScorer(json.loads(script.read_text(encoding="utf-8"))), {}
    from omni2sound.annotate.local.roles import (
        LocalJunior,
        LocalScorer,
        LocalSenior,
        LocalValidator,
        LocalViewer,
    )
    from omni2sound.annotate.local.wording import Rewording
    from omni2sound.annotate.local.words import vocabulary
    from omni2sound.encoders.metric.yamnet import YamNet
    from omni2sound.scenes.material.catalogue import Catalogue
    from omni2sound.weights import resolve_model

    joint = resolve_model(options.joint)
    rewording = None
    if options.wording_sha256 is not None:
        rewording = Rewording(executor=executor, sha256=options.wording_sha256)
    words = vocabulary(YamNet.load().class_names)
    if settings.junior != "local":
        _log.warning(
            "%s knows %d classes: other things that %s names are not judged one by one, and its "
            "sentences against thresholds of stage scenes; see --thresholds",
            *(joint.name, len(Catalogue.load().class_ids), settings.junior),
        )
    return LocalScorer(joint=joint, executor=executor), {
        "viewer": LocalViewer(),
        "junior": LocalJunior(
            words=words, sees_for_itself=settings.pictures == "frames", rewording=rewording
        ),
        "senior": LocalSenior(words=words, joint=joint, executor=executor, rewording=rewording),
        "validator": LocalValidator(words),
    }


def _say_what_would_be_done(
    clips: Sequence[SourceClip], prices: list[Path], *, junior: str, senior: str, vision: str
) -> None:
    from omni2sound.annotate.estimate import estimate
    from omni2sound.llm import Prices

    table = Prices.load(*prices)
    for line in estimate(clips, junior=junior, senior=senior, vision=vision, prices=table):
        print(line)


@app.command()
def status(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again every few seconds until all clips have ended.")
    ] = False,
) -> None:
    """How far a run is: routes, drops by rule, escalations, money, speed, time left."""
    from omni2sound.annotate.status import run_status

    while True:
        found = run_status(out)
        if watch and not as_json and sys.stdout.isatty():
            print("\x1b[2J\x1b[H", end="")  # a fresh screen
        _print_status(found, as_json=as_json)
        if not watch or found["ended"] >= found["clips"]:
            return
        time.sleep(_WATCH_S)


def _print_status(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found), flush=True)
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        print(f"{name:{width}}  {'-' if value is None else value}", flush=True)


@app.command()
def export(
    run_folder: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    to: Annotated[Path, typer.Option(help="Folder of the data set; must not hold anything.")],
) -> None:
    """Write what was kept: manifest, Parquet, card and statistics."""
    from omni2sound.annotate.export import export as write

    counted = write(run_folder, to)
    print(to)
    _log.info("%d of %d clips kept", counted["kept"], counted["ended"])


@app.command()
def inspect(
    clip: Annotated[str, typer.Argument(help="CORPUS/CLIP_ID as in the manifest.")],
    run_folder: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .html file.")],
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """One clip's whole story as a page: frames, spectrogram, turns, decisions."""
    from omni2sound.annotate.page import write_page

    if output.exists() and not overwrite:
        raise UserError(f"{output}: exists already; choose another name or give --overwrite")
    write_page(run_folder, clip, output)
    print(output)


@app.command()
def judge(
    run_folder: Annotated[Path, typer.Argument(help="Folder of the run.")],
    against: Annotated[
        str,
        typer.Option(help="`manifest`: the clips' own first captions; or another run's folder."),
    ] = "manifest",
    judge_name: Annotated[str, typer.Option("--judge", help=MODEL_HELP)] = "local",
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the API key; `none` if none is needed.")
    ] = "OPENAI_API_KEY",
    price_file: Annotated[
        list[Path] | None, typer.Option("--prices", help="Price table of your own; may repeat.")
    ] = None,
    budget_usd: Annotated[
        str | None, typer.Option(help="Stop before more is spent on judges of this run.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="API calls at a time.")] = 16,
    timeout: Annotated[float, typer.Option(help="Seconds that one API call may take.")] = 120.0,
    joint: Annotated[
        str, typer.Option(help="Joint heads of the caption-audio score.")
    ] = "joint-v1",
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first clips.")] = None,
) -> None:
    """A run's captions against others of the same clips: win rate, both orders asked."""
    from omni2sound.annotate.executor import Executor
    from omni2sound.annotate.judge_run import judge_run
    from omni2sound.weights import resolve_model

    lines = asyncio.run(
        judge_run(
            run_folder,
            against,
            judge_name,
            options=ChatOptions(
                key_variable=key_variable,
                prices=tuple(price_file or ()),
                concurrency=concurrency,
                timeout_s=timeout,
            ),
            joint=resolve_model(joint),
            executor=Executor(engine=engine, num_workers=workers or default_workers()),
            limit=limit,
            budget_usd=_money(budget_usd),
        )
    )
    print("\n".join(lines))


@app.command()
def score(
    run_folders: Annotated[list[Path], typer.Argument(help="Runs over the same stage scenes.")],
    scenes: Annotated[
        list[Path], typer.Option(help="Folder of scenes: omni2sound scenes build; may repeat.")
    ],
) -> None:
    """Runs over stage scenes against the truth, as a table."""
    from omni2sound.annotate.against_scenes import TruthNames, arms_of, yield_of
    from omni2sound.annotate.runs import RunSettings, stories
    from omni2sound.scenes.export.files import EVENTS
    from omni2sound.scenes.material.catalogue import Catalogue
    from omni2sound.scenes.scene import Scene

    truth = {
        path.parent.name: Scene.from_json(path.read_text(encoding="utf-8"))
        for folder in scenes
        for path in sorted(folder.glob(f"*/{EVENTS}"))
    }
    names = TruthNames(Catalogue.load())
    print(
        "run | pictures | arm | clips | recall (random) | invented (random) | of named | order | "
        'on-screen | where said | always "on screen"'
    )
    for folder in run_folders:
        settings = RunSettings.read(folder)
        told = [(s, truth[s.clip.clip_id]) for s in stories(folder) if s.clip.clip_id in truth]
        for arm in arms_of(told, names):
            values = (
                *(arm.recall, arm.invented_per_caption, arm.invented_of_named, arm.order),
                *(arm.on_screen, arm.on_screen_of_said, arm.on_screen_always),
            )
            cells = [f"{v:.3f}" if v is not None else "-" for v in values]
            if arm.at_random is not None:
                for place, (low, high) in enumerate(
                    (arm.at_random.recall, arm.at_random.invented_per_caption)
                ):
                    cells[place] += f" ({low:.3f} to {high:.3f})"
            head = (folder.name, settings.pictures, arm.name, str(arm.clips))
            print(" | ".join([*head, *cells]))
        print(f"{folder.name}: {yield_of(told, names)}")
