"""What is to be changed in a sound.

In:   ranges, a video, a prompt or cues, a strength.
Out:  an `Edit`, checked; the request for a span of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from omni2sound.config import checked_number
from omni2sound.errors import UserError
from omni2sound.generate.edit.ranges import Range
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.words.cues import Cue


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """What is to be changed in a sound.

    Raises:
        UserError: There is nothing to make new, or nothing to make it from.
    """

    ranges: tuple[Range, ...] = ()
    """What is made anew; empty: the whole sound, which needs a `strength` below 1."""
    video: Path | None = None
    """A video as long as the sound, whose pictures the new parts follow."""
    prompt: str | None = None
    negative_prompt: str | None = None
    seen: str | None = None
    recognise: bool | None = None
    cues: tuple[Cue, ...] = ()
    """Spans on the sound's own clock."""
    strength: float = 1.0
    """How far the new part goes from the given one: 0 is the same, 1 is made from noise alone."""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int = 0
    takes: int = 1

    def __post_init__(self) -> None:
        value = checked_number(self.strength, "strength", whole=False, least=0.01, most=1)
        object.__setattr__(self, "strength", float(value))
        if any(cue.end_s is None for cue in self.cues):
            raise UserError("has no end; an edit needs spans, as 3.1-4", field="cues")
        if not self.ranges and self.strength == 1:
            raise UserError(
                'nothing to change; give `ranges` as "3.2-5", or a `strength` below 1 for a '
                "variation of the whole"
            )

    def request(
        self, video: Path | None, start_s: Fraction, duration_s: Fraction
    ) -> GenerationRequest:
        """Build the request for a span.

        Raises:
            UserError: Nothing is asked for there.
        """
        cues = tuple(
            Cue(
                start_s=max(0.0, float(c.start_s - start_s)),
                end_s=float(end_s - start_s),
                text=c.text,
            )
            for c, end_s in ((c, c.span_s[1]) for c in self.cues)
            if end_s > start_s and c.start_s < start_s + duration_s
        )
        if self.cues and self.prompt is None and video is None and not cues:
            raise UserError(
                f"none acts around {float(start_s):g}-{float(start_s + duration_s):g} s; give a "
                "`prompt`, too",
                field="cues",
            )
        return GenerationRequest(
            video=video,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            duration_s=float(duration_s),
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seen=self.seen if video is not None else None,
            recognise=self.recognise if video is not None else None,
            cues=cues,
            ambience=False,
            seed=self.seed,
        )
