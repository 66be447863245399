"""`omni2sound annotate check` and `run`: what an endpoint takes; captions for a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from omni2sound.cli.annotate.options import (
    EXIT_SOME_FAILED,
    MODEL,
    AudioPartOption,
    BudgetOption,
    CapOption,
    ConcurrencyOption,
    DeviceOption,
    EventWeightsOption,
    ExtraOption,
    JointOption,
    KeyOption,
    LimitOption,
    MaxPicturesOption,
    PricesOption,
    PromptsOption,
    ScorerOption,
    StructuredOption,
    TimeoutOption,
    WeightsOption,
    by_role,
    chat_options,
    count,
    json_object,
    money,
    targeted,
)
from omni2sound.cli.options import EngineOption, WorkersOption, chosen_workers
from omni2sound.cli.progress import progress_bar

if TYPE_CHECKING:
    from omni2sound.annotate.build import CrewSettings
    from omni2sound.data.workers import Workers

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
CrewOption = Annotated[
    str,
    typer.Option(
        help="Models of all roles: local (bundled networks), paper (Gemini), open, small (on "
        "servers of your own), or a .toml file."
    ),
]
AtOption = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="[ROLE=]URL",
        help="Server of a crew's open models, for all roles or one; may be repeated. "
        "Default: none.",
    ),
]
_CREWS = "Default: the crew's."
JuniorOption = Annotated[
    str | None, typer.Option(help=f"Captioner of every clip: {MODEL} {_CREWS}")
]
SeniorOption = Annotated[
    str | None, typer.Option(help=f"Captioner of hard clips: {MODEL} {_CREWS}")
]
VisionOption = Annotated[str | None, typer.Option(help=f"Describes the video: {MODEL} {_CREWS}")]
ValidatorOption = Annotated[
    str | None,
    typer.Option(help=f"Checks captions by the description: {MODEL} Default: the junior."),
]
FramesOption = Annotated[
    float | None,
    typer.Option(help="Frames that the viewer sees, up to 4 a second. Default: two of each shot."),
]
PhrasesOption = Annotated[
    Path | None,
    typer.Option(
        help="File of phrases, one a line, that hand a clip to the senior; an empty one turns the "
        "rule off. Default: the bundled list."
    ),
]
ThresholdsOption = Annotated[
    Path | None,
    typer.Option(help="File in the form of thresholds.toml. Default: the bundled one."),
]


def check(
    model: Annotated[str, typer.Argument(metavar="MODEL@URL", help="Model at an endpoint.")],
    key_variable: KeyOption = None,
    timeout_s: TimeoutOption = 120.0,
) -> None:
    """Find out with at most five cheap calls what an endpoint takes.

    Prints what was found and the settings for `annotate run`. Exit code 1 if it takes no sound.
    """
    import asyncio

    from omni2sound.annotate.chat.probe import probe_endpoint

    options = chat_options(key_variable, None, 1, timeout_s, None, None)
    found = asyncio.run(probe_endpoint(model, options))
    print(found)
    if not found.hears:
        raise typer.Exit(EXIT_SOME_FAILED)


def run(
    manifest: Annotated[Path, typer.Argument(help="Clips: a manifest that `data import` wrote.")],
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder; an existing run is resumed.")
    ],
    crew: CrewOption = "local",
    at: AtOption = None,
    junior: JuniorOption = None,
    senior: SeniorOption = None,
    vision: VisionOption = None,
    validator: ValidatorOption = None,
    pictures: PicturesOption = "text",
    frames_per_second: FramesOption = None,
    max_pictures: MaxPicturesOption = None,
    prompts: PromptsOption = None,
    phrases: PhrasesOption = None,
    wording: WordingOption = "template",
    key_variable: KeyOption = None,
    structured: StructuredOption = None,
    audio_part: AudioPartOption = None,
    cap: CapOption = None,
    extra: ExtraOption = None,
    budget_usd: BudgetOption = None,
    price_file: PricesOption = None,
    concurrency: ConcurrencyOption = 16,
    timeout_s: TimeoutOption = 120.0,
    thresholds: ThresholdsOption = None,
    scorer: ScorerOption = "joint",
    weights: WeightsOption = None,
    event_weights: EventWeightsOption = None,
    device: DeviceOption = "cpu",
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
    from omni2sound.annotate.build import CrewSettings

    settings = CrewSettings.of(
        crew,
        at=targeted(at, "at", str),
        junior=junior,
        senior=senior,
        vision=vision,
        validator=validator,
        pictures=pictures,
        frames_per_second=frames_per_second,
        max_pictures=targeted(max_pictures, "max_pictures", count),
        prompts=prompts,
        phrases=phrases,
        wording=wording,
        cap=by_role(cap, "cap", count),
        extra=by_role(extra, "extra", json_object),
        chat=chat_options(key_variable, price_file, concurrency, timeout_s, structured, audio_part),
        scorer=scorer,
        weights=weights,
        event_weights=event_weights,
        device=device,
        joint=joint,
        thresholds=thresholds,
    )
    _annotate(
        manifest,
        run,
        settings,
        budget_usd,
        chosen_workers(workers, engine),
        limit,
        dry_run,
    )


def _annotate(
    manifest: Path,
    run: Path,
    settings: CrewSettings,
    budget_usd: str | None,
    workers: Workers,
    limit: int | None,
    dry_run: bool,
) -> None:
    import asyncio

    from omni2sound.annotate.build import annotate_manifest
    from omni2sound.annotate.chat.estimate import estimate
    from omni2sound.annotate.runs import source_clips
    from omni2sound.data.corpora.manifest import read_manifest

    budget = money(budget_usd)
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
                workers=workers,
                limit=limit,
                on_progress=lambda p: report(p.done, p.total),
            )
        )
    print(json.dumps(ends))
    if ends["failed"] or ends["waiting"]:
        raise typer.Exit(EXIT_SOME_FAILED)
