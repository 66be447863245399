"""`omni2sound data`: import published corpora, check them, compute features.

In:   the files that a corpus publishes and a folder of its media; manifests; feature stores.
Out:  manifests, reports, feature stores; paths go to stdout.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from omni2sound.cli.options import (
    ComponentsOption,
    DeviceOption,
    EncodersOption,
    EngineOption,
    OverwriteOption,
    WorkersOption,
    chosen_workers,
    command_group,
)
from omni2sound.cli.progress import progress_bar
from omni2sound.readers import real_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omni2sound.data.corpora.assemble import ImportReport
    from omni2sound.data.corpora.overlap import Overlap
    from omni2sound.data.store.builder import BuildReport
    from omni2sound.data.store.encode import EncoderSource

_log = logging.getLogger(__name__)

EXIT_SOME_FAILED = 1
MAX_SHOWN = 20
"""Number of messages of one kind in the terminal; the report holds all."""

LATENTS_HELP = "Store latents too, for recipes that do not augment (paper)."

FeaturesOption = Annotated[
    Path, typer.Option("--out", "-o", help="Output folder of features; created if missing.")
]

app = command_group("Import corpora, find duplicates, compute features.")


@app.command("import")
def import_corpus(
    name: Annotated[str, typer.Argument(help="Name of the corpus; `list` prints all names.")],
    published: Annotated[
        Path | None,
        typer.Argument(
            help="Folder or file as published by the corpus. Required, except for `list`."
        ),
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option(help="Folder of sound or video files. Required, except for `list`."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Output manifest, a .jsonl file. Required, except for `list`."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a manifest of a public corpus.

    Media are found by name; missing ones are reported.
    """
    from omni2sound.data.corpora import IMPORTERS, importer
    from omni2sound.data.corpora.assemble import assemble, write_report
    from omni2sound.data.corpora.finding.folder import MediaFolder
    from omni2sound.data.corpora.manifest import Manifest, write_manifest
    from omni2sound.data.corpora.overlap import same_source
    from omni2sound.errors import UserError

    if name == "list":
        for known, entry in IMPORTERS.items():
            print(f"{known:12} {entry.reads}")
        return
    read = importer(name)
    if published is None or media is None or out is None:
        given = {"PUBLISHED": published, "--media": media, "--out": out}
        missing = ", ".join(option for option, value in given.items() if value is None)
        raise UserError(f"data import {name}: required, but not given: {missing}")
    if not published.exists():
        raise UserError(f"{published}: no such file or folder")
    if out.suffix != ".jsonl" or not out.parent.is_dir():
        raise UserError(f"--out {out}: expected a .jsonl file in a folder that exists")
    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists already; choose another name or give --overwrite")
    clips, report = assemble(name, read(published), MediaFolder(media))
    problems = [f"{p.file}:{p.line}: {p.reason}" for p in report.problems]
    unsure = [f"{u.clip_id}: {', '.join(u.files)}: {u.reason}" for u in report.unsure]
    if not clips:
        shown = f"; the first problem: {(problems + unsure)[0]}" if problems or unsure else ""
        raise UserError(
            f"none of {report.num_rows} rows of {name} has media below {media} "
            f"({len(report.missing)} missing, {len(unsure)} unsure, {len(problems)} malformed"
            f"{shown})"
        )
    write_manifest(out, clips, media=media)
    listed = out.with_suffix(".report.json")
    write_report(listed, report)
    _report_import(report, listed)
    _warn(problems)
    _warn(unsure)
    _report_overlaps(same_source([Manifest(path=out, media=media, clips=clips)]))
    print(out)
    if problems or unsure:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def unpack(
    published: Annotated[
        Path, typer.Argument(help="Folder of Parquet files of the Hugging Face Hub, or one file.")
    ],
    media: Annotated[
        Path, typer.Option(help="Folder for the sound or video files; created if missing.")
    ],
) -> None:
    """Write the sounds or videos in Parquet files as files.

    `data import hub` finds them. What is there already stays. Exit code 1 if rows have none.
    """
    from omni2sound.data.corpora.hub.unpack import unpack as unpack_tables
    from omni2sound.errors import UserError

    if not published.exists():
        raise UserError(f"{published}: no such file or folder")
    done = unpack_tables(published, media)
    _log.info(f"{done.num_written} files written, {done.num_found} were there")
    _warn([f"{p.file}:{p.line}: {p.reason}" for p in done.problems])
    print(media)
    if done.problems:
        raise typer.Exit(EXIT_SOME_FAILED)


def _warn(messages: Sequence[str], more: str = "") -> None:
    for message in messages[:MAX_SHOWN]:
        _log.warning(message)
    if len(messages) > MAX_SHOWN:
        _log.warning("... and %d more%s", len(messages) - MAX_SHOWN, more)


def _report_import(report: ImportReport, listed: Path) -> None:
    splits = ", ".join(f"{split} {count}" for split, count in report.num_clips.items())
    _log.info(
        f"{report.corpus}: {report.num_rows} rows, {sum(report.num_clips.values())} clips "
        f"({splits}), {len(report.missing)} without media, {len(report.unsure)} unsure, "
        f"{len(report.short)} short, {len(report.excluded)} excluded, "
        f"{len(report.problems)} malformed; see {listed}"
    )


def _report_overlaps(found: tuple[Overlap, ...]) -> None:
    for kind in ("leak", "duplicate"):
        some = [o for o in found if o.kind == kind]
        if some:
            _log.warning("%d %ss", len(some), kind)
        _warn([_describe(o) for o in some])


def _describe(o: Overlap) -> str:
    kept, dropped = o.kept.clip, o.dropped.clip
    return (
        f"{o.kind} by {o.by}: {dropped.clip_id} ({dropped.corpus}, {dropped.split}) is in "
        f"{kept.split} too: {kept.clip_id} ({o.detail})"
    )


@app.command()
def check(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests that are used together.")],
    sound: Annotated[
        bool, typer.Option(help="Compare audio fingerprints as well as source ids.")
    ] = True,
    clean: Annotated[
        Path | None,
        typer.Option(
            help="Folder for copies of the manifests without duplicates and leaks. Default: none."
        ),
    ] = None,
    merged: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Give the captions of dropped duplicates to the clips that stay, those with a "
            "video first; with --clean. Default: duplicates are dropped.",
        ),
    ] = False,
    engine: EngineOption = "local",
    num_workers: WorkersOption = None,
) -> None:
    """Find duplicates, and leaks between splits.

    Exit code 1 if there are leaks.
    """
    from omni2sound.data.corpora.manifest import read_manifest, write_manifest
    from omni2sound.data.corpora.overlap import merge, same_sound, same_source, without
    from omni2sound.errors import UserError

    if merged and clean is None:
        raise UserError("writes manifests; give a folder for them (--clean)", field="merged")
    if len({p.name for p in manifests}) < len(manifests) and clean is not None:
        raise UserError("--clean keeps names, so the manifests need different ones")
    read = [read_manifest(path) for path in manifests]
    found = same_source(read)
    if sound:
        with progress_bar("fingerprints") as report:
            heard = same_sound(
                read,
                workers=chosen_workers(num_workers, engine),
                on_clip=report,
            )
        found += _new_overlaps(heard, found)
    _report_overlaps(found)
    leaks = [o for o in found if o.kind == "leak"]
    if clean is not None:
        clean.mkdir(parents=True, exist_ok=True)
        left = (
            merge(read, found)
            if merged
            else tuple(without(manifest, number, found) for number, manifest in enumerate(read))
        )
        for manifest, clips in zip(read, left, strict=True):
            target = clean / manifest.path.name
            if target.exists():
                raise UserError(f"{target}: exists already; choose another folder")
            write_manifest(target, clips, media=manifest.media)
            print(target)
    num_clips = sum(len(m.clips) for m in read)
    summary = {"clips": num_clips, "leaks": len(leaks), "duplicates": len(found) - len(leaks)}
    print(json.dumps(summary))
    if leaks:
        raise typer.Exit(EXIT_SOME_FAILED)


def _new_overlaps(heard: tuple[Overlap, ...], known: tuple[Overlap, ...]) -> tuple[Overlap, ...]:
    """Drop what is `known`: one reason to drop a clip is enough, but a leak beats a duplicate."""
    kinds = {(o.dropped.manifest, o.dropped.clip.clip_id): o.kind for o in known}
    return tuple(
        o
        for o in heard
        if kinds.get((o.dropped.manifest, o.dropped.clip.clip_id)) not in ("leak", o.kind)
    )


@app.command()
def features(
    manifest: Annotated[Path, typer.Argument(help="Manifest that `data import` wrote.")],
    out: FeaturesOption,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Split of the clips.")
    ] = "train",
    window_s: Annotated[
        float, typer.Option("--seconds", help="Length of each row in seconds.")
    ] = 10.0,
    max_windows: Annotated[
        int, typer.Option("--windows", min=1, help="Most rows from one long clip.")
    ] = 3,
    latents: Annotated[bool, typer.Option(help=LATENTS_HELP)] = True,
    media: Annotated[
        Path | None, typer.Option(help="Folder of media. Default: the one that the manifest names.")
    ] = None,
    parts: ComponentsOption = "embedded",
    encoders: EncodersOption = None,
    device: DeviceOption = "cpu",
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Part of the shards to make, from 1/N to N/N, for N tasks of a cluster that share "
            "--out; the last one finishes the store. Default: all.",
        ),
    ] = None,
    engine: EngineOption = "local",
    num_workers: WorkersOption = None,
) -> None:
    """Compute the features that `omni2sound train` reads.

    An interrupted build is resumed.
    """
    from omni2sound.data.store.from_clips import CorpusOptions, build_corpus_features
    from omni2sound.data.workers import Share

    with progress_bar("features") as report:
        built = build_corpus_features(
            manifest,
            out,
            encoders=encoder_source(parts, encoders, device),
            split=split,
            options=CorpusOptions(window_s=window_s, max_windows=max_windows, latents=latents),
            media=media,
            workers=chosen_workers(num_workers, engine, device),
            on_shard=report,
            share=None if shard is None else Share.parse(shard),
        )
    finish_build(out, built)


def encoder_source(parts: str, published: Path | None, device: str) -> EncoderSource:
    """Resolve `--parts`, `--encoders` and `--device` to absolute paths that workers can open."""
    from omni2sound.data.store.encode import EncoderSource
    from omni2sound.errors import UserError
    from omni2sound.runtime import resolve_device
    from omni2sound.weights import resolve_model

    if published is not None and not published.is_dir():
        raise UserError(f"{published}: no such folder", field="encoders")
    return EncoderSource(
        model=real_path(resolve_model(parts)),
        published=None if published is None else real_path(published),
        device=str(resolve_device(device)),
    )


def finish_build(out: Path, built: BuildReport) -> None:
    """Report a build; the exit code is 1 if clips failed."""
    _log.info(
        f"{built.num_clips} rows in {built.num_shards} shards, "
        f"{built.num_found} of them from an earlier run"
    )
    _warn([f"{f.clip_id}: {f.reason}" for f in built.failed], more="; see index.json")
    if built.num_missing:
        _log.info(f"{built.num_missing} shards are left to other tasks")
    print(out)
    if built.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def score(
    manifest: Annotated[Path, typer.Argument(help="Manifest of clips with captions.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Output manifest, a .jsonl file; scores lie beside.")
    ],
    scorer: Annotated[
        Literal["clap", "pe-av", "joint"],
        typer.Option(
            "--with",
            help="Networks that compare caption and sound: clap and pe-av with weights of your "
            "own; joint is bundled and knows 43 classes.",
        ),
    ] = "clap",
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the published files of --with; for pe-av also a Hub id with its "
            "revision. Default: none, for joint."
        ),
    ] = None,
    device: DeviceOption = "cpu",
    engine: EngineOption = "local",
    num_workers: WorkersOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Score how well captions fit sounds, as `quality`.

    An interrupted run is resumed. Exit code 1 if clips can't be read.
    """
    from omni2sound.annotate.quality import quality_scorer, score_manifest
    from omni2sound.errors import UserError

    if out.suffix != ".jsonl" or not out.parent.is_dir():
        raise UserError(f"--out {out}: expected a .jsonl file in a folder that exists")
    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists already; choose another name or give --overwrite")
    with progress_bar("clips") as report:
        done = score_manifest(
            manifest,
            out,
            lambda executor: quality_scorer(scorer, weights, device=device, executor=executor),
            workers=chosen_workers(num_workers, engine, device),
            on_clip=report,
        )
    _log.info(
        f"{done.num_scored} clips scored, {done.num_without_caption} without a caption, "
        f"{len(done.failed)} failed"
    )
    if done.quantiles:
        _log.info("quality: " + ", ".join(f"{s}: {v:g}" for s, v in done.quantiles.items()))
    _warn([f"{name}: {reason}" for name, reason in done.failed])
    print(out)
    if done.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


@app.command()
def repack(
    source: Annotated[
        str,
        typer.Argument(help="Features: a folder, a URL of object storage, or a folder of tars."),
    ],
    out: FeaturesOption,
    tars: Annotated[
        bool,
        typer.Option(
            "--tars", help="Write WebDataset tar files instead of a store. Default: a store."
        ),
    ] = False,
    clips_per_shard: Annotated[
        int, typer.Option("--shard-clips", min=1, help="Clips in a shard or tar file.")
    ] = 1024,
    num_workers: WorkersOption = None,
) -> None:
    """Copy features into other shards, or to tar files and back.

    The copy has the same rows in the same order. An interrupted copy is resumed.
    """
    from omni2sound.data.store.repack import repack as copy_store
    from omni2sound.data.store.repack import to_tars

    with progress_bar("shards") as report:
        if tars:
            to_tars(source, out, clips_per_shard=clips_per_shard, on_shard=report)
            print(out)
            return
        built = copy_store(
            source,
            out,
            clips_per_shard=clips_per_shard,
            workers=chosen_workers(num_workers),
            on_shard=report,
        )
    finish_build(out, built)


@app.command()
def verify(
    stores: Annotated[list[Path], typer.Argument(help="Folders of features.")],
) -> None:
    """Compare feature stores with their recorded checksums."""
    from omni2sound.data.store.index import verify_store
    from omni2sound.errors import IntegrityError

    for store in stores:
        damaged = verify_store(store)
        if damaged:
            raise IntegrityError(
                f"{store}: {', '.join(damaged)} damaged; delete and run the command that made "
                "the features again"
            )
        print(f"{store}: whole")
