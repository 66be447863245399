from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from omni2sound.annotate.executor import Effort, Executor
from omni2sound.annotate.records import Caption, Perception, SeniorCaption
from omni2sound.annotate.report.status import costs_of
from omni2sound.annotate.steps import STEPS_FILE, Found, StepStore


def test_the_senior_for_all_costs_its_mean_times_all_clips(tmp_path: Path) -> None:
    caption = Caption(text="A dog barks.")
    senior = SeniorCaption(caption=caption, turns=())
    heard = Perception(duration_s=1.0, similarity=None, sound="")
    for part in range(2):  # a run that was stopped and goes on counts on
        with StepStore.open(tmp_path / STEPS_FILE) as store:
            names = [f"c{i}" for i in range(5 * part, 5 * part + 5)]
            store.pending_effort["perceive"] = Effort(jobs=5, cpu_s=2.0)
            store.put("perceive", [Found(clip=c, key="k", record=heard) for c in names])
            store.pending_effort["score_captions"] = Effort(jobs=1, cpu_s=1.0)
            store.put("junior", [Found(clip=c, key="k", record=caption) for c in names])
            store.pending_effort["listen_finely"] = Effort(jobs=1, cpu_s=1.5)
            store.put("senior", [Found(clip=names[0], key="k", record=senior)])
            assert not store.pending_effort
            store.put("senior", [])  # nothing is counted twice
    costs = costs_of(tmp_path)["CPU s"]
    assert (costs.clips, costs.escalated) == (10, 2)
    assert costs.spent == pytest.approx(9)
    # Perception and the scores of the filter stay, the scores of the hand-off go.
    assert costs.senior_for_all == pytest.approx(4 + 1 + 3 / 2 * 10)
    assert costs.ratio == pytest.approx(20 / 9)
    # Where jobs and results don't agree, no ratio is told.
    with StepStore.open(tmp_path / STEPS_FILE) as store:
        store.put("senior", [Found(clip="c9", key="k", record=senior)])
    assert costs_of(tmp_path) == {}


def test_results_and_what_they_took_are_kept_together(tmp_path: Path) -> None:
    def failing() -> Iterator[Found]:
        raise RuntimeError("power cut")
        yield

    with StepStore.open(tmp_path / STEPS_FILE) as store:
        executor = Executor(effort=store.pending_effort)

        async def work() -> None:
            async for _ in executor.map(len, ["a", "b"]):
                pass

        asyncio.run(work())
        with pytest.raises(RuntimeError):
            store.put("junior", failing())
        assert store.effort() == {}
        store.put("junior", [Found(clip="c", key="k", record=Caption(text="A dog."))])
        assert store.effort()["len"][0] == 2


def test_a_store_of_the_first_version_is_read_on(tmp_path: Path) -> None:
    with StepStore.open(tmp_path / STEPS_FILE) as store:
        store.put("junior", [Found(clip="c", key="k", record=Caption(text="A dog."))])
        store._db.execute("DROP TABLE effort")
        store._db.execute("PRAGMA user_version=1")
    with StepStore.open(tmp_path / STEPS_FILE) as store:
        assert store.effort() == {}
        assert store.counts() == {"junior": 1}
