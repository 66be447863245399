"""Broadcast WAV: 48 kHz, 24 bits, with the sample of the day at which it begins.

In:   a sound, a time.
Out:  a .wav with a `bext` chunk (EBU Tech 3285), which FFmpeg writes.

No date and no number that is drawn: the same sound gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from omni2sound.errors import UserError
from omni2sound.media.encode import PCM_24, add_audio_stream, encode_audio, fit_sound
from omni2sound.media.files import create_output
from omni2sound.media.samples import Sound

RATE_HZ = 48_000
_MAX_DESCRIPTION = 256


def write_bwf(path: Path, audio: Sound, *, first_sample: int, description: str) -> None:
    """Write a broadcast WAV of 24 bits.

    Args:
        path: Ends in .wav.
        audio: At `RATE_HZ`, within full scale.
        first_sample: Its time, in samples since midnight.
        description: In ASCII; cut after 256 characters.

    Raises:
        UserError: The sound has another rate, or the file can't be written.
    """
    if audio.sample_rate_hz != RATE_HZ:
        raise UserError(f"expected {RATE_HZ} Hz, got {audio.sample_rate_hz}", field="audio")
    sound = fit_sound(audio, PCM_24, name=path.name)
    channels = {1: "mono", 2: "stereo"}.get(audio.num_channels, str(audio.num_channels))
    with create_output(
        path, container_format="wav", sample_rate_hz=RATE_HZ, options={"write_bext": "1"}
    ) as container:
        container.metadata.update(
            {
                "description": description.encode("ascii", "replace").decode()[:_MAX_DESCRIPTION],
                "originator": "omni2sound",
                "time_reference": str(first_sample),
                "coding_history": f"A=PCM,F={RATE_HZ},W=24,M={channels}\r\n",
            }
        )
        stream = add_audio_stream(container, PCM_24, sound)
        for packet in encode_audio(stream, sound):
            container.mux(packet)
