"""Bodies of requests and answers: the data of the OpenAPI document.

In:   JSON of a client, read strictly: unknown fields, wrong types and endless numbers are refused.
Out:  typed requests; `Job`, `Take` and `Media` as clients see them.

Whether values make sense beside each other is for the library to say (`GenerationRequest`, `Edit`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from omni2sound.generate.request import (
    MAX_DURATION_S,
    MAX_GUIDANCE,
    MAX_PROMPT_CHARS,
    MAX_SEED,
    MAX_STEPS,
    MAX_TAKES,
)
from omni2sound.generate.studio.job import Destination
from omni2sound.generate.words.cues import MAX_CUES

JobKind = Literal["generate", "edit", "see", "stems", "export"]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
FINAL: frozenset[State] = frozenset({"done", "failed", "cancelled"})
MAX_RANGES = 32
MAX_THINGS = 64

MediaId = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="Id of an upload.")]
TakeId = Annotated[
    str, Field(pattern="^[0-9a-f]{32}-[1-9][0-9]{0,2}$", description="Id of a take.")
]
StemName = Annotated[str, Field(pattern="^[A-Za-z0-9-]{1,60}$")]
Seconds = Annotated[float, Field(ge=0, le=MAX_DURATION_S)]
Text = Annotated[str, Field(max_length=MAX_PROMPT_CHARS)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Field(ge=0, le=MAX_GUIDANCE)]
Lufs = Annotated[float, Field(ge=-50, le=-5)]
MixDb = Annotated[float, Field(ge=-60, le=20)]
Takes = Annotated[int, Field(ge=1, le=MAX_TAKES)]
Format = Literal["mp4", "mov", "mkv", "webm", "wav", "flac", "mp3", "opus", "ogg", "m4a", "zip"]


class _Asked(BaseModel):
    """Base of what a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class CueBody(_Asked):
    """What should be heard in a span, or at a moment."""

    from_s: Seconds
    to_s: Seconds | None = Field(None, description="End of the span. Default: a moment.")
    prompt: Text


Cues = Annotated[tuple[CueBody, ...], Field(max_length=MAX_CUES, strict=False)]


class GenerateBody(_Asked):
    """Sound for an upload, a prompt, or both."""

    kind: Literal["generate"]
    media: MediaId | None = None
    prompt: Text = ""
    negative: Text = ""
    cues: Cues = ()
    seen: Literal["auto", "off"] = Field("auto", description="Whether the video is looked into.")
    leave_out: Annotated[tuple[Text, ...], Field(max_length=MAX_THINGS, strict=False)] = Field(
        (), description="Names of recognised things that make no sound."
    )
    ambience: bool = True
    stems: bool = Field(False, description="Make each cue and each recognised sound by itself.")
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    duration_s: Annotated[float, Field(gt=0, le=MAX_DURATION_S)] | None = None
    takes: Takes = 1
    seed: Seed | None = Field(None, description="Of the first take. Default: a new one.")
    steps: Steps | None = None
    guidance: Guidance | None = None
    text_guidance: Guidance | None = None
    loudness: Lufs | Destination | None = Field(
        None, description="LUFS, or where the sound goes. Default: as generated."
    )


class CallBody(GenerateBody):
    """The body of a call that waits: one take."""

    kind: Literal["generate"] = "generate"


class EditBody(_Asked):
    """Ranges of a take or of an uploaded sound made anew, or variations of the whole."""

    kind: Literal["edit"]
    take: TakeId | None = None
    media: MediaId | None = None
    ranges: Annotated[
        tuple[Annotated[tuple[Seconds, Seconds], Field(strict=False)], ...],
        Field(max_length=MAX_RANGES, strict=False),
    ] = ()
    prompt: Text = ""
    negative: Text = ""
    cues: Cues = ()
    look: bool = Field(True, description="Whether the film of the take is looked at, too.")
    strength: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    takes: Takes = 1
    seed: Seed | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None


class SeeBody(_Asked):
    """What a video shows."""

    kind: Literal["see"]
    media: MediaId


class StemsBody(_Asked):
    """Stems of a take: those that it has, or the take made again of stems."""

    kind: Literal["stems"]
    take: TakeId
    anew: StemName | None = Field(None, description="A stem to make anew, as a new take.")
    seed: Seed | None = Field(None, description="Of the new stem. Default: a new one.")


class StemPlace(_Asked):
    """The place of a stem in a mix."""

    gain_db: Annotated[float, Field(ge=-60, le=24)] = 0.0
    pan: Annotated[float, Field(ge=-1, le=1)] = 0.0
    mute: bool = False
    room_s: Annotated[float, Field(ge=0.05, le=3)] | None = None


class ExportBody(_Asked):
    """A take as a file: a sound, a copy of its film with it, or what an editor gets (zip)."""

    kind: Literal["export"]
    take: TakeId
    format: Format
    destination: Destination | None = Field(None, alias="for")
    loudness: Lufs | None = None
    keep_audio: bool = Field(False, description="Mix the film's own sound under the new one.")
    mix_db: MixDb | None = Field(None, description="Gain of the new sound in that mix.")
    duck_db: Annotated[float, Field(ge=0, le=60)] | None = Field(
        None, description="How far the new sound gives way to speech of the film."
    )
    bits: Literal[16, 24, 32] | None = None
    reencode: bool = False
    mix: Annotated[dict[str, StemPlace], Field(max_length=100)] = Field(
        {}, description="Places of stems, by their ids or names. Default: as they were made."
    )


JobBody = Annotated[
    GenerateBody | EditBody | SeeBody | StemsBody | ExportBody, Field(discriminator="kind")
]
BODIES: TypeAdapter[JobBody] = TypeAdapter(JobBody)


class LoginBody(_Asked):
    """The server's token."""

    token: Annotated[str, Field(max_length=1000)]


class _Shown(BaseModel):
    """Base of what a client gets."""

    model_config = ConfigDict(frozen=True)


class Problem(_Shown):
    """What went wrong, as a sentence."""

    message: str
    field: str | None = None
    given: str | None = None


class ErrorBody(_Shown):
    """Every answer that is an error."""

    error: Problem


class Health(_Shown):
    """Whether jobs are worked on."""

    status: Literal["loading", "ready", "failed", "stopping"]
    message: str | None = None


class Kind(_Shown):
    """A kind of sound that the model knows."""

    name: str
    examples: list[str]


class ModelInfo(_Shown):
    """The model, its kinds of sound, and the limits of this server."""

    name: str
    version: str
    sample_rate_hz: int | None
    steps: int | None
    device: str | None
    tasks: list[str]
    jobs: list[str]
    kinds: list[Kind]
    max_duration_s: int
    limits: dict[str, int]
    formats: list[str]


class Media(_Shown):
    """An upload."""

    id: str
    name: str
    kind: Literal["video", "picture", "sound"]
    duration_s: float | None
    frames_per_second: float | None
    width: int | None
    height: int | None
    has_sound: bool
    bytes: int
    created: float
    file: str
    strip: str | None
    peaks: str | None
    proxy: str | None = None


class SeenThing(_Shown):
    """A kind of thing that a video shows."""

    name: str
    sound: str | None
    place: Literal["left", "centre", "right"]
    spans: list[tuple[float, float]]
    moving: bool
    sounding: bool
    prominence: float
    why_silent: str | None


class StemInfo(_Shown):
    """One sound of a take."""

    id: str
    name: str
    text: str | None
    spans: list[tuple[float, float]]
    seed: int | None
    anew: bool
    """Whether it can be made anew by itself; an edited part can't."""
    sound: str
    peaks: str


class Take(_Shown):
    """A sound that was made."""

    id: str
    job: str
    seed: int
    duration_s: float
    sample_rate_hz: int
    channels: int
    lufs: float | None
    true_peak_db: float | None
    sound: str
    peaks: str
    spectrogram: str
    video: str | None
    media: str | None
    start_s: float = 0.0
    edited: str | None
    seen: list[SeenThing]
    text: str | None
    cues: list[dict[str, Any]]
    notes: list[str]
    stems: list[StemInfo] = []


class ResultFile(_Shown):
    """The file of an export."""

    url: str
    name: str
    bytes: int


class Job(_Shown):
    """A job, from its acceptance to its end."""

    id: str
    kind: JobKind
    state: State
    position: int | None = None
    stage: str | None = None
    fraction: float = 0.0
    seconds_left: float | None = None
    created: float
    request: dict[str, Any]
    notes: list[str] = []
    error: Problem | None = None
    takes: list[Take] = []
    seen: list[SeenThing] = []
    stems: list[StemInfo] = []
    file: ResultFile | None = None


class Peaks(_Shown):
    """Lowest and highest sample of each part of a sound, over all channels."""

    per_second: int
    peaks: list[tuple[float, float]]
