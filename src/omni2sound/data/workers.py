"""Maps jobs to workers: in this process, in several, or on a Ray cluster.

In:   a function of one job (both importable by name), jobs as plain data.
Out:  its results, in the order of completion or of the jobs.

A Ray started here listens on the machine's network addresses, whatever its settings: use it on
trusted machines and networks only.

What not to get wrong: the engine changes speed, never a result. So every job runs with one thread,
with any engine and number of workers: with another number of threads torch sums in another order,
and the last bits differ.
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import Synchronized
from typing import Literal, TypeVar

from omni2sound.errors import MissingPartError, Omni2SoundError, UserError
from omni2sound.plugins import PLUGINS_VARIABLE, load_plugins
from omni2sound.runtime import one_thread

_log = logging.getLogger(__name__)

EngineName = Literal["local", "ray"]
Job = TypeVar("Job")
Result = TypeVar("Result")

_IN_FLIGHT = 4
"""Jobs in flight per worker, so that none waits for its next one."""
_RAY_OBJECT_STORE_BYTES = 100 * 2**20
"""Results are small records; Ray's default is 30 % of the machine's memory."""


def default_workers() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Share:
    """The jobs of one of several commands that do the same work: every `of`-th.

    Attributes:
        number: From 1 to `of`.
        of: Number of commands.

    Raises:
        UserError: If the number is out of range.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UserError(
                f"expected I/N with I from 1 to N, got {self.number}/{self.of}", field="shard"
            )

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read "I/N"."""
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal()):
            raise UserError(f"expected I/N, as 3/16, got {text!r}", field="shard")
        return cls(int(number), int(of))

    def takes(self, place: int) -> bool:
        """Whether it does the job at a place, counted from 0."""
        return place % self.of == self.number - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """What runs jobs, and how many at a time; changes speed, never a result.

    Attributes:
        engine: "local": this process with one worker, otherwise processes. "ray": the cluster
            that the environment variable `RAY_ADDRESS` names, or one started here.
        count: Jobs at a time on this machine; a cluster decides for itself.
        gpus: CUDA devices, which processes take in turn: each sees one. Tasks of Ray ask for a GPU,
            or for their share where a machine has fewer than `count`.

    Raises:
        UserError: If the count is below 1.
    """

    engine: EngineName = "local"
    count: int = 1
    gpus: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"expected 1 or more, got {self.count}", field="count")

    def map(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Do every job once; results come in the order of completion.

        Args:
            function: A function at a module's top level, or a `partial` of one.
            jobs: Its arguments.

        Raises:
            MissingPartError: If Ray is needed and not installed.
            UserError: If a worker process died.
        """
        if self.engine == "ray":
            return _on_ray(function, jobs, self.count, len(self.gpus))
        work = partial(_run_single_threaded, function)
        if self.count == 1 or (len(jobs) < 2 and _kept is None):
            return map(work, jobs)
        return _in_processes(work, jobs, self.count, self.gpus)

    def map_in_order(
        self,
        function: Callable[[Job], Result],
        jobs: Sequence[Job],
        *,
        on_job: Callable[[int, int], None] | None = None,
    ) -> list[Result]:
        """Do every job once, as `map` does, and return the results in the order of the jobs.

        Args:
            function: As for `map`.
            jobs: As for `map`.
            on_job: Called with (jobs done, jobs in all).
        """
        found: dict[int, Result] = {}
        for place, result in self.map(partial(_run_numbered, function), list(enumerate(jobs))):
            found[place] = result
            if on_job is not None:
                on_job(len(found), len(jobs))
        return [found[place] for place in range(len(jobs))]


def _run_numbered(
    function: Callable[[Job], Result], numbered: tuple[int, Job]
) -> tuple[int, Result]:
    place, job = numbered
    return place, function(job)


def _run_single_threaded(function: Callable[[Job], Result], job: Job) -> Result:
    with one_thread():
        return function(job)


class _Kept:
    """Workers that are reused from one `Workers.map` to the next."""

    def __init__(self) -> None:
        self.pools: dict[tuple[int, tuple[str, ...]], ProcessPoolExecutor] = {}
        self.ray = False


_kept: _Kept | None = None


@contextmanager
def kept_workers() -> Iterator[None]:
    """Keep workers (processes, or Ray) until it ends: each start imports torch and loads models."""
    global _kept
    if _kept is not None:
        yield
        return
    _kept = _Kept()
    try:
        yield
    finally:
        kept, _kept = _kept, None
        for pool in kept.pools.values():
            pool.shutdown(cancel_futures=True)
        if kept.ray:
            import ray

            ray.shutdown()


@contextmanager
def _pool(num_workers: int, gpus: tuple[str, ...]) -> Iterator[ProcessPoolExecutor]:
    if _kept is not None and (num_workers, gpus) in _kept.pools:
        yield _kept.pools[num_workers, gpus]
        return
    # Spawned, not forked: a fork of a process in which torch has run threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=context,
        initializer=_start_worker,
        initargs=(gpus, context.Value("i", 0)),
    )
    if _kept is not None:
        _kept.pools[num_workers, gpus] = pool
        yield pool
        return
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _in_processes(
    work: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int, gpus: tuple[str, ...]
) -> Iterator[Result]:
    running: set[Future[Result]] = set()
    try:
        with _pool(num_workers, gpus) as pool:
            # A few at a time: all at once, with their results, would be held until the end.
            for job in jobs:
                running.add(pool.submit(work, job))
                if len(running) >= _IN_FLIGHT * num_workers:
                    done, running = wait_for(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            for future in as_completed(running):
                yield future.result()
    except BrokenProcessPool:
        if _kept is not None:
            _kept.pools.pop((num_workers, gpus), None)
        raise UserError(
            "a worker process died, perhaps for lack of memory; try a smaller `num_workers` "
            "(finished jobs are kept)"
        ) from None
    finally:
        for future in running:
            future.cancel()


def _start_worker(gpus: tuple[str, ...], started: Synchronized[int]) -> None:
    if gpus:
        with started.get_lock():
            number, started.value = started.value, started.value + 1
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]  # before CUDA starts here
    load_plugins()  # before the first job: it may hold objects of a plugin's classes
    # A worker whose parent was killed would wait for its next job forever.
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers only

    def leave() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def _on_ray(
    function: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int, num_gpus: int
) -> Iterator[Result]:
    if importlib.util.find_spec("ray") is None:
        raise MissingPartError("Ray is not installed; run: pip install 'omni2sound[scale]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
    import ray

    environment = None
    if plugins := os.environ.get(PLUGINS_VARIABLE):
        environment = {
            "env_vars": {PLUGINS_VARIABLE: plugins},
            "worker_process_setup_hook": "omni2sound.plugins.load_plugins",
        }
    if ray.is_initialized():
        pass  # kept from an earlier call
    elif address := os.environ.get("RAY_ADDRESS"):
        ray.init(address=address, log_to_driver=False, runtime_env=environment)
    else:
        ray.init(
            runtime_env=environment,
            num_cpus=num_workers,
            num_gpus=num_gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_RAY_OBJECT_STORE_BYTES,
        )
    in_flight = 2 * int(ray.cluster_resources().get("CPU", num_workers))
    if _kept is not None:
        _kept.ray = True
    try:
        share = 1 if os.environ.get("RAY_ADDRESS") else min(1.0, num_gpus / num_workers)
        remote = ray.remote(num_cpus=1, num_gpus=share if num_gpus else 0)(_run_single_threaded)
        waiting = iter(jobs)
        running = [remote.remote(function, job) for job in islice(waiting, in_flight)]
        while running:
            done, running = ray.wait(running)
            yield ray.get(done[0])
            running += [remote.remote(function, job) for job in islice(waiting, 1)]
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, Omni2SoundError | OSError):
            raise cause from None
        raise
    except ray.exceptions.WorkerCrashedError:
        raise UserError(
            "a Ray worker died, perhaps for lack of memory (finished jobs are kept)"
        ) from None
    finally:
        if _kept is None:
            ray.shutdown()
