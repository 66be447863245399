"""`omni2sound data import`, `check`, `features`, `verify`: from published corpora to features.

In:   the files that a corpus publishes and a folder of its media; manifests; stores.
Out:  manifests, reports, feature stores; what was made is named on stdout.
"""

from __future__ import annotations

import json
import logging
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni2sound.cli.progress import progress_bar

if TYPE_CHECKING:
    from omni2sound.data.corpora.assemble import ImportReport
    from omni2sound.data.corpora.overlap import Overlap
    from omni2sound.data.store.builder import BuildReport
    from omni2sound.data.store.encode import EncoderSource

__all__ = [
    "DEVICE_HELP",
    "ENCODERS_HELP",
    "ENGINE_HELP",
    "LATENTS_HELP",
    "PARTS_HELP",
    "WORKERS_HELP",
    "Engine",
    "check",
    "default_workers",
    "encoder_source",
    "features",
    "finish_build",
    "import_corpus",
    "verify",
]

_log = logging.getLogger(__name__)

EXIT_SOME_FAILED = 1
MAX_SHOWN = 20
"""Lines of one kind in the terminal; the report has all."""
ENGINE_HELP = "local: processes here. ray: the extra `scale`; a cluster if RAY_ADDRESS names one."
LATENTS_HELP = "Keep latents as well, for recipes that do not augment (paper)."
PARTS_HELP = "Model that says which encoders are used; their features fit it and no other."
ENCODERS_HELP = "Folder of published encoders (docs/guides/full-size.md); by default the cache."
DEVICE_HELP = "Where encoders run: cpu, cuda or mps. Each of the workers loads its own."
WORKERS_HELP = "Jobs at a time; changes speed only. By default one for each core."


class Engine(StrEnum):
    """What `--engine` takes."""

    LOCAL = "local"
    RAY = "ray"


class Split(StrEnum):
    """What `--split` takes."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def default_workers() -> int:
    """One for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def import_corpus(
    name: Annotated[str, typer.Argument(help="The corpus; `list` names those that are known.")],
    published: Annotated[
        Path | None, typer.Argument(help="Folder (or file) as its project publishes it.")
    ] = None,
    media: Annotated[Path | None, typer.Option(help="Folder of its sound or video files.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The manifest, a .jsonl file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing manifest.")] = False,
) -> None:
    """Make a manifest of a public corpus; media are found by name, missing ones listed."""
    from omni2sound.data.corpora import IMPORTERS, importer
    from omni2sound.data.corpora.assemble import MediaFolder, assemble, write_report
    from omni2sound.data.corpora.manifest import Manifest, write_manifest
    from omni2sound.data.corpora.overlap import same_source
    from omni2sound.errors import UserError

    if name == "list":
        for known, reads in IMPORTERS.items():
            print(f"{known:12} {reads}")
        return
    read = importer(name)
    if published is None or media is None or out is None:
        raise UserError(f"data import {name}: give what is published, --media and --out")
    if not published.exists():
        raise UserError(f"{published}: no such file or folder")
    if out.suffix != ".jsonl" or not out.parent.is_dir():
        raise UserError(f"--out {out}: expected a .jsonl file in a folder that exists")
    if out.exists() and not overwrite:
        raise UserError(f"{out}: exists already; choose another name or give --overwrite")
    clips, report = assemble(name, read(published), MediaFolder(media))
    if not clips:
        shown = f"; the first problem: {_where(report)}" if report.problems else ""
        raise UserError(
            f"none of {report.num_rows} rows of {name} has media below {media} "
            f"({len(report.missing)} missing, {len(report.problems)} malformed{shown})"
        )
    write_manifest(out, clips, media=media)
    listed = out.with_suffix(".report.json")
    write_report(listed, report)
    _say_what_came_of(report, listed)
    _say_overlaps(same_source([Manifest(path=out, media=media, clips=clips)]))
    print(out)
    if report.problems:
        raise typer.Exit(EXIT_SOME_FAILED)


def _where(report: ImportReport) -> str:
    first = report.problems[0]
    return f"{first.file}:{first.line}: {first.reason}"


def _say_what_came_of(report: ImportReport, listed: Path) -> None:
    split = ", ".join(f"{s} {n}" for s, n in report.num_clips.items())
    _log.info(
        "%s: %d rows, %d clips (%s), %d without media, %d excluded, %d malformed; see %s",
        report.corpus,
        report.num_rows,
        sum(report.num_clips.values()),
        split,
        len(report.missing),
        len(report.excluded),
        len(report.problems),
        listed,
    )
    for problem in report.problems[:MAX_SHOWN]:
        _log.warning("%s:%d: %s", problem.file, problem.line, problem.reason)
    if len(report.problems) > MAX_SHOWN:
        _log.warning("... and %d more", len(report.problems) - MAX_SHOWN)


def _say_overlaps(found: tuple[Overlap, ...]) -> None:
    for kind in ("leak", "duplicate"):
        some = [o for o in found if o.kind == kind]
        if some:
            _log.warning("%d %ss", len(some), kind)
        for o in some[:MAX_SHOWN]:
            kept, dropped = o.kept.clip, o.dropped.clip
            _log.warning(
                "%s by %s: %s (%s, %s) is in %s too: %s (%s)",
                kind,
                o.by,
                dropped.clip_id,
                dropped.corpus,
                dropped.split,
                kept.split,
                kept.clip_id,
                o.detail,
            )


def check(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests that belong together.")],
    sound: Annotated[
        bool, typer.Option(help="Compare sounds too, not only what they were cut from.")
    ] = True,
    clean: Annotated[
        Path | None, typer.Option(help="Folder for the manifests without what was found.")
    ] = None,
    engine: Annotated[Engine, typer.Option(help=ENGINE_HELP)] = Engine.LOCAL,
    workers: Annotated[int | None, typer.Option(min=1, help=WORKERS_HELP)] = None,
) -> None:
    """Find duplicates and leaks between splits; the exit code is 1 if there are leaks."""
    from omni2sound.data.corpora.manifest import read_manifest, write_manifest
    from omni2sound.data.corpora.overlap import same_sound, same_source, without
    from omni2sound.errors import UserError

    if len({p.name for p in manifests}) < len(manifests) and clean is not None:
        raise UserError("--clean keeps names, so the manifests need different ones")
    read = [read_manifest(path) for path in manifests]
    found = same_source(read)
    if sound:
        with progress_bar("fingerprints") as report:
            heard = same_sound(
                read,
                engine=engine.value,
                num_workers=workers or default_workers(),
                on_clip=report,
            )
        found += _not_yet_known(heard, found)
    _say_overlaps(found)
    leaks = [o for o in found if o.kind == "leak"]
    if clean is not None:
        clean.mkdir(parents=True, exist_ok=True)
        for number, manifest in enumerate(read):
            target = clean / manifest.path.name
            if target.exists():
                raise UserError(f"{target}: exists already; choose another folder")
            write_manifest(target, without(manifest, number, found), media=manifest.media)
            print(target)
    num_clips = sum(len(m.clips) for m in read)
    summary = {"clips": num_clips, "leaks": len(leaks), "duplicates": len(found) - len(leaks)}
    print(json.dumps(summary))
    if leaks:
        raise typer.Exit(EXIT_SOME_FAILED)


def _not_yet_known(heard: tuple[Overlap, ...], known: tuple[Overlap, ...]) -> tuple[Overlap, ...]:
    """One reason to drop a clip is enough, but a leak outweighs a duplicate."""
    kinds = {(o.dropped.manifest, o.dropped.clip.clip_id): o.kind for o in known}
    return tuple(
        o
        for o in heard
        if kinds.get((o.dropped.manifest, o.dropped.clip.clip_id)) not in ("leak", o.kind)
    )


def features(
    manifest: Annotated[Path, typer.Argument(help="What `data import` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of features; made if missing.")],
    split: Annotated[Split, typer.Option(help="Which clips.")] = Split.TRAIN,
    seconds: Annotated[float, typer.Option(help="Length that all clips get.")] = 10.0,
    windows: Annotated[int, typer.Option(min=1, help="The most that one long clip gives.")] = 3,
    latents: Annotated[bool, typer.Option(help=LATENTS_HELP)] = True,
    media: Annotated[
        Path | None, typer.Option(help="Folder of media, if the manifest names another place.")
    ] = None,
    parts: Annotated[str, typer.Option(help=PARTS_HELP)] = "embedded",
    encoders: Annotated[Path | None, typer.Option(help=ENCODERS_HELP)] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    engine: Annotated[Engine, typer.Option(help=ENGINE_HELP)] = Engine.LOCAL,
    workers: Annotated[int | None, typer.Option(min=1, help=WORKERS_HELP)] = None,
) -> None:
    """Compute once what `omni2sound train` reads; goes on where it stopped."""
    from omni2sound.data.store.from_clips import CorpusOptions, build_corpus_features

    with progress_bar("features") as report:
        built = build_corpus_features(
            manifest,
            out,
            encoders=encoder_source(parts, encoders, device),
            split=split.value,
            options=CorpusOptions(window_s=seconds, max_windows=windows, latents=latents),
            media=media,
            engine=engine.value,
            num_workers=workers or default_workers(),
            on_shard=report,
        )
    finish_build(out, built)


def encoder_source(parts: str, published: Path | None, device: str) -> EncoderSource:
    """What `--parts`, `--encoders` and `--device` name, as workers elsewhere can find it."""
    from omni2sound.data.store.encode import EncoderSource
    from omni2sound.runtime import resolve_device
    from omni2sound.weights import resolve_model

    return EncoderSource(
        model=resolve_model(parts).resolve(),
        published=None if published is None else published.resolve(),
        device=str(resolve_device(device)),
    )


def finish_build(out: Path, built: BuildReport) -> None:
    """Say what a build did; exit code 1 if clips failed."""
    _log.info(
        "%d rows in %d shards, %d of them were there before",
        built.num_clips,
        built.num_shards,
        built.num_found,
    )
    for failure in built.failed[:MAX_SHOWN]:
        _log.warning("%s: %s", failure.clip_id, failure.reason)
    if len(built.failed) > MAX_SHOWN:
        _log.warning("... and %d more; see index.json", len(built.failed) - MAX_SHOWN)
    print(out)
    if built.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def verify(
    stores: Annotated[list[Path], typer.Argument(help="Folders of features.")],
) -> None:
    """Read every byte of feature stores and compare it with what was written."""
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
