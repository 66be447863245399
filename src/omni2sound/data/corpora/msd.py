"""Million Song Dataset: metadata of a million tracks, for sound that the user has.

In:   `track_metadata.db`: SQLite, table `songs` with track_id, title, song_id, artist_id,
      artist_name, duration, track_7digitalid and others; or `unique_tracks.txt`:
      "track id<SEP>song id<SEP>artist name<SEP>song title". And `artist_term.db`, table
      `artist_term` with artist_id and term, from which the labels come.
Out:  drafts, all for training. Media are `<track id>` or `<7digital id>` (also with
      ".clip", as previews are named). Tracks of one song have one source.

Without `artist_term.db` the only label of a track is "music": names of artists and songs do not
describe sound, so they are no captions.

Source: http://millionsongdataset.com/pages/getting-dataset/ and the project's
`create_track_metadata_db.py`, https://github.com/tbertinmahieux/MSongsDB; Bertin-Mahieux et
al. 2011.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.tables import Line, Problem
from omni2sound.errors import UserError
from omni2sound.readers import check_regular, real_path, sqlite_file, text_lines

MAX_TERMS = 5
"""Labels of one track: the artist's first terms (chosen)."""
_TEXT_COLUMNS = ("track_id", "song_id", "artist_name", "title")


def read(published: Path) -> Iterator[rows.Item]:
    """Read every track of the database, or of the text file."""
    folder = published if published.is_dir() else published.parent
    terms = _terms(folder)
    candidates = [published] if published.is_file() else sorted(published.rglob("*"))
    for path in (p for p in candidates if p.name == "track_metadata.db"):
        yield from rows.drafts(path, _songs(path), partial(_draft, terms))
        return
    for path in (p for p in candidates if p.name == "unique_tracks.txt"):
        yield from rows.drafts(path, _lines(path), partial(_draft, terms))
        return
    raise UserError(f"{published}: expected track_metadata.db or unique_tracks.txt in it")


def _connect(path: Path) -> sqlite3.Connection:
    check_regular(path)
    connection = sqlite3.connect(f"file:{real_path(path).as_posix()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def _songs(path: Path) -> Iterator[Line | Problem]:
    with closing(_connect(path)) as database, sqlite_file(path, "the database of Million Song"):
        for row in database.execute("SELECT rowid AS row_number, * FROM songs"):
            yield Line(number=row["row_number"], cells=dict(row))


def _lines(path: Path) -> Iterator[Line | Problem]:
    lines = text_lines(path, encoding="utf-8-sig", errors="replace")
    for number, text in enumerate(lines, start=1):
        cells = text.rstrip("\r\n").split("<SEP>")
        if len(cells) == len(_TEXT_COLUMNS):
            yield Line(number=number, cells=dict(zip(_TEXT_COLUMNS, cells, strict=True)))
        elif text.strip():
            reason = f"expected {len(_TEXT_COLUMNS)} parts with <SEP>, got {len(cells)}"
            yield Problem(file=path.name, line=number, reason=reason)


def _terms(folder: Path) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for path in folder.rglob("artist_term.db"):
        with closing(_connect(path)) as database, sqlite_file(path, "a database of terms"):
            query = "SELECT artist_id, term FROM artist_term ORDER BY rowid"
            for artist, term in database.execute(query):
                found.setdefault(str(artist), []).append(str(term))
    return {artist: tuple(t[:MAX_TERMS]) for artist, t in found.items()}


def _draft(terms: Mapping[str, tuple[str, ...]], row: Mapping[str, Any]) -> rows.Draft:
    track, song = str(row["track_id"] or ""), str(row["song_id"] or "")
    if len(track) != 18 or not track.startswith("TR") or not track.isalnum():
        raise ValueError(f"track_id: expected TR and 16 letters or digits, got {track!r}")
    preview = row.get("track_7digitalid")
    stems = (track,) if not preview else (track, f"{preview}", f"{preview}.clip")
    return rows.Draft(
        clip_id=track,
        split="train",
        stems=stems,
        labels=(*terms.get(str(row.get("artist_id")), ()), "music"),
        source=f"msd:{song or track}",
        licence="metadata only; the sound is not part of the corpus",
        author=str(row.get("artist_name") or ""),
    )
