"""`omni2sound generate`: sound for videos, a text prompt, or both.

In:   videos, a prompt, settings.
Out:  a sound file, or a copy of the video with sound, and its sidecar, for each; their paths (or
      JSON) on stdout.

What can be refused cheaply is refused before torch is imported.
"""

from __future__ import annotations

import typer

from omni2sound.cli.generate.options import (
    AddOption,
    BitsOption,
    ChannelsOption,
    CueFileOption,
    CueOption,
    DurationOption,
    EndOption,
    GuidanceOption,
    LeaveOutOption,
    NegativePromptOption,
    NoAmbienceOption,
    NoRecogniseOption,
    OutDirOption,
    OutputOption,
    PreviewOption,
    PromptOption,
    RateOption,
    SeedOption,
    SeenOption,
    StartOption,
    StemsOption,
    StepsOption,
    TakesOption,
    TextGuidanceOption,
    VideosArgument,
)
from omni2sound.cli.options import (
    DestinationOption,
    DeterministicOption,
    DtypeOption,
    DuckOption,
    EncodersOption,
    JsonOption,
    KeepAudioOption,
    LoraOption,
    LoudnessOption,
    LowMemoryOption,
    MixOption,
    ModelOption,
    OverwriteOption,
    PipelineDeviceOption,
    ReencodeOption,
    RuntimeOption,
)

EXAMPLES = """\b
Examples:
  omni2sound generate street.mp4
  omni2sound generate street.mp4 --prompt "rain" --text-guidance 4 -o rain.mp4
  omni2sound generate --prompt "a dog barks" --duration 3 -o bark.wav
  omni2sound generate --cue "0-3: rain" --cue "2-3: a dog barks" -o rain.wav
  omni2sound generate --prompt rain --cue "2-3: a dog" --stems -o both.wav

\b
Several videos; a part of one; files for an editor:
  omni2sound generate clips/ "more/*.mov" --out-dir sounded
  omni2sound generate film.mov --start 1:30 --end 1:38 -o shot.mov
  omni2sound generate film.mov --bits 24 -o film.wav

\b
Choosing between takes; the film's own sound; a loudness:
  omni2sound generate street.mp4 --takes 3 --preview
  omni2sound generate street.mp4 --takes 2 --add
  omni2sound generate talk.mp4 --keep-audio --mix-db -6 --for youtube
"""


def generate(
    context: typer.Context,
    videos: VideosArgument = None,
    prompt: PromptOption = None,
    negative_prompt: NegativePromptOption = None,
    output: OutputOption = None,
    out_dir: OutDirOption = None,
    start_s: StartOption = None,
    end_s: EndOption = None,
    duration_s: DurationOption = None,
    num_inference_steps: StepsOption = None,
    guidance_scale: GuidanceOption = None,
    text_guidance_scale: TextGuidanceOption = None,
    no_recognise: NoRecogniseOption = False,
    seen: SeenOption = None,
    leave_out: LeaveOutOption = None,
    cues: CueOption = None,
    cue_file: CueFileOption = None,
    no_ambience: NoAmbienceOption = False,
    stems: StemsOption = False,
    seed: SeedOption = None,
    takes: TakesOption = 1,
    add: AddOption = False,
    sample_rate_hz: RateOption = None,
    channels: ChannelsOption = None,
    bits: BitsOption = None,
    model: ModelOption = "embedded",
    device: PipelineDeviceOption = "auto",
    dtype: DtypeOption = "auto",
    low_memory: LowMemoryOption = False,
    encoders: EncodersOption = None,
    lora: LoraOption = None,
    deterministic: DeterministicOption = False,
    engine: RuntimeOption = "auto",
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
    """Generate sound for videos, a text prompt, or both.

    Each output OUT gets a sidecar OUT.json that says how it was made. Many requests from one file:
    `omni2sound batch`.
    """
    from omni2sound.cli.generate import run
    from omni2sound.generate.load import PipelineOptions
    from omni2sound.generate.studio.job import Job

    start, end, duration = run.parse_times(start_s, end_s, duration_s)
    job = Job(
        id="omni2sound", prompt=prompt, negative_prompt=negative_prompt, start_s=start, end_s=end,
        duration_s=duration, steps=num_inference_steps, guidance=guidance_scale,
        text_guidance=text_guidance_scale, recognise=False if no_recognise else None, seen=seen,
        leave_out=tuple(leave_out or ()), cues=run.all_cues(cues, cue_file),
        ambience=not no_ambience, stems=stems, seed=seed, takes=takes, rate=sample_rate_hz,
        channels=channels, bits=bits, keep_audio=keep_audio, mix_db=mix_db, duck_db=duck_db,
        loudness_lufs=loudness_lufs, destination=destination, reencode=reencode, preview=preview,
    )  # fmt: skip
    pipeline = PipelineOptions(
        model=model, device=device, dtype=dtype, encoders=encoders, low_memory=low_memory,
        lora=lora, deterministic=deterministic, engine=engine,
    )  # fmt: skip
    where = run.Where(output=output, out_dir=out_dir, add=add, overwrite=overwrite)
    run.generate(videos or [], job, pipeline, where, run.Shown(context.command, as_json))
