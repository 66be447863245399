"""Assembles clips from drafts: finds media, lists missing and unsure ones, merges repeated rows.

In:   the items that an importer yields, a folder of media.
Out:  clips, and an `ImportReport` of everything that did not become one.

A draft without media becomes no clip: most copies of video corpora are incomplete. One whose file
is not sure, or can't be used, becomes none either (`finding.find`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from omni2sound.data.corpora.finding.find import Found, Unsure, find_media
from omni2sound.data.corpora.finding.folder import MediaFolder
from omni2sound.data.corpora.manifest import Clip
from omni2sound.data.corpora.rows import Draft, Excluded, Item, Located
from omni2sound.data.tables import MAX_PROBLEMS, Problem
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Short:
    """A clip that is shorter than its corpus says."""

    clip_id: str
    file: str
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """Result of an import.

    Attributes:
        corpus: Name of the importer.
        num_rows: Number of rows, without blank ones and headers.
        num_clips: Number of clips by split.
        missing: Ids of clips without media.
        unsure: Clips whose file is not certain or can't be used, with the reason.
        short: Clips whose file ends before they do; they are in the manifest as long as it lasts.
        problems: Malformed rows.
        excluded: Excluded rows.
    """

    corpus: str
    num_rows: int
    num_clips: Mapping[str, int]
    missing: tuple[str, ...]
    unsure: tuple[Unsure, ...]
    short: tuple[Short, ...]
    problems: tuple[Problem, ...]
    excluded: tuple[Excluded, ...]


_SHARED = tuple(f.name for f in fields(Clip) if f.name not in ("audio", "video", "corpus"))


def assemble(
    corpus: str, items: Iterable[Item], media: MediaFolder
) -> tuple[tuple[Clip, ...], ImportReport]:
    """Find the media of each draft; report malformed, excluded, missing and unsure clips.

    Repeated rows of a clip add their captions to it (AudioCaps has five rows a clip).

    Raises:
        UserError: More than `MAX_PROBLEMS` rows are malformed.
    """
    drafts: dict[tuple[str, str], Located] = {}
    problems: list[Problem] = []
    excluded: list[Excluded] = []
    num_rows = 0
    for item in items:
        num_rows += 1
        if isinstance(item, Problem):
            problems.append(item)
        elif isinstance(item, Excluded):
            excluded.append(item)
        else:
            reason = _merge(item, item.draft.corpus or corpus, drafts)
            if reason is not None:
                problems.append(Problem(file=item.file, line=item.line, reason=reason))
        if len(problems) > MAX_PROBLEMS:
            raise UserError(
                f"{item.file}:{item.line}: more than {MAX_PROBLEMS} malformed rows "
                f"({problems[0].reason}); expected the published files of {corpus}"
            )
    found = _find(drafts, corpus, media)
    unsure = [f for f in found.values() if isinstance(f, Unsure)]
    clips: list[Clip] = []
    for key, files in found.items():
        if isinstance(files, Found):
            row = drafts[key]
            try:
                clips.append(_clip(row.draft, key[0], files))
            except ConfigError as error:
                problems.append(Problem(file=row.file, line=row.line, reason=str(error)))
    by_split = Counter(clip.split for clip in clips)
    return tuple(clips), ImportReport(
        corpus=corpus,
        num_rows=num_rows,
        num_clips={str(split): by_split[split] for split in sorted(by_split)},
        missing=tuple(clip_id for (_, clip_id), f in found.items() if f is None),
        unsure=tuple(unsure),
        short=tuple(
            Short(clip_id=clip.clip_id, file=clip.sound_file, duration_s=clip.duration_s or 0.0)
            for clip in clips
            if (f := found[clip.corpus, clip.clip_id]) is not None
            and isinstance(f, Found)
            and f.cut.is_short
        ),
        problems=tuple(problems),
        excluded=tuple(excluded),
    )


def _merge(item: Located, corpus: str, drafts: dict[tuple[str, str], Located]) -> str | None:
    """Add a row to the drafts; return what is wrong with it, or None."""
    draft = item.draft
    key = (corpus, draft.clip_id)
    before = drafts.setdefault(key, item)
    if before is item:
        return None
    known = before.draft
    new = tuple(c for c in draft.captions if c not in known.captions)
    stems = tuple(dict.fromkeys((*known.stems, *draft.stems)))
    if known.split != draft.split or not new:
        return f"repeats {before.file}:{before.line} ({known.split})"
    merged = replace(known, captions=(*known.captions, *new), stems=stems)
    drafts[key] = replace(before, draft=merged)
    return None


def _find(
    drafts: Mapping[tuple[str, str], Located], corpus: str, media: MediaFolder
) -> dict[tuple[str, str], Found | Unsure | None]:
    """Find the media of every draft; a file that two clips claim as theirs alone is neither's."""
    stems = {stem for row in drafts.values() for stem in row.draft.stems}
    found = {
        key: find_media(row.draft, corpus, media, exact_stems=stems) for key, row in drafts.items()
    }
    claims: dict[str, list[tuple[str, str]]] = {}
    for key, files in found.items():
        if isinstance(files, Found) and files.cut.is_whole_file:
            claims.setdefault(files.sound_file, []).append(key)
    for path, keys in claims.items():
        if len(keys) > 1:
            names = ", ".join(clip_id for _, clip_id in keys)
            for key in keys:
                reason = f"one file for several clips: {names}"
                found[key] = Unsure(clip_id=key[1], files=(path,), reason=reason)
    return found


def _clip(draft: Draft, corpus: str, files: Found) -> Clip:
    known = {name: getattr(draft, name) for name in _SHARED}
    known |= {"corpus": corpus, "start_s": files.cut.start_s, "duration_s": files.cut.duration_s}
    return Clip(audio=files.audio, video=files.video, **known)


def write_report(path: Path, report: ImportReport) -> None:
    """Write the report as JSON."""
    write_text(path, json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
