"""Progress and cost of a run.

In:   a run's folder, also while a run writes to it.
Out:  counts, money, speed, time left; `Costs`, also with the senior for every clip.

"Senior for all" has no junior and no hand-off; routing, pictures and filters are the same. Its
price is the mean over the escalated clips, an overestimate if hard clips take longer. CPU time
is reported only where each stored result was computed and counted once: results copied from
another run or computed twice would give a wrong ratio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni2sound.annotate.records import Caption, Record, SeniorCaption
from omni2sound.annotate.runs import CALLS_FILE, RunSettings
from omni2sound.annotate.steps import STEPS_FILE, StepStore
from omni2sound.llm import CallStore

_LEAST_S = 2.0
"""A shorter time of ended clips gives no rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Costs in CPU seconds or USD."""

    clips: int
    """Captioned clips."""
    escalated: int
    shared: float
    """Perception, pictures and filters, which both variants need."""
    junior: float
    """Junior and the scores for the hand-off."""
    senior: float

    @property
    def spent(self) -> float:
        """Total."""
        return self.shared + self.junior + self.senior

    @property
    def senior_for_all(self) -> float | None:
        """Total with the senior for every clip; None if the senior was never asked."""
        if not self.escalated:
            return None
        return self.shared + self.senior / self.escalated * self.clips

    @property
    def ratio(self) -> float | None:
        """Cost of the senior for all relative to the total; None if the senior cost nothing."""
        other = self.senior_for_all
        return other / self.spent if other is not None and self.senior > 0 else None


def costs_of(folder: Path, counts: Mapping[str, int] | None = None) -> dict[str, Costs]:
    """Return costs by unit, "CPU s" and "USD", where they were measured.

    Args:
        folder: Folder of a run.
        counts: Number of results by step, if they have been counted.
    """
    with StepStore.open(folder / STEPS_FILE, read_only=True) as store:
        counts, effort = store.counts() if counts is None else counts, store.effort()
    clips, escalated = counts.get("junior", 0), counts.get("senior", 0)
    found = {}
    cpu = {job: seconds for job, (_, seconds) in effort.items()}
    jobs = {job: num for job, (num, _) in effort.items()}
    counted_once = (
        jobs.get("perceive") == counts.get("perceive") and jobs.get("listen_finely", 0) == escalated
    )
    if cpu and counted_once:
        scores = cpu.get("score_captions", 0.0)
        found["CPU s"] = Costs(
            clips=clips,
            escalated=escalated,
            shared=cpu.get("perceive", 0.0) + scores / 2,  # scored before and after the senior
            junior=scores / 2,
            senior=cpu.get("listen_finely", 0.0),
        )
    if (folder / CALLS_FILE).is_file():
        with CallStore.open(folder / CALLS_FILE) as calls:
            usd: Counter[str] = Counter()
            for total in calls.totals():
                usd[total.prompt_version.partition("/")[0]] += float(total.spend.known_usd)  # type: ignore[assignment]
        if usd:
            found["USD"] = Costs(
                clips=clips,
                escalated=escalated,
                shared=usd["viewer"] + usd["validator"],
                junior=usd["junior"],
                senior=usd["senior"],
            )
    return found


def _wording(record: Record) -> str:
    """Return the outcome of rewording a caption; empty without a rewording model."""
    caption = record.caption if isinstance(record, SeniorCaption) else record
    return caption.wording.partition(":")[0] if isinstance(caption, Caption) else ""


def _by_outcome(counts: Mapping[tuple[str, str], int], step: str) -> Counter[str]:
    """Count a step's outcomes without their rules."""
    found: Counter[str] = Counter()
    for (name, outcome), num in counts.items():
        if name == step and not outcome.startswith("failure:"):
            found[outcome.partition(":")[0]] += num
    return found


def run_status(folder: Path) -> dict[str, Any]:
    """Return the progress as name -> value; None where it is unknown.

    Raises:
        UserError: The folder holds no run.
    """
    settings = RunSettings.read(folder)
    with StepStore.open(folder / STEPS_FILE, read_only=True) as store:
        counts = store.outcomes()
        wordings = Counter(
            _wording(record)
            for step in (("junior", "senior") if settings.wording != "template" else ())
            for record in store.records(step)
        )
        num_ended, seconds = store.pace("end")
        failed = Counter(failure.kind for _, _, failure in store.failures())
    ends, routes, handed = (_by_outcome(counts, step) for step in ("end", "route", "hand-off"))
    filtered = Counter(
        {
            outcome.partition(":")[2] or "a rule of an earlier release": num
            for (step, outcome), num in counts.items()
            if step == "post-hoc" and outcome.startswith("drop:")
        }
    )
    by_step: Counter[str] = Counter()
    for (step, _), num in counts.items():
        by_step[step] += num
    implausible = counts.get(("validate", "implausible"), 0)
    done = ends.total()
    per_hour = round(3600 * num_ended / seconds) if seconds >= _LEAST_S else None
    left = None if not per_hour else round((settings.num_clips - done) / per_hour, 2)
    known = uncertain = None
    if (folder / CALLS_FILE).is_file():
        with CallStore.open(folder / CALLS_FILE) as calls:
            spend = calls.spend()
        known, uncertain = (
            f"{usd.normalize():f}" for usd in (spend.known_usd, spend.uncertain_usd)
        )
    costs = {
        f"senior for all, {unit}": f"{c.senior_for_all:.4g}, not {c.spent:.4g}: {c.ratio:.2f}x"
        for unit, c in costs_of(folder, by_step).items()
        if c.ratio is not None
    }
    return {
        "clips": settings.num_clips,
        "ended": done,
        **{end: ends.get(end, 0) for end in ("kept", "dropped", "failed")},
        **{f"failed: {kind}": num for kind, num in sorted(failed.items())},
        **{f"routed {path}": routes.get(path, 0) for path in ("audio-visual", "audio-only")},
        "dropped by route": routes.get("drop", 0),
        "escalated": handed.get("escalate", 0),
        **{f"dropped by {rule}": filtered.pop(rule, 0) for rule in ("sentence", "music", "event")},
        **{f"dropped by {rule}": number for rule, number in filtered.items()},
        "dropped by validator": implausible,
        **(
            {}
            if settings.wording == "template"
            else {
                f"wording {name}": wordings.get(name, 0)
                for name in ("reworded", "unchanged", "refused")
            }
        ),
        "spent USD, known": known,
        "spent USD, perhaps more": uncertain,
        "clips per hour": per_hour,
        "hours left": left,
        **costs,
    }
