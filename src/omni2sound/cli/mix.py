"""`omni2sound mix`: stems put together again, louder, elsewhere, in a room, one of them anew.

In:   a folder of stems that `--stems` wrote; what changes.
Out:  a file with the mix and its sidecar; its path (or JSON) on stdout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.generate.options import BitsOption, PreviewOption, SeedOption
from omni2sound.cli.options import (
    DestinationOption,
    DeterministicOption,
    DtypeOption,
    DuckOption,
    JsonOption,
    KeepAudioOption,
    LoudnessOption,
    LowMemoryOption,
    MixOption,
    ModelOption,
    OverwriteOption,
    PipelineDeviceOption,
    ReencodeOption,
)

EXAMPLES = """\b
Examples:
  omni2sound mix a.wav.stems --gain rest=-6 --pan a-dog-barks=-0.5
  omni2sound mix a.wav.stems --room a-dog-barks=0.4 --mute rest -o dog.wav
  omni2sound mix a.mp4.stems --video film.mp4 --keep-audio --duck 9
  omni2sound mix a.wav.stems --anew a-dog-barks --seed 7 -o other.wav
"""

StemsArgument = Annotated[
    Path,
    typer.Argument(metavar="STEMS", help="Folder of stems, OUT.stems, or a description in it."),
]
GainOption = Annotated[
    list[str] | None,
    typer.Option(
        "--gain",
        metavar="STEM=DB",
        help="Gain of a stem, -60 to 24 dB; may be repeated. Default: as described.",
    ),
]
PanOption = Annotated[
    list[str] | None,
    typer.Option(
        "--pan",
        metavar="STEM=X",
        help="Place of a stem, -1 (left) to 1 (right); may be repeated. Default: as described.",
    ),
]
RoomOption = Annotated[
    list[str] | None,
    typer.Option(
        "--room",
        metavar="STEM=S",
        help="Room of a stem by its reverberation time, 0.05 to 3 s, or by time and level as "
        "0.4/-12 dB; may be repeated. Default: as described.",
    ),
]
MuteOption = Annotated[
    list[str] | None,
    typer.Option(metavar="STEM", help="Leave a stem out; may be repeated. Default: none."),
]
AnewOption = Annotated[
    str | None,
    typer.Option(
        metavar="STEM",
        help="Make this stem anew with --seed; OUT then gets stems of its own. Default: none.",
    ),
]
VideoOption = Annotated[
    Path | None,
    typer.Option(
        "--video",
        metavar="VIDEO",
        help="Video that is copied with the mix, and that a new stem follows. Default: none.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="File to write. Default: NAME.mix in the current folder, in the format of the video "
        "or wav.",
    ),
]


def mix(
    context: typer.Context,
    stems: StemsArgument,
    gains: GainOption = None,
    pans: PanOption = None,
    rooms: RoomOption = None,
    mute: MuteOption = None,
    anew: AnewOption = None,
    video: VideoOption = None,
    output: OutputOption = None,
    seed: SeedOption = None,
    bits: BitsOption = None,
    model: ModelOption = "embedded",
    device: PipelineDeviceOption = "auto",
    dtype: DtypeOption = "auto",
    low_memory: LowMemoryOption = False,
    deterministic: DeterministicOption = False,
    keep_audio: KeepAudioOption = False,
    mix_db: MixOption = None,
    duck_db: DuckOption = None,
    loudness_lufs: LoudnessOption = None,
    destination: DestinationOption = None,
    reencode: ReencodeOption = False,
    preview: PreviewOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Mix stems: gain, place, room; or make one of them anew.

    Without any option it is the sum of the stems, sample for sample.
    """
    from omni2sound.cli.generate.mixing import MixRequest, changes_of, mix_files
    from omni2sound.cli.generate.run import Shown
    from omni2sound.generate.load import PipelineOptions
    from omni2sound.generate.output import OutputOptions
    from omni2sound.generate.studio.job import loudness_for

    asked = MixRequest(
        stems=stems, changes=changes_of(gains, pans, rooms, mute), anew=anew, seed=seed,
        video=video, output=output,
    )  # fmt: skip
    pipeline = PipelineOptions(
        model=model, device=device, dtype=dtype, low_memory=low_memory, deterministic=deterministic
    )
    options = OutputOptions(
        keep_audio=keep_audio, mix_db=mix_db, duck_db=duck_db, bits=bits, reencode=reencode,
        loudness_lufs=loudness_for(destination, loudness_lufs), preview=preview,
        overwrite=overwrite,
    )  # fmt: skip
    mix_files(asked, pipeline, options, Shown(context.command, as_json))
