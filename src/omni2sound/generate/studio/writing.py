"""The sound of an output file: its rate and channels, alone or in a copy, with own sound or not.

In:   a `GenerationResult`, the path of the output.
Out:  the file, with the facts as a tag.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.generate.stems.exact import with_stems
from omni2sound.generate.studio.duck import ducked
from omni2sound.media.audio import write_audio
from omni2sound.media.copy.own_sound import read_own_sound
from omni2sound.media.copy.tags import facts_tag
from omni2sound.media.files import VIDEO_SUFFIXES, shown_name
from omni2sound.media.info import probe
from omni2sound.media.long_sound import fitted, mix
from omni2sound.media.mux import mux
from omni2sound.media.samples import Audio, Sound, as_stereo, resample, round_half_up

if TYPE_CHECKING:
    from omni2sound.generate.output import OutputOptions
    from omni2sound.generate.request import GenerationResult
    from omni2sound.media.loudness.level import Leveling

logger = logging.getLogger(__name__)

EDITOR_RATE_HZ = 48_000
"""Sample rate of films."""


def for_editor(result: GenerationResult, output: Path) -> GenerationResult:
    """Bring a sound that goes into an editor to 48 kHz stereo, unless the request says otherwise.

    Such are a .mov, and the .wav of a video.
    """
    request, suffix = result.request, output.suffix.lower()
    goes_there = suffix == ".mov" or (suffix == ".wav" and request.video is not None)
    says_all = request.sample_rate_hz is not None and request.channels is not None
    if says_all or not goes_there:
        return result

    def fitted_to_editor(audio: Audio) -> Audio:
        if request.sample_rate_hz is None:
            audio = resample(audio, EDITOR_RATE_HZ)
        return as_stereo(audio) if request.channels is None else audio

    if result.stems:  # the sum of what was resampled, so that it stays one
        return with_stems(
            result, [replace(s, audio=fitted_to_editor(s.audio)) for s in result.stems]
        )
    return replace(result, audio=fitted_to_editor(result.audio))


def write_sound(
    result: GenerationResult,
    path: Path,
    video: Path | None,
    facts: Mapping[str, Any],
    options: OutputOptions,
) -> tuple[Leveling, dict[str, Any]]:
    """Write the sound, or a copy of `video` with it, with the facts as a tag.

    Returns:
        What was done to the level, and what the sidecar says of the copy.
    """
    audio = result.audio
    if options.mix_db:
        # A Python float keeps the samples' float32.
        gain = 10 ** (options.mix_db / 20)
        audio = replace(audio, samples_CN=audio.samples_CN * gain)
    if options.duck_db and video is not None and probe(video).audio is not None:
        audio = ducked(
            audio, read_own_sound(video, duration_s=audio.duration_s).sound, options.duck_db
        )
    if video is None or path.suffix.lower() not in VIDEO_SUFFIXES:
        sound: Sound = audio
        if options.keep_audio and video is not None and probe(video).audio is None:
            logger.warning("%s: has no sound of its own to keep", shown_name(video))
        elif options.keep_audio and video is not None:
            mixed = mix(read_own_sound(video, duration_s=audio.duration_s).sound, audio)
            sound = fitted(mixed, round_half_up(audio.duration_s * mixed.sample_rate_hz))
        leveling = write_audio(
            path,
            sound,
            metadata={"comment": json.dumps(facts)},
            loudness_lufs=options.loudness_lufs,
            bits=options.bits,
        )
        return leveling, {}
    edited = "edited_sha256" in facts  # then the new sound holds the own one
    if not (options.keep_audio or edited) and probe(video).audio is not None:
        logger.info("%s: its own sound was replaced; `keep_audio` mixes it in", shown_name(video))
    report = mux(
        video,
        audio,
        path,
        metadata={facts_tag(video): json.dumps(facts)},
        loudness_lufs=options.loudness_lufs,
        keep_audio=options.keep_audio,
        reencode=options.reencode,
        duration_s=result.request.duration_s,
        bits=options.bits,
    )
    copy: dict[str, Any] = {"picture_encoded": True} if report.is_encoded else {}
    return report.leveling, copy | ({"lost": list(report.lost)} if report.lost else {})
