"""Upper bound of a run's calls and cost, before anything is sent.

In:   clips, settings of the crew.
Out:  lines of text.

Not a forecast: every clip with pictures takes the audio-visual path, every clip goes to the
senior for all its turns, every answer has its full length. A clip of unknown length counts as
ten seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from omni2sound.annotate.build import CrewSettings
from omni2sound.annotate.chat.answers import (
    CaptionAnswer,
    ContextAnswer,
    SeniorAnswer,
    ValidatorAnswer,
)
from omni2sound.annotate.chat.prompts import load_prompt
from omni2sound.annotate.roles import SourceClip
from omni2sound.llm import AudioPart, ChatRequest, ImagePart, ModelId, Prices, system, user
from omni2sound.llm.servers.health import raised_tokens

_UNKNOWN_S = 10.0
_FRAMES = 8
"""Frames of a clip with four shots."""
_CONTEXT = "x" * 2000


def estimate(clips: Sequence[SourceClip], settings: CrewSettings) -> list[str]:
    """Return a line per role and one for the sum, which is unknown if a price is."""
    prices = Prices.load(*settings.chat.prices)
    seconds = [clip.duration_s or _UNKNOWN_S for clip in clips]
    pictured = sum(clip.video is not None for clip in clips)
    mean_s = sum(seconds) / max(len(seconds), 1) or _UNKNOWN_S
    sound = AudioPart(data=b"", format="wav", duration_s=mean_s)
    frame = ImagePart(data=b"", media_type="image/jpeg")
    models = settings.models
    turns = [sound, _CONTEXT, sound, sound]
    rows = (
        ("vision", pictured, [frame] * _FRAMES, ContextAnswer, 900),
        ("junior", len(clips), [sound, _CONTEXT], CaptionAnswer, 700),
        ("senior", 3 * len(clips), turns, SeniorAnswer, 828),
        ("validator", pictured, [_CONTEXT], ValidatorAnswer, 200),
    )
    lines = [f"{len(clips)} clips, {sum(seconds) / 3600:.1f} hours, {pictured} with pictures"]
    total: Decimal | None = Decimal(0)
    for role, calls, parts, answer, tokens in rows:
        name = models[role]
        # Each request may be sent again with a raised limit, after it was cut.
        most_tokens = settings.cap.get(role, tokens)
        requests = [
            _request(settings, role, parts, answer, limit)
            for limit in (most_tokens, raised_tokens(most_tokens))
        ]
        if "@" not in name:
            lines.append(f"{role}: {name}, free")
            continue
        model, _, url = name.partition("@")
        price = prices.of(ModelId(endpoint=url.rstrip("/"), model=model))
        costs = [] if price is None else [price.before(request) for request in requests]
        known = [cost.at_most_usd for cost in costs if cost is not None]
        if len(known) < len(requests):
            lines.append(f"{role}: at most {calls} calls of {model}, price unknown")
            total = None
        else:
            most = known[0] * calls
            lines.append(
                f"{role}: at most {calls} calls of {model}, {most:.2f} USD"
                f" (up to {sum(known) * calls:.2f} if all are cut and sent again)"
            )
            total = None if total is None else total + most
    lines.append("at most " + ("unknown" if total is None else f"{total:.2f} USD"))
    return lines


def _request(
    settings: CrewSettings, role: str, parts: Sequence[object], answer: type, tokens: int
) -> ChatRequest:
    prompt = load_prompt("viewer" if role == "vision" else role, folder=settings.prompts)
    return ChatRequest(
        messages=(system(prompt.text), user(*parts)),  # type: ignore[arg-type]
        prompt_version=prompt.version,
        max_output_tokens=tokens,
        answer=answer,
    )
