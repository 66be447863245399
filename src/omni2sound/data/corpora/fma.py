"""FMA: music of the Free Music Archive with genres, clips of 30 s or whole tracks.

In:   `fma_metadata/tracks.csv`: two rows of headers (group, then name), a third one with
      "track_id" alone, then a row a track, whose cells may hold line breaks; and `genres.csv`:
      "genre_id,#tracks,parent,title,top_level".
Out:  drafts with genres as labels. Media are `<three digits>/<six digits>.mp3`.

A record ends where its quotes close. If they never close, reading resumes at the next line on which
a record may begin.

Source: https://github.com/mdeff/fma (`utils.py` of its releases reads the tables so);
Defferrard et al. 2017, arXiv:1612.01840. Each track has its own licence, in the table.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omni2sound.data.corpora import rows
from omni2sound.data.corpora.manifest import Split
from omni2sound.data.tables import Line, Problem, csv_lines
from omni2sound.errors import ConfigError
from omni2sound.readers import check_regular, interpreting

_SPLITS: Mapping[str, Split] = {"training": "train", "validation": "val", "test": "test"}
_FIRST_CELL = re.compile(r"\d+,")


def read(published: Path) -> Iterator[rows.Item]:
    """Read every track of the table, of all subsets."""
    folder = published if published.is_dir() else published.parent
    genres: dict[str, str] = {}
    for table in folder.rglob("genres.csv"):
        for row in csv_lines(table):
            if isinstance(row, Problem):
                yield row
            else:
                with interpreting(table, "FMA's genres"):
                    genres[row.cells["genre_id"]] = row.cells["title"]
    for path in rows.find_published(published, "tracks.csv", wanted="fma_metadata/tracks.csv"):
        yield from rows.drafts(path, _records(path), partial(_draft, genres))


def _records(path: Path) -> Iterator[Line | Problem]:
    check_regular(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            groups, names = (_cells_of(file.readline()) for _ in range(2))
        except csv.Error as error:
            raise ConfigError(f"{path}: expected two rows of headers ({error})") from None
        columns = [f"{g}.{n}" if g else n for g, n in zip(groups, names, strict=False)]
        if len(groups) != len(names) or "track.title" not in columns:
            raise ConfigError(f"{path}: expected two rows of headers with track, title in them")
        columns[0] = "track_id"
        yield from _split(path, enumerate(file, start=3), columns)


def _split(
    path: Path, numbered: Iterator[tuple[int, str]], columns: Sequence[str]
) -> Iterator[Line | Problem]:
    again: deque[tuple[int, str]] = deque()  # lines to be read once more
    held: list[tuple[int, str]] = []
    while True:
        following = again.popleft() if again else next(numbered, None)
        if following is None:
            if not held:
                return
            yield _broken(path, held, again)
            continue
        text = following[1]
        if held and _FIRST_CELL.match(text) and _cells(text, len(columns)) is not None:
            again.appendleft(following)
            yield _broken(path, held, again)
            continue
        if not held and (text.startswith("track_id,") or not text.strip()):
            continue
        held.append(following)
        record = "".join(t for _, t in held)
        if record.count('"') % 2:
            continue
        cells = _cells(record, len(columns))
        if cells is None:
            yield _broken(path, held, again)
        else:
            yield Line(number=held[0][0], cells=dict(zip(columns, cells, strict=True)))
            held.clear()


def _broken(path: Path, held: list[tuple[int, str]], again: deque[tuple[int, str]]) -> Problem:
    """Drop an unfinished record, and go back to where another one may begin."""
    number = held[0][0]
    rest = held[1:]
    while rest and not _FIRST_CELL.match(rest[0][1]):
        rest.pop(0)
    again.extendleft(reversed(rest))
    held.clear()
    return Problem(file=path.name, line=number, reason="not a record: columns or quotes are wrong")


def _cells(record: str, num_columns: int) -> Sequence[str] | None:
    """Parse the cells of a whole record, or None."""
    if record.count('"') % 2:
        return None
    try:
        rows = list(csv.reader(io.StringIO(record, newline=""), strict=True))
    except (csv.Error, ValueError):
        return None
    return rows[0] if len(rows) == 1 and len(rows[0]) == num_columns else None


def _cells_of(header: str) -> Sequence[str]:
    return next(iter(csv.reader([header]))) if header.strip() else ()


def _draft(genres: Mapping[str, str], row: Mapping[str, Any]) -> rows.Draft:
    track = row["track_id"].strip()
    if not track.isdigit():
        raise ValueError(f"track_id: expected a number, got {track!r}")
    split = row["set.split"].strip()
    if split not in _SPLITS:
        raise ValueError(f"split: expected {', '.join(_SPLITS)}, got {split!r}")
    ids = re.findall(r"\d+", row.get("track.genres", ""))
    labels = [genres[i] for i in ids if i in genres] or [row.get("track.genre_top", "").strip()]
    return rows.Draft(
        clip_id=f"{int(track):06d}",
        split=_SPLITS[split],
        stems=tuple(dict.fromkeys((f"{int(track):06d}", track))),
        parent=f"{int(track):06d}"[:3],
        labels=(*(x for x in labels if x), "music"),
        source=f"fma:{int(track)}",
        licence=row.get("track.license", "").strip(),
        author=row.get("artist.name", "").strip(),
    )
