"""`omni2sound generate`: sound for a video, a text prompt, or both.

In:   a video, a prompt, settings.
Out:  a sound file, or a copy of the video with sound, and its sidecar; their paths (or JSON) on
      stdout.

What can be refused cheaply is refused before torch is imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from omni2sound.cli.options import (
    DeterministicOption,
    DtypeOption,
    EncodersOption,
    JsonOption,
    KeepAudioOption,
    LoraOption,
    LoudnessOption,
    LowMemoryOption,
    ModelOption,
    OverwriteOption,
    PipelineDeviceOption,
    ReencodeOption,
    option_names,
    seconds,
)
from omni2sound.errors import rename_fields

EXAMPLES = """\b
Examples:
  omni2sound generate street.mp4
  omni2sound generate --prompt "a dog barks" --duration 3 -o bark.wav
  omni2sound generate street.mp4 --prompt "rain" --text-guidance 4 -o rain.mp4
  omni2sound generate --cue "0-3: rain" --cue "2-3: a dog barks" -o rain.wav
"""

VideoArgument = Annotated[
    Path | None,
    typer.Argument(metavar="VIDEO", help="Video to generate sound for. Default: none."),
]
PromptOption = Annotated[
    str | None, typer.Option(help="What should be heard, in English. Default: none.")
]
NegativePromptOption = Annotated[
    str | None,
    typer.Option(help="What should not be heard; needs a guidance scale above 1. Default: none."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="File to write. Its suffix chooses the format: mp4 mov mkv webm (the video with "
        "the new sound) or wav flac mp3 opus ogg m4a. "
        "Default: VIDEO.omni2sound.mp4 (mov, mkv or webm where mp4 can't hold the picture, its "
        "alpha or its subtitles), or omni2sound.wav.",
    ),
]
DurationOption = Annotated[
    float | None,
    typer.Option(
        "--duration",
        metavar="S",
        parser=seconds,
        help="Seconds of sound, 0.001 to 3600 and at most the video's length; a copy of the video "
        "ends there, too. Default: the video's length, or the model's (8).",
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps", metavar="N", help="Sampling steps, 1 to 1000. Default: the model's (8)."
    ),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="G",
        help="Guidance scale, 0 to 100: 1 is no guidance, higher follows the input more "
        "closely. Default: the model's (3).",
    ),
]
TextGuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--text-guidance",
        metavar="G",
        help="Guidance scale of the prompt when a video is given; 4-5 favours off-screen "
        "sounds. Default: --guidance.",
    ),
]
NoRecogniseOption = Annotated[
    bool,
    typer.Option(
        "--no-recognise",
        help="Follow the model's picture features, and don't add what the video shows to the "
        "prompt in words. Default: added, if the model's card says so.",
    ),
]
SeenOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help='What the video shows, as "a car and a dog", in place of recognition. '
        "Default: recognised.",
    ),
]
CueOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cue",
        metavar="S-S: TEXT",
        help='What should be heard in a span of seconds and only there, as "0.5-2: a dog barks"; '
        "may be repeated. Default: none.",
    ),
]
NoAmbienceOption = Annotated[
    bool,
    typer.Option(
        "--no-ambience",
        help="Leave out the quiet bed that a recognised scene (sea, fire) gives under other "
        "sounds. Default: a bed.",
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Random seed; equal seeds give equal sounds on one machine, to the byte with "
        "--deterministic or the same number of threads and precision. Default: a new one.",
    ),
]
TakesOption = Annotated[
    int,
    typer.Option(
        metavar="K",
        help="Number of results, OUT-1 to OUT-K with seeds N to N+K-1; at most 100.",
    ),
]
RateOption = Annotated[
    int | None,
    typer.Option(
        "--rate",
        metavar="HZ",
        help="Samples per second of the sound, 8000 to 192000; 16000 leaves out the band above "
        "8 kHz that the bundled model adds. Default: the model's (44100).",
    ),
]
MonoOption = Annotated[
    bool,
    typer.Option(
        "--mono",
        help="Write one channel. Default: stereo for a video, placed by what is recognised in it; "
        "one channel for a prompt alone.",
    ),
]


def generate(
    context: typer.Context,
    video: VideoArgument = None,
    prompt: PromptOption = None,
    negative_prompt: NegativePromptOption = None,
    output: OutputOption = None,
    duration_s: DurationOption = None,
    num_inference_steps: StepsOption = None,
    guidance_scale: GuidanceOption = None,
    text_guidance_scale: TextGuidanceOption = None,
    no_recognise: NoRecogniseOption = False,
    seen: SeenOption = None,
    cues: CueOption = None,
    no_ambience: NoAmbienceOption = False,
    seed: SeedOption = None,
    takes: TakesOption = 1,
    sample_rate_hz: RateOption = None,
    mono: MonoOption = False,
    model: ModelOption = "embedded",
    device: PipelineDeviceOption = "auto",
    dtype: DtypeOption = "auto",
    low_memory: LowMemoryOption = False,
    encoders: EncodersOption = None,
    lora: LoraOption = None,
    deterministic: DeterministicOption = False,
    keep_audio: KeepAudioOption = False,
    loudness_lufs: LoudnessOption = None,
    reencode: ReencodeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Generate sound for a video, a text prompt, or both.

    Each output OUT gets a sidecar OUT.json that says how it was made. Many requests from one file:
    `omni2sound batch`.
    """
    from omni2sound.cli.progress import progress_bar
    from omni2sound.generate.load import PipelineOptions
    from omni2sound.generate.output import OutputOptions, plan_outputs, save
    from omni2sound.generate.request import GenerationRequest, draw_seed
    from omni2sound.generate.words.cues import parse_cue

    request = GenerationRequest(
        video=video,
        prompt=prompt,
        negative_prompt=negative_prompt,
        duration_s=duration_s,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        text_guidance_scale=text_guidance_scale,
        recognise=False if no_recognise else None,
        seen=seen,
        cues=tuple(parse_cue(line) for line in cues or ()),
        ambience=not no_ambience,
        seed=draw_seed() if seed is None else seed,
        takes=takes,
        sample_rate_hz=sample_rate_hz,
        mono=mono,
    )
    options = OutputOptions(
        keep_audio=keep_audio, overwrite=overwrite, loudness_lufs=loudness_lufs, reencode=reencode
    )
    outputs = plan_outputs(output, request, options)
    pipeline = PipelineOptions(
        model=model,
        device=device,
        dtype=dtype,
        encoders=encoders,
        low_memory=low_memory,
        lora=lora,
        deterministic=deterministic,
    ).load()
    told: set[str] = set()
    with progress_bar("generating") as report:
        for path, result in zip(outputs, pipeline.run(request, on_step=report), strict=True):
            for note in [n for n in result.notes if n not in told]:
                print(rename_fields(note, option_names(context.command)), file=sys.stderr)
                told.add(note)  # what holds for all takes is told once
            show(save(result, path, video=video, options=options), as_json=as_json)


def show(report: dict[str, Any], *, as_json: bool) -> None:
    """Print one result at once: the next one may take a while."""
    print(json.dumps(report) if as_json else report["output"], flush=True)
