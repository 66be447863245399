"""Cost of a run, and its cost with the senior for every clip.

In:   a run's folder: its steps, the CPU time of its jobs, its calls.
Out:  `Costs`, for CPU time and for money.

"Senior for all" has no junior and no hand-off; routing, pictures and filters are the same. Its
price is the mean over the escalated clips, an overestimate if hard clips take longer. CPU time
is reported only where each stored result was computed and counted once: results copied from another
run or computed twice would give a wrong ratio.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from omni2sound.annotate.runs import CALLS_FILE
from omni2sound.annotate.steps import STEPS_FILE, StepStore
from omni2sound.llm import CallStore

__all__ = ["Costs", "costs_of"]


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


def costs_of(folder: Path) -> dict[str, Costs]:
    """Return costs by unit, "CPU s" and "USD", where they were measured."""
    with StepStore.open(folder / STEPS_FILE, read_only=True) as store:
        counts, effort = store.counts(), store.effort()
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
