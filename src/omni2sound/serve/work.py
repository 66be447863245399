"""What each kind of job does, through the library.

In:   the body of a job, files of the store, the pipeline.
Out:  a request that was checked before the job is taken; files of takes and exports.

Nothing is generated here that `omni2sound generate`, `edit` and their Python calls do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.errors import UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.ranges import Range, joined_ranges
from omni2sound.generate.edit.source import check_edit, open_source
from omni2sound.generate.output import OutputOptions, numbered, save
from omni2sound.generate.request import GenerationRequest, draw_seed
from omni2sound.generate.studio.export import export_take
from omni2sound.generate.studio.job import Job as Settings
from omni2sound.generate.studio.job import loudness_for
from omni2sound.generate.studio.request import options_of, request_of, spanned_request
from omni2sound.generate.words.cues import Cue
from omni2sound.media.files import VIDEO_SUFFIXES
from omni2sound.media.info import probe
from omni2sound.serve.bodies import (
    CueBody,
    EditBody,
    ExportBody,
    GenerateBody,
    JobBody,
    ResultFile,
    SeeBody,
    SeenThing,
    Take,
)
from omni2sound.serve.limits import Limits
from omni2sound.serve.store import Store

if TYPE_CHECKING:
    from omni2sound.generate.torch_pipeline import TorchPipeline
    from omni2sound.recognise.observe import Seen

TAKE_BITS = 24
"""Of takes, so that what is edited again and exported loses nothing that is heard."""
_MOMENT_S = 1.0
"""Span of a cue that names a moment only."""

FIELDS = {
    "video": "media",
    "negative_prompt": "negative",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "text_guidance_scale": "text_guidance",
    "loudness_lufs": "loudness",
    "destination": "for",
    "path": "format",
    "recognise": "seen",
}
"""Names of the library's fields in bodies."""


# --- before a job is taken -------------------------------------------------------------


def check(body: JobBody, store: Store, limits: Limits) -> JobBody:
    """Refuse what can't be made, and draw the seed that makes a job repeatable.

    Raises:
        UserError: A value is out of range or does not fit the upload or the take.
        NotFoundError: There is no such upload or take.
    """
    if isinstance(body, GenerateBody):
        if body.takes > limits.takes:
            raise UserError(f"expected at most {limits.takes}, got {body.takes}", field="takes")
        body = body.model_copy(update={"seed": draw_seed() if body.seed is None else body.seed})
        with _generation(body, store) as request:
            check_length(request.resolve_duration(8.0), limits, "duration_s")
        _output_options(body)
    elif isinstance(body, EditBody):
        if body.takes > limits.takes:
            raise UserError(f"expected at most {limits.takes}, got {body.takes}", field="takes")
        body = body.model_copy(update={"seed": draw_seed() if body.seed is None else body.seed})
        asked = _edit(body, store)
        if asked.video is None and asked.prompt is None and not asked.cues:
            raise UserError("nothing to make it from; say what should be heard", field="prompt")
        check_length(max((r.end_s for r in asked.ranges), default=0.0), limits, "ranges")
        length_s = float(probe(_edited_file(body, store)).duration_s)
        joined_ranges(asked.ranges, length_s)
    elif isinstance(body, SeeBody):
        if probe(store.media_path(body.media)).video is None:
            raise UserError("has sound but no picture; give a video", field="media")
    elif isinstance(body, ExportBody):
        store.take_path(body.take)
        _export_options(body)
        if f".{body.format}" in VIDEO_SUFFIXES and store.media_of(body.take) is None:
            raise UserError(
                f"{body.format} is a film, and the take was made without one; use wav",
                field="format",
            )
    return body


def check_length(seconds: Any, limits: Limits, field: str) -> None:
    """Refuse what is longer than this server makes.

    Raises:
        UserError: It is.
    """
    if seconds > limits.duration_s:
        raise UserError(
            f"{float(seconds):.1f} s, the limit of this server is {limits.duration_s} s; "
            "give a shorter span",
            field=field,
        )


@contextmanager
def _generation(body: GenerateBody, store: Store) -> Iterator[GenerationRequest]:
    source = None if body.media is None else store.media_path(body.media)
    settings = _settings(body)
    with spanned_request(source, settings) as (video, duration_s):
        yield request_of(settings, video, duration_s, seed=body.seed or 0)


def _settings(body: GenerateBody) -> Settings:
    """The body in the terms of a jobs file."""
    loudness = body.loudness
    return Settings(
        id="job",
        video=body.media,
        start_s=body.start_s,
        end_s=body.end_s,
        prompt=body.prompt.strip() or None,
        negative_prompt=body.negative.strip() or None,
        duration_s=body.duration_s,
        seed=body.seed,
        takes=body.takes,
        steps=body.steps,
        guidance=body.guidance,
        text_guidance=body.text_guidance,
        recognise=False if body.seen == "off" and body.media is not None else None,
        leave_out=body.leave_out,
        cues=tuple(f"{c.start_s:.6f}-{c.end_s:.6f}: {c.text}" for c in _cues(body.cues)),
        ambience=body.ambience,
        loudness_lufs=loudness if isinstance(loudness, float) else None,
        destination=loudness if isinstance(loudness, str) else None,
    )


def _cues(cues: Sequence[CueBody]) -> tuple[Cue, ...]:
    return tuple(
        Cue(
            start_s=cue.from_s,
            end_s=cue.from_s + _MOMENT_S if cue.to_s is None else cue.to_s,
            text=cue.prompt,
        )
        for cue in cues
    )


def _output_options(body: GenerateBody) -> OutputOptions:
    return options_of(_settings(body), OutputOptions(overwrite=True, bits=TAKE_BITS))


# --- the work ------------------------------------------------------------------------


def generate(
    pipeline: TorchPipeline,
    store: Store,
    job_id: str,
    body: GenerateBody,
    done: Callable[[Take], None],
) -> None:
    """Generate the takes of a job, and call `done` after each."""
    options = _output_options(body)
    outputs = _outputs(store, job_id, body.takes)
    with _generation(body, store) as request:
        results = pipeline.run(request)
        for number, (output, result) in enumerate(zip(outputs, results, strict=True), 1):
            report = save(result, output, video=None, options=options)
            take = _take(job_id, number, report)
            done(
                take.model_copy(
                    update={
                        "media": body.media,
                        "start_s": body.start_s or 0.0,
                        "video": None if body.media is None else take.video,
                        "seen": things_of(result.seen),
                    }
                )
            )


def edit(
    pipeline: TorchPipeline,
    store: Store,
    job_id: str,
    body: EditBody,
    done: Callable[[Take], None],
) -> None:
    """Edit a take or an upload, and call `done` after each result."""
    from omni2sound.generate.edit.files import edit_file

    source = open_source(_edited_file(body, store))
    asked = _edit(body, store)
    outputs = _outputs(store, job_id, body.takes)
    options = OutputOptions(overwrite=True, bits=TAKE_BITS)
    for output in outputs:
        options = check_edit(source, output, asked, options)
    before = None if body.take is None else find_take(store, body.take)
    media = body.media if before is None else before.media
    is_film = media is not None and probe(store.media_path(media)).video is not None
    for number, report in enumerate(edit_file(pipeline, source, asked, outputs, options), 1):
        take = _take(job_id, number, report)
        done(
            take.model_copy(
                update={
                    "media": media if is_film else None,
                    "start_s": 0.0 if before is None else before.start_s,
                    "video": take.video if is_film else None,
                    "edited": body.take,
                }
            )
        )


def see(pipeline: TorchPipeline, store: Store, body: SeeBody) -> list[SeenThing]:
    """Look at a video."""
    video = store.media_path(body.media)
    info = probe(video)
    is_still = info.video is None or info.video.is_still
    return things_of(pipeline.encoder.recognise(video, 1 if is_still else info.duration_s))


def export(store: Store, job_id: str, body: ExportBody) -> ResultFile:
    """Write a take as a file to be handed on."""
    take = find_take(store, body.take)
    film = None if take.media is None else store.media_path(take.media)
    output = store.job_folder(job_id) / f"export.{body.format}"
    options = _export_options(body)
    export_take(store.take_path(body.take), output, options, video=film, start_s=take.start_s)
    stem = "sound" if take.media is None else Path(store.media(take.media).name).stem
    return ResultFile(
        url=f"/v1/jobs/{job_id}/file",
        name=f"{stem}.{take.seed}.{body.format}",
        bytes=output.stat().st_size,
    )


def things_of(seen: Seen | None) -> list[SeenThing]:
    """What was recognised, as clients see it."""
    from omni2sound.recognise.things import load_things

    prompts = load_things().prompts
    return [
        SeenThing(
            name=thing.name,
            sound=None if thing.sound is None else prompts[thing.sound],
            place=thing.place,
            spans=[(float(start_s), float(end_s)) for start_s, end_s in thing.spans_s],
            moving=thing.moving,
            sounding=thing.sounding,
            prominence=round(float(thing.prominence), 4),
            why_silent=thing.silent,
        )
        for thing in (() if seen is None else seen.things)
    ]


def _outputs(store: Store, job_id: str, takes: int) -> list[Path]:
    folder = store.job_folder(job_id)
    return [folder / "take-1.wav"] if takes == 1 else numbered(folder / "take.wav", takes)


def _take(job_id: str, number: int, report: dict[str, Any]) -> Take:
    take_id, leveling = f"{job_id}-{number}", report["leveling"]
    url = f"/v1/takes/{take_id}"
    return Take(
        id=take_id,
        job=job_id,
        seed=report["seed"],
        duration_s=report["duration_s"],
        sample_rate_hz=report["sample_rate_hz"],
        channels=report["channels"],
        lufs=leveling["lufs"],
        true_peak_db=leveling["true_peak_db"],
        sound=f"{url}/sound.wav",
        peaks=f"{url}/peaks.json",
        spectrogram=f"{url}/spectrogram.png",
        video=f"{url}/video.mp4",
        media=None,
        edited=None,
        seen=[],
        text=report.get("text") or report.get("prompt"),
        cues=list(report.get("cues", ())),
        notes=list(report.get("notes", ())),
    )


def write_film(store: Store, take: Take, target: Path) -> None:
    """Write the film of a take with its sound, to be looked at."""
    export_take(
        store.take_path(take.id),
        target,
        OutputOptions(overwrite=True),
        video=store.media_path(take.media or ""),
        start_s=take.start_s,
    )


def find_take(store: Store, take_id: str) -> Take:
    """Return a take that is written.

    Raises:
        NotFoundError: There is none.
    """
    store.take_path(take_id)
    takes = store.record(take_id.partition("-")[0]).job.takes
    return next(take for take in takes if take.id == take_id)


def _edited_file(body: EditBody, store: Store) -> Path:
    if (body.take is None) == (body.media is None):
        raise UserError("expected one of `take` and `media`", field="take")
    if body.take is not None:
        return store.take_path(body.take)
    path = store.media_path(body.media or "")
    if probe(path).audio is None:
        raise UserError("has no sound to edit; generate one first", field="media")
    return path


def _edit(body: EditBody, store: Store) -> Edit:
    media = None
    if body.look:
        media = body.media if body.take is None else store.media_of(body.take)
    film: Path | None = None
    if media is not None:
        info = probe(store.media_path(media)).video
        film = None if info is None or info.is_still else store.media_path(media)
    if body.take is not None and film is not None and find_take(store, body.take).start_s:
        film = None  # the take is of a part of its film
    return Edit(
        ranges=tuple(Range(start_s=start_s, end_s=end_s) for start_s, end_s in body.ranges),
        video=film,
        prompt=body.prompt.strip() or None,
        negative_prompt=body.negative.strip() or None,
        cues=_cues(body.cues),
        strength=body.strength,
        num_inference_steps=body.steps,
        guidance_scale=body.guidance,
        seed=body.seed or 0,
        takes=body.takes,
    )


def _export_options(body: ExportBody) -> OutputOptions:
    if body.mix_db is not None and not body.keep_audio:
        raise UserError("is for the film's own sound; set `keep_audio`, too", field="mix_db")
    return OutputOptions(
        keep_audio=body.keep_audio,
        overwrite=True,
        loudness_lufs=loudness_for(body.destination, body.loudness),
        reencode=body.reencode,
        mix_db=body.mix_db,
        bits=body.bits,
    )
