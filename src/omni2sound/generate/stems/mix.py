"""Mixing stems as a description says: gain, room, pan, mute.

In:   a folder of stems, or a description and sounds.
Out:  the mix, before any limiter; as it was described at first, it is the sum to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from omni2sound.errors import UserError
from omni2sound.generate.output import read_sidecar
from omni2sound.generate.stems.description import (
    MIX_FILE,
    MixDescription,
    MixedStem,
    read_mix,
)
from omni2sound.generate.stems.exact import add
from omni2sound.generate.stems.files import stems_folder
from omni2sound.generate.stems.room import in_room, panned
from omni2sound.media.audio import read_audio
from omni2sound.media.files import shown_name
from omni2sound.media.samples import Audio, Sound, as_stereo, fit_length


def open_mix(path: Path) -> tuple[Path, MixDescription]:
    """Read the description of a folder of stems, or one in a file.

    Args:
        path: The folder OUT.stems, its mix.json, or OUT itself.

    Returns:
        The folder to which its paths are relative, and the description.

    Raises:
        ConfigError: There is no description, or it does not hold together.
        UserError: A value is out of range, or the folder beside OUT is that of another sound.
    """
    beside = stems_folder(path)
    if path.is_file() and path.suffix != ".json" and beside.is_dir():
        description = read_mix(beside / MIX_FILE)
        digest = description.made.get("request_sha256")
        if digest is None or digest != (read_sidecar(path) or {}).get("request_sha256"):
            raise UserError(
                f"{shown_name(beside)}: holds the stems of another sound than {shown_name(path)}; "
                "make that one again with `stems`, or move the folder away"
            )
        return beside, description
    file = path / MIX_FILE if path.is_dir() else path
    return file.parent, read_mix(file)


def read_stems(folder: Path, description: MixDescription) -> dict[str, Audio]:
    """Read the sounds of a description by their names.

    Raises:
        MediaError: One can't be read.
        UserError: They differ in rate, or one has more than two channels.
    """
    sounds = {stem.name: read_audio(folder / stem.file) for stem in description.stems}
    check_stems(sounds)
    return sounds


def check_stems(sounds: Mapping[str, Sound]) -> None:
    """Refuse sounds that can't be mixed.

    Raises:
        UserError: They differ in rate, or one has more than two channels.
    """
    rates = {sound.sample_rate_hz for sound in sounds.values()}
    if len(rates) > 1:
        raise UserError(f"expected one sample rate, got {sorted(rates)} Hz", field="stems")
    for name, sound in sounds.items():
        if sound.num_channels > 2:
            raise UserError(
                f"{name}: expected one or two channels, got {sound.num_channels}", field="stems"
            )


def mix_stems(description: MixDescription, sounds: Mapping[str, Audio]) -> Audio:
    """Mix sounds of one rate; shorter ones end in silence.

    Args:
        description: What becomes of each.
        sounds: By the names of the stems.

    Returns:
        One channel if all sounds have one and nothing is panned or in a room; else two.
    """
    num_samples = max(sound.num_samples for sound in sounds.values())
    is_wide = any(
        sounds[stem.name].num_channels > 1 or stem.pan or stem.room for stem in description.stems
    )
    parts = []
    for stem in description.stems:
        sound = fit_length(sounds[stem.name], num_samples)
        parts.append(_placed(as_stereo(sound) if is_wide else sound, stem))
    return add([replace(part, layout=None) for part in parts])


def _placed(sound: Audio, stem: MixedStem) -> Audio:
    samples_CN = sound.samples_CN
    if stem.mute:
        return replace(sound, samples_CN=np.zeros_like(samples_CN))
    if stem.gain_db:
        samples_CN = samples_CN * np.float32(10 ** (stem.gain_db / 20))
    # First the place, then the room: reflections of what stands left come from all sides.
    placed_CN = panned(samples_CN, stem.pan)
    if stem.room is not None:
        wet_CN = in_room(samples_CN, sound.sample_rate_hz, stem.room) - samples_CN
        placed_CN = placed_CN + wet_CN
    return replace(sound, samples_CN=placed_CN)


def changed(
    description: MixDescription, changes: Mapping[str, Mapping[str, object]]
) -> MixDescription:
    """Return a description with other values of some stems.

    Args:
        description: The old one.
        changes: By the names of stems, values of fields of `MixedStem`.

    Raises:
        UserError: There is no such stem, or a value is out of range.
    """
    for name in changes:
        description.stem(name)
    stems = [replace(stem, **changes.get(stem.name, {})) for stem in description.stems]  # type: ignore[arg-type]
    return replace(description, stems=tuple(stems))
