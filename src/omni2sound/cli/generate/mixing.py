"""Running `omni2sound mix`: what was typed, and the file that is written.

In:   values as "STEM=X"; a folder of stems.
Out:  changes of a description; the mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.cli.generate.run import Shown
from omni2sound.cli.progress import stages_shown
from omni2sound.errors import UserError
from omni2sound.generate.output import OutputOptions, check_output_of, default_output
from omni2sound.generate.request import draw_seed
from omni2sound.generate.stems.description import Room
from omni2sound.generate.stems.files import SUFFIX, check_stems_folder, stems_folder
from omni2sound.generate.stems.mix import changed, open_mix
from omni2sound.generate.stems.remix import Mixing, remake, save_mix
from omni2sound.readers import real_path

if TYPE_CHECKING:
    from omni2sound.generate.load import PipelineOptions

Changes = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class MixRequest:
    """What was typed."""

    stems: Path
    changes: Changes
    anew: str | None
    seed: int | None
    video: Path | None
    output: Path | None


def changes_of(
    gains: Sequence[str] | None,
    pans: Sequence[str] | None,
    rooms: Sequence[str] | None,
    mute: Sequence[str] | None,
) -> Changes:
    """Read what was typed of stems.

    Raises:
        UserError: Something is no "STEM=NUMBER".
    """
    changes: Changes = {name: {"mute": True} for name in mute or ()}
    for field, typed in (("gains", gains), ("pans", pans)):
        for line in typed or ():
            name, value = _pair(line, field)
            key = {"gains": "gain_db", "pans": "pan"}[field]
            changes.setdefault(name, {})[key] = _number(value, field)
    for line in rooms or ():
        name, value = _pair(line, "rooms")
        seconds, _, wet = value.partition("/")
        room = Room(seconds=_number(seconds, "rooms"))
        if wet:
            room = Room(seconds=room.seconds, wet_db=_number(wet, "rooms"))
        changes.setdefault(name, {})["room"] = room
    return changes


def _pair(line: str, field: str) -> tuple[str, str]:
    name, sign, value = line.partition("=")
    if not (name and sign):
        raise UserError(f"expected STEM=NUMBER, got {line[:60]!r}", field=field)
    return name, value


def _number(text: str, field: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"expected a number, got {text[:40]!r}", field=field) from None


def mix_files(
    asked: MixRequest, pipeline: PipelineOptions, options: OutputOptions, shown: Shown
) -> None:
    """Mix stems and write the file."""
    if asked.seed is not None and asked.anew is None:
        raise UserError("is that of a stem that is made; name one with `anew`", field="seed")
    folder, description = open_mix(asked.stems)
    mixing = Mixing.read(folder, changed(description, asked.changes))
    stem = Path(real_path(folder).name.removesuffix(SUFFIX)).stem
    output = asked.output or default_output(
        Path(), asked.video, f"{stem}.mix", reencode=options.reencode
    )
    check_output_of(asked.video, output, options)
    if asked.anew is not None:
        check_stems_folder(stems_folder(output), overwrite=options.overwrite)
        seed = draw_seed() if asked.seed is None else asked.seed
        with stages_shown():
            mixing = remake(pipeline.load(once=True), mixing, asked.anew, seed, asked.video)
    shown.result(save_mix(mixing, output, video=asked.video, options=options))
