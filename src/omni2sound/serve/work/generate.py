"""Jobs of the kinds generate, edit and see.

In:   their bodies, files of the store, the pipeline.
Out:  takes, written one after another; what was recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.errors import UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.ranges import Range
from omni2sound.generate.edit.source import check_edit, open_source
from omni2sound.generate.output import OutputOptions, save
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.studio.job import Job as Settings
from omni2sound.generate.studio.request import options_of, request_of, spanned_request
from omni2sound.generate.studio.video import check_start, duration_of_span
from omni2sound.generate.words.cues import Cue
from omni2sound.media.info import probe
from omni2sound.serve.bodies import CueBody, EditBody, GenerateBody, SeeBody, SeenThing, Take
from omni2sound.serve.store import Store
from omni2sound.serve.work.takes import (
    TAKE_OPTIONS,
    find_take,
    has_film,
    outputs_of,
    take_of,
    things_of,
)
from omni2sound.stages import enter

if TYPE_CHECKING:
    from omni2sound.generate.torch_pipeline import TorchPipeline


_UNSEEN = "the film was not looked at, since the take is of a part of it"


def generate(
    pipeline: TorchPipeline,
    store: Store,
    job_id: str,
    body: GenerateBody,
    done: Callable[[Take], None],
) -> None:
    """Generate the takes of a job, and call `done` after each."""
    options = output_options(body)
    outputs = outputs_of(store, job_id, body.takes)
    with generation(body, store) as request:
        results = pipeline.run(request)
        for number, (output, result) in enumerate(zip(outputs, results, strict=True), 1):
            more = {"start_s": body.start_s} if body.start_s else {}
            report = save(result, output, video=None, options=options, more_facts=more)
            take = take_of(job_id, number, report, store)
            known: dict[str, Any] = {
                "media": body.media,
                "start_s": body.start_s or 0.0,
                "video": take.video if has_film(store, body.media) else None,
                "seen": things_of(result.seen),
            }
            done(take.model_copy(update=known))


@contextmanager
def generation(body: GenerateBody, store: Store) -> Iterator[GenerationRequest]:
    """Build the request of a job; files of it are there as long as the block.

    Raises:
        NotFoundError: Its upload is gone.
        UserError: A value is out of range, or does not fit the upload.
    """
    source = None if body.media is None else store.media_path(body.media)
    settings = _settings(body)
    with spanned_request(source, settings) as (video, duration_s):
        yield request_of(settings, video, duration_s, seed=body.seed or 0)


def length_s(body: GenerateBody, store: Store) -> Fraction:
    """Return the seconds that a job makes, after a check that copies no span of its upload.

    Raises:
        NotFoundError: Its upload is gone.
        UserError: A value is out of range, or does not fit the upload.
    """
    source = None if body.media is None else store.media_path(body.media)
    settings = _settings(body)
    if source is None or not body.start_s:
        with spanned_request(source, settings) as (video, duration_s):
            request = request_of(settings, video, duration_s, seed=body.seed or 0)
            return request.resolve_duration(8.0)
    asked_s = duration_of_span(body.start_s, body.end_s, body.duration_s)
    left_s = check_start(source, body.start_s)[0].duration_s - Fraction(body.start_s)
    made_s = left_s if asked_s is None else min(Fraction(asked_s), left_s)
    request_of(settings, source, float(made_s), seed=body.seed or 0)
    return made_s


def output_options(body: GenerateBody) -> OutputOptions:
    """Return the options of a job's takes.

    Raises:
        UserError: The loudness is out of range.
    """
    return options_of(_settings(body), TAKE_OPTIONS)


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
        cues=tuple(map(_cue_line, body.cues)),
        ambience=body.ambience,
        stems=body.stems,
        loudness_lufs=loudness if isinstance(loudness, float) else None,
        destination=loudness if isinstance(loudness, str) else None,
    )


def _cues(cues: Sequence[CueBody]) -> tuple[Cue, ...]:
    return tuple(Cue(start_s=c.from_s, end_s=c.to_s, text=c.prompt) for c in cues)


def _cue_line(cue: CueBody) -> str:
    end = "" if cue.to_s is None else f"-{cue.to_s:.6f}"
    return f"{cue.from_s:.6f}{end}: {cue.prompt}"


def edit(
    pipeline: TorchPipeline,
    store: Store,
    job_id: str,
    body: EditBody,
    done: Callable[[Take], None],
) -> None:
    """Edit a take or an upload, and call `done` after each result."""
    from omni2sound.generate.edit.files import edit_file

    source = open_source(edited_file(body, store))
    asked = edit_of(body, store)
    outputs = outputs_of(store, job_id, body.takes)
    options = TAKE_OPTIONS
    for output in outputs:
        options = check_edit(source, output, asked, options)
    before = None if body.take is None else find_take(store, body.take)
    media = body.media if before is None else before.media
    is_seen = media is not None and store.media(media).kind != "sound"
    is_unseen = body.look and asked.video is None and has_film(store, media)
    for number, report in enumerate(edit_file(pipeline, source, asked, outputs, options), 1):
        take = take_of(job_id, number, report, store)
        known: dict[str, Any] = {
            "media": media if is_seen else None,
            "start_s": 0.0 if before is None else before.start_s,
            "video": take.video if has_film(store, media) else None,
            "edited": body.take,
            "notes": [*take.notes, *([_UNSEEN] if is_unseen else [])],
        }
        done(take.model_copy(update=known))


def edited_file(body: EditBody, store: Store) -> Path:
    """Return the file whose sound is edited.

    Raises:
        NotFoundError: It is gone.
        UserError: None is named, or two, or it has no sound.
    """
    if (body.take is None) == (body.media is None):
        raise UserError("expected one of `take` and `media`", field="take")
    if body.take is not None:
        return store.take_path(body.take)
    path = store.media_path(body.media or "")
    if probe(path).audio is None:
        raise UserError("has no sound to edit; generate one first", field="media")
    return path


def edit_of(body: EditBody, store: Store) -> Edit:
    """Build what the library is asked for.

    Raises:
        UserError: A value is out of range, or nothing changes.
    """
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


def see(pipeline: TorchPipeline, store: Store, body: SeeBody) -> list[SeenThing]:
    """Look at a video."""
    video = store.media_path(body.media)
    info = probe(video)
    is_still = info.video is None or info.video.is_still
    enter("looking at the video")
    return things_of(pipeline.encoder.recognise(video, 1 if is_still else info.duration_s))
