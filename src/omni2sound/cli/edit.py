"""`omni2sound edit`: a range of a sound made anew, or variations of the whole.

In:   a sound, or a video with sound; ranges; what should be heard in them.
Out:  a file with the edited sound and its sidecar; its path (or JSON) on stdout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omni2sound.cli.generate.options import (
    BitsOption,
    CueFileOption,
    CueOption,
    GuidanceOption,
    NegativePromptOption,
    NoRecogniseOption,
    PreviewOption,
    PromptOption,
    SeedOption,
    SeenOption,
    StepsOption,
    TakesOption,
)
from omni2sound.cli.options import (
    DeterministicOption,
    DtypeOption,
    JsonOption,
    LowMemoryOption,
    ModelOption,
    OverwriteOption,
    PipelineDeviceOption,
)

EXAMPLES = """\b
Examples:
  omni2sound edit street.wav --range 3.2-5 --prompt "a car horn" -o mended.wav
  omni2sound edit film.mp4 --range 1:02-1:04 --range 1:30-1:31 -o mended.mp4
  omni2sound edit rain.wav --range 8-12 --prompt "rain" -o longer.wav
  omni2sound edit take.wav --strength 0.4 --takes 4 --seed 1
  omni2sound edit hum.wav --video film.mp4 --strength 0.7 -o film-hum.mp4
"""


SoundArgument = Annotated[
    Path, typer.Argument(metavar="SOUND", help="Sound, or video with sound, to edit.")
]
RangeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--range",
        metavar="S-S",
        help="Span that is made anew, as 3.2-5 or 1:02-1:04; past the end the sound goes on; "
        "may be repeated. Default: the whole, for variations with --strength.",
    ),
]
VideoOption = Annotated[
    Path | None,
    typer.Option(
        "--video",
        metavar="VIDEO",
        help="Video whose pictures the new parts follow. Default: SOUND, if it is a video.",
    ),
]
StrengthOption = Annotated[
    float,
    typer.Option(
        "--strength",
        metavar="X",
        help="How far new parts go from the given sound, 0.01 to 1: small ones are variations, "
        "1 is made from noise alone.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="File to write; wav, flac and mov keep the given samples. "
        "Default: SOUND.edited in its own format, or wav.",
    ),
]


def edit(
    context: typer.Context,
    sound: SoundArgument,
    ranges: RangeOption = None,
    video: VideoOption = None,
    prompt: PromptOption = None,
    negative_prompt: NegativePromptOption = None,
    cues: CueOption = None,
    cue_file: CueFileOption = None,
    seen: SeenOption = None,
    no_recognise: NoRecogniseOption = False,
    strength: StrengthOption = 1.0,
    output: OutputOption = None,
    num_inference_steps: StepsOption = None,
    guidance_scale: GuidanceOption = None,
    seed: SeedOption = None,
    takes: TakesOption = 1,
    bits: BitsOption = None,
    model: ModelOption = "embedded",
    device: PipelineDeviceOption = "auto",
    dtype: DtypeOption = "auto",
    low_memory: LowMemoryOption = False,
    deterministic: DeterministicOption = False,
    preview: PreviewOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a range of a sound anew, or vary the whole.

    Outside of the ranges the given sound stays as it is, but for soft edges of at most 0.08 s.
    """
    from omni2sound.cli.generate.run import Shown, all_cues, edit_sound
    from omni2sound.generate.edit.asked import Edit
    from omni2sound.generate.edit.ranges import parse_range
    from omni2sound.generate.load import PipelineOptions
    from omni2sound.generate.output import OutputOptions
    from omni2sound.generate.request import draw_seed
    from omni2sound.generate.words.cues import parse_cue

    asked = Edit(
        ranges=tuple(map(parse_range, ranges or ())), video=video, prompt=prompt,
        negative_prompt=negative_prompt, seen=seen,
        cues=tuple(map(parse_cue, all_cues(cues, cue_file))),
        recognise=False if no_recognise else None, strength=strength,
        num_inference_steps=num_inference_steps, guidance_scale=guidance_scale,
        seed=draw_seed() if seed is None else seed, takes=takes,
    )  # fmt: skip
    pipeline = PipelineOptions(
        model=model, device=device, dtype=dtype, low_memory=low_memory, deterministic=deterministic
    )
    options = OutputOptions(bits=bits, overwrite=overwrite, preview=preview)
    edit_sound(sound, output, asked, pipeline, options, Shown(context.command, as_json))
