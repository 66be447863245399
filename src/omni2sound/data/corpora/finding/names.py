"""Names that downloaders give to YouTube videos and segments of them.

In:   a file's name without suffix.
Out:  the ids that it may hold, each with the times that follow.

Read are `<id>`, `Y<id>` (PANNs, AudioCaps), `Title [<id>]` (yt-dlp), `Title-<id>` (youtube-dl), and
after an id one time or two, as seconds or milliseconds: `_000030`, `_30.000`, `_30_40`,
`_30.000_40.000`, `_390.0-400.0`, `_30000_40000`, `-[30-40]`; also `.f137`, by which yt-dlp marks a
stream that was not merged, and the suffix of the file that it was made from (`_30.mp4`). The names
were found in reports; docs/reference/corpora.md lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ID = r"[A-Za-z0-9_-]{11}"
_FIRST = re.compile(rf"(Y?)({_ID})((?:[_. -].*)?)", re.DOTALL)
_IN_BRACKETS = re.compile(rf".*\[({_ID})\](.*)", re.DOTALL)
_LAST = re.compile(rf".+[-_ ]({_ID})", re.DOTALL)
_SUFFIX = r"(\.(mp4|mkv|webm|m4a|mp3|wav|flac|opus|ogg))?"
_BARE = re.compile(rf"(\.f\d+(-\d+)?)?{_SUFFIX}")
_TIMES = re.compile(rf"[_. -]+(\[)?(\d+(?:\.\d+)?)(?:s?[_ -]+(\d+(?:\.\d+)?)s?)?(?(1)\]){_SUFFIX}")
_MS = 1000


@dataclass(frozen=True, slots=True)
class Times:
    """Times in a file's name."""

    start: float | None = None
    """As in the name, seconds or milliseconds; None: the name holds no times."""
    end: float | None = None
    is_cut_name: bool = False
    """Whether downloaders give such names to segments alone (`Y<id>`)."""

    def fit(self, start_s: float, end_s: float | None) -> bool:
        """Whether these are the times of a segment; a name without times fits any."""
        if self.start is None:
            return True
        return any(
            _same(self.start, start_s, unit)
            and (
                self.end is None
                or end_s is None
                or _same(self.end, end_s, unit)
                or _same(self.end, end_s - start_s, unit)
            )
            for unit in (1, _MS)
        )


def _same(named: float, time_s: float, unit: int) -> bool:
    """Compare a time in a name with that of a table; names often have whole seconds."""
    whole = unit == 1 and named == int(time_s)
    return whole or abs(named - time_s * unit) < 0.0015 * unit


def youtube_names(stem: str) -> Iterator[tuple[str, Times]]:
    """Yield every reading of a name as a YouTube id and times."""
    seen = set()
    for pattern in (_FIRST, _IN_BRACKETS, _LAST):
        match = pattern.fullmatch(stem)
        if match is None:
            continue
        if pattern is _FIRST:
            prefix, video, rest = match.groups()
        else:
            prefix, video, rest = "", match[1], match[2] if pattern is _IN_BRACKETS else ""
        times = _times(rest.rstrip(), is_cut_name=prefix == "Y")
        if times is not None and video not in seen:
            seen.add(video)
            yield video, times


def _times(rest: str, *, is_cut_name: bool) -> Times | None:
    if _BARE.fullmatch(rest):
        return Times(is_cut_name=is_cut_name)
    match = _TIMES.fullmatch(rest)
    if match is None:
        return None
    end = float(match[3]) if match[3] else None
    return Times(start=float(match[2]), end=end, is_cut_name=True)
