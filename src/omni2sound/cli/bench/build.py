"""`omni2sound bench build TRACK`: tracks of the benchmark as versioned data.

In:   the scene material, or what others publish and a folder of media.
Out:  a track folder; its identity on stdout.
"""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from omni2sound.cli.options import (
    CorpusOption,
    EngineOption,
    WorkersOption,
    chosen_workers,
    command_group,
)
from omni2sound.cli.progress import progress_bar
from omni2sound.errors import UserError
from omni2sound.files import corpus_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omni2sound.bench.tracks.caption_check import Asking
    from omni2sound.bench.tracks.folder import FolderReport
    from omni2sound.bench.tracks.track import Track
    from omni2sound.data.corpora.assemble import ImportReport
    from omni2sound.data.corpora.manifest import Clip
    from omni2sound.llm.chat import ChatModel

Structured = Literal["json_schema", "json_object", "text"]

_log = logging.getLogger(__name__)

_MAX_SHOWN = 20

app = command_group("Build a track: versioned clips, captions and ground truth.")

_WAITING = (
    "%d clips wait for a decision in %s; fill it in (or: omni2sound bench decide), then run again"
)
StructuredOption = Annotated[
    Structured,
    typer.Option(help="How the endpoint gets the form of an answer; see `annotate check`."),
]
CapOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Limit of output tokens, hidden thoughts included; raised once for a reply that was "
        "cut. Default: 400.",
    ),
]
ExtraOption = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="JSON object added to the calls. Default: nothing."),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(help="Folder with a caption-check.md of your own. Default: the bundled prompt."),
]
LlmUrlOption = Annotated[str | None, typer.Option(help="Endpoint of the model. Default: OpenAI's.")]
LlmKeyOption = Annotated[
    str | None, typer.Option(help="Environment variable with its key. Default: no key.")
]
LlmBudgetOption = Annotated[
    float | None, typer.Option(min=0, help="Limit in US dollars. Default: none.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the track.")]


@app.command("stage-omni")
def stage_omni(
    out: OutOption,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the scenes.")] = 0,
    clips: Annotated[
        int, typer.Option(min=2, help="Number of clips, half of them off-screen.")
    ] = 1000,
    duration: Annotated[float, typer.Option(help="Length of every clip in seconds.")] = 8.0,
    corpus: CorpusOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Build scenes with exact ground truth, offline.

    An interrupted build is resumed.
    """
    from omni2sound.bench.tracks.scenes import TrackPlan, build_scene_track

    with progress_bar("clips", clips) as report:
        track = build_scene_track(
            corpus_folder(corpus),
            out,
            TrackPlan(num_clips=clips, seed=seed, duration_s=duration),
            workers=chosen_workers(workers, engine),
            on_clip=report,
        )
    _print_identity(track)


@app.command("vggsound-omni")
def vggsound_omni(
    vggsound: Annotated[Path, typer.Option(help="Folder with vggsound.csv.")],
    media: Annotated[Path, typer.Option(help="Folder of its videos.")],
    captions: Annotated[
        Path, typer.Option(help="CSV of name, caption[, visual, similarity], or a manifest.")
    ],
    out: OutOption,
    work: Annotated[Path, typer.Option(help="Folder of the checks and the review queue.")],
    music: Annotated[
        Path | None, typer.Option(help="Manifest of music with captions to mix in. Default: none.")
    ] = None,
    mixes: Annotated[int, typer.Option(min=0, help="Number of clips that get music.")] = 800,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the mixes.")] = 0,
    max_similarity: Annotated[
        float, typer.Option(help="Audio-visual similarity below which a clip is off-screen.")
    ] = 0.2,
    captions_by: Annotated[
        str, typer.Option(help="Author of the captions, noted in the track. Default: none.")
    ] = "",
    llm_model: Annotated[
        str | None, typer.Option(help="Model that checks captions; required without --no-llm.")
    ] = None,
    llm_url: LlmUrlOption = None,
    llm_key: LlmKeyOption = None,
    structured: StructuredOption = "json_schema",
    cap: CapOption = None,
    extra: ExtraOption = None,
    prompts: PromptsOption = None,
    budget: LlmBudgetOption = None,
    no_llm: Annotated[
        bool, typer.Option("--no-llm", help="Skip the caption check (noted in the track).")
    ] = False,
) -> None:
    """Build from VGGSound's test set; exit 1 while clips wait."""
    from omni2sound.bench.metrics.tagging import speech_by_yamnet
    from omni2sound.bench.tracks.music_mixes import MixPlan
    from omni2sound.bench.tracks.vggsound import (
        VggsoundPlan,
        Waiting,
        build_vggsound_track,
        read_captions,
    )
    from omni2sound.cli.bench.run import Steps
    from omni2sound.data.corpora import importer
    from omni2sound.data.corpora.assemble import assemble
    from omni2sound.data.corpora.finding.folder import MediaFolder
    from omni2sound.data.corpora.manifest import read_manifest

    if (llm_model is None) != no_llm:
        raise UserError("give --llm-model (and --llm-url), or say --no-llm")
    clips, listed = assemble("vggsound", importer("vggsound")(vggsound), MediaFolder(media))
    clips = _usable(clips, listed)
    mixed = MixPlan(count=mixes, seed=seed)
    asking = _asking(cap, extra, prompts)
    plan = VggsoundPlan(
        mixes=mixed, max_similarity=max_similarity, captions_by=captions_by, asking=asking
    )
    with ExitStack() as stack:
        model = None
        if llm_model is not None:
            model = _chat(stack, work, llm_model, llm_url, llm_key, budget, structured)
        made = build_vggsound_track(
            [c for c in clips if c.split == "test"],
            media,
            read_captions(captions),
            out,
            work,
            plan,
            model=model,
            hears_speech=speech_by_yamnet(),
            music=None if music is None else read_manifest(music),
            missing=listed.missing,
            on_step=Steps(),
        )
    if isinstance(made, Waiting):
        _log.warning(_WAITING, made.num_waiting, made.queue)
        print(made.queue)
        raise typer.Exit(1)
    _print_identity(made)


def _usable(clips: Sequence[Clip], listed: ImportReport) -> tuple[Clip, ...]:
    """Report what an import left out, and leave out clips inside whole videos."""
    for problem in listed.problems[:_MAX_SHOWN]:
        _log.warning("%s:%d: %s", problem.file, problem.line, problem.reason)
    for unsure in listed.unsure[:_MAX_SHOWN]:
        _log.warning("%s: %s: %s", unsure.clip_id, ", ".join(unsure.files), unsure.reason)
    whole = sum(clip.start_s > 0 for clip in clips)
    for count, what in (
        (len(listed.missing), "have no media"),
        (len(listed.unsure), "have no file that is sure"),
        (whole, "lie inside whole videos; cut these, since a track's clips begin with their file"),
    ):
        if count:
            _log.warning("%d clips are not in the track: they %s", count, what)
    return tuple(clip for clip in clips if not clip.start_s > 0)


@app.command()
def audiocaps(
    published: Annotated[Path, typer.Option(help="Folder with test.csv.")],
    media: Annotated[Path, typer.Option(help="Folder of its sounds or videos.")],
    out: OutOption,
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed that chooses one caption of five.")
    ] = 0,
) -> None:
    """Build from AudioCaps' test split, in clips of 10 s."""
    from omni2sound.bench.tracks.public import build_corpus_track
    from omni2sound.data.corpora import importer
    from omni2sound.data.corpora.assemble import assemble
    from omni2sound.data.corpora.finding.folder import MediaFolder

    clips, listed = assemble("audiocaps", importer("audiocaps")(published), MediaFolder(media))
    test = [c for c in _usable(clips, listed) if c.split == "test"]
    _print_identity(build_corpus_track("audiocaps", test, media, out, clip_s=10.0, seed=seed))


@app.command("vggsound-tvc")
def vggsound_tvc(
    table: Annotated[Path, typer.Option(help="The published conflict_dataset_full.tsv.")],
    media: Annotated[Path, typer.Option(help="Folder of VGGSound's videos.")],
    out: OutOption,
    level: Annotated[
        Literal["L0", "L1-subject", "L1-action", "L2", "L3"],
        typer.Option(help="How far the text contradicts the video: L0 agrees, L3 is random."),
    ],
) -> None:
    """Build from VGGSound-TVC: text against the video."""
    from omni2sound.bench.tracks.public import build_corpus_track
    from omni2sound.bench.tracks.tvc import CLIP_S, read_tvc
    from omni2sound.data.corpora.assemble import assemble
    from omni2sound.data.corpora.finding.folder import MediaFolder

    clips, listed = assemble("vggsound", read_tvc(table, level), MediaFolder(media))
    name = f"vggsound-tvc-{level}"
    usable = _usable(clips, listed)
    _print_identity(build_corpus_track(name, usable, media, out, clip_s=CLIP_S, seed=0))


@app.command("kling-audio-eval")
def kling_audio_eval(
    table: Annotated[Path, typer.Option(help="CSV, JSON Lines or Parquet, as published.")],
    media: Annotated[Path, typer.Option(help="Folder that its paths start from.")],
    out: OutOption,
    columns: Annotated[
        str,
        typer.Option(
            help="Columns of the table, as id=ID,caption=TEXT,video=FILE or with audio=FILE."
        ),
    ],
    duration: Annotated[float, typer.Option(help="Length of every clip in seconds.")] = 8.0,
) -> None:
    """Build from Kling-Audio-Eval, or from any table of clips."""
    from omni2sound.bench.tracks.public import Columns, build_table_track, read_table

    named = dict(part.partition("=")[::2] for part in columns.split(",") if "=" in part)
    if not {"id", "caption"} <= named.keys() or not named.keys() & {"video", "audio"}:
        raise UserError(f"--columns {columns!r}: expected id=...,caption=...,video=...")
    chosen = Columns(
        clip_id=named["id"],
        caption=named["caption"],
        video=named.get("video"),
        audio=named.get("audio"),
    )
    rows = read_table(table)
    _print_identity(
        build_table_track("kling-audio-eval", rows, media, out, columns=chosen, clip_s=duration)
    )


@app.command()
def folder(
    media: Annotated[Path, typer.Argument(help="Folder of videos or sounds, in any depth.")],
    out: OutOption,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="CSV, JSON Lines or Parquet with file_name, caption and perhaps category. "
            "Default: NAME.txt beside NAME.mp4; the folder is the category."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the track.")] = "folder",
    duration: Annotated[
        float, typer.Option(help="Longest clip in seconds; longer files are used from their start.")
    ] = 10.0,
) -> None:
    """Build from a folder of clips, with categories.

    Your own, or another benchmark's. Clips without sound or caption are left out and named.
    """
    from omni2sound.bench.tracks.folder import build_folder_track

    if not duration > 0:
        raise UserError(f"expected more than 0 seconds, got {duration:g}", field="duration")
    with progress_bar("clips") as report:
        made = build_folder_track(name, media, out, table=captions, max_s=duration, on_clip=report)
    _print_built(made)


@app.command()
def foleybench(
    published: Annotated[Path, typer.Argument(help="Folder of its Parquet files.")],
    media: Annotated[Path, typer.Option(help="Folder for its videos; created if missing.")],
    out: OutOption,
    category: Annotated[
        str | None,
        typer.Option(
            help="Column of categories. Default: ucs_category, ucs, category or label, if any."
        ),
    ] = None,
    duration: Annotated[float, typer.Option(help="Longest clip in seconds.")] = 10.0,
) -> None:
    """Build from FoleyBench's Parquet files, with categories.

    Videos are written as files first. Clips without sound or caption are left out and named.
    """
    from omni2sound.bench.tracks.foleybench import build_foleybench_track

    if not duration > 0:
        raise UserError(f"expected more than 0 seconds, got {duration:g}", field="duration")
    with progress_bar("clips") as report:
        made = build_foleybench_track(
            published, media, out, category=category, max_s=duration, on_clip=report
        )
    _print_built(made)


def _print_built(made: FolderReport) -> None:
    for clip, reason in made.left_out[:_MAX_SHOWN]:
        _log.warning("%s: %s", clip, reason)
    if made.left_out:
        _log.warning("%d clips are not in the track", len(made.left_out))
    _print_identity(made.track)


@app.command()
def foreign(
    track: Annotated[Path, typer.Argument(help="Folder of a track.")],
    captions: Annotated[Path, typer.Option(help="CSV with columns name, caption; or a manifest.")],
    annotator: Annotated[str, typer.Option(help="Author of the captions.")],
    out: OutOption,
) -> None:
    """Build the same clips with another annotator's captions."""
    from omni2sound.bench.tracks.public import build_recaptioned_track, read_caption_rows
    from omni2sound.bench.tracks.track import read_track

    texts = {name: str(row["caption"] or "") for name, row in read_caption_rows(captions).items()}
    made, left_out = build_recaptioned_track(read_track(track), texts, annotator, out)
    if left_out:
        _log.warning("%d clips without a caption of %s left out", len(left_out), annotator)
    _print_identity(made)


def decide(
    queue: Annotated[Path, typer.Argument(help="File review.csv of a build.")],
    clip: Annotated[str, typer.Argument(help="Clip id.")],
    decision: Annotated[str, typer.Argument(help="Decision: accept, edit or reject.")],
    who: Annotated[str, typer.Option(help="Your name.")],
    caption: Annotated[str, typer.Option(help="New caption, for edit. Default: none.")] = "",
) -> None:
    """Record a decision on one clip of a review queue."""
    from datetime import UTC, datetime

    from omni2sound.bench.tracks.review import decide as write_decision

    write_decision(
        queue,
        clip,
        decision,  # type: ignore[arg-type]
        who=who,
        when=datetime.now(UTC),
        new_caption=caption,
    )


def _chat(
    stack: ExitStack,
    work: Path,
    model: str,
    url: str | None,
    key: str | None,
    budget: float | None,
    structured: Structured,
) -> ChatModel:
    from decimal import Decimal

    from omni2sound.llm import OPENAI_URL, CachedChat, CallStore, OpenAIEndpoint, Prices
    from omni2sound.llm.servers.options import ServerOptions

    work.mkdir(parents=True, exist_ok=True)
    limit = None if budget is None else Decimal(str(budget))
    store = stack.enter_context(CallStore.open(work / "calls.sqlite", budget_usd=limit))
    endpoint = OpenAIEndpoint(
        model,
        base_url=url or OPENAI_URL,
        key_variable=key,
        options=ServerOptions(structured=structured),
    )
    return CachedChat(endpoint, store=store, prices=Prices.load())


def _asking(cap: int | None, extra: str | None, prompts: Path | None) -> Asking:
    """Build how the caption check asks its model."""
    from omni2sound.bench.tracks.caption_check import Asking
    from omni2sound.cli.annotate.options import json_object

    try:
        data = {} if extra is None else json_object(extra)
    except ValueError as error:
        raise UserError(str(error), field="extra") from None
    return Asking.of(cap=cap, extra=data, prompts=prompts)


def _print_identity(track: Track) -> None:
    print(json.dumps(track.identity, indent=1))
