"""WavCaps: captions by a language model from the descriptions of four sources.

In:   `json_files/<source>/*_final*.json`: {"num_captions_per_audio": 1, "data": [...]} or the
      bare list, of objects with "id", "caption", "duration" and for websites "author"; and
      `json_files/blacklist/*.json`: {"AudioSet": [ids], "FreeSound": [ids]}, clips in the test
      sets of other corpora.
Out:  drafts, all for training; clips of any blacklist are excluded.

Media lie as `<source>_flac/<id>.flac`; ids of the sources collide, so the folder's name must
begin with the source's. Ids of AudioSet are YouTube's with a "Y" in front and a suffix; where such
a segment starts is not published, so a whole video can't be cut to it.

Source: https://huggingface.co/datasets/cvssp/WavCaps and https://github.com/XinhaoMei/WavCaps;
Mei et al. 2023, arXiv:2303.17395. For academic use only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.tables import json_items
from omni2sound.errors import UserError
from omni2sound.readers import interpreting, read_object

_SOURCES = {  # by how the file's name begins: folder of the media, prefix of sources
    "as_final": ("AudioSet", "youtube"),
    "bbc_final": ("BBC", "bbc"),
    "fsd_final": ("FreeSound", "freesound"),
    "sb_final": ("SoundBible", "soundbible"),
}

_SUFFIX = re.compile(r"\.(wav|flac|mp3)$", re.IGNORECASE)


def read(published: Path) -> Iterator[rows.Item]:
    """Read every object of the sources in the folder."""
    folder = published if published.is_dir() else published.parent
    excluded = _blacklists(folder)
    for path in rows.find_published(published, "*_final*.json", wanted="as_final.json and others"):
        known = [s for start, s in _SOURCES.items() if path.name.startswith(start)]
        if not known:
            raise UserError(f"{path}: expected a name that begins with {', '.join(_SOURCES)}")
        media, prefix = known[0]
        yield from rows.drafts(
            path,
            json_items(path),
            partial(_draft, media, prefix),
            exclude=partial(_exclusion, excluded.get(media, frozenset())),
        )


def _exclusion(blacklist: frozenset[str], row: Mapping[str, Any]) -> str | None:
    return "on a blacklist" if _plain(row["id"]) in blacklist else None


def _plain(name: object) -> str:
    return _SUFFIX.sub("", str(name))


def _blacklists(folder: Path) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("blacklist_*.json")):
        lists = read_object(path)
        with interpreting(path, "a blacklist of WavCaps"):
            for source, ids in lists.items():
                found.setdefault(source, set()).update(_plain(i) for i in ids)
    return {source: frozenset(ids) for source, ids in found.items()}


def _draft(media: str, prefix: str, row: Mapping[str, Any]) -> rows.Draft:
    name, caption = _plain(row["id"]), row["caption"]
    if not name or not isinstance(caption, str) or not caption.strip():
        raise ValueError("id or caption: empty")
    of_source = (
        rows.youtube_id(name[1:] if len(name) == 12 else name) if prefix == "youtube" else name
    )
    duration_s = (
        rows.number(row["duration"], "duration") if row.get("duration") is not None else None
    )
    return rows.Draft(
        clip_id=f"{media}-{name}",
        split="train",
        youtube_id=of_source if prefix == "youtube" else "",
        stems=(f"{media}/{name}",),
        duration_s=duration_s or None,
        captions=(caption.strip(),),
        source=f"{prefix}:{of_source}",
        licence="academic use only",
        author=str(row.get("author") or ""),
    )
