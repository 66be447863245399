"""Export of a run as a data set for training or a Hub.

    EXPORT/
      manifest.jsonl                           kept clips (`data.corpora.manifest`)
      data/train-00000-of-00002.parquet ...    the same with events, decisions and scores, by split
      dropped/train-00000-of-00001.parquet     dropped clips with the reason, on request
      tars/train-000000.tar ...                kept clips with their sound (WebDataset), on request
      failures.jsonl                           failed clips: step, kind, reason
      statistics.json                          counts of outcomes and reasons
      README.md                                data set card

In:   a run's folder.
Out:  the folder above, whole or absent; the same results give the same bytes.

The Parquet files hold the manifest's fields as columns, so the importer `annotations` reads
either. Clips are read and written one at a time: memory does not grow with their number beyond
the manifest itself. Sounds are embedded on request, as FLAC of 16 bits at the file's own rate.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from omni2sound.annotate.records import Caption, Decision
from omni2sound.annotate.report.card import card
from omni2sound.annotate.report.review import Reviews
from omni2sound.annotate.report.shards import ParquetShards, TarShards
from omni2sound.annotate.report.tally import Tally, failures_of, why_ended
from omni2sound.annotate.runs import RunSettings, Story, clip_name, stories
from omni2sound.data.corpora.manifest import Clip, manifest_media, write_manifest
from omni2sound.errors import MediaError, UserError
from omni2sound.files import atomic_folder, write_json, write_text
from omni2sound.media.audio import read_audio
from omni2sound.redact import scrub

_log = logging.getLogger(__name__)

_MAX_FLAC_CHANNELS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What an export holds beside the kept clips' rows."""

    sounds: bool = False
    """The sounds of kept clips, in the Parquet files."""
    tars: bool = False
    """The same clips as WebDataset files, with their sounds."""
    dropped: bool = False
    """Rows of dropped clips, without sounds."""
    reviews: tuple[Path, ...] = ()
    """Files with decisions of people, which go before the filter's (`review`)."""


def export(
    run: Path,
    out: Path,
    options: ExportOptions = ExportOptions(),
    *,
    on_clip: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the data set of a run's folder; return the contents of `statistics.json`.

    Args:
        run: Folder of the run, which may still be under way.
        out: Folder of the data set, new or empty.
        options: What it holds.
        on_clip: Called with clips read and in all.

    Raises:
        UserError: The run kept nothing, or `out` is not empty.
        ConfigError: A file of reviews is none.
    """
    settings = RunSettings.read(run)
    reviews = Reviews(options.reviews)
    media = manifest_media(Path(settings.manifest))
    tally = Tally()
    with atomic_folder(out, kind="data set") as staging:
        with ExitStack() as stack:
            kept = stack.enter_context(ParquetShards(staging / "data", sounds=options.sounds))
            left = stack.enter_context(ParquetShards(staging / "dropped", sounds=False))
            tars = stack.enter_context(TarShards(staging / "tars"))
            failed = stack.enter_context((staging / "failures.jsonl").open("w", encoding="utf-8"))

            def kept_clips() -> Iterator[Clip]:
                for number, found in enumerate(stories(run, perceptions=False), start=1):
                    story = replace(found, review=reviews.of(found))
                    tally.add(story)
                    failed.writelines(_failed_lines(story))
                    if story.end == "kept":
                        clip = _annotated(story)
                        row, sound = _row(clip, story, settings), None
                        if options.sounds or options.tars:
                            sound = _flac(story.clip, media)
                            tally.no_sound += sound is None
                        kept.add(row, sound if options.sounds else None)
                        if options.tars:
                            tars.add(row, sound)
                        yield clip
                    elif options.dropped and story.end == "dropped":
                        left.add(_row(story.clip, story, settings))
                    if on_clip is not None:
                        on_clip(number, settings.num_clips)

            write_manifest(staging / "manifest.jsonl", kept_clips(), media=media)
        if not tally.ends["kept"]:
            raise UserError(_nothing(run, tally))
        counted = {**tally.as_json(settings), "reviewed": reviews.applied}
        if reviews.applied < len(reviews):
            _log.warning(
                "%d of %d decisions are about captions that this run does not have any more",
                *(len(reviews) - reviews.applied, len(reviews)),
            )
        write_json(staging / "statistics.json", counted)
        folders = {
            name: sorted({path.name.partition("-")[0] for path in folder.iterdir()})
            for name, folder in (("default", staging / "data"), ("dropped", staging / "dropped"))
            if folder.is_dir()
        }
        text = card(counted, settings, folders, sounds=options.sounds)
        write_text(staging / "README.md", text)
    return counted


def _nothing(run: Path, tally: Tally) -> str:
    reasons = "; ".join(f"{n} {reason}" for reason, n in sorted(tally.failed_by.items()))
    return f"{run}: {tally.ends.total()} clips ended and none was kept; nothing to export" + (
        f" (failed: {reasons})" if reasons else ""
    )


def _annotated(story: Story) -> Clip:
    caption = story.caption
    assert isinstance(caption, Caption)  # kept clips have one
    return replace(
        story.clip,
        captions=(caption.text,),
        labels=tuple(dict.fromkeys(event.what for event in caption.events)),
        quality=_score(story, "post-hoc", "caption_audio"),
    )


def _score(story: Story, step: str, name: str) -> float | None:
    """Return a score that a decision was made by."""
    decision = story.steps.get(step)
    return decision.scores.get(name) if isinstance(decision, Decision) else None


def _row(clip: Clip, story: Story, settings: RunSettings) -> dict[str, Any]:
    """Return the columns of a clip; those of steps that it did not reach are null."""
    caption, routed = story.caption, story.steps.get("route")
    handed, context = story.steps.get("hand-off"), story.steps.get("compress")
    role = "senior" if "senior" in story.steps else "junior"
    captioner = {"senior": settings.senior, "junior": settings.junior}[role] if caption else None
    prompts = settings.prompts
    row = {name: value for name, value in asdict(clip).items() if name != "audio_captions"}
    return {
        **row,
        "own_captions": [*story.clip.captions, *story.clip.audio_captions],
        "own_labels": list(story.clip.labels),
        "events": [asdict(event) for event in caption.events] if caption else [],
        "visual_context": getattr(context, "text", None),
        "path": getattr(routed, "outcome", None),
        "by_senior": "senior" in story.steps,
        "reasons": list(getattr(handed, "reasons", ())),
        "end": story.end,
        "why_ended": why_ended(story),
        "similarity": _score(story, "route", "similarity"),
        "first_score": _score(story, "hand-off", "caption_audio"),
        "first_weakest_event": _score(story, "hand-off", "weakest_event"),
        "score": _score(story, "post-hoc", "caption_audio"),
        "weakest_event": _score(story, "post-hoc", "weakest_event"),
        "scorer": settings.scorer,
        "viewer": settings.vision if context is not None else None,
        "captioner": captioner,
        "validator": settings.validator or None if "validate" in story.steps else None,
        "viewer_prompt": prompts.get("viewer") if context is not None else None,
        "captioner_prompt": prompts.get(role) if caption else None,
        "validator_prompt": prompts.get("validator") if "validate" in story.steps else None,
        "reviewed_by": story.review.who if story.review else None,
    }


def _flac(clip: Clip, media: Path) -> bytes | None:
    """Encode the sound of a clip; None if its file can't be read any more."""
    file = io.BytesIO()
    try:
        sound = read_audio(
            media / clip.sound_file, start_s=clip.start_s, duration_s=clip.duration_s
        )
    except (MediaError, OSError):
        return None
    samples_CN = sound.samples_CN
    if len(samples_CN) > _MAX_FLAC_CHANNELS:
        samples_CN = samples_CN.mean(axis=0, keepdims=True)
    rate_hz = sound.sample_rate_hz
    soundfile.write(file, samples_CN.T, rate_hz, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _failed_lines(story: Story) -> Iterator[str]:
    for step, failure in failures_of(story):
        row = {"clip": clip_name(story.clip), "step": step, **asdict(failure)}
        yield scrub(json.dumps(row, ensure_ascii=False)) + "\n"
