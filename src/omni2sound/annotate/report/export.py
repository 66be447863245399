"""Export of a run as a data set for training or a Hub.

    EXPORT/
      manifest.jsonl               kept clips (`data.corpora.manifest`)
      data/annotations.parquet     the same with events, decisions and scores
      failures.jsonl               failed clips: step, kind, reason
      statistics.json              counts of outcomes and reasons
      README.md                    data set card

In:   a run's folder.
Out:  the folder above, whole or absent; the same results give the same bytes.

The Parquet file holds the manifest's fields as columns, so the importer `annotations` reads
either; media are not copied.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from omni2sound.annotate.records import Caption, Decision, Failure, Verdict
from omni2sound.annotate.runs import RunSettings, Story, clip_name, stories
from omni2sound.data.corpora.manifest import Clip, read_manifest, write_manifest
from omni2sound.errors import UserError
from omni2sound.files import atomic_folder, write_json, write_text

_DIGITS = re.compile(r"-?\d+(\.\d+)?")
_QUOTED = re.compile(r"'[^']*'")

_EVENT = pa.struct(
    [
        ("what", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("on_screen", pa.bool_()),
        ("confidence", pa.float64()),
    ]
)
_SCHEMA = pa.schema(
    [
        *((n, pa.string()) for n in ("clip_id", "corpus", "split", "audio", "video")),
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("captions", pa.list_(pa.string())),
        ("labels", pa.list_(pa.string())),
        ("source", pa.string()),
        ("source_start_s", pa.float64()),
        ("licence", pa.string()),
        ("author", pa.string()),
        ("quality", pa.float64()),
        ("events", pa.list_(_EVENT)),
        ("visual_context", pa.string()),
        ("path", pa.string()),
        ("by_senior", pa.bool_()),
        ("reasons", pa.list_(pa.string())),
    ]
)


def export(run: Path, out: Path) -> dict[str, Any]:
    """Write the data set of a run's folder; return the contents of `statistics.json`.

    Raises:
        UserError: The run kept nothing, or `out` is not empty.
    """
    settings = RunSettings.read(run)
    ended = list(stories(run))
    kept = [story for story in ended if story.ending.end == "kept"]
    if not kept:
        reasons = "; ".join(f"{n} {reason}" for reason, n in _failed_by(ended).items())
        raise UserError(
            f"{run}: {len(ended)} clips ended and none was kept; nothing to export"
            + (f" (failed: {reasons})" if reasons else "")
        )
    media = read_manifest(Path(settings.manifest)).media
    clips = [_annotated(story) for story in kept]
    counted = statistics(ended, settings)
    table = pa.Table.from_pylist(
        [_row(clip, story) for clip, story in zip(clips, kept, strict=True)], _SCHEMA
    )
    with atomic_folder(out, kind="data set") as staging:
        (staging / "data").mkdir()
        pq.write_table(table, staging / "data" / "annotations.parquet")
        write_text(staging / "failures.jsonl", "".join(_failed_lines(ended)))
        write_json(staging / "statistics.json", counted)
        write_text(staging / "README.md", _card(counted, settings))
        write_manifest(staging / "manifest.jsonl", clips, media=media)
    return counted


def _annotated(story: Story) -> Clip:
    caption = story.caption
    assert isinstance(caption, Caption)  # kept clips have one
    last = story.steps["post-hoc"]
    score = last.scores.get("caption_audio") if isinstance(last, Decision) else None
    return replace(
        story.clip,
        captions=(caption.text,),
        labels=tuple(dict.fromkeys(event.what for event in caption.events)),
        quality=score,
    )


def _row(clip: Clip, story: Story) -> dict[str, Any]:
    caption, routed = story.caption, story.steps["route"]
    handed, context = story.steps["hand-off"], story.steps.get("compress")
    return {
        **asdict(clip),
        "events": [asdict(event) for event in caption.events] if caption else [],
        "visual_context": getattr(context, "text", None),
        "path": getattr(routed, "outcome", None),
        "by_senior": "senior" in story.steps,
        "reasons": list(getattr(handed, "reasons", ())),
    }


def statistics(ended: Sequence[Story], settings: RunSettings) -> dict[str, Any]:
    """Count outcomes and reasons; numbers and names in reasons are masked, so equal ones add up."""
    ends = Counter(story.ending.end for story in ended)
    paths = Counter(
        step.outcome for s in ended if isinstance(step := s.steps.get("route"), Decision)
    )
    handed = [step for s in ended if isinstance(step := s.steps.get("hand-off"), Decision)]
    escalated = [step for step in handed if step.outcome == "escalate"]
    captions = [s.caption for s in ended if s.ending.end == "kept" and s.caption is not None]
    words = [len(caption.text.split()) for caption in captions]
    return {
        "models": {
            role: getattr(settings, role) for role in ("scorer", "vision", "junior", "senior")
        },
        "wording": settings.wording,
        "clips": settings.num_clips,
        "ended": len(ended),
        **{end: ends.get(end, 0) for end in ("kept", "dropped", "failed")},
        "failed_by": _failed_by(ended),
        "paths": dict(sorted(paths.items())),
        "escalated": len(escalated),
        "escalation_rate": round(len(escalated) / len(handed), 4) if handed else None,
        "why_escalated": _counted(reason for step in escalated for reason in step.reasons),
        "why_ended": _counted(reason for s in ended if (reason := _why_ended(s))),
        "words_per_caption": round(sum(words) / len(words), 2) if words else None,
        "events_per_clip": (
            round(sum(len(c.events) for c in captions) / len(captions), 2) if captions else None
        ),
    }


def _failures(ended: Iterable[Story]) -> Iterator[tuple[Story, str, Failure]]:
    for story in ended:
        for step, record in story.steps.items():
            if isinstance(record, Failure):
                yield story, step, record


def _failed_by(ended: Iterable[Story]) -> dict[str, int]:
    """Count failures by kind and step."""
    return dict(sorted(Counter(f"{f.kind} at {step}" for _, step, f in _failures(ended)).items()))


def _failed_lines(ended: Iterable[Story]) -> Iterator[str]:
    for story, step, failure in _failures(ended):
        row = {"clip": clip_name(story.clip), "step": step, **asdict(failure)}
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _why_ended(story: Story) -> str | None:
    if story.ending.end == "kept":
        return None
    step, record = list(story.steps.items())[-1]
    if isinstance(record, Decision):
        return f"{step}: {record.reasons[0]}"
    if isinstance(record, Verdict):
        return f"{step}: implausible"
    return f"{step}: {record.kind}" if isinstance(record, Failure) else step


def _counted(reasons: Any) -> dict[str, int]:
    plain = Counter(_QUOTED.sub("...", _DIGITS.sub("#", reason)) for reason in reasons)
    return dict(sorted(plain.items(), key=lambda item: (-item[1], item[0])))


def _card(counted: dict[str, Any], settings: RunSettings) -> str:
    models = "\n".join(f"| {role} | `{name}` |" for role, name in counted["models"].items())
    return f"""---
language: en
task_categories: [text-to-audio]
tags: [audio, captions, video]
license: other
configs:
  - config_name: default
    data_files: data/annotations.parquet
---

# Captions of {counted["kept"]} clips

Made by `omni2sound annotate` from `{Path(settings.manifest).name}`: {counted["ended"]} clips ended,
{counted["kept"]} kept, {counted["dropped"]} dropped by a rule, {counted["failed"]} failed.
{counted["escalated"]} went to the senior.

| role | model |
|---|---|
{models}
| wording of local captions | `{settings.wording}` |

Captions were written by models and not checked by people. They may name sounds that are not
there. `quality` is the caption-audio score of the scorer above, on its own scale.

The sounds and videos are not part of this data set; their terms are those of their sources
(`licence`, `source`). Terms of the models' outputs are those of their providers.
"""
