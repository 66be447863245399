"""The store: what it promises about answers, leases and money, whoever dies."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.llm import CallStore, ChatReply, Cost, Spend, Usage
from omni2sound.llm import schema as tables
from omni2sound.llm.store import Answered, Claim, GivenUp, Granted, Held, NoBudget, Outcome
from tests.llm.questions import MODEL, good, question

BOOKED = Cost(known_pusd=0, uncertain_pusd=1000)


def claim(store: CallStore, key: str = "k", cost: Cost | None = BOOKED, **limits: int) -> Claim:
    return store.claim(
        key,
        model=MODEL,
        request=question(label="clip-1"),
        cost=cost,
        **{"max_malformed": 3, "max_refused": 3, **limits},
    ).result()


def granted(store: CallStore, key: str = "k", cost: Cost | None = BOOKED) -> int:
    given = claim(store, key, cost)
    assert isinstance(given, Granted)
    return given.attempt


def pusd(spend: Spend) -> tuple[int, int, int]:
    return int(spend.known_usd * 10**12), int(spend.uncertain_usd * 10**12), spend.num_unpriced


def test_a_committed_answer_is_returned_and_never_granted_again(tmp_path: Path) -> None:
    reply = ChatReply(
        text="\ud83d \u00e9 \u0000 '; DROP TABLE call; --",
        usage=Usage(input_tokens=3, output_tokens=2, audio_input_tokens=1),
        finish="stop",
    )
    with CallStore.open(tmp_path / "c.sqlite") as store:
        cost = Cost(known_pusd=7)
        store.settle(granted(store), outcome="answered", cost=cost, reply=reply).result()
    with CallStore.open(tmp_path / "c.sqlite") as store:
        found = store.answer("k")
        assert found is not None and found.from_store
        assert (found.text, found.usage, found.finish) == (reply.text, reply.usage, "stop")
        assert claim(store) == Answered(reply=found)
        assert pusd(store.spend()) == (7, 0, 0)
        assert store.answer("other") is None


@pytest.mark.parametrize(
    ("outcome", "cost", "spend"),
    [
        ("answered", Cost(known_pusd=7), (7, 0, 0)),
        ("answered", Cost(known_pusd=7, uncertain_pusd=2), (7, 2, 0)),
        ("answered", None, (0, 0, 1)),
        ("malformed", Cost(known_pusd=7), (7, 0, 0)),
        ("refused", Cost(known_pusd=7), (7, 0, 0)),
        ("rejected", BOOKED, (0, 0, 0)),
        ("rejected", None, (0, 0, 0)),
        ("lost", BOOKED, (0, 1000, 0)),
        ("lost", None, (0, 0, 1)),
    ],
)
def test_a_send_is_booked_first_and_settled_to_what_it_cost(
    tmp_path: Path, outcome: Outcome, cost: Cost | None, spend: tuple[int, int, int]
) -> None:
    with CallStore.open(tmp_path / "c.sqlite") as store:
        attempt = granted(store)
        assert pusd(store.spend()) == (0, 1000, 0)
        store.settle(attempt, outcome=outcome, cost=cost, reply=good()).result()
        assert pusd(store.spend()) == spend
        (total,) = store.totals()
        assert (total.state, total.num, total.model) == (outcome, 1, MODEL)
        assert total.prompt_version == "test/1"
        assert pusd(total.spend) == spend


def test_only_answers_answer(tmp_path: Path) -> None:
    outcomes: tuple[Outcome, ...] = ("malformed", "refused", "rejected", "lost")
    with CallStore.open(tmp_path / "c.sqlite") as store:
        for outcome in outcomes:
            attempt = granted(store)
            store.settle(attempt, outcome=outcome, cost=BOOKED, reply=good()).result()
            assert store.answer("k") is None
        granted(store)


@pytest.mark.parametrize("reason", ["malformed", "refused"])
def test_a_question_is_given_up_after_so_many_bad_ends_in_all_runs(
    tmp_path: Path, reason: Outcome
) -> None:
    for number in range(2):
        with CallStore.open(tmp_path / "c.sqlite") as store:
            store.settle(
                granted(store), outcome=reason, cost=BOOKED, detail=f"no {number}"
            ).result()
    with CallStore.open(tmp_path / "c.sqlite") as store:
        given_up = GivenUp(reason=reason, num=2, detail="no 1")  # type: ignore[arg-type]
        assert claim(store, **{f"max_{reason}": 2}) == given_up
        assert isinstance(claim(store, **{f"max_{reason}": 3}), Granted)


def test_a_budget_is_never_overbooked(tmp_path: Path) -> None:
    with CallStore.open(tmp_path / "c.sqlite", budget_usd=Decimal("2500e-12")) as store:
        first = granted(store, "a")
        granted(store, "b")
        refused = claim(store, "c")
        assert isinstance(refused, NoBudget) and pusd(refused.spend) == (0, 2000, 0)
        assert isinstance(claim(store, "c", cost=None), NoBudget)
        store.settle(first, outcome="answered", cost=Cost(known_pusd=100), reply=good()).result()
        granted(store, "c")
    # The budget is the store's, not the process's.
    with CallStore.open(tmp_path / "c.sqlite", budget_usd=Decimal("2500e-12")) as store:
        assert isinstance(claim(store, "d"), NoBudget)
        assert isinstance(claim(store, "a"), Answered)
    with CallStore.open(tmp_path / "c.sqlite") as store:
        granted(store, "d")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["answered", "malformed", "refused", "rejected", "lost", None]),
            st.none() | st.tuples(st.integers(0, 10**15), st.integers(0, 10**15)),
        ),
        max_size=12,
    )
)
def test_the_sums_are_those_of_the_rows(tmp_path_factory: Any, ends: list[Any]) -> None:
    path = tmp_path_factory.mktemp("sums") / "c.sqlite"
    with CallStore.open(path) as store:
        for number, (outcome, amounts) in enumerate(ends):
            attempt = (
                granted(store, str(number % 5)) if store.answer(str(number % 5)) is None else 0
            )
            if attempt and outcome is not None:
                cost = (
                    None
                    if amounts is None
                    else Cost(known_pusd=amounts[0], uncertain_pusd=amounts[1])
                )
                store.settle(attempt, outcome=outcome, cost=cost, reply=good()).result()
        db = sqlite3.connect(path)
        rows = db.execute(
            "SELECT ifnull(sum(known_pusd), 0), ifnull(sum(uncertain_pusd), 0),"
            " ifnull(sum(known_pusd IS NULL), 0), count(*) FROM attempt"
        ).fetchone()
        db.close()
        assert (*pusd(store.spend()), sum(total.num for total in store.totals())) == rows


def test_text_that_is_not_unicode_is_kept_as_far_as_it_goes(tmp_path: Path) -> None:
    """File names and JSON escapes can hold half a character; SQLite cannot."""
    with CallStore.open(tmp_path / "c.sqlite") as store:
        given = store.claim(
            "k",
            model=MODEL,
            request=question(label="clip-\udcff"),
            cost=BOOKED,
            max_malformed=1,
            max_refused=1,
        ).result()
        assert isinstance(given, Granted)
        store.settle(given.attempt, outcome="refused", cost=BOOKED, detail="no \ud83d").result()
        assert claim(store, max_refused=1) == GivenUp(reason="refused", num=1, detail="no \\ud83d")


def test_two_who_ask_the_same_are_not_both_granted(tmp_path: Path) -> None:
    with CallStore.open(tmp_path / "c.sqlite") as one, CallStore.open(tmp_path / "c.sqlite") as two:
        attempt = granted(one)
        assert claim(two) == Held()
        one.settle(attempt, outcome="lost", cost=BOOKED).result()
        granted(two)
        assert claim(one) == Held()


def test_of_many_who_ask_at_once_one_is_granted(tmp_path: Path) -> None:
    stores = [CallStore.open(tmp_path / "c.sqlite") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        claims = list(pool.map(claim, stores))
    for store in stores:
        store.close()
    assert sorted(type(each).__name__ for each in claims) == ["Granted", "Held", "Held", "Held"]


HOLDER = """
import sys, time
from pathlib import Path
from tests.llm.test_store import granted
from omni2sound.llm import CallStore
store = CallStore.open(Path(sys.argv[1]))
granted(store)
print("granted", flush=True)
time.sleep(600)
"""


def test_a_lease_ends_with_its_process_and_the_money_stays_booked(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "c.sqlite")]
    paths = f"{root / 'src'}{os.pathsep}{root}"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "granted\n"
        with CallStore.open(tmp_path / "c.sqlite") as store:
            assert claim(store) == Held()
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            granted(store)
            assert pusd(store.spend()) == (0, 2000, 0)
            assert {total.state: total.num for total in store.totals()} == {"lost": 1, "sent": 1}
    assert list((tmp_path / "c.sqlite.owners").iterdir()) == []


def test_what_is_open_when_a_store_closes_is_lost_not_forgotten(tmp_path: Path) -> None:
    with CallStore.open(tmp_path / "c.sqlite") as store:
        granted(store)
    store.close()  # twice is once
    with CallStore.open(tmp_path / "c.sqlite") as store:
        assert [total.state for total in store.totals()] == ["lost"]
        assert pusd(store.spend()) == (0, 1000, 0)


def test_commits_are_flushed_to_disk(tmp_path: Path) -> None:
    with CallStore.open(tmp_path / "c.sqlite") as store:
        assert store._writer.submit(
            lambda db: [
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "foreign_keys")
            ]
        ).result() == ["wal", 1]
        # Inside a transaction this pragma can't be changed, but it can be read.
        assert (
            store._writer.submit(lambda db: db.execute("PRAGMA synchronous").fetchone()[0]).result()
            == 2
        )  # FULL


def test_a_failed_job_takes_nobody_with_it(tmp_path: Path) -> None:
    def half(db: sqlite3.Connection) -> None:
        db.execute("UPDATE call SET answer = NULL")
        raise ValueError("half done")

    with CallStore.open(tmp_path / "c.sqlite") as store:
        attempt = granted(store)
        settled = store.settle(attempt, outcome="answered", cost=BOOKED, reply=good())
        broken = store._writer.submit(half)
        with pytest.raises(ValueError, match="half done"):
            broken.result()
        settled.result()
        assert store.answer("k") is not None


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and long enough to be read as one" * 10)
    db = sqlite3.connect(tmp_path / "other.sqlite")
    db.execute("CREATE TABLE mine (a)")
    db.commit()
    db.close()
    for name in ("text", "other.sqlite"):
        with pytest.raises(UserError, match="expected a call store"):
            CallStore.open(tmp_path / name)
    with pytest.raises(UserError, match="create it first"):
        CallStore.open(tmp_path / "none" / "c.sqlite")
    for budget in ("-1", "NaN", "Infinity"):
        with pytest.raises(UserError, match="expected 0 or more"):
            CallStore.open(tmp_path / "c.sqlite", budget_usd=Decimal(budget))
    db = sqlite3.connect(tmp_path / "other.sqlite")
    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    db.close()


def test_an_older_file_becomes_a_newer_one_and_keeps_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CallStore.open(tmp_path / "c.sqlite") as store:
        store.settle(
            granted(store), outcome="answered", cost=Cost(known_pusd=7), reply=good()
        ).result()
    later = (*tables.MIGRATIONS, ("ALTER TABLE call ADD COLUMN note TEXT DEFAULT 'x'",))
    monkeypatch.setattr(tables, "MIGRATIONS", later)
    with CallStore.open(tmp_path / "c.sqlite") as store:
        assert store.answer("k") is not None
        assert pusd(store.spend()) == (7, 0, 0)
        notes = store._writer.submit(lambda db: db.execute("SELECT note FROM call").fetchall())
        assert notes.result() == [("x",)]
    monkeypatch.undo()
    with pytest.raises(UserError, match="a later version of omni2sound made it"):
        CallStore.open(tmp_path / "c.sqlite")


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CallStore.open(tmp_path / "c.sqlite") as store:
        granted(store)
    broken = ("ALTER TABLE call ADD COLUMN note TEXT", "ALTER TABLE absent ADD COLUMN a")
    monkeypatch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, broken))
    with pytest.raises(UserError, match="no such table: absent"):
        CallStore.open(tmp_path / "c.sqlite")
    monkeypatch.undo()
    with CallStore.open(tmp_path / "c.sqlite") as store:
        columns = store._writer.submit(lambda db: db.execute("PRAGMA table_info(call)").fetchall())
        assert "note" not in {column[1] for column in columns.result()}
        granted(store)
