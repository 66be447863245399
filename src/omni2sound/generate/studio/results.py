"""Results outside of files: limited samples, file objects, a player in a notebook.

In:   a `GenerationResult`.
Out:  an `Audio`, bytes in a file object, HTML.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from omni2sound.errors import UserError
from omni2sound.media.audio import write_audio
from omni2sound.media.files import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from omni2sound.media.loudness.level import level
from omni2sound.media.page import data_uri
from omni2sound.media.samples import Audio
from omni2sound.staging import scratch

if TYPE_CHECKING:
    from omni2sound.generate.request import GenerationResult

_MAX_PLAYER_S = 600


def limited(audio: Audio) -> Audio:
    """Lower peaks over full scale where they are, as a lossless file of the sound has them."""
    sound, _ = level(audio)
    return replace(audio, samples_CN=np.concatenate(list(sound.read()), axis=1))


def save_to_stream(
    stream: IO[bytes], file_format: str | None, save: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """Write a result into a file object.

    Args:
        stream: Opened for writing in binary mode.
        file_format: "wav", "mp4" or another suffix.
        save: Writes the result to a path.

    Raises:
        UserError: There is no format, it is unknown, or `stream` takes text.
    """
    known = [suffix[1:] for suffix in AUDIO_SUFFIXES + VIDEO_SUFFIXES]
    if file_format not in known:
        raise UserError(
            f"a file object needs one of {', '.join(known)}; got {file_format!r}",
            field="file_format",
        )
    with scratch() as folder:
        path = folder / f"sound.{file_format}"
        report = save(path)
        try:
            stream.write(path.read_bytes())
        except TypeError:
            raise UserError("expected a file opened in binary mode", field="path") from None
    del report["output"]
    return report


def player(result: GenerationResult) -> str:
    """Compose a player (HTML) with the sound in it, for notebooks; it sends no request."""
    asked = [f"seed {result.seed}", f"{result.duration_s:.2f} s"]
    if result.request.video is not None:
        asked.insert(0, result.request.video.name)
    if result.text:
        asked.insert(0, result.text)
    caption = html.escape(" · ".join(asked))
    if result.duration_s > _MAX_PLAYER_S:
        return f"<p>{caption}: too long for a player; use <code>save</code></p>"
    with scratch() as folder:
        path = folder / "sound.flac"
        write_audio(path, result.audio)
        source = data_uri("audio/flac", path.read_bytes())
    audio = f'<audio controls src="{source}"></audio>'
    return f"<figure>{audio}<figcaption>{caption}</figcaption></figure>"
