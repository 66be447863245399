"""Stems as files: a folder beside the output with a WAV for each, and the description of their mix.

In:   a result with stems.
Out:  OUT.stems/ with NAME.wav (32-bit float, never limited) and mix.json.

The samples of all WAV files add up to the mix before limiting, in any order, to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.errors import UserError
from omni2sound.files import atomic_folder
from omni2sound.generate.stems.description import MIX_FILE, MixDescription, MixedStem, write_mix
from omni2sound.media.encode import PCM_32, add_audio_stream, encode_audio, fit_sound
from omni2sound.media.files import create_output
from omni2sound.media.samples import Audio
from omni2sound.readers import real_path
from omni2sound.staging import put_aside

if TYPE_CHECKING:
    from omni2sound.generate.request import GenerationRequest, GenerationResult

SUFFIX = ".stems"


def stems_folder(output: Path) -> Path:
    """Return the folder of the stems of an output."""
    return output.with_name(f"{output.name}{SUFFIX}")


def check_stems_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is in the way.

    Raises:
        UserError: There is one, or something else of that name.
    """
    if not folder.exists() or (overwrite and (folder / MIX_FILE).is_file()):
        return
    raise UserError(f"{folder.name}: exists already; choose another name, or set `overwrite`")


@contextmanager
def stems_beside(
    result: GenerationResult,
    output: Path,
    facts: Mapping[str, Any],
    *,
    made: Mapping[str, Any] | None = None,
    overwrite: bool,
) -> Iterator[None]:
    """Write the folder of the stems of a result; it gets its name if the block succeeds.

    Args:
        result: What was made; without stems nothing is written, and those of the sound that is
            replaced go with it.
        output: The mix.
        facts: How it was made.
        made: What the description says in place of facts; `request`: what stems are made again
            from. Default: the result's request.
        overwrite: Replace a folder of stems that exists.

    Raises:
        UserError: The folder is in the way, or can't be written.
    """
    folder = stems_folder(output)
    if not result.stems:
        replaces = overwrite and output.is_file() and output.stat().st_size > 0
        is_old = replaces and (folder / MIX_FILE).is_file()
        with put_aside(real_path(folder)) if is_old else nullcontext():
            yield
        return
    check_stems_folder(folder, overwrite=overwrite)
    with atomic_folder(folder, kind="folder of stems", marker=MIX_FILE) as target:
        stems = []
        for stem in result.stems:
            path = target / f"{stem.source.name}.wav"
            write_exact(path, stem.audio, comment=json.dumps(stem.facts()))
            stems.append(
                MixedStem(
                    name=stem.source.name,
                    file=path.name,
                    text=stem.source.text,
                    seed=stem.seed,
                    spans=stem.source.spans,
                    at_s=stem.source.at_s,
                    **stem.place,
                )
            )
        own = {"request": _asked(result.request)} if made is None else made
        write_mix(target / MIX_FILE, MixDescription(stems=tuple(stems), made={**facts, **own}))
        yield


def _asked(request: GenerationRequest) -> dict[str, Any]:
    """What a stem has to be made again from, beside the video."""
    asked = {
        field.name: getattr(request, field.name)
        for field in fields(request)
        if field.name not in ("video", "takes", "stems")
        and getattr(request, field.name) != field.default
    }
    return asked | {"seed": request.seed, "cues": [asdict(cue) for cue in request.cues]}


def write_exact(path: Path, audio: Audio, *, comment: str) -> None:
    """Write a WAV of 32-bit floats: all samples as they are, those above full scale, too.

    Raises:
        UserError: It can't be written.
    """
    sound = fit_sound(audio, PCM_32, name=path.name)
    with create_output(
        path, container_format="wav", sample_rate_hz=audio.sample_rate_hz
    ) as container:
        container.metadata["comment"] = comment
        stream = add_audio_stream(container, PCM_32, sound)
        for packet in encode_audio(stream, sound):
            container.mux(packet)
