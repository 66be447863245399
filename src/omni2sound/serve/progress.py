"""Progress of a running job, and where it can be stopped.

In:   stages of `omni2sound.stages`, in the thread that works.
Out:  stage, share done and seconds left; `Stopped`, raised between steps once somebody wants that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omni2sound.stages import current_part

_SHARED = {"loading the model": 0.05, "looking at the video": 0.25, "encoding": 0.1}
"""Share of each stage that all takes of a job have in common."""
_OF_A_TAKE = {"generating": 0.8, "decoding": 0.1, "writing": 0.1}
"""Share of each stage in the work on one take."""
_SHARE_OF_SHARED = 0.4
_TOLD_EVERY_S = 0.1
_LEAST_KNOWN = 0.08
"""Share done from which the time left is estimated."""


class Stopped(BaseException):
    """The job was cancelled, or the server stops; no `except Exception` may catch it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a job is."""

    stage: str
    fraction: float
    seconds_left: float | None


@contextmanager
def stop_between_modules(is_stopped: Callable[[], bool]) -> Iterator[None]:
    """Raise `Stopped` in the block before the next module of any network once that is wanted.

    One step of a long sound takes seconds; one block of a network does not.
    """
    from torch.nn.modules.module import register_module_forward_pre_hook

    def look(*_: object) -> None:
        if is_stopped():
            raise Stopped

    hook = register_module_forward_pre_hook(look)
    try:
        yield
    finally:
        hook.remove()


class Watcher:
    """Listens to the stages of one job.

    Args:
        takes: Number of results.
        is_stopped: Asked at each step.
        tell: Called with news, at most ten times a second and at each new stage.
        whole: The stage that is all of the job. Default: those of making takes.
    """

    def __init__(
        self,
        takes: int,
        is_stopped: Callable[[], bool],
        tell: Callable[[Progress], None],
        *,
        whole: str | None = None,
    ) -> None:
        self._takes, self._is_stopped, self._tell = takes, is_stopped, tell
        self._whole = whole
        self._stage = "starting"
        self._done_takes = 0
        self._fraction = 0.0
        self._began_s = time.monotonic()
        self._told_s = 0.0

    def listen(self, stage: str | None, done: int, total: int) -> None:
        """Take news of the work.

        Raises:
            Stopped: Somebody wants the job to end.
        """
        if self._is_stopped():
            raise Stopped
        if stage is not None:
            self._stage = stage
        self._fraction = max(self._fraction, self._estimate(done / total if total else 0.0))
        now = time.monotonic()
        if stage is not None or now - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now
            self._tell(self.progress(now - self._began_s))

    def next_take(self) -> None:
        """Note that one take is done."""
        self._done_takes += 1

    def progress(self, elapsed_s: float) -> Progress:
        """How far the job is after a time."""
        left = None
        if self._fraction >= _LEAST_KNOWN and elapsed_s > 1:
            left = round(elapsed_s * (1 - self._fraction) / self._fraction, 1)
        return Progress(stage=self._stage, fraction=round(self._fraction, 4), seconds_left=left)

    def _estimate(self, share: float) -> float:
        if self._stage == self._whole:
            return share
        if self._stage in _OF_A_TAKE:
            own = _before(_OF_A_TAKE, self._stage, share)
            number, total = current_part()
            if total > 1:  # stems are written together
                made = _before(_OF_A_TAKE, "writing", 0)
                own = min(1.0, made * (number + own / made) / total)
            return _SHARE_OF_SHARED + (1 - _SHARE_OF_SHARED) * min(
                1.0, (self._done_takes + own) / self._takes
            )
        return _SHARE_OF_SHARED * _before(_SHARED, self._stage, share)


def _before(shares: dict[str, float], stage: str, share: float) -> float:
    """Share of all stages up to a point in one of them."""
    total = before = 0.0
    for name, part in shares.items():
        if name == stage:
            before = total + share * part
        total += part
    return before / total
