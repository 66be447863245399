"""Requests to the pipeline, and its results.

In:   a video, a prompt or both, and optional settings.
Out:  `GenerationRequest`, checked; `GenerationResult`: a sound, how it was made, and `save`.

No torch here: the command line refuses a bad request before it loads a model. What not to
get wrong: `GenerationResult.facts` goes into the output file, so it must hold nothing that
differs between two runs of one request (times, dates, paths).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from omni2sound.config import added, checked_number
from omni2sound.errors import ConfigError, MediaError, UserError
from omni2sound.files import as_path
from omni2sound.generate.words.cues import MAX_CUES, Cue
from omni2sound.timebase import TimeBase

if TYPE_CHECKING:
    from omni2sound.generate.stems.sources import Stem
    from omni2sound.media.samples import Audio
    from omni2sound.recognise.observe import Seen

MAX_DURATION_S = 3600
MAX_STEPS, MAX_GUIDANCE = 1000, 100
MAX_PROMPT_CHARS = 2000
MAX_TAKES, MAX_SEED = 100, 2**63 - 1

MIN_DURATION_S = 0.001
"""Shortest sound; some samples at any rate."""

MIN_RATE_HZ, MAX_RATE_HZ = 8000, 192_000

_NUMBERS: Mapping[str, tuple[bool, float, float, str]] = {
    "duration_s": (False, MIN_DURATION_S, MAX_DURATION_S, " of seconds"),
    "num_inference_steps": (True, 1, MAX_STEPS, ""),
    "guidance_scale": (False, 0, MAX_GUIDANCE, ""),
    "text_guidance_scale": (False, 0, MAX_GUIDANCE, ""),
    "seed": (True, 0, MAX_SEED, ""),
    "takes": (True, 1, MAX_TAKES, ""),
    "sample_rate_hz": (True, MIN_RATE_HZ, MAX_RATE_HZ, " of Hz"),
    "channels": (True, 1, 2, ""),
}
"""For each number: whether it is whole, its least and largest value, its unit."""

Task = Literal["V2A", "T2A", "VT2A"]
EngineName = Literal["auto", "onnx", "torch"]


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class GenerationRequest:
    """One request; the task follows from the inputs.

    Raises:
        UserError: A value is out of range, or two of them contradict each other.
    """

    video: Path | None = None
    """A video, or a still picture together with `duration_s`."""
    prompt: str | None = None
    """What should be heard."""
    negative_prompt: str | None = None
    """What should not be heard; needs a guidance scale above 1. An empty text counts as None."""
    duration_s: float | None = None
    """Seconds of sound; None: the video's length, or the model's default without one."""
    num_inference_steps: int | None = None
    """Sampling steps; None: the model's default."""
    guidance_scale: float | None = None
    """1 is no guidance, higher follows the input more closely; None: the model's default."""
    text_guidance_scale: float | None = None
    """Guidance scale of the prompt beside a video; a higher one favours off-screen sounds. None:
    `guidance_scale` for both, which takes a third less work."""
    recognise: bool | None = None
    """Whether what the video shows is recognised and added to the prompt in words; None: the
    model's default."""
    seen: str | None = None
    """What the video shows, in words, in place of recognition."""
    leave_out: tuple[str, ...] = ()
    """Names of recognised things that make no sound."""
    cues: tuple[Cue, ...] = ()
    """What should be heard in spans of the clip, and only there; beside a prompt, which acts
    everywhere. Where neither acts and no picture says anything, the sound is silent."""
    ambience: bool = True
    """Whether a scene that is recognised (the sea, a fire) gives a quiet bed under other sounds."""
    seed: int = 0
    """Random seed of the first take; each further one adds 1."""
    takes: int = 1
    """Number of results."""
    sample_rate_hz: int | None = None
    """Samples per second of the sound; None: the model's."""
    channels: int | None = None
    """1 or 2; None: two where the model places sounds in stereo, else one."""
    stems: bool = False
    """Whether each cue and each recognised sound is made by itself; the sound is their sum."""

    def __post_init__(self) -> None:
        for name, kind, expected in (
            ("video", Path, "a path"),
            ("prompt", str, "a text"),
            ("negative_prompt", str, "a text"),
            ("seen", str, "a text"),
        ):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise UserError(f"expected {expected}, got {repr(value)[:80]}", field=name)
        self._check_cues()
        self._check_left_out()
        for name in ("ambience", "stems"):
            if not isinstance(value := getattr(self, name), bool):
                raise UserError(f"expected True or False, got {repr(value)[:80]}", field=name)
        if self.video is None and self.prompt is None and not self.cues:
            raise UserError("nothing to generate from; give a video, a prompt or both")
        self._check_texts()
        self._check_numbers()
        if self.seed > MAX_SEED - self.takes + 1:
            raise UserError(
                f"{self.seed} leaves no room for {self.takes} takes; use a lower one", field="seed"
            )
        if self.guidance_scale is not None:
            self.check_negative_prompt(self.guidance_scale)
        if self.text_guidance_scale is not None and self.task != "VT2A":
            raise UserError(
                "applies to a prompt beside a video; give both, or use `guidance_scale` alone",
                field="text_guidance_scale",
            )

    def _check_cues(self) -> None:
        if not isinstance(self.cues, tuple) or not all(isinstance(c, Cue) for c in self.cues):
            raise UserError(f"expected cues, got {repr(self.cues)[:80]}", field="cues")
        if len(self.cues) > MAX_CUES:
            raise UserError(f"expected at most {MAX_CUES}, got {len(self.cues)}", field="cues")

    def _check_left_out(self) -> None:
        names = self.leave_out
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise UserError(f"expected names, got {repr(names)[:80]}", field="leave_out")
        if names and (self.video is None or self.seen is not None or self.recognise is False):
            raise UserError("is for a video that is looked into; leave it out", field="leave_out")

    def _check_texts(self) -> None:
        texts = [(name, getattr(self, name)) for name in ("prompt", "negative_prompt", "seen")]
        for name, text in [*texts, *(("cues", cue.text) for cue in self.cues)]:
            text = text or ""
            if len(text) > MAX_PROMPT_CHARS:
                raise UserError(
                    f"expected at most {MAX_PROMPT_CHARS} characters, got {len(text)}", field=name
                )
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:  # other bytes, which Python keeps as lone surrogates
                raise UserError(
                    "is not valid UTF-8; check the terminal's encoding", field=name
                ) from None
        for name in ("prompt", "seen"):
            if getattr(self, name) is not None and not getattr(self, name).strip():
                raise UserError("is empty; describe the sound, or leave it out", field=name)
        if self.video is None and (self.seen is not None or self.recognise):
            name = "seen" if self.seen is not None else "recognise"
            raise UserError("says what a video shows; give a video, or leave it out", field=name)
        if self.seen is not None and self.recognise is False:
            raise UserError("contradicts `recognise=False`; leave one out", field="seen")

    def _check_numbers(self) -> None:
        """Check types and ranges; numbers become Python's own, which JSON can hold."""
        for name, (whole, least, most, unit) in _NUMBERS.items():
            value: Any = getattr(self, name)
            if value is None and name not in ("seed", "takes"):
                continue
            value = checked_number(value, name, whole=whole, least=least, most=most, unit=unit)
            object.__setattr__(self, name, value)

    def check_negative_prompt(self, guidance: float) -> None:
        """Refuse a negative prompt that has no effect.

        Raises:
            UserError: There is one, and `guidance` is 1.
        """
        if self.has_negative_prompt and guidance == 1:
            raise UserError(
                "has no effect at `guidance_scale` 1; use a scale above 1", field="negative_prompt"
            )

    @property
    def has_negative_prompt(self) -> bool:
        """Whether there is a negative prompt that is not empty."""
        return self.negative_prompt is not None and bool(self.negative_prompt.strip())

    @property
    def has_points(self) -> bool:
        """Whether there are cues without an end."""
        return any(cue.end_s is None for cue in self.cues)

    @property
    def task(self) -> Task:
        """Inputs and output: V video, T text, A audio."""
        if self.video is None:
            return "T2A"
        return "V2A" if self.prompt is None and not self.cues else "VT2A"

    def resolve_duration(self, default_s: float) -> Fraction:
        """Return the seconds of sound to generate, after a look into the video.

        Never longer than the video: past its end nothing is seen, and no output file could
        hold the rest.

        Args:
            default_s: Duration of a request that has neither video nor duration.

        Raises:
            MediaError: The video can't be read or has no picture.
            UserError: It is a still picture without a duration, or too long.
        """
        from omni2sound.media.files import shown_name  # PyAV, which training goes without
        from omni2sound.media.info import probe

        asked = None if self.duration_s is None else Fraction(self.duration_s)
        if self.video is None:
            return Fraction(default_s) if asked is None else asked
        info, name = probe(self.video), shown_name(self.video)
        video = info.video
        if video is None:
            raise MediaError(f"{name}: has sound but no picture; give a video")
        if video.is_still:
            if asked is None:
                raise UserError(
                    f"{name}: is a still picture and has no duration; give `duration_s`"
                )
            return asked
        if asked is not None:
            return min(asked, info.duration_s)
        if info.duration_s > MAX_DURATION_S:
            raise UserError(
                f"{name}: lasts {float(info.duration_s):.0f} s, the limit is {MAX_DURATION_S} s; "
                "cut it in parts, or give a shorter `duration_s`"
            )
        return info.duration_s


_MOST_OF_DEFAULTS = {
    "steps": (1, 1000),
    "guidance": (0, 100),
    "duration_s": (0.001, 3600),
    "max_duration_s": (0.001, 3600),
}
"""What a request may ask for, a card may set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """Settings that a request need not give; `defaults` of the card.

    Raises:
        ConfigError: A number is out of range.
    """

    steps: int = 8
    guidance: float = 3.0
    duration_s: float = 8.0
    """Length of the sound of a prompt alone."""
    max_duration_s: float = 10.0
    """The native window: length of the longest training clip."""
    recognise: bool = added(False)
    """Whether what a video shows is recognised and said in words; see `recognise`."""
    stereo: bool = added(False)
    """Whether sound for a video is stereo, placed by what is recognised; see `stereo`."""

    def __post_init__(self) -> None:
        for name, (least, most) in _MOST_OF_DEFAULTS.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise ConfigError(f"expected {least} to {most}, got {value!r:.40}", field=name)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What a request has to know of a model, whatever computes it.

    Attributes:
        name: The model's name.
        defaults: Settings that a request need not give.
        timebase: Rates of latents and pictures.
        sample_rate_hz: Samples per second of the model's sound.
        is_bounded: Whether a video can be no longer than the native window.
    """

    name: str
    defaults: Defaults
    timebase: TimeBase
    sample_rate_hz: int
    is_bounded: bool = False


def precision_name(dtype: str, *, deterministic: bool) -> str:
    """Return what a digest of a request says of the precision."""
    return f"{dtype}, deterministic" if deterministic else dtype


def draw_seed() -> int:
    """Draw a seed for a request that names none; short enough to be typed again."""
    return secrets.randbelow(2**31)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Wall time of each step of one result, in seconds.

    Work that several takes share counts for the first of them.
    """

    load_s: float
    encode_s: float
    sample_s: float
    decode_s: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class GenerationResult:
    """A sound, and how it was made."""

    audio: Audio
    request: GenerationRequest
    """The request that it answers."""
    seed: int
    """The seed of this take."""
    num_inference_steps: int
    guidance_scale: float
    model: str
    """The model's name."""
    model_sha256: str
    """Digest of the model's configuration and weights."""
    dtype: str
    """Precision as asked: "auto", "float32", "bfloat16" or "float16"."""
    timings: Timings
    seen: Seen | None = None
    """What was recognised in the video; None if nothing was looked for."""
    text: str | None = None
    """What the text branch was given for the whole clip: the prompt, and what was recognised."""
    cues: tuple[Cue, ...] = ()
    """What it was given for spans: the request's cues, and what was recognised in a part only."""
    ambience: str | None = None
    """Text of the bed; None without one."""
    notes: tuple[str, ...] = ()
    """What the user should know about the result, a line each."""
    stems: tuple[Stem, ...] = ()
    """Sounds of the sources, whose sum is `audio` to the last bit; empty unless asked for."""

    @property
    def task(self) -> Task:
        """Inputs and output: V video, T text, A audio."""
        return self.request.task

    @property
    def prompt(self) -> str | None:
        """What should be heard."""
        return self.request.prompt

    @property
    def negative_prompt(self) -> str | None:
        """What should not be heard; None also for an empty text."""
        return self.request.negative_prompt if self.request.has_negative_prompt else None

    @property
    def duration_s(self) -> float:
        """Length of `audio` in seconds."""
        return float(self.audio.duration_s)

    @property
    def text_guidance_scale(self) -> float | None:
        """Guidance scale of the prompt beside a video; None: `guidance_scale`."""
        return self.request.text_guidance_scale

    def limited(self) -> Audio:
        """Return the sound with peaks over full scale lowered, as in a lossless file of it."""
        from omni2sound.generate.studio.results import limited

        return limited(self.audio)

    def __repr__(self) -> str:
        return f"<{self.task} by {self.model}: {self.duration_s:g} s, seed {self.seed}>"

    def _repr_html_(self) -> str:
        """A player, for notebooks."""
        from omni2sound.generate.studio.results import player

        return player(self)

    def save(
        self,
        path: str | os.PathLike[str] | IO[bytes],
        *,
        file_format: str | None = None,
        video: str | os.PathLike[str] | None = None,
        keep_audio: bool = False,
        mix_db: float | None = None,
        duck_db: float | None = None,
        loudness_lufs: float | None = None,
        bits: int | None = None,
        overwrite: bool = False,
        reencode: bool = False,
    ) -> dict[str, Any]:
        """Write the sound, its metadata and its sidecar, as `omni2sound generate` does.

        The same request and seed give the same bytes as the command line.

        Args:
            path: File to write; its suffix chooses the format: .mp4 .mov .mkv .webm (a copy of
                the video with the new sound) or .wav .flac .mp3 .opus .ogg .m4a. Or a binary
                file object, which gets no sidecar.
            file_format: "wav", "mp4", ...: the format in a file object.
            video: The video whose picture is copied; one that is not the request's is named
                in the sidecar and part of its digest. Default: the request's video.
            keep_audio: Mix the video's own sound under the new one.
            mix_db: Gain of the new sound in that mix, -60 to 20 dB. Default: 0.
            duck_db: By how much it gives way to speech in the video, 1 to 40 dB. Default: not.
            loudness_lufs: Target loudness, -50 to -5 LUFS. Default: as generated.
            bits: Bits a sample of .wav, .flac and .mov: 16, 24, or 32 for floats (not in .flac).
                Default: 24 in .mov, else 16.
            overwrite: Replace files that exist.
            reencode: Encode the picture again where a copy would not show the same.

        Returns:
            What the sidecar PATH.json says: how the sound was made, `leveling` (what was done
            to its level), `time_s` and `rtf` (seconds per second of sound).

        Raises:
            MediaError: The video can't be read.
            UserError: The suffix is unknown, a file is in the way, or a value is out of range.
        """
        from omni2sound.generate.output import OutputOptions, check_output_of, save
        from omni2sound.media.files import VIDEO_SUFFIXES, shown_name

        options = OutputOptions(
            keep_audio=keep_audio,
            mix_db=mix_db,
            duck_db=duck_db,
            overwrite=overwrite,
            loudness_lufs=loudness_lufs,
            bits=bits,
            reencode=reencode,
        )
        if not isinstance(path, (str, os.PathLike)) and hasattr(path, "write"):
            from omni2sound.generate.studio.results import save_to_stream

            again = partial(
                self.save, video=video, keep_audio=keep_audio, mix_db=mix_db, duck_db=duck_db,
                loudness_lufs=loudness_lufs, bits=bits, reencode=reencode,
            )  # fmt: skip
            return save_to_stream(path, file_format, again)
        target = as_path(path, "path")
        source = self.request.video if video is None else as_path(video, "video")
        check_output_of(source, target, options, duration_s=self.request.duration_s)
        if video is not None and not (keep_audio or target.suffix.lower() in VIDEO_SUFFIXES):
            raise UserError(
                f"is copied only into a video output, got {shown_name(target)}; use "
                f"{' '.join(VIDEO_SUFFIXES)}, or leave it out",
                field="video",
            )
        return save(self, target, video=source, options=options)

    def facts(self) -> dict[str, Any]:
        """How the sound was made, as JSON data; equal for two runs of one request."""
        facts: dict[str, Any] = {
            "task": self.task,
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "duration_s": self.duration_s,
            "sample_rate_hz": self.audio.sample_rate_hz,
            "channels": self.audio.num_channels,
            "seed": self.seed,
            "steps": self.num_inference_steps,
            "guidance": self.guidance_scale,
            "text_guidance": self.text_guidance_scale,
            "model": self.model,
            "model_sha256": self.model_sha256,
        }
        if self.text_guidance_scale is None:
            del facts["text_guidance"]
        if self.request.seen is not None:
            facts["seen"] = self.request.seen
        elif self.seen is not None:
            facts["seen"] = [asdict(thing) for thing in self.seen.things]
        if self.text != self.prompt:
            facts["text"] = self.text
        if self.cues:
            facts["cues"] = [asdict(cue) for cue in self.cues]
        if self.ambience is not None:
            facts["ambience"] = self.ambience
        if self.stems:
            facts["stems"] = [stem.facts() for stem in self.stems]
        if self.notes:
            facts["notes"] = list(self.notes)
        return facts
