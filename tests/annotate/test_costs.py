from __future__ import annotations

from pathlib import Path

import pytest

from omni2sound.annotate.costs import costs_of
from omni2sound.annotate.records import Caption, SeniorCaption
from omni2sound.annotate.steps import STEPS_FILE, Found, StepStore


def test_the_senior_for_all_costs_its_mean_times_all_clips(tmp_path: Path) -> None:
    caption = Caption(text="A dog barks.")
    for _ in range(2):  # a run that was stopped and goes on counts on
        with StepStore.open(tmp_path / STEPS_FILE) as store:
            store.put("junior", [Found(clip=f"c{i}", key="k", record=caption) for i in range(10)])
            senior = SeniorCaption(caption=caption, turns=())
            store.put("senior", [Found(clip=f"c{i}", key="k", record=senior) for i in range(2)])
            for job, cpu_s in (("perceive", 2.0), ("score_captions", 1.0), ("listen_finely", 1.5)):
                store.add_effort(job, 5, cpu_s)
    costs = costs_of(tmp_path)["CPU s"]
    assert (costs.clips, costs.escalated) == (10, 2)
    assert costs.spent == pytest.approx(9)
    # Perception and the scores of the filter stay, the scores of the hand-off go.
    assert costs.senior_for_all == pytest.approx(4 + 1 + 3 / 2 * 10)
    assert costs.ratio == pytest.approx(20 / 9)


def test_a_store_of_the_first_version_is_read_on(tmp_path: Path) -> None:
    with StepStore.open(tmp_path / STEPS_FILE) as store:
        store.put("junior", [Found(clip="c", key="k", record=Caption(text="A dog."))])
        store._db.execute("DROP TABLE effort")
        store._db.execute("PRAGMA user_version=1")
    with StepStore.open(tmp_path / STEPS_FILE) as store:
        assert store.effort() == {}
        assert store.counts() == {"junior": 1}
