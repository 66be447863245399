"""From a job to a request and the options of its files.

In:   a `Job`, the file of its video.
Out:  `GenerationRequest`, `OutputOptions`; a span of the video as a file of its own.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, cast

from numpy.typing import ArrayLike

from omni2sound.errors import MediaError, UserError
from omni2sound.generate.output import OutputOptions
from omni2sound.generate.request import GenerationRequest, draw_seed
from omni2sound.generate.studio.job import Job, loudness_for
from omni2sound.generate.studio.video import (
    duration_of_span,
    from_array,
    from_file_object,
    spanned,
)
from omni2sound.generate.words.cues import parse_cue
from omni2sound.staging import scratch

_OF_FILES = ("keep_audio", "mix_db", "duck_db", "loudness_lufs", "bits", "reencode", "preview")
VideoLike = str | os.PathLike[str] | IO[bytes] | ArrayLike
"""A path, a binary file object, or frames (T, H, W, 3), uint8 RGB."""


@contextmanager
def spanned_request(source: Path | None, job: Job) -> Iterator[tuple[Path | None, float | None]]:
    """Give the file of a job's span, there as long as the block, and the seconds to sound.

    Raises:
        MediaError: The video can't be read or has no moving picture.
        UserError: There is no video, or the span is empty.
    """
    duration_s = duration_of_span(job.start_s, job.end_s, job.duration_s)
    with spanned(source, start_s=job.start_s, end_s=job.end_s) as video:
        yield video, duration_s


def request_on(
    video: VideoLike | None,
    *,
    start_s: float | None,
    end_s: float | None,
    fps: float | Fraction | None,
    duration_s: float | None,
    seed: int | None,
    **settings: Any,
) -> GenerationRequest:
    """Build a request on a video that need not be a file, or not all of one.

    What has to be written for it lies in a temporary folder as long as the request.

    Args:
        video: A path, a binary file object, frames (T, H, W, 3), or None.
        start_s: Where in the video to begin.
        end_s: Where in it to end.
        fps: Rate of frames.
        duration_s: Seconds to sound.
        seed: Seed of the first take. Default: a new one.
        **settings: Other fields of the request.

    Raises:
        MediaError: The video can't be read.
        UserError: A value is out of range, or two contradict each other.
    """
    duration_s = duration_of_span(start_s, end_s, duration_s)
    path: Path | None = None
    is_path = isinstance(video, (str, os.PathLike))
    if fps is not None and (video is None or is_path or hasattr(video, "read")):
        raise UserError("is for frames; a file has its own", field="fps")
    with ExitStack() as stack:

        def folder() -> Path:
            return stack.enter_context(scratch())

        if isinstance(video, (str, os.PathLike)):
            path = Path(video)
            # `Path.exists` raises for a name that is too long.
            exists = path.suffix or os.path.exists(path)  # noqa: PTH110
            if isinstance(video, str) and not exists:
                shown = video if len(video) <= 80 else f"{video[:77]}..."
                raise MediaError(f"{shown}: no such file; words are the `prompt`")
        elif hasattr(video, "read"):
            path = from_file_object(cast("IO[bytes]", video), folder())
        elif video is not None:
            path = from_array(video, fps, folder())
        path = stack.enter_context(spanned(path, start_s=start_s, end_s=end_s))
        request = GenerationRequest(
            video=path,
            duration_s=duration_s,
            seed=draw_seed() if seed is None else seed,
            **settings,
        )
        weakref.finalize(request, stack.pop_all().close)
    return request


def request_of(
    job: Job, video: Path | None, duration_s: float | None, *, seed: int
) -> GenerationRequest:
    """Build and check the request of a job.

    Args:
        job: The job.
        video: The file of its span.
        duration_s: Seconds to sound.
        seed: Seed of the first take.

    Raises:
        MediaError: The video can't be read.
        UserError: A value is out of range, or two contradict each other.
    """
    request = GenerationRequest(
        video=video,
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        duration_s=duration_s,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        text_guidance_scale=job.text_guidance,
        recognise=job.recognise,
        seen=job.seen,
        leave_out=job.leave_out,
        cues=tuple(parse_cue(line) for line in job.cues),
        ambience=job.ambience,
        stems=job.stems,
        sample_rate_hz=job.rate,
        channels=job.channels,
        seed=seed,
        takes=job.takes,
    )
    request.resolve_duration(1.0)  # checks the video before all of it is read
    return request


def options_of(job: Job, base: OutputOptions) -> OutputOptions:
    """Return the options of a job's files: its own before those of the run.

    Raises:
        UserError: A value is out of range, or two contradict each other.
    """
    own = {name: value for name in _OF_FILES if (value := getattr(job, name)) is not None}
    loudness_lufs = loudness_for(job.destination, job.loudness_lufs)
    if loudness_lufs is not None:
        own["loudness_lufs"] = loudness_lufs
    return replace(base, **own)
