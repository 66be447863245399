"""Synthetic scenes that `omni2sound scenes build` wrote.

In:   its output folder: `manifest.jsonl` with a line a scene (`scenes.export.files`).
Out:  drafts with the mix as sound and a caption of each style.

Scenes with off-screen sounds are excluded: a V2A target must not hold those, and only
`omni2sound scenes features` separates the sounds of a scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.tables import json_lines


def read(published: Path) -> Iterator[rows.Item]:
    """Read every scene of the folder."""
    for path in rows.find_published(published, "manifest.jsonl", wanted="a folder of scenes"):
        yield from rows.drafts(path, json_lines(path), _draft, exclude=_exclusion)


def _exclusion(row: Mapping[str, Any]) -> str | None:
    return "has off-screen sounds" if row["kind"] == "offscreen" else None


def _draft(row: Mapping[str, Any]) -> rows.Draft:
    captions, video = row["captions"], row["video"]
    return rows.Draft(
        clip_id=row["id"],
        split=row["split"],
        audio=row["audio"],
        video=video,
        duration_s=rows.number(row["duration_s"], "duration_s"),
        captions=tuple(dict.fromkeys(captions.values())),
        audio_captions=(heard,) if (heard := row.get("audio_only_caption")) else (),
        labels=tuple(row["classes"]),
        source=f"stage:{row['id']}",
        licence="by recording and picture: attribution.tsv of the scenes",
    )
