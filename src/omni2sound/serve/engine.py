"""The thread that has the device: takes jobs from the queue, one after another.

In:   records of jobs.
Out:  their results in the store, their states to whoever listens.

What not to get wrong: a state that a client may rely on is on disk before it is told. A job that
the server's end interrupted waits again after the next start, and with the seed that was drawn when
it was taken gives the same bytes; one that has ended the server three times fails.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.errors import Omni2SoundError, UserError
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.words.encoder import EncoderName
from omni2sound.serve.bodies import (
    BODIES,
    FINAL,
    EditBody,
    ExportBody,
    GenerateBody,
    Job,
    Problem,
    SeeBody,
    State,
    StemsBody,
    Take,
)
from omni2sound.serve.errors import NotFoundError
from omni2sound.serve.metrics import Metrics
from omni2sound.serve.progress import Progress, Stopped, Watcher, stop_between_modules
from omni2sound.serve.queue import Queue
from omni2sound.serve.store import Record, Store
from omni2sound.serve.work import stems
from omni2sound.serve.work.check import FIELDS
from omni2sound.serve.work.export import export
from omni2sound.serve.work.generate import edit, generate, see
from omni2sound.stages import listening

if TYPE_CHECKING:
    from omni2sound.generate.torch_pipeline import TorchPipeline

logger = logging.getLogger(__name__)

_MOST_ATTEMPTS = 3
_SWEEP_EVERY_S = 60.0
_OWN_NAME = re.compile(r"^(file|export|take-\d+)\.\w+: ")
"""What a file is called here means nothing to a client."""


class Engine:
    """The device and its queue.

    Args:
        store: Uploads and jobs.
        options: Model and device.
        changed: Called with the id of a job that has changed, from any thread.
        metrics: What is counted.
        warm: Load the model at start, not with the first job.
    """

    def __init__(
        self,
        store: Store,
        options: PipelineOptions,
        changed: Callable[[str], None],
        metrics: Metrics,
        *,
        warm: bool = True,
    ) -> None:
        self.store, self.options, self.metrics = store, options, metrics
        self.queue = Queue()
        self.failure: str | None = None
        """Why the model can't be loaded."""
        self.pipeline: TorchPipeline | None = None
        self._changed, self._warm = changed, warm
        self.ready = threading.Event()
        """Whether loading at start is over; `failure` says how."""
        if not warm:
            self.ready.set()
        self._stopping = threading.Event()
        self._running: Record | None = None
        self._lock = threading.RLock()
        """Of changes to jobs: clients and the device's thread make them."""
        self._threads = [
            threading.Thread(target=self._work, name="device", daemon=True),
            threading.Thread(target=self._sweep, name="sweep", daemon=True),
        ]

    # --- called by the server --------------------------------------------------------

    def start(self) -> None:
        """Take up what was waiting, and begin."""
        for record in reversed(self.store.records()):
            if record.job.state in FINAL:
                continue
            if record.attempts >= _MOST_ATTEMPTS:
                said = (
                    f"the server ended {record.attempts} times while it made this; not tried again"
                )
                self._end(record, "failed", error=Problem(message=said))
                continue
            self._set(record, state="waiting", stage=None, fraction=0.0, takes=[])
            self.queue.put(record)
        self._number()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread; the running job stops at its next step, and waits for the next start."""
        self._stopping.set()
        self.queue.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_s)
        if self._running is not None:  # in a step that can't be stopped
            self._give_back(self._running)

    @property
    def stopping(self) -> bool:
        """Whether no more jobs are taken."""
        return self._stopping.is_set()

    def submit(self, job: Job, client: str, *, temporary: bool = False) -> Record:
        """Take a job.

        Raises:
            UserError: The store is full.
        """
        record = self.store.add_job(job, client, temporary=temporary)
        self.metrics.accepted.labels(job.kind).inc()
        self.queue.put(record)
        self._number()
        return record

    def cancel(self, record: Record) -> None:
        """End a job: at once if it waits, at its next step if it runs."""
        record.cancel.set()
        if self.queue.remove(record):
            self._end(record, "cancelled")
            self._number()

    # --- the thread ------------------------------------------------------------------

    def _work(self) -> None:
        if self._warm:
            try:
                self._warm_up()
            except Exception as error:
                self.failure = one_line(error)
                logger.error("the model can't be loaded: %s", error)
            self.ready.set()
        while (record := self.queue.take()) is not None:
            self._number()
            self._run(record)

    def _warm_up(self) -> None:
        """Load what jobs need; while it loads, no job could be stopped."""
        pipeline = self._load()
        names: list[EncoderName] = ["text", "vision", "sync"]
        if pipeline.model.defaults.recognise:
            names += ["recogniser", "tagger"]
        for name in () if self.options.low_memory else names:
            with pipeline.encoder.use(name):
                pass

    def _load(self) -> TorchPipeline:
        if self.pipeline is None:
            try:
                self.pipeline = self.options.load_torch()  # to edit, too
            except Exception as error:
                self.failure = one_line(error)
                raise
            self.failure = None
        return self.pipeline

    def _run(self, record: Record) -> None:
        record.attempts += 1
        self._running = record
        self._set(record, state="running", position=None, stage="starting")
        began_s = time.monotonic()

        def is_stopped() -> bool:
            return record.cancel.is_set() or self._stopping.is_set()

        takes = record.job.request.get("takes", 1)
        watcher = Watcher(
            takes,
            is_stopped,
            lambda progress: self._tell(record, progress),
            whole="looking at the video" if record.job.kind == "see" else None,
        )
        try:
            with listening(watcher.listen), stop_between_modules(is_stopped):
                self._do(record, watcher)
        except Stopped:
            if record.cancel.is_set():
                self._end(record, "cancelled")
            else:
                self._give_back(record)
        except NotFoundError as error:
            said = f"the {error} that it needs was deleted"
            self._end(record, "failed", error=Problem(message=said))
        except (Omni2SoundError, OSError, MemoryError) as error:
            self._end(record, "failed", error=problem_of(error, self.store.folder))
        except Exception:
            logger.exception("job %s", record.job.id)
            said = "the server made a mistake; its log says which"
            self._end(record, "failed", error=Problem(message=said))
        else:
            if record.cancel.is_set():  # it came too late to stop anything
                self._end(record, "cancelled")
            else:
                self._end(record, "done", fraction=1.0)
        finally:
            self._running = None
            self.metrics.seconds.labels(record.job.kind).observe(time.monotonic() - began_s)

    def _give_back(self, record: Record) -> None:
        """Let a job wait for the next start: that the server stops is no failure of the job."""
        with self._lock:
            if record.job.state == "running":
                record.attempts -= 1
                self._set(record, state="waiting", stage=None, fraction=0.0, takes=[])

    def _do(self, record: Record, watcher: Watcher) -> None:
        body = BODIES.validate_python(record.job.request, strict=False)
        job_id = record.job.id

        def done(take: Take) -> None:
            watcher.next_take()
            notes = [n for n in take.notes if n not in record.job.notes]
            self._set(record, takes=[*record.job.takes, take], notes=[*record.job.notes, *notes])

        if isinstance(body, ExportBody):
            self._set(record, file=export(self.store, job_id, body))
            return
        pipeline = self._load()
        if isinstance(body, GenerateBody):
            generate(pipeline, self.store, job_id, body, done)
        elif isinstance(body, EditBody):
            edit(pipeline, self.store, job_id, body, done)
        elif isinstance(body, StemsBody):
            self._set(record, stems=stems.run(pipeline, self.store, job_id, body, done))
        elif isinstance(body, SeeBody):
            self._set(record, seen=see(pipeline, self.store, body))
        self.failure = None  # what failed at start was loaded now

    def _sweep(self) -> None:
        while not self._stopping.wait(_SWEEP_EVERY_S):
            try:
                self.store.sweep()
            except OSError as error:
                logger.warning("%s", error)

    # --- states ----------------------------------------------------------------------

    def _set(self, record: Record, **changes: Any) -> None:
        """Change a job, on disk and for its listeners."""
        with self._lock:
            record.job = record.job.model_copy(update=changes)
            try:
                self.store.write(record)
            except (OSError, UserError) as error:  # a full disk, or the job was just removed
                logger.error("job %s: its record can't be written: %s", record.job.id, error)
        self._changed(record.job.id)

    def _show(self, record: Record, **changes: Any) -> None:
        """Change what is not worth writing down."""
        with self._lock:
            record.job = record.job.model_copy(update=changes)
        self._changed(record.job.id)

    def _tell(self, record: Record, progress: Progress) -> None:
        self._show(
            record,
            stage=progress.stage,
            fraction=progress.fraction,
            seconds_left=progress.seconds_left,
        )

    def _end(self, record: Record, state: State, **changes: Any) -> None:
        record.ended = time.time()
        self._set(record, state=state, stage=None, position=None, seconds_left=None, **changes)
        self.metrics.ended.labels(record.job.kind, state).inc()
        if record.temporary and record.cancel.is_set():  # nobody will ask for it
            self.store.drop_job(record.job.id)

    def _number(self) -> None:
        """Give waiting jobs their positions."""
        with self._lock:
            for position, record in enumerate(self.queue.order(), 1):
                if record.job.position != position and record.job.state == "waiting":
                    self._show(record, position=position)


def one_line(error: BaseException) -> str:
    """Return a message in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def problem_of(error: BaseException, folder: Path) -> Problem:
    """Say to a client what went wrong, in its terms and without the server's paths."""
    if isinstance(error, UserError):
        error.rename(FIELDS)
        message = _OWN_NAME.sub("", one_line(error).removeprefix(f"{error.field}: "))
        return Problem(message=message.replace(f"{folder}/", ""), field=error.field)
    if isinstance(error, MemoryError):
        return Problem(message="not enough memory for this; give something smaller")
    if isinstance(error, OSError):
        return Problem(message=f"the server's disk: {error.strerror or type(error).__name__}")
    return Problem(message=one_line(error).replace(f"{folder}/", ""))
