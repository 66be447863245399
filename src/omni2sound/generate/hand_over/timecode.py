"""Time of a film's first picture: seconds of the day, or a timecode at the film's rate.

In:   "1:00:00", "01:00:00:00", "01:00:00;00" (drop frame); the film, which may carry its own.
Out:  seconds.

Timecode counts pictures. At 24000/1001 a second an hour of it lasts 3603.6 s.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import chain
from pathlib import Path

from omni2sound.errors import UserError
from omni2sound.generate.hand_over.timeline import load_otio
from omni2sound.generate.studio.times import parse_time
from omni2sound.media.files import open_input, shown_name
from omni2sound.media.info import probe

_TIMECODE = re.compile(r"\d{1,2}:[0-5]\d:[0-5]\d[:;]\d{2}")
_SAME_FPS = 0.005
"""Headers tell 23.98 or 23.976 for 24000/1001."""


def parse_film_start(text: str, film: Path | None) -> float:
    """Read the time of a film's first picture, in seconds of the day.

    Args:
        text: A time as in "1:00:00", or a timecode of hours, minutes, seconds and frames.
        film: Tells the rate of a timecode.

    Raises:
        MediaError: The film can't be read.
        MissingPartError: OpenTimelineIO is not installed.
        UserError: It is neither, or a timecode without a film or of a rate that has none.
    """
    if not _TIMECODE.fullmatch(text.strip()):
        return parse_time(text, "film_start")
    video = None if film is None else probe(film).video
    if video is None:
        raise UserError(
            f"a timecode such as {text.strip()} counts pictures; give the film, too, or seconds",
            field="film_start",
        )
    return float(timecode_s(text, video.average_fps))


def own_start(film: Path) -> tuple[float, str]:
    """Return the time of a film's first picture by the timecode that its file or a track states.

    Returns:
        Seconds of the day, 0 where no timecode is stated that its rate has; and what to say of it.

    Raises:
        MediaError: The film can't be read.
        MissingPartError: OpenTimelineIO is not installed.
    """
    with open_input(film) as container:
        stated = [container.metadata, *(stream.metadata for stream in container.streams)]
    pairs = chain.from_iterable(tags.items() for tags in stated)
    texts = (value.strip() for key, value in pairs if key.lower() == "timecode")
    text = next((text for text in texts if _TIMECODE.fullmatch(text)), None)
    if text is None:
        return 0.0, ""
    try:
        start_s = parse_film_start(text, film)
    except UserError as error:
        return 0.0, f"{shown_name(film)}: its own timecode is left out: {error.args[0]}"
    return start_s, f"{shown_name(film)} begins at {text}, its own timecode"


def timecode_s(text: str, fps: Fraction) -> Fraction:
    """Seconds of a timecode: the pictures before it over their rate.

    Args:
        text: HH:MM:SS:FF, or HH:MM:SS;FF for drop frame.
        fps: Pictures a second; within 0.005 of a rate that has timecodes.

    Raises:
        MissingPartError: OpenTimelineIO is not installed.
        UserError: There is no such timecode at that rate.
    """
    load_otio()
    from opentimelineio.opentime import RationalTime, from_timecode, to_timecode

    text = text.strip().zfill(len("00:00:00:00"))
    rate = RationalTime.nearest_smpte_timecode_rate(float(fps))
    try:
        if abs(rate - float(fps)) > _SAME_FPS:
            raise ValueError(f"its film has {float(fps):.5g} pictures a second")
        time = from_timecode(text, rate)
        if to_timecode(time, rate, drop_frame=";" in text) != text:
            raise ValueError("drop frame leaves it out")
    except ValueError as error:
        raise UserError(
            f"there is no timecode {text} at {float(fps):.5g} pictures a second: {error}; "
            "give another, or seconds",
            field="film_start",
        ) from None
    nominal = round(rate)
    exact = Fraction(nominal) if rate == nominal else Fraction(nominal * 1000, 1001)
    return Fraction(round(time.value)) / exact
