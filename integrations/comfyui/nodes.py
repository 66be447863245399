"""Nodes for ComfyUI: load a model, sound for pictures or a prompt, edits, stems, files.

In:   VIDEO, or IMAGE with a frame rate; prompts; AUDIO.
Out:  AUDIO, for the nodes that ComfyUI has for it, and for `Omni2Sound Save`.

What not to get wrong: a seed gives the sound that `omni2sound generate --engine torch --seed`
gives, and ComfyUI can interrupt between any two steps.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
from comfy.cli_args import args
from comfy_api.latest import ComfyExtension, io, ui

from omni2sound import GenerationResult, Omni2SoundPipeline, UserError
from omni2sound.errors import rename_fields
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.edit import edit
from omni2sound.generate.edit.ranges import parse_range
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.studio.job import LOUDNESS_LUFS
from omni2sound.generate.words.cues import Cue, parse_cue
from omni2sound.media.audio import write_audio
from omni2sound.media.encode import BITS
from omni2sound.media.files import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from omni2sound.media.mux import mux
from omni2sound.media.samples import resample
from omni2sound.weights import CARD

from .media import audio_of, sounds_of, video_file

logger = logging.getLogger(__name__)

CATEGORY = "audio/omni2sound"
MODELS = "omni2sound"
EMBEDDED = "embedded"
AS_GIVEN = "as given"
MAX_SEED = 2**32 - 1
"""JavaScript's numbers hold it and the takes after it exactly."""
WIDGETS = {
    "duration_s": "duration",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "loudness_lufs": "loudness",
}
"""Names of inputs, where the library has others."""
Model = io.Custom("OMNI2SOUND_MODEL")

folder_paths.add_model_folder_path(MODELS, str(Path(folder_paths.models_dir) / MODELS))


@contextmanager
def _named_as_inputs() -> Iterator[None]:
    """Let errors name the inputs of nodes."""
    try:
        yield
    except UserError as error:
        error.rename(WIDGETS)
        raise


def _on_step() -> Callable[[int, int], None]:
    """Show progress on the node that runs, and stop where the user asked for it."""
    bar = comfy.utils.ProgressBar(1)

    def step(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return step


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _cues(text: str) -> tuple[Cue, ...]:
    return tuple(parse_cue(line) for line in _lines(text))


def _asked() -> list[io.Input]:
    """What is heard and how it is made; the same for each node that makes sound."""
    return [
        io.String.Input("prompt", multiline=True, default="", tooltip="What should be heard."),
        io.String.Input(
            "cues",
            multiline=True,
            default="",
            tooltip='Sounds with a time, one a line: "0.5-2: a dog barks", "3.1: a door slams".',
        ),
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip="0: the model's own number."),
        io.Float.Input(
            "guidance", default=0, min=0, max=100, step=0.1, tooltip="0: the model's own scale."
        ),
        io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True),
    ]


def _asked_of_whole() -> list[io.Input]:
    """What is asked of a sound that is made from its beginning to its end."""
    return [
        *_asked(),
        io.String.Input("negative_prompt", default="", tooltip="What should not be heard."),
        io.Float.Input(
            "duration",
            default=0,
            min=0,
            max=3600,
            step=0.1,
            tooltip="Seconds. 0: the video's length, or 8.",
        ),
    ]


def _pictures() -> list[io.Input]:
    return [
        io.Video.Input("video", optional=True, tooltip="The video to follow."),
        io.Image.Input("images", optional=True, tooltip="Its frames, in place of a video."),
        io.Float.Input(
            "fps", default=24, min=0.001, max=1000, step=0.001, round=False, tooltip="Of images."
        ),
    ]


def _request(path: Path | None, **given: Any) -> GenerationRequest:
    return GenerationRequest(
        video=path,
        prompt=given["prompt"].strip() or None,
        negative_prompt=given["negative_prompt"].strip() or None,
        duration_s=given["duration"] or None,
        num_inference_steps=given["steps"] or None,
        guidance_scale=given["guidance"] or None,
        cues=_cues(given["cues"]),
        seed=given["seed"],
        takes=given.get("takes", 1),
        stems=given.get("stems", False),
    )


def _made(
    model: Omni2SoundPipeline,
    video: Any = None,
    images: Any = None,
    fps: float = 24,
    **given: Any,
) -> list[GenerationResult]:
    """Make the takes that a node was asked for."""
    with _named_as_inputs(), video_file(video, images, fps) as path:
        return list(model.run(_request(path, **given), on_step=_on_step()))


def _report(results: list[GenerationResult]) -> str:
    """How the takes were made, as the sidecar of a file says it."""
    return json.dumps([_with_own_names(result.facts()) for result in results], indent=1)


def _with_own_names(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts whose notes name the inputs of nodes."""
    notes = [rename_fields(note, WIDGETS) for note in facts.get("notes", ())]
    return facts | {"notes": notes} if notes else facts


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        found = {
            path.parent.name
            for folder in folder_paths.get_folder_paths(MODELS)
            for path in Path(folder).glob(f"*/{CARD}")
        }
        return io.Schema(
            node_id="Omni2SoundLoadModel",
            display_name="Omni2Sound Load Model",
            category=CATEGORY,
            description="Loads the bundled model, or one from models/omni2sound.",
            inputs=[
                io.Combo.Input("model", options=[EMBEDDED, *sorted(found - {EMBEDDED})]),
                io.Combo.Input("dtype", options=["auto", "float32", "bfloat16", "float16"]),
                io.Boolean.Input(
                    "low_memory",
                    default=False,
                    tooltip="Keep one component in memory at a time; slower.",
                ),
            ],
            outputs=[Model.Output("loaded", display_name="model")],
        )

    @classmethod
    def execute(cls, model: str, dtype: str, low_memory: bool) -> io.NodeOutput:
        device = comfy.model_management.get_torch_device()
        folders = [Path(folder) / model for folder in folder_paths.get_folder_paths(MODELS)]
        named = next((str(f) for f in folders if model != EMBEDDED and f.is_dir()), model)
        with _named_as_inputs():
            return io.NodeOutput(
                Omni2SoundPipeline.from_pretrained(
                    named,
                    device=str(device) if device.type in ("cuda", "mps") else "cpu",
                    dtype=dtype,
                    low_memory=low_memory,
                    engine="torch",
                )
            )


class Generate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Omni2SoundGenerate",
            display_name="Omni2Sound Generate",
            category=CATEGORY,
            description="Sound for a video, for frames, or for a prompt alone.",
            inputs=[
                Model.Input("model"),
                *_asked_of_whole(),
                io.Int.Input(
                    "takes", default=1, min=1, max=16, tooltip="Seeds from `seed` on, as a batch."
                ),
                *_pictures(),
            ],
            outputs=[
                io.Audio.Output("audio", display_name="audio"),
                io.String.Output("report", display_name="report"),
            ],
        )

    @classmethod
    def execute(cls, model: Omni2SoundPipeline, **given: Any) -> io.NodeOutput:
        results = _made(model, **given)
        return io.NodeOutput(audio_of([result.audio for result in results]), _report(results))


class Stems(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Omni2SoundStems",
            display_name="Omni2Sound Stems",
            category=CATEGORY,
            description="Each cue and each recognised sound by itself; their sum is the mix.",
            inputs=[
                Model.Input("model"),
                *_asked_of_whole(),
                *_pictures(),
            ],
            outputs=[
                io.Audio.Output("mix", display_name="mix"),
                io.Audio.Output("stems", display_name="stems", is_output_list=True),
                io.String.Output("names", display_name="names", is_output_list=True),
                io.String.Output("report", display_name="report"),
            ],
        )

    @classmethod
    def execute(cls, model: Omni2SoundPipeline, **given: Any) -> io.NodeOutput:
        results = _made(model, stems=True, **given)
        stems = results[0].stems
        return io.NodeOutput(
            audio_of([results[0].audio]),
            [audio_of([stem.audio]) for stem in stems],
            [stem.source.name for stem in stems],
            _report(results),
        )


class EditRanges(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Omni2SoundEdit",
            display_name="Omni2Sound Edit",
            category=CATEGORY,
            description="Makes ranges of a sound anew; outside, it stays sample for sample.",
            inputs=[
                Model.Input("model"),
                io.Audio.Input("audio"),
                io.String.Input(
                    "ranges",
                    multiline=True,
                    default="",
                    tooltip='Seconds, one range a line: "3.2-5". One at the end goes on past it. '
                    "None: a variation of the whole, by strength.",
                ),
                io.Float.Input(
                    "strength",
                    default=1,
                    min=0.01,
                    max=1,
                    step=0.01,
                    tooltip="Small values are variations of the given sound, 1 is new.",
                ),
                *_asked(),
                *_pictures(),
            ],
            outputs=[io.Audio.Output("edited", display_name="audio")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        audio: Any,
        video: Any = None,
        images: Any = None,
        fps: float = 24,
        **given: Any,
    ) -> io.NodeOutput:
        with _named_as_inputs(), video_file(video, images, fps) as path:
            asked = Edit(
                ranges=tuple(parse_range(line) for line in _lines(given["ranges"])),
                video=path,
                prompt=given["prompt"].strip() or None,
                cues=_cues(given["cues"]),
                strength=given["strength"],
                num_inference_steps=given["steps"] or None,
                guidance_scale=given["guidance"] or None,
                seed=given["seed"],
            )
            step = _on_step()
            sounds = [next(edit(model, s, asked, on_step=step)).audio for s in sounds_of(audio)]
        return io.NodeOutput(audio_of(sounds))


def _bits(asked: str, suffix: str) -> int | None:
    """Bits that a format has; the sound has been made by now and is not given up for them."""
    offered = BITS.get(suffix)
    if offered is None:
        return None
    if int(asked) not in offered:
        logger.warning("bits: %s has no %s, written with %d", suffix, asked, max(offered))
    return min(int(asked), max(offered))


class Save(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        suffixes = [suffix[1:] for suffix in (*AUDIO_SUFFIXES, *VIDEO_SUFFIXES)]
        return io.Schema(
            node_id="Omni2SoundSave",
            display_name="Omni2Sound Save",
            category=CATEGORY,
            description="Writes sound, or a copy of the video with it; no picture is encoded.",
            inputs=[
                io.Audio.Input("audio"),
                io.String.Input("filename_prefix", default="audio/omni2sound"),
                io.Combo.Input("format", options=suffixes),
                io.Combo.Input(
                    "bits",
                    options=["24", "16", "32"],
                    tooltip="Of wav, flac, mov. 32 are floats; flac has none and gets 24.",
                ),
                io.Combo.Input("sample_rate", options=[AS_GIVEN, "44100", "48000", "96000"]),
                io.Combo.Input(
                    "loudness",
                    options=[AS_GIVEN, *LOUDNESS_LUFS],
                    tooltip="Level for a destination.",
                ),
                io.Video.Input("video", optional=True, tooltip="For mp4, mov, mkv and webm."),
                io.Boolean.Input(
                    "keep_audio", default=False, tooltip="Mix the video's own sound under it."
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        audio: Any,
        filename_prefix: str,
        format: str,
        bits: str,
        sample_rate: str,
        loudness: str,
        video: Any = None,
        keep_audio: bool = False,
    ) -> io.NodeOutput:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        suffix, saved = f".{format}", []
        if suffix in VIDEO_SUFFIXES and video is None:
            raise UserError("is missing; a video format needs one", field="video")
        tags = {} if args.disable_metadata else cls._tags()
        if tags and suffix in AUDIO_SUFFIXES:
            tags["comment"] = tags.get("prompt", "")  # .wav keeps no other
        lufs = None if loudness == AS_GIVEN else LOUDNESS_LUFS[loudness]
        chosen = _bits(bits, suffix)
        with _named_as_inputs(), video_file(video, None, 24) as path:
            for number, given in enumerate(sounds_of(audio)):
                sound = given if sample_rate == AS_GIVEN else resample(given, int(sample_rate))
                file = f"{name}_{counter + number:05}_{suffix}"
                target = Path(folder) / file
                if suffix in VIDEO_SUFFIXES and path is not None:
                    mux(
                        path, sound, target, keep_audio=keep_audio, metadata=tags,
                        loudness_lufs=lufs, bits=chosen,
                    )  # fmt: skip
                else:
                    write_audio(target, sound, metadata=tags, loudness_lufs=lufs, bits=chosen)
                saved.append(ui.SavedResult(file, subfolder, io.FolderType.output))
        is_video = suffix in VIDEO_SUFFIXES
        return io.NodeOutput(ui=ui.PreviewVideo(saved) if is_video else ui.SavedAudios(saved))

    @classmethod
    def _tags(cls) -> dict[str, str]:
        """The workflow, under the names that ComfyUI reads when a file is dropped on it."""
        more = cls.hidden.extra_pnginfo or {}
        tags = {"prompt": cls.hidden.prompt, **more}
        return {name: json.dumps(value) for name, value in tags.items() if value is not None}


class Omni2Sound(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadModel, Generate, EditRanges, Stems, Save]


async def comfy_entrypoint() -> Omni2Sound:
    """Called by ComfyUI."""
    return Omni2Sound()
