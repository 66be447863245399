"""One way to do many jobs: every job once, whatever the workers, and no more of them than asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

from omni2sound.data.workers import Workers, kept_workers
from omni2sound.errors import UserError

pytestmark = pytest.mark.slow


def doubled(job: int) -> tuple[int, int]:
    return 2 * job, os.getpid()


def gpu_seen(job: int) -> tuple[int, str]:
    return job, os.environ["CUDA_VISIBLE_DEVICES"]


def fatal(job: int) -> int:
    if job == 3:
        os._exit(1)
    return job


class Counted(Sequence[int]):
    """Jobs that say how many were taken."""

    taken = 0

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        return at

    def __iter__(self) -> Iterator[int]:
        for job in range(self._count):
            self.taken += 1
            yield job


def test_every_job_is_done_once() -> None:
    assert sorted(r for r, _ in Workers(count=2).map(doubled, range(30))) == list(range(0, 60, 2))
    assert [r for r, _ in Workers().map(doubled, range(3))] == [0, 2, 4]


def test_processes_take_gpus_in_turn() -> None:
    seen = dict(Workers(count=2, gpus=("3", "GPU-5")).map(gpu_seen, range(40)))
    assert sorted(seen) == list(range(40))
    assert set(seen.values()) == {"3", "GPU-5"}


def test_jobs_wait_their_turn_outside() -> None:
    jobs = Counted(200)
    results = Workers(count=2).map(doubled, jobs)
    next(results)
    assert jobs.taken < 20  # the others are neither handed out nor are their results held
    assert len(list(results)) == 199


def test_kept_workers_serve_the_next_call_and_then_go() -> None:
    with kept_workers():
        first = {pid for _, pid in Workers(count=2).map(doubled, range(8))}
        again = {pid for _, pid in Workers(count=2).map(doubled, range(8))}
    assert len(first | again) <= 2 and os.getpid() not in first
    after = {pid for _, pid in Workers(count=2).map(doubled, range(8))}
    assert not after & (first | again)


def test_a_worker_that_died_is_told_and_replaced() -> None:
    with kept_workers():
        with pytest.raises(UserError, match="worker process died"):
            list(Workers(count=2).map(fatal, range(6)))
        assert len(list(Workers(count=2).map(doubled, range(6)))) == 6
