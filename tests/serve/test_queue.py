"""The queue's laws: nobody waits for another client's whole heap."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from omni2sound.serve.bodies import Job
from omni2sound.serve.queue import Queue
from omni2sound.serve.store import Record


def _record(serial: int, client: str) -> Record:
    job = Job(id=f"{serial:032x}", kind="generate", state="waiting", created=0.0, request={})
    return Record(job=job, client=client, serial=serial)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30))
def test_clients_take_turns_and_each_keeps_its_order(clients: list[str]) -> None:
    queue = Queue()
    records = [_record(serial, client) for serial, client in enumerate(clients)]
    for record in records:
        queue.put(record)
    told = queue.order()
    taken = [queue.take() for _ in records]
    assert taken == told
    assert len(queue) == 0
    for client in set(clients):
        own = [r for r in taken if r is not None and r.client == client]
        assert own == [r for r in records if r.client == client]
    left, served = Counter(clients), Counter[str]()
    for record in taken:
        assert record is not None
        others = [served[c] for c in left if left[c]]
        assert served[record.client] <= min(others)
        served[record.client] += 1
        left[record.client] -= 1


def test_a_client_that_comes_back_does_not_overtake_who_waits() -> None:
    queue = Queue()
    for record in (_record(0, "a"), _record(1, "b"), _record(2, "b")):
        queue.put(record)
    assert queue.take() is not None
    queue.put(_record(3, "a"))
    taken = [queue.take() for _ in range(3)]
    assert [record.client for record in taken if record] == ["b", "a", "b"]


def test_a_removed_job_is_not_taken_and_a_closed_queue_gives_none() -> None:
    queue, first, second = Queue(), _record(0, "a"), _record(1, "a")
    queue.put(first)
    queue.put(second)
    assert queue.remove(first)
    assert not queue.remove(first)
    assert queue.take() is second
    queue.close()
    assert queue.take() is None
