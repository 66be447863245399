"""How well the captions of a corpus fit its sounds: the quality that training can choose by.

In:   a manifest of any corpus; a scorer.
Out:  the same manifest with `quality`; beside it a store of the scores, from which a stopped run
      goes on.

Quality is the mean score of a clip's captions against its sound, on the scale of the scorer, so it
compares clips that one scorer has scored and no others. What not to get wrong: clips are scored by
ear, without their picture, and CLAP hears their first 10 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from omni2sound.annotate.build import CrewSettings, published_scorer
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.published import PublishedScorer, load_clap
from omni2sound.annotate.local.roles import LocalScorer
from omni2sound.annotate.records import Caption, Failure, Fit, Perception, Record
from omni2sound.annotate.roles import Scorer, SourceClip, Work
from omni2sound.annotate.runs import source_clips
from omni2sound.annotate.steps import Found, StepStore, step_key
from omni2sound.data.corpora.manifest import Clip, read_manifest, write_manifest
from omni2sound.data.workers import Workers, kept_workers
from omni2sound.encoders.published import CLAP, ROBERTA
from omni2sound.errors import UserError
from omni2sound.weights import resolve_model

_log = logging.getLogger(__name__)

QualityScorer = Literal["clap", "pe-av", "joint"]
_STEP = "quality"
_CLIPS_A_COMMIT = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityReport:
    """What a manifest's scoring came to."""

    num_scored: int
    num_without_caption: int
    failed: tuple[tuple[str, str], ...]
    """Names of clips that could not be read, each with the reason."""
    quantiles: Mapping[str, float]
    """Quality below which 5, 25, 50, 75 and 95 % of the scored clips lie."""


def quality_scorer(
    name: QualityScorer, weights: Path | None, *, device: str, executor: Executor
) -> Scorer:
    """Build a scorer of captions by name.

    Args:
        name: clap: LAION-CLAP; pe-av: PE-AV; joint: the bundled joint space, for its 43 classes.
        weights: Folder of the published files; for pe-av also a Hub id with its revision. None for
            joint.
        device: Device of published networks.
        executor: Runs the networks.

    Raises:
        UserError: The name is unknown, or weights are missing or not wanted.
        MissingPartError: A file or package is missing.
    """
    if name not in get_args(QualityScorer):
        known = ", ".join(get_args(QualityScorer))
        raise UserError(f"expected one of {known}, got {name!r}", field="scorer")
    if (name == "joint") != (weights is None):
        raise UserError(
            f"scorer {name!r}: expected "
            + ("no folder" if name == "joint" else "the folder of its published files"),
            field="weights",
        )
    if weights is None:
        return LocalScorer(joint=resolve_model("joint-v1"), executor=executor)
    if name == "clap":
        PublishedScorer.check(weights, (CLAP, ROBERTA))
        return PublishedScorer(folder=weights, executor=executor, device=device, load=load_clap)
    settings = CrewSettings(scorer="pe-av", weights=weights, device=device)
    return published_scorer(settings, weights, executor, tags=False)


def score_manifest(
    manifest: Path,
    out: Path,
    scorer: Callable[[Executor], Scorer],
    *,
    workers: Workers = Workers(),
    on_clip: Callable[[int, int], None] | None = None,
) -> QualityReport:
    """Write a manifest's clips with their quality.

    Args:
        manifest: Clips; those without a caption and those that can't be read get no quality.
        out: Manifest to write. The scores lie beside it in a file of its name that ends in
            `.sqlite`; clips that have not changed since are not scored again.
        scorer: Builds the scorer, for example from `quality_scorer`.
        workers: Run its networks.
        on_clip: Called with clips done and in all.

    Raises:
        UserError: The manifest is missing, or no clip has a caption.
    """
    read = read_manifest(manifest)
    texts = [clip.captions or clip.audio_captions for clip in read.clips]
    if not any(texts):
        raise UserError(f"{manifest}: no clip has a caption to score; `annotate run` writes some")
    todo = [
        (replace(source, video=None), captions)
        for source, captions in zip(source_clips(read), texts, strict=True)
        if captions
    ]
    with StepStore.open(out.with_suffix(".sqlite")) as store, kept_workers():
        found = asyncio.run(_score_all(todo, scorer(Executor(workers=workers)), store, on_clip))
    clips: list[Clip] = []
    failed: list[tuple[str, str]] = []
    for clip, source in zip(read.clips, source_clips(read), strict=True):
        record = found.get(source.name)
        clips.append(replace(clip, quality=record.caption if isinstance(record, Fit) else None))
        if isinstance(record, Failure):
            failed.append((source.name, record.reason))
    write_manifest(out, clips, media=read.media)
    qualities = [clip.quality for clip in clips if clip.quality is not None]
    shares = (5, 25, 50, 75, 95)
    levels = list(np.percentile(qualities, shares)) if qualities else []
    return QualityReport(
        num_scored=len(qualities),
        num_without_caption=len(clips) - len(todo),
        failed=tuple(failed),
        quantiles={f"{s} %": round(float(v), 4) for s, v in zip(shares, levels, strict=False)},
    )


Captioned = tuple[SourceClip, Sequence[str]]


def _key(clip: SourceClip, captions: Sequence[str], scorer: Scorer) -> str:
    span = [str(clip.start_s), str(clip.duration_s)]
    return step_key(_STEP, scorer.identity, [clip.fingerprint, *span, *captions])


async def _score_all(
    todo: Sequence[Captioned],
    scorer: Scorer,
    store: StepStore,
    on_clip: Callable[[int, int], None] | None,
) -> dict[str, Record]:
    """Score what the store lacks, a chunk at a time, each on disk before the next."""
    found: dict[str, Record] = {}
    for first in range(0, len(todo), _CLIPS_A_COMMIT):
        some = todo[first : first + _CLIPS_A_COMMIT]
        keys = {clip.name: _key(clip, captions, scorer) for clip, captions in some}
        found |= store.get(_STEP, keys)
        scored = await _score_chunk([c for c in some if c[0].name not in found], scorer)
        store.put(_STEP, [Found(clip=name, key=keys[name], record=r) for name, r in scored.items()])
        found |= scored
        if on_clip is not None:
            on_clip(first + len(some), len(todo))
    return found


async def _score_chunk(some: Sequence[Captioned], scorer: Scorer) -> dict[str, Fit | Failure]:
    perceived: dict[int, Perception] = {}
    records: dict[str, Fit | Failure] = {}
    async for index, found in scorer.perceive([Work(clip=clip) for clip, _ in some]):
        if isinstance(found, Perception):
            perceived[index] = found
        else:
            records[some[index][0].name] = found
    works = [
        (index, Work(clip=some[index][0], perception=perceived[index], caption=Caption(text=text)))
        for index in sorted(perceived)
        for text in some[index][1]
    ]
    scores: dict[int, list[float]] = {}
    fits = dict([pair async for pair in scorer.score([work for _, work in works])])
    for place, (index, _) in enumerate(works):
        scores.setdefault(index, []).append(fits[place].caption)
    for index, values in scores.items():
        records[some[index][0].name] = Fit(caption=round(sum(values) / len(values), 4))
    return records
