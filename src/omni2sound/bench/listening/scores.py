"""Results of a listening test, with intervals.

In:   a kit's key, and the files that listeners saved.
Out:  `Rating`s: mean scores (mushra) or shares of preferences (pairs), by question; for pairs of
      three systems or more a ranking, too (`ranking`).

95 % intervals resample both listeners and clips: another panel would hear other clips. That is
wide for few of either, and rightly so. A mushra listener who gives the hidden reference less
than 90 for fidelity in more than 15 % of the trials is left out, and named (ITU-R BS.1534-3).

What not to get wrong: answers to another kit, unknown labels and half-filled files are refused
with the file's name, never averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.listening.kit import REFERENCE
from omni2sound.bench.listening.ranking import Comparison, Ranked, rank
from omni2sound.bench.stats.estimate import Estimate
from omni2sound.errors import UserError
from omni2sound.readers import loads, read_object

NUM_RESAMPLES = 2000
_LEAST_RANKED = 3
_LEAST_REFERENCE, _MOST_FAILED = 90, 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """One listener's answers."""

    listener: str
    values: Mapping[tuple[str, str, str], float | str]
    """By trial, label ("" in pairs) and question: 0 to 100, or the label of the better sound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rating:
    """Result of one system, or of one against another, on one question."""

    question: str
    system: str
    against: str
    """The other system of a pair; empty in mushra."""
    estimate: Estimate
    """Mean of 0 to 100, or share of preferences; no difference counts half."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListeningResult:
    """All ratings and the listeners behind them."""

    ratings: tuple[Rating, ...]
    listeners: tuple[str, ...]
    left_out: tuple[str, ...]
    """Listeners who missed the hidden reference."""
    rankings: Mapping[str, tuple[Ranked, ...]]
    """By question, for pairs of three systems or more."""


def read_answers(path: Path, key: Mapping[str, Any]) -> Answers:
    """Read and validate a listener's file.

    Raises:
        UserError: It belongs to another kit, has unknown labels or lacks answers.
    """
    try:
        data = read_object(path)
        kit, listener, given = data["kit"], str(data["listener"]), dict(data["answers"])
        values = {_place(k): v for k, v in given.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give one that a listener saved") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds no answers ({error!r})") from None
    if kit != key["kit"]:
        raise UserError(f"{path}: answers kit {kit!r}, not {key['kit']!r}")
    wanted = _wanted(key)
    if missing := sorted(set(wanted) - set(values)):
        raise UserError(
            f"{path}: {len(missing)} questions are not answered, the first: {missing[0]}"
        )
    if unknown := sorted(set(values) - set(wanted)):
        raise UserError(f"{path}: answers what was not asked: {unknown[0]}")
    for place, allowed in wanted.items():
        value = values[place]
        good = (
            isinstance(value, str) and value in allowed
            if allowed is not None
            else isinstance(value, int | float) and 0 <= value <= 100
        )
        if not good:
            raise UserError(f"{path}: {place}: {value!r} can't be an answer")
    return Answers(listener=listener, values=values)


def _place(key: str) -> tuple[str, str, str]:
    """Parse a question's trial, label and name."""
    trial, label, question = loads(key)
    return str(trial), str(label), str(question)


def _wanted(key: Mapping[str, Any]) -> dict[tuple[str, str, str], set[str] | None]:
    wanted: dict[tuple[str, str, str], set[str] | None] = {}
    for trial in key["trials"]:
        for question in trial["questions"]:
            if key["kind"] == "pairs":
                wanted[trial["trial"], "", question] = {"", *trial["stimuli"]}
            else:
                for label in trial["stimuli"]:
                    wanted[trial["trial"], label, question] = None
    return wanted


def analyse(key: Mapping[str, Any], answers: Sequence[Answers]) -> ListeningResult:
    """Compute means or shares with intervals.

    Args:
        key: Key of the kit.
        answers: Answers of each listener.

    Raises:
        UserError: There are no answers, two of one listener, or no valid listener.
    """
    names = [a.listener for a in answers]
    if not answers or len(set(names)) != len(names):
        raise UserError(
            f"expected answers of different listeners, got {', '.join(names) or 'none'}"
        )
    left_out = [a.listener for a in answers if key["kind"] == "mushra" and _failed(key, a)]
    kept = [a for a in answers if a.listener not in left_out]
    if not kept:
        raise UserError(f"no listener found the hidden reference: {', '.join(left_out)}")
    tables = _preferences(key, kept) if key["kind"] == "pairs" else _scores(key, kept)
    ratings = [
        Rating(
            question=question,
            system=system,
            against=against,
            estimate=_resampled(np.array(table)),
        )
        for (question, system, against), table in tables.items()
    ]
    return ListeningResult(
        ratings=tuple(ratings),
        listeners=tuple(a.listener for a in kept),
        left_out=tuple(left_out),
        rankings=_rankings(key, kept),
    )


def _rankings(key: Mapping[str, Any], answers: Sequence[Answers]) -> dict[str, tuple[Ranked, ...]]:
    if key["kind"] != "pairs":
        return {}
    found: dict[str, list[Comparison]] = {}
    for trial in key["trials"]:
        (label, first), (_, second) = trial["stimuli"].items()
        for question in trial["questions"]:
            for a in answers:
                value = a.values[trial["trial"], "", question]
                comparison = Comparison(
                    first=first,
                    second=second,
                    share=0.5 if value == "" else float(value == label),
                    listener=a.listener,
                    clip=trial["trial"],
                )
                found.setdefault(question, []).append(comparison)
    systems = {name for trial in key["trials"] for name in trial["stimuli"].values()}
    if len(systems) < _LEAST_RANKED:
        return {}  # the share of preferences says it all
    return {question: tuple(rank(some)) for question, some in sorted(found.items())}


def _failed(key: Mapping[str, Any], answers: Answers) -> bool:
    hidden = [
        float(answers.values[trial["trial"], label, "fidelity"])
        for trial in key["trials"]
        for label, name in trial["stimuli"].items()
        if name == REFERENCE
    ]
    return float(np.mean([score < _LEAST_REFERENCE for score in hidden])) > _MOST_FAILED


_Table = dict[tuple[str, str, str], list[list[float]]]
"""Listeners by trials, for each question and pair of systems."""


def _scores(key: Mapping[str, Any], answers: Sequence[Answers]) -> _Table:
    columns: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {}
    for trial in key["trials"]:
        for question in trial["questions"]:
            for label, name in trial["stimuli"].items():
                columns.setdefault((question, name, ""), []).append(
                    (trial["trial"], label, question)
                )
    return {
        what: [[float(a.values[place]) for place in places] for a in answers]
        for what, places in sorted(columns.items())
    }


def _preferences(key: Mapping[str, Any], answers: Sequence[Answers]) -> _Table:
    columns: dict[tuple[str, str, str], list[tuple[tuple[str, str, str], str]]] = {}
    for trial in key["trials"]:
        label_of = {name: label for label, name in trial["stimuli"].items()}
        first, second = sorted(label_of)
        for question in trial["questions"]:
            columns.setdefault((question, first, second), []).append(
                ((trial["trial"], "", question), label_of[first])
            )
    return {
        what: [
            [0.5 if a.values[p] == "" else float(a.values[p] == label) for p, label in places]
            for a in answers
        ]
        for what, places in sorted(columns.items())
    }


def _resampled(table_LT: NDArray[np.float64]) -> Estimate:
    """Mean over listeners and trials; both are resampled with replacement."""
    rng = np.random.default_rng(0)
    listeners, trials = table_LT.shape
    means = [
        table_LT[
            np.ix_(rng.integers(listeners, size=listeners), rng.integers(trials, size=trials))
        ].mean()
        for _ in range(NUM_RESAMPLES)
    ]
    return Estimate(
        value=float(table_LT.mean()),
        low=float(np.quantile(means, 0.025)),
        high=float(np.quantile(means, 0.975)),
        num_clips=trials,
    )


def as_text(result: ListeningResult) -> str:
    """Format as a Markdown table."""
    lines = [
        f"{len(result.listeners)} listeners: {', '.join(result.listeners)}",
        "",
        "| question | system | result | 95 % | clips |",
        "|---|---|---|---|---|",
    ]
    for rating in result.ratings:
        name = f"{rating.system} preferred to {rating.against}" if rating.against else rating.system
        e = rating.estimate
        digits = 2 if rating.against else 1
        lines.append(
            f"| {rating.question} | {name} | {e.value:.{digits}f} | [{e.low:.{digits}f}, "
            f"{e.high:.{digits}f}] | {e.num_clips} |"
        )
    if result.rankings:
        lines += [
            "",
            "| question | rank | system | Elo | 95 % | won | of |",
            "|---|---|---|---|---|---|---|",
        ]
    for question, ranked in result.rankings.items():
        for r in ranked:
            e = r.strength
            lines.append(
                f"| {question} | {r.rank} | {r.system} | {e.value:+.0f} | [{e.low:+.0f}, "
                f"{e.high:+.0f}] | {r.wins:g} | {r.num_comparisons} |"
            )
    if result.left_out:
        lines += [
            "",
            f"Left out, since they missed the hidden reference: {', '.join(result.left_out)}",
        ]
    return "\n".join(lines)
