"""Rules of annotation: routing, hand-off to the senior, post-hoc filter.

In:   scores, captions; `Thresholds` of the scorer that made the scores.
Out:  `Decision`s, each with its reasons.

Rules are data: numbers of a scorer in `thresholds.toml`, phrases in `phrases.txt`, complexity in
`HandOffRules`. What not to get wrong: scorers have different scales, so thresholds carry their
scorer's name. Rules on single things skip those that the scorer does not know. Texts of reasons
go to the senior, so they are part of the key of its answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from omni2sound.annotate.records import Caption, Decision, Fit, Spans
from omni2sound.config import from_json
from omni2sound.errors import UserError
from omni2sound.readers import as_object, read_text, read_toml

RULES_VERSION = 2
"""Incremented when the same scores and thresholds lead to other decisions."""


_MAX_SPANS = 4
"""Most spans of a sound that a reason names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """Thresholds of one scorer."""

    scorer: str
    route_audio_visual: float
    """Least audio-visual similarity for the audio-visual path."""
    route_drop: float
    """Least similarity of a clip that is not dropped."""
    hand_off: float
    """Caption-audio score below which the senior is asked."""
    hand_off_music: float
    hand_off_event: float
    """The senior is asked if a known event scores below it; -1 turns the rule off."""
    drop: float
    """Caption-audio score below which the final caption is dropped."""
    drop_music: float
    drop_event: float
    """The caption is dropped if a known event scores below it; -1 turns the rule off."""
    source: str
    """Origin of the numbers."""

    def __post_init__(self) -> None:
        if self.route_drop > self.route_audio_visual:
            raise UserError(
                f"thresholds of {self.scorer}: route_drop={self.route_drop} is above "
                f"route_audio_visual={self.route_audio_visual}"
            )

    @classmethod
    def of(cls, scorer: str, file: Path | None = None) -> Thresholds:
        """Read the row of a scorer from the bundled table, or from a file in its form.

        Raises:
            UserError: The scorer has no row, or the row is wrong.
        """
        source = file or resources.files(__package__) / "thresholds.toml"
        rows = read_toml(Path(str(source)))
        if scorer not in rows:
            raise UserError(
                f"no thresholds for {scorer!r}, only for {', '.join(sorted(rows))}; measure your "
                "own with `omni2sound annotate calibrate`",
                field="thresholds",
            )
        row = as_object(rows[scorer], f"{source}: {scorer}")
        return from_json(cls, {"scorer": scorer, **row}, where=f"thresholds of {scorer!r}")


def hallucination_phrases(file: Path | None = None) -> tuple[str, ...]:
    """Read phrases that captioners often use for absent sounds, one per line.

    Args:
        file: None takes the bundled list; an empty file turns the rule off.

    Raises:
        ConfigError: The file is no text.
    """
    text = read_text(Path(str(file or resources.files(__package__) / "phrases.txt")))
    lines = text.split("\n")
    return tuple(p for line in lines if (p := line.partition("#")[0].strip().lower()))


@dataclass(frozen=True, kw_only=True, slots=True)
class HandOffRules:
    """Limits beyond which a clip is too hard for the junior."""

    max_events: int = 6
    max_sources: int = 4
    max_at_once: int = 3
    """Simultaneous sounds."""
    min_confidence: float = 0.15
    """Least confidence of the junior in an event; an event without one passes."""
    phrases: tuple[str, ...] = ()


def route(similarity: float | None, thresholds: Thresholds) -> Decision:
    """Which path a clip takes, by audio-visual similarity; without pictures: audio only."""
    if similarity is None:
        return Decision(outcome="audio-only", reasons=("no picture",))
    scores = {"similarity": similarity}
    if similarity > thresholds.route_audio_visual:
        reason = f"similarity {similarity:.3f} > {thresholds.route_audio_visual:g}"
        return Decision(outcome="audio-visual", reasons=(reason,), scores=scores)
    if similarity >= thresholds.route_drop:
        reason = f"similarity {similarity:.3f} <= {thresholds.route_audio_visual:g}"
        return Decision(outcome="audio-only", reasons=(reason,), scores=scores)
    reason = f"similarity {similarity:.3f} < {thresholds.route_drop:g}"
    return Decision(outcome="drop", reasons=(reason,), scores=scores, rule="route")


def hand_off(caption: Caption, fit: Fit, thresholds: Thresholds, rules: HandOffRules) -> Decision:
    """Decide whether the senior gets the clip; every rule that applies is a reason."""
    found = [*_complex(caption, rules), *_suspicious(caption, rules)]
    least = thresholds.hand_off_music if caption.is_music else thresholds.hand_off
    found += _misfits(caption, fit, least, thresholds.hand_off_event)
    outcome = "escalate" if found else "keep"
    return Decision(
        outcome=outcome,  # type: ignore[arg-type]
        reasons=tuple(reason for _, reason in found)
        or (f"no rule spoke against it, score {fit.caption:.3f}",),
        scores=_scores(fit),
        rule=found[0][0] if found else None,
    )


Found = list[tuple[str, str]]
"""Rules that a caption breaks, each with its reason."""


def _misfits(caption: Caption, fit: Fit, least: float, least_event: float) -> Found:
    """Find misfits between sound and caption: the sentence, or things that it names."""
    found = []
    if fit.caption < least:
        rule = "music" if caption.is_music else "sentence"
        found.append((rule, f"caption-audio score {fit.caption:.3f} < {least:g}"))
    weakest: dict[str, float] = {}
    heard: dict[str, Spans] = {}
    for place, (event, score) in enumerate(
        zip(caption.events, fit.events, strict=bool(fit.events))
    ):
        if score is not None:
            weakest[event.what] = min(score, weakest.get(event.what, score))
            heard[event.what] = fit.heard[place] if fit.heard else ()
    found += [
        ("event", f"{what!r} fits the sound at {score:.3f} < {least_event:g}{_where(heard[what])}")
        for what, score in weakest.items()
        if score < least_event
    ]
    return found


def _where(heard: Spans) -> str:
    """Say when a sound is heard, if it is heard elsewhere than the caption says."""
    times = ", ".join(f"{start_s:.1f}-{end_s:.1f} s" for start_s, end_s in heard[:_MAX_SPANS])
    return f"; it is heard at {times}" if times else ""


def _scores(fit: Fit) -> dict[str, float]:
    judged = [score for score in fit.events if score is not None]
    weakest = {"weakest_event": min(judged)} if judged else {}
    return {"caption_audio": fit.caption, **weakest}


def _complex(caption: Caption, rules: HandOffRules) -> Found:
    found = []
    if not caption.events:
        found.append("complex: no event was named")
    if len(caption.events) > rules.max_events:
        found.append(f"complex: {len(caption.events)} events > {rules.max_events}")
    sources = {event.what.lower() for event in caption.events}
    if len(sources) > rules.max_sources:
        found.append(f"complex: {len(sources)} sources > {rules.max_sources}")
    at_once = _most_at_once(caption)
    if at_once > rules.max_at_once:
        found.append(f"complex: {at_once} sounds at once > {rules.max_at_once}")
    return [("complex", reason) for reason in found]


def _most_at_once(caption: Caption) -> int:
    edges = []
    for event in caption.events:
        if event.start_s is not None and event.end_s is not None:
            edges += [(event.start_s, 1), (event.end_s, -1)]
    now = most = 0
    for _, change in sorted(edges):  # an end comes before a start at the same time
        now += change
        most = max(most, now)
    return most


def _suspicious(caption: Caption, rules: HandOffRules) -> Found:
    text = caption.text.lower()
    found = [
        ("phrase", f"phrase {phrase!r} is often said of sounds that are not there")
        for phrase in rules.phrases
        if re.search(rf"\b{re.escape(phrase)}\b", text)
    ]
    doubts = [e for e in caption.events if e.confidence is not None]
    found += [
        ("doubt", f"the junior doubts {e.what!r}: {e.confidence:.2f} < {rules.min_confidence:g}")
        for e in doubts
        if e.confidence is not None and e.confidence < rules.min_confidence
    ]
    return found


def post_hoc(caption: Caption, fit: Fit, thresholds: Thresholds) -> Decision:
    """Decide whether the final caption is dropped: sentence and known events must fit."""
    least = thresholds.drop_music if caption.is_music else thresholds.drop
    found = _misfits(caption, fit, least, thresholds.drop_event)
    if found:
        reasons = tuple(reason for _, reason in found)
        return Decision(outcome="drop", reasons=reasons, scores=_scores(fit), rule=found[0][0])
    reason = f"caption-audio score {fit.caption:.3f} >= {least:g}"
    unknown = sum(score is None for score in fit.events)
    if len(fit.events) > unknown:
        reason += ", and every event that was judged fits"
    if unknown:
        reason += f"; {unknown} not judged: the scorer does not know them"
    return Decision(outcome="keep", reasons=(reason,), scores=_scores(fit))
