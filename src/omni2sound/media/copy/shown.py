"""What a finished copy shows, compared with its source.

In:   the copy, the description of its source.
Out:  an error where they differ. Encoded pictures are compared with those that were encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from omni2sound.errors import MediaError, UserError
from omni2sound.media.files import shown_name
from omni2sound.media.info import VideoStreamInfo, probe
from omni2sound.media.timing.edits import moved_s

_ROUNDING_S = Fraction(1, 500)
"""Matroska rounds times to 1 ms, source and copy."""


class UnfaithfulCopyError(UserError):
    """A copy can't be read, or does not show the same pictures at the same times."""


def check_encoded(path: Path, name: str, times_s: Sequence[Fraction]) -> None:
    """Compare the pictures of a file with those that were encoded for it.

    Args:
        path: The file.
        name: Its name in messages.
        times_s: When each picture appears, rising.

    Raises:
        UnfaithfulCopyError: The file can't be read, or number, first or last time differ.
    """
    try:
        info = probe(path)
    except MediaError as error:
        raise UnfaithfulCopyError(
            f"{_not_written(name)}: the result could not be read back ({_reason(path, error)})"
        ) from error
    found = info.video
    if found is not None and found.num_frames == len(times_s):
        late_s = found.start_s - times_s[0]
        if path.suffix.lower() in (".mp4", ".mov"):
            late_s += moved_s(path, found.index, info.timeline)
        if max(abs(late_s), abs(found.last_s - times_s[-1])) <= _ROUNDING_S:
            return
    num_found = 0 if found is None else found.num_frames
    raise UnfaithfulCopyError(
        f"{_not_written(name)}: shows {num_found} of {len(times_s)} pictures that were encoded, or "
        "at other times; use another container"
    )


def check_shown(
    path: Path, name: str, video: VideoStreamInfo, *, shift_s: Fraction, goes_on: bool = False
) -> None:
    """Compare the pictures of a copy with those of its source.

    Args:
        path: The copy.
        name: The copy's, in messages.
        video: The picture of the source.
        shift_s: What the copy adds to each time.
        goes_on: The copy may show more pictures after the source's last one.

    Raises:
        UnfaithfulCopyError: The copy can't be read, or number, first or last time of the shown
            pictures differ.
    """
    try:
        info = probe(path)
    except MediaError as error:
        raise UnfaithfulCopyError(
            f"{_not_written(name)}: a copy could not be read back ({_reason(path, error)}); "
            "use `reencode`"
        ) from error
    copy = info.video
    num_shown = 0 if copy is None else copy.num_frames
    if copy is not None:
        late_s = copy.start_s - (video.start_s + shift_s)
        longer_s = copy.last_s - (video.last_s + shift_s)
        same_count = num_shown >= video.num_frames if goes_on else num_shown == video.num_frames
        same_end = goes_on or abs(longer_s) <= _ROUNDING_S
        if path.suffix.lower() in (".mp4", ".mov"):
            late_s += moved_s(path, copy.index, info.timeline)
        if same_count and same_end and abs(late_s) <= _ROUNDING_S:
            return
    raise UnfaithfulCopyError(
        f"{_not_written(name)}: a copy would show {num_shown} of "
        f"{video.num_frames} pictures, or at other times; use `reencode`"
    )


def _not_written(name: str) -> str:
    return f"{shown_name(Path(name))}: not written"


def _reason(path: Path, error: MediaError) -> str:
    return str(error).removeprefix(f"{shown_name(path)}: ")
