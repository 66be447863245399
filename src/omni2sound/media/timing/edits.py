"""How an mp4's edit list moves its pictures: as FFmpeg shows them, and as the file says.

In:   a closed mp4 or mov.
Out:  seconds or ticks by which FFmpeg shows pictures too early.

FFmpeg moves the first picture that is shown as a whole to where the edit begins (`mov_fix_index`
in its `libavformat/mov.c`). If the edit begins within a picture, or before there is any, that is
too early; sound keeps its place. Read with `advanced_editlist` off, times are those of the file,
for an edit list of one part.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from omni2sound.media.files import open_input, read_packets
from omni2sound.media.timing.timeline import Timeline
from omni2sound.media.timing.track_scan import MAX_REORDER


def ticks_within(path: Path, index: int, first: tuple[int | None, int], begin: int) -> int:
    """Ticks from where an edit begins within a picture to the next one, which FFmpeg moves there.

    Args:
        path: The file.
        index: Stream index of its picture.
        first: Place in the file and presentation time of the first packet, in stored order, that
            is shown.
        begin: Presentation time of the first picture that is shown.

    Returns:
        0 if the edit does not begin within a picture.
    """
    place, time = first
    told: list[int] = []
    shift: int | None = None
    num_after = 0
    with open_input(path, advanced_editlist="0") as plain:
        for packet in read_packets(plain, plain.streams[index]):
            if packet.pts is None:
                continue
            told.append(packet.pts)
            if packet.pos == place:
                shift = packet.pts - time
            elif shift is not None:
                num_after += 1
                if num_after == MAX_REORDER:
                    break
    if shift is None or shift <= 0:
        return 0
    before = max((pts for pts in told if pts < begin + shift), default=None)
    return shift if before is not None and before < begin else 0


def moved_s(path: Path, index: int, timeline: Timeline) -> Fraction:
    """Seconds by which a file's pictures are read earlier than its edit list says.

    Args:
        path: An mp4 or mov with an edit list of one part.
        index: Stream index of its picture.
        timeline: The file's, as it was probed.
    """
    with open_input(path) as container, open_input(path, advanced_editlist="0") as plain:
        stream = container.streams[index]
        for packet in timeline.read_packets(container, stream):
            if not packet.is_discard:
                break
        else:
            return Fraction(0)
        for told in read_packets(plain, plain.streams[index]):
            if told.pos == packet.pos and told.pts is not None and packet.pts is not None:
                return (told.pts - packet.pts) * Fraction(stream.time_base or 1)
    return Fraction(0)
