"""One clip's story as a page that needs nothing else.

In:   a run's folder, a clip's name.
Out:  an HTML file: frames above the spectrogram, what each step found, why it went on or ended.

Everything that comes from a model or a manifest is escaped: a caption is no markup.
"""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omni2sound.errors import UserError
from omni2sound.files import atomic_path

if TYPE_CHECKING:
    from omni2sound.annotate.runs import Story

__all__ = ["write_page"]

_NUM_FRAMES = 6
_FRAME_PX = 180
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2em auto; padding: 0 1em }
img { max-width: 100% } table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid #ccc; padding: .3em .6em; text-align: left; vertical-align: top }
"""


def write_page(run: Path, clip: str, output: Path) -> None:
    """Write the page.

    Raises:
        UserError: The run has no finished clip of that name.
    """
    from omni2sound.annotate.runs import RunSettings, clip_name, source_clips, stories
    from omni2sound.data.corpora.manifest import read_manifest

    story = next((s for s in stories(run) if clip_name(s.clip) == clip), None)
    if story is None:
        raise UserError(f"{run}: no clip {clip!r} has ended; names are CORPUS/CLIP_ID")
    manifest = read_manifest(Path(RunSettings.read(run).manifest))
    source = next(c for c in source_clips(manifest) if c.name == clip)
    caption = story.caption
    head = escape(caption.text if caption else "no caption")
    rows = "".join(_rows(story))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(clip)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(clip)}</h1>"
        f"<p><b>{escape(story.ending.end)}</b>: {head}</p>"
        f'<img alt="frames above a spectrogram" src="data:image/png;base64,{_picture(source)}">'
        f"<table><tr><th>step<th>what it found</tr>{rows}</table></html>\n"
    )
    with atomic_path(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _picture(source: Any) -> str:
    from omni2sound.annotate.shots import shots_of
    from omni2sound.annotate.sounds import SAMPLE_RATE_HZ, clip_sound
    from omni2sound.media.figure import frames_above_spectrogram
    from omni2sound.media.samples import Audio

    samples_N = clip_sound(source)
    frames: list[Any] = []
    if source.video is not None:
        shots = shots_of(
            source.video,
            start_s=source.start_s,
            duration_s=source.duration_s,
            height_px=_FRAME_PX,
            frames_per_shot=_NUM_FRAMES,
        )
        every = [frame for shot in shots for frame in shot.frames_THWC]
        places = ((np.arange(_NUM_FRAMES) + 0.5) * len(every) / _NUM_FRAMES).astype(int)
        frames = [every[place] for place in places]
    image = frames_above_spectrogram(
        frames,
        Audio(samples_CN=samples_N[None], sample_rate_hz=SAMPLE_RATE_HZ),
        title=source.name,
    )
    file = io.BytesIO()
    image.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def _rows(story: Story) -> list[str]:
    from omni2sound.config import to_json

    return [
        f"<tr><td>{escape(step)}<td>{_shown(to_json(record))}</tr>"
        for step, record in story.steps.items()
    ]


def _shown(data: Any) -> str:
    """JSON data as nested lists; long texts of numbers are cut."""
    if isinstance(data, dict):
        inner = "".join(
            f"<li>{escape(str(name))}: {_shown(value)}"
            for name, value in data.items()
            if name != "sound" and not (name == "rule" and value is None)
        )
        return f"<ul>{inner}</ul>"
    if isinstance(data, list):
        if len(data) > 8 and all(isinstance(item, dict) for item in data):
            return f"<details><summary>{len(data)}</summary>{_items(data)}</details>"
        return _items(data)
    return escape("unknown" if data is None else str(data))


def _items(data: list[Any]) -> str:
    return "<ol>" + "".join(f"<li>{_shown(item)}" for item in data) + "</ol>"
