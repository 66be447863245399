"""The store of steps: what it counts by itself is what its records say."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.annotate import StepStore
from omni2sound.annotate.records import (
    Caption,
    Decision,
    Ending,
    Failure,
    Perception,
    Record,
    Verdict,
)
from omni2sound.annotate.steps import Found, outcome_of

STEPS = ("perceive", "route", "junior", "post-hoc", "validate", "end")
texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(Caption, text=texts),
    st.builds(Perception, duration_s=st.just(1.0), similarity=st.none(), sound=texts),
    st.builds(Verdict, plausible=st.booleans(), reason=texts),
    st.builds(Failure, kind=st.sampled_from(["media", "cut"]), reason=texts),
    st.builds(Ending, end=st.sampled_from(["kept", "dropped", "failed"]), steps=st.just(())),
    st.builds(
        Decision,
        outcome=st.sampled_from(["keep", "drop", "escalate"]),
        reasons=st.tuples(texts),
        rule=st.sampled_from([None, "sentence", "event"]),
    ),
)
stored = st.dictionaries(st.tuples(st.sampled_from("abcde"), st.sampled_from(STEPS)), records)


def forget_outcomes(path: Path) -> None:
    """Make the file one of an earlier release."""
    with closing(sqlite3.connect(path)) as db:
        for index in ("outcomes", "ended"):
            db.execute(f"DROP INDEX {index}")
        for column in ("outcome", "stamp"):
            db.execute(f"ALTER TABLE steps DROP COLUMN {column}")
        db.commit()


@settings(max_examples=12, deadline=None)
@given(stored)
def test_counts_and_failures_are_those_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, found: dict[tuple[str, str], Record]
) -> None:
    path = tmp_path_factory.mktemp("store") / "steps.sqlite"
    with StepStore.open(path) as store:
        store.put_all([(s, Found(clip=c, key="k", record=r)) for (c, s), r in found.items()])
        counts, failed = store.outcomes(), list(store.failures())
    assert counts == Counter((step, outcome_of(record)) for (_, step), record in found.items())
    forget_outcomes(path)
    for read_only in (True, False):  # computed where it is asked for, then written
        with StepStore.open(path, read_only=read_only) as store:
            assert store.outcomes() == counts
            assert list(store.failures()) == failed
    ended = {c for (c, s), r in found.items() if s == "end" and outcome_of(r) == "failed"}
    assert failed == sorted(
        (c, s, r) for (c, s), r in found.items() if isinstance(r, Failure) and c in ended
    )


def test_counts_read_the_index_alone_and_old_stores_get_it(tmp_path: Path) -> None:
    path = tmp_path / "steps.sqlite"
    with StepStore.open(path) as store:
        store.put("end", [Found(clip="a", key="k", record=Ending(end="kept", steps=()))])
    forget_outcomes(path)
    with StepStore.open(path) as store:
        seen: list[str] = []
        store._db.set_trace_callback(seen.append)
        assert store.outcomes() == {("end", "kept"): 1}
        assert store.pace("end")[0] == 1
        assert store.ended(["a", "b"]) == {"a": ("kept", "")}
        for query in seen:
            plan = store._db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
            assert any("USING COVERING INDEX" in line for *_, line in plan), plan
