"""Mixes as files: stems put together again, one of them perhaps made anew.

In:   a folder of stems, changes to its description; for a new stem a model, and the video.
Out:  a file and its sidecar; with a new stem, or over the old mix, also its folder of stems.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omni2sound.config import from_json, to_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.generate.edit.seams import EDGE_S
from omni2sound.generate.output import OutputOptions, save
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings
from omni2sound.generate.stems.description import MixDescription, MixedStem
from omni2sound.generate.stems.exact import on_grid
from omni2sound.generate.stems.files import stems_folder
from omni2sound.generate.stems.mix import mix_stems, read_stems
from omni2sound.generate.stems.sources import Source, Stem
from omni2sound.generate.studio.video import spanned
from omni2sound.generate.words.cues import Cue
from omni2sound.media.samples import Audio, as_stereo, fit_length, resample
from omni2sound.readers import interpreting, real_path

if TYPE_CHECKING:
    from omni2sound.generate.pipeline import Omni2SoundPipeline

_PLACE = ("gain_db", "pan", "mute", "room")
_KEPT = (
    "task", "prompt", "negative_prompt", "text_guidance", "seen", "text", "cues", "ambience",
)  # fmt: skip
"""Facts of stems that a mix does not change."""
_AGAIN = ("request", "duration_s", "cut", "edits")
"""What stems are made again from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """What is read of the facts that say how stems were made."""

    request: Mapping[str, Any]
    seed: int
    steps: int
    guidance: float
    model: str
    model_sha256: str
    duration_s: float
    text: str | None = None
    start_s: float | None = None
    request_sha256: str | None = None
    cut: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """Ranges in which stems gave way to an edit, by their names."""
    edits: tuple[str, ...] = ()
    """Names of the stems that edits are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing:
    """A folder of stems, and how they are put together."""

    folder: Path
    description: MixDescription
    sounds: Mapping[str, Audio]
    new_stem: str | None = None
    """The one that was made anew."""

    @classmethod
    def read(cls, folder: Path, description: MixDescription) -> Mixing:
        """Read the sounds of a description.

        Raises:
            MediaError: One can't be read.
            ConfigError: What says how they were made can't be understood.
            UserError: They don't fit together, or nothing says how they were made.
        """
        if "request" not in description.made:
            raise UserError(
                f"{folder}: its description does not say how the stems were made; give a folder "
                "that `--stems` wrote"
            )
        _made_of(description, folder)
        request_of(description.made)
        sounds = read_stems(folder, description)
        return cls(folder=folder, description=description, sounds=sounds)

    @property
    def made(self) -> _Made:
        """How its stems were made."""
        return _made_of(self.description, self.folder)

    @property
    def needs_video(self) -> bool:
        """Whether its stems followed a video."""
        return bool(self.description.made.get("task") != "T2A")


def _made_of(description: MixDescription, folder: Path) -> _Made:
    known = {each.name for each in fields(_Made)}
    facts = {name: value for name, value in description.made.items() if name in known}
    return from_json(_Made, facts, where=f"{folder}: made")


def remake(
    pipeline: Omni2SoundPipeline, mixing: Mixing, name: str, seed: int, video: Path | None
) -> Mixing:
    """Make one stem anew; it is that of a request with this seed.

    Args:
        pipeline: The model.
        mixing: The stems.
        name: The stem.
        seed: Seed of the take whose stem it is.
        video: The video of the stems, where they had one.

    Raises:
        MediaError: The video can't be read.
        UserError: There is no such stem, or not any more, or its video is missing.
    """
    from omni2sound.generate.stems.make import make_stems

    old = mixing.description.stem(name)
    if name in mixing.made.edits:
        raise UserError(f"{name!r} is a part that was edited; edit its range again", field="anew")
    if mixing.needs_video and video is None:
        raise UserError("is missing: these stems follow one; give it", field="video")
    made = mixing.description.made
    with _span(made, video) as span:
        asked = replace(request_of(made, span), seed=seed, stems=True)
        (result,) = make_stems(pipeline, asked, only={name})
    like, stem = mixing.sounds[name], result.stems[0]
    audio = resample(stem.audio, like.sample_rate_hz)
    audio = as_stereo(audio) if like.num_channels > 1 else audio
    audio = _cut_out(fit_length(audio, like.num_samples), mixing.made.cut.get(name, ()))
    (audio,) = on_grid([audio])
    stems = [
        replace(s, seed=stem.seed) if s.name == old.name else s for s in mixing.description.stems
    ]
    return replace(
        mixing,
        description=replace(mixing.description, stems=tuple(stems)),
        sounds={**mixing.sounds, name: audio},
        new_stem=name,
    )


def _cut_out(audio: Audio, spans: Sequence[tuple[float, float]]) -> Audio:
    """Silence spans, with soft edges inside of them."""
    time_N = np.arange(audio.num_samples) / audio.sample_rate_hz
    gain_N = np.ones(audio.num_samples, np.float32)
    for start_s, end_s in spans:
        outside_N = np.maximum(start_s + EDGE_S - time_N, time_N - end_s + EDGE_S) / EDGE_S
        gain_N *= np.clip(outside_N, 0, 1).astype(np.float32)
    return replace(audio, samples_CN=audio.samples_CN * gain_N)


def _span(made: Mapping[str, Any], video: Path | None) -> AbstractContextManager[Path | None]:
    """The part of a video that stems were made for."""
    start_s = None if video is None else made.get("start_s")
    end_s = None if start_s is None else start_s + made["duration_s"]
    return spanned(video, start_s=start_s, end_s=end_s)


def request_of(made: Mapping[str, Any], video: Path | None = None) -> GenerationRequest:
    """Rebuild the request that a description names.

    Args:
        made: What the description says of how its stems were made.
        video: The video; without one, the request only says what was asked.

    Raises:
        ConfigError: A field is unknown.
        UserError: A value is out of range.
    """
    asked = from_json(dict[str, Any], made["request"], where="made.request")
    cues = from_json(tuple[Cue, ...], asked.pop("cues", []), where="made.request.cues")
    if video is None:
        for name in ("seen", "recognise", "leave_out", "text_guidance_scale"):
            asked.pop(name, None)
        if asked.get("prompt") is None and not cues:
            asked["prompt"] = str(made.get("text") or "sound")
    known = {each.name for each in fields(GenerationRequest)}
    if unknown := sorted(set(asked) - known):
        raise ConfigError(f"made.request: unknown field {unknown[0][:80]!r}")
    asked = {k: tuple(v) if isinstance(v, list) else v for k, v in asked.items()}
    with interpreting("made.request", "a request"):
        return GenerationRequest(**asked, cues=cues, video=video)


def save_mix(
    mixing: Mixing, output: Path, *, video: Path | None, options: OutputOptions
) -> dict[str, Any]:
    """Mix stems and write the file with its sidecar.

    Args:
        mixing: The stems.
        output: A path that `output.check_output_of` accepted.
        video: The video whose picture a video output copies.
        options: How files are written.

    Returns:
        What the sidecar says.
    """
    made, description = mixing.description.made, mixing.description
    audio = mix_stems(description, mixing.sounds)
    placed = [_facts(stem, mixing.sounds[stem.name]) for stem in description.stems]
    facts: dict[str, Any] = {name: made[name] for name in _KEPT if name in made}
    facts["mix"] = placed
    if made.get("start_s"):
        facts["start_s"] = made["start_s"]
    asked = json.dumps([placed, to_json(options), made.get("request_sha256")], sort_keys=True)
    facts["request_sha256"] = hashlib.sha256(asked.encode()).hexdigest()
    stems: Sequence[Stem] = ()
    if mixing.new_stem is not None or _are_same(mixing.folder, stems_folder(output)):
        stems = [
            Stem(
                source=Source(name=stem.name, text=stem.text, spans=stem.spans, at_s=stem.at_s),
                seed=stem.seed or 0,
                audio=mixing.sounds[stem.name],
                place={name: getattr(stem, name) for name in _PLACE},
            )
            for stem in description.stems
        ]
    request = replace(
        request_of(made), sample_rate_hz=audio.sample_rate_hz, channels=audio.num_channels
    )
    result = GenerationResult(
        audio=audio,
        request=request,
        seed=int(made["seed"]),
        num_inference_steps=int(made["steps"]),
        guidance_scale=float(made["guidance"]),
        model=str(made["model"]),
        model_sha256=str(made["model_sha256"]),
        dtype="auto",
        timings=Timings(load_s=0, encode_s=0, sample_s=0, decode_s=0),
        text=request.prompt,  # what the text branch was given is among the facts
        stems=tuple(stems),
    )
    with _span(made, video) as span:
        if span != video:  # the copy is of a file that is gone afterwards
            result = replace(result, request=replace(request, video=span))
        return save(
            result,
            output,
            video=span,
            options=options,
            more_facts=facts,
            stems_made={name: made[name] for name in _AGAIN if name in made},
        )


def _are_same(folder: Path, other: Path) -> bool:
    return real_path(folder) == real_path(other)


def _facts(stem: MixedStem, audio: Audio) -> dict[str, Any]:
    """What a sidecar says of a stem in a mix."""
    facts = {name: value for name, value in to_json(stem).items() if name != "spans"}
    return facts | {"samples_sha256": hashlib.sha256(audio.samples_CN.tobytes()).hexdigest()}
