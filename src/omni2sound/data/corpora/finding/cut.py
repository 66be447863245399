"""Where a segment lies in its file: at the start of a file that was cut, or inside the whole video.

In:   a segment's times, the length and the name of its file.
Out:  a `Cut`, or the reason why none is sure.
"""

from __future__ import annotations

from dataclasses import dataclass

SLACK_S = 0.5
"""Files are cut at pictures and padded by codecs; a larger difference is one of content."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A clip's part of its file."""

    start_s: float
    duration_s: float | None
    is_whole_file: bool
    """Whether the file holds this clip alone."""
    is_short: bool = False
    """Whether the file ends before the segment does."""


def cut_of(
    file_s: float,
    *,
    start_s: float | None,
    duration_s: float | None,
    is_clip: bool,
    is_sure: bool,
) -> Cut | str:
    """Decide where a segment lies.

    Args:
        file_s: Length of the file.
        start_s: Start of the segment in the source; None: the source is the clip.
        duration_s: Length of the segment or clip as published; None if unknown.
        is_clip: Whether the file's name says that it holds the clip alone.
        is_sure: Whether the name is sure even if the file is shorter than the clip.

    Returns:
        The cut, or why it is not sure.
    """
    if duration_s is None:
        return Cut(0.0, None, is_whole_file=True)
    has_length = abs(file_s - duration_s) <= SLACK_S
    is_shorter = file_s < duration_s - SLACK_S
    lengths = f"lasts {file_s:.2f} s, the clip {duration_s:g} s"
    if start_s is not None and start_s <= SLACK_S / 2 and is_sure:  # cut or not, it begins here
        if is_shorter:
            return Cut(0.0, file_s, is_whole_file=is_clip, is_short=True)
        return Cut(0.0, duration_s, is_whole_file=is_clip or has_length)
    if start_s is None or is_clip:
        if has_length:
            return Cut(0.0, duration_s, is_whole_file=True)
        if is_shorter and is_sure:
            return Cut(0.0, file_s, is_whole_file=True, is_short=True)
        if is_shorter:
            return f"{lengths}; perhaps another sound of this name"
        return f"{lengths}; where the clip begins in it is not known: cut it"
    is_whole = file_s >= start_s + duration_s - SLACK_S
    if is_whole and has_length:
        return f"{lengths} from {start_s:g} s on; it may be the whole video or the clip"
    if is_whole:
        return Cut(start_s, min(duration_s, file_s - start_s), is_whole_file=False)
    if has_length:
        return Cut(0.0, duration_s, is_whole_file=True)
    return (
        f"{lengths} from {start_s:g} s on; too short for the whole video and too "
        f"{'short' if is_shorter else 'long'} for the clip: name it ID_START, or cut it"
    )
