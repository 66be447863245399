"""Pictures of outputs: frames above the spectrogram of what was written.

In:   output files, as `save` wrote them; the video that was looked at, if there was one.
Out:  OUT.png; for several takes one contact sheet.

The sound is read back from the file: mixed, leveled and coded, as it will be heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omni2sound.files import atomic_path
from omni2sound.media.audio import read_audio
from omni2sound.media.figure import contact_sheet
from omni2sound.media.files import shown_name
from omni2sound.media.info import probe
from omni2sound.media.video import iter_frames

NUM_FRAMES = 8
_WIDTH_PX = 320


def draw_preview(
    outputs: Sequence[tuple[str, Path]], video: Path | None, target: Path, *, overwrite: bool = True
) -> None:
    """Draw one output, or the takes of one request below each other.

    Args:
        outputs: Title and file of each.
        video: The video whose frames stand above. Default: the first output, if it has pictures.
        target: The picture.
        overwrite: Replace a file that exists.

    Raises:
        MediaError: A file can't be read.
    """
    takes = [(title, read_audio(path)) for title, path in outputs]
    shown = video or outputs[0][1]
    info = probe(shown).video
    frames = []
    if info is not None:
        duration_s = takes[0][1].duration_s
        size = (max(1, round(info.height_px * _WIDTH_PX / info.width_px)), _WIDTH_PX)
        # At this rate, frame i is the picture in the middle of the i-th part.
        pictures = iter_frames(
            shown, fps=NUM_FRAMES / duration_s, size_px=size, duration_s=duration_s
        )
        frames = list(pictures)[:NUM_FRAMES]
    with atomic_path(target, replace=overwrite) as path:
        contact_sheet(frames, takes).save(path, format="png")


def title_of(output: Path, facts: dict[str, object]) -> str:
    """Say in a line what a picture shows: file, what was asked, seed."""
    asked = facts.get("prompt") or facts.get("text") or ""
    said = f", {str(asked)[:70]!r}" if asked else ""
    return f"{shown_name(output)}{said}, seed {facts.get('seed')}"
