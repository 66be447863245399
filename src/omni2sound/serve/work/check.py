"""What is refused before a job is taken.

In:   a body.
Out:  the same with the seed that makes the job repeatable, or a refusal.
"""

from __future__ import annotations

from typing import Any

from omni2sound.errors import UserError
from omni2sound.generate.edit.ranges import joined_ranges
from omni2sound.generate.request import draw_seed
from omni2sound.media.info import probe
from omni2sound.serve.bodies import (
    EditBody,
    ExportBody,
    GenerateBody,
    JobBody,
    SeeBody,
    StemsBody,
)
from omni2sound.serve.limits import Limits
from omni2sound.serve.store import Store
from omni2sound.serve.work import export, stems
from omni2sound.serve.work.generate import edit_of, edited_file, length_s, output_options

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
    "stem": "mix",
}
"""Names of the library's fields in bodies."""


def check(body: JobBody, store: Store, limits: Limits) -> JobBody:
    """Refuse what can't be made, and draw a seed where none is given.

    Raises:
        UserError: A value is out of range or does not fit the upload or the take.
        NotFoundError: There is no such upload or take.
    """
    if not isinstance(body, SeeBody | ExportBody) and body.seed is None:
        body = body.model_copy(update={"seed": draw_seed()})
    if isinstance(body, GenerateBody | EditBody) and body.takes > limits.takes:
        raise UserError(f"expected at most {limits.takes}, got {body.takes}", field="takes")
    if isinstance(body, GenerateBody):
        check_length(length_s(body, store), limits, "duration_s")
        output_options(body)
    elif isinstance(body, EditBody):
        _check_edit(body, store, limits)
    elif isinstance(body, SeeBody):
        if probe(store.media_path(body.media)).video is None:
            raise UserError("has sound but no picture; give a video", field="media")
    elif isinstance(body, StemsBody):
        stems.check(body, store)
    else:
        export.check(body, store)
    return body


def _check_edit(body: EditBody, store: Store, limits: Limits) -> None:
    asked = edit_of(body, store)
    if asked.video is None and asked.prompt is None and not asked.cues:
        raise UserError("nothing to make it from; say what should be heard", field="prompt")
    check_length(max((r.end_s for r in asked.ranges), default=0.0), limits, "ranges")
    joined_ranges(asked.ranges, float(probe(edited_file(body, store)).duration_s))


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
