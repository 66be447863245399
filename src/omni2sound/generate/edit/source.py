"""Files that are edited: their sound, and what can be written of it.

In:   a sound, or a video with sound.
Out:  `Source`; refusals before any work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from av.audio.stream import AudioStream

from omni2sound.config import checked_number, from_json
from omni2sound.errors import MediaError, UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.output import OutputOptions, check_output_of, read_sidecar, sidecar
from omni2sound.generate.words.cues import Cue
from omni2sound.media.audio import read_audio
from omni2sound.media.copy.containers import default_suffix
from omni2sound.media.copy.own_sound import read_own_sound
from omni2sound.media.encode import BITS
from omni2sound.media.files import VIDEO_SUFFIXES, open_input, shown_name
from omni2sound.media.info import probe
from omni2sound.media.limits.budgets import MAX_DURATION_S
from omni2sound.media.samples import Audio

_KEEPING = (".wav", ".flac", ".mov")
"""Formats that keep every sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A file that is edited."""

    path: Path
    is_video: bool
    audio: Audio
    bits: int
    """Bits a sample with which its sound can be written again without loss."""

    def default_output(self) -> Path:
        """Choose the output: in the current folder, SOUND.edited in a format that keeps samples."""
        suffix = self.path.suffix.lower()
        if self.is_video:
            suffix = default_suffix(self.path)
        elif suffix not in _KEEPING:
            suffix = ".wav"
        return Path(f"{self.path.stem}.edited{suffix}")


def start_of(output: Path, made: Mapping[str, Any]) -> float:
    """Return the second of the film at which an output begins, by its sidecar.

    Raises:
        UserError: The sidecar holds something else there.
    """
    where = f"{sidecar(output).name}: start_s"
    start_s = made.get("start_s", 0)
    return float(checked_number(start_s, where, whole=False, least=0, most=MAX_DURATION_S))


def open_source(path: Path) -> Source:
    """Read the sound of a file.

    Raises:
        MediaError: It can't be read, or has no sound.
    """
    info = probe(path)
    if info.audio is None:
        raise MediaError(
            f"{shown_name(path)}: has no sound to edit; `omni2sound generate` makes one"
        )
    is_video = info.video is not None and not info.video.is_still
    audio = read_audio(path)
    if is_video:
        own = read_own_sound(path).sound
        audio = Audio(
            samples_CN=np.concatenate(list(own.read()), axis=1),
            sample_rate_hz=own.sample_rate_hz,
            layout=own.layout,
        )
    with open_input(path) as container:
        stream = container.streams[info.audio.index]
        assert isinstance(stream, AudioStream)
        has_more = stream.codec_context.format.name.startswith("s32")
    bits = 32 if info.audio.codec.startswith("pcm_f") else 24 if has_more else 16
    return Source(path=path, is_video=is_video, audio=audio, bits=bits)


def asked_as_made(asked: Edit, source: Source) -> Edit:
    """Take prompt and cues from the sidecar of a take if nothing else says what is heard.

    Raises:
        ConfigError: The sidecar's cues are malformed.
        UserError: One of them is out of range.
    """
    given = (asked.prompt, asked.seen, asked.video)
    made = read_sidecar(source.path)
    if made is None or asked.cues or any(value is not None for value in given):
        return asked
    prompt = made.get("prompt") or made.get("text")
    cues = from_json(tuple[Cue, ...], made.get("cues", []), where=f"{source.path.name}.json: cues")
    spans = tuple(cue for cue in cues if cue.end_s is not None)
    return replace(asked, prompt=None if prompt is None else str(prompt), cues=spans)


def check_edit(source: Source, output: Path, asked: Edit, options: OutputOptions) -> OutputOptions:
    """Refuse, before any work, what could not be written; choose the bits.

    Raises:
        UserError: The output is in the way or does not fit, or the source's sidecar is odd.
    """
    if options.bits is None:
        choice = BITS.get(output.suffix.lower(), {})
        options = replace(options, bits=min(source.bits, max(choice)) if choice else None)
    check_output_of(source.path if source.is_video else asked.video, output, options)
    start_of(source.path, read_sidecar(source.path) or {})
    last_s = max((span.end_s for span in asked.ranges), default=0.0)
    if output.suffix.lower() in VIDEO_SUFFIXES and last_s > probe(source.path).duration_s:
        raise UserError(
            f"ends after the video at {float(probe(source.path).duration_s):.3f} s; "
            "write a .wav to go on past it",
            field="ranges",
        )
    return options
