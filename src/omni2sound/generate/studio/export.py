"""Takes that were written, as results again: for other formats, and for copies of their film.

In:   a sound file with its sidecar; the film that it was made for.
Out:  a `GenerationResult` whose sound is that of the file, sample for sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omni2sound.errors import UserError
from omni2sound.generate.output import OutputOptions, check_output_of, read_sidecar, save
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings
from omni2sound.generate.studio.video import spanned
from omni2sound.media.audio import read_audio
from omni2sound.media.files import VIDEO_SUFFIXES, shown_name
from omni2sound.media.info import probe

_KEPT_FACTS = (
    *("seen", "text", "cues", "ambience", "notes", "stems", "mix"),
    *("edited_sha256", "ranges", "strength"),
)


def export_take(
    take: Path,
    output: Path,
    options: OutputOptions,
    *,
    video: Path | None = None,
    start_s: float = 0.0,
) -> dict[str, Any]:
    """Write a take in another format, or a copy of its film with it.

    Args:
        take: A sound file with its sidecar.
        output: What is written; its suffix chooses the format.
        options: How it is written.
        video: The film that the take was made for.
        start_s: Where in the film the take begins.

    Returns:
        What the sidecar of `output` says.

    Raises:
        MediaError: The film can't be read.
        UserError: The output can't be written, or `take` has no sidecar.
    """
    facts = read_sidecar(take)
    if facts is None:
        raise UserError(f"{shown_name(take)}: is no take with a sidecar; give one that was made")
    needs_film = output.suffix.lower() in VIDEO_SUFFIXES or options.keep_audio
    with _film(video if needs_film else None, start_s) as film:
        result = _result(take, film, facts)
        check_output_of(film, output, options, duration_s=result.request.duration_s)
        more = {name: facts[name] for name in _KEPT_FACTS if name in facts}
        return save(result, output, video=film, options=options, more_facts=more)


@contextmanager
def _film(video: Path | None, start_s: float) -> Iterator[Path | None]:
    if video is None:
        yield None
        return
    info = probe(video).video
    if info is None or info.is_still:  # a picture has no copy with sound
        yield None
        return
    with spanned(video, start_s=start_s or None, end_s=None) as film:
        yield film


def _result(take: Path, film: Path | None, facts: dict[str, Any]) -> GenerationResult:
    audio = read_audio(take)
    request = GenerationRequest(
        video=film,
        prompt=facts.get("prompt") or (None if film is not None else facts.get("text") or "sound"),
        negative_prompt=facts.get("negative_prompt"),
        seed=facts["seed"],
        sample_rate_hz=audio.sample_rate_hz,
        channels=min(audio.num_channels, 2),
    )
    if film is not None and audio.duration_s < probe(film).duration_s:
        request = replace(request, duration_s=float(audio.duration_s))
    return GenerationResult(
        audio=audio,
        request=request,
        seed=facts["seed"],
        num_inference_steps=facts["steps"],
        guidance_scale=facts["guidance"],
        model=facts["model"],
        model_sha256=facts["model_sha256"],
        dtype="auto",
        timings=Timings(load_s=0.0, encode_s=0.0, sample_s=0.0, decode_s=0.0),
    )
