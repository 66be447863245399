"""The folder of a server: uploads and jobs, each in a folder of its own, named by a random id.

In:   bytes of uploads, records of jobs.
Out:  paths inside the folder, and only there.

    FOLDER/media/<id>/media.json, file.mp4, what was drawn of it
    FOLDER/jobs/<id>/job.json, take-1.wav, take-1.wav.json, export.mp4
    FOLDER/tmp/          parts of requests that are still coming; emptied at start

What not to get wrong: a client's id becomes part of a path only if it is 32 hexadecimal digits,
and a client's file name never does but for its suffix. A record is written whole before the client
hears that its job is taken, so that a kill loses none.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from pydantic import BaseModel, model_validator

from omni2sound.errors import UserError
from omni2sound.files import atomic_path, write_json
from omni2sound.readers import parse_json, read_text
from omni2sound.redact import printable
from omni2sound.serve.bodies import BODIES, FINAL, Job, Media
from omni2sound.serve.errors import NotFoundError
from omni2sound.serve.limits import MAX_NAME_CHARS, Limits

logger = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{32}")
_TAKE = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,2})")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_MAX_RECORD_BYTES = 2**24
_CHUNK = 2**20


@dataclass(slots=True)
class Record:
    """A job with what only the server knows of it."""

    job: Job
    client: str
    serial: int
    """Order in which jobs were taken."""
    attempts: int = 0
    """How often it was begun; a job that ends the server is not begun for ever."""
    temporary: bool = False
    """Whether somebody waits for its answer, and nobody will ask for it later."""
    ended: float | None = None
    cancel: threading.Event = field(default_factory=threading.Event)


class _Stored(BaseModel):
    """What is stored of a `Record`."""

    job: Job
    client: str
    serial: int
    attempts: int = 0
    temporary: bool = False
    ended: float | None = None

    @model_validator(mode="after")
    def _check_request(self) -> Self:
        body = BODIES.validate_python(self.job.request, strict=False)
        if body.kind != self.job.kind:
            raise ValueError(f"expected a request of kind {self.job.kind!r}, got {body.kind!r}")
        return self


class Store:
    """Uploads and jobs of one server; methods may be called from any thread."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self._media: dict[str, Media] = {}
        self._jobs: dict[str, Record] = {}
        self._unread: list[Path] = []
        self._lock = threading.RLock()
        for name in ("media", "jobs", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for path in (folder / "tmp").iterdir():
            _remove(path)
        self._read_all()
        self._serial = max((r.serial for r in self._jobs.values()), default=0)

    # --- uploads ---------------------------------------------------------------------

    def receive(self, stream: IO[bytes], name: str) -> tuple[str, Path]:
        """Write an upload; it counts once `add_media` is called.

        Raises:
            UserError: The store is full.
        """
        self._make_room()
        media_id = secrets.token_hex(16)
        folder = self.folder / "media" / media_id
        folder.mkdir()
        suffix = Path(name[-20:]).suffix.lower()
        path = folder / f"file{suffix if _SUFFIX.fullmatch(suffix) else '.bin'}"
        try:
            with path.open("wb") as target:
                shutil.copyfileobj(stream, target, _CHUNK)
        except BaseException:
            _remove(folder)
            raise
        return media_id, path

    def add_media(self, media: Media) -> None:
        """Keep an upload that was received and looked into."""
        write_json(self.folder / "media" / media.id / "media.json", media.model_dump())
        with self._lock:
            self._media[media.id] = media

    def media(self, media_id: str) -> Media:
        """Return an upload.

        Raises:
            NotFoundError: There is none.
        """
        with self._lock:
            if media_id not in self._media:
                raise NotFoundError("upload")
            return self._media[media_id]

    def media_path(self, media_id: str) -> Path:
        """Return the file of an upload.

        Raises:
            NotFoundError: There is none.
        """
        folder = self.media_folder(self.media(media_id).id)
        for path in folder.glob("file.*"):
            return path
        raise NotFoundError("upload")

    def media_folder(self, media_id: str) -> Path:
        """Return the folder of an upload, whose id is checked."""
        if not _ID.fullmatch(media_id):
            raise NotFoundError("upload")
        return self.folder / "media" / media_id

    def drop_media(self, media_id: str) -> None:
        """Delete an upload, or what was received of one."""
        with self._lock:
            self._media.pop(media_id, None)
        _remove(self.media_folder(media_id))

    def is_needed(self, item_id: str) -> bool:
        """Whether a job that has not ended uses an upload, or a take of a job."""
        return item_id in self._needed()

    # --- jobs ------------------------------------------------------------------------

    def add_job(self, job: Job, client: str, *, temporary: bool = False) -> Record:
        """Take a job: once this returns, a kill of the process does not lose it.

        Raises:
            UserError: The store is full.
        """
        self._make_room(self._needs(job))
        with self._lock:
            self._serial += 1
            record = Record(job=job, client=client, serial=self._serial, temporary=temporary)
        (self.folder / "jobs" / job.id).mkdir()
        self.write(record)
        with self._lock:
            self._jobs[job.id] = record
        return record

    def write(self, record: Record) -> None:
        """Write the record of a job."""
        data = {
            "client": record.client,
            "serial": record.serial,
            "attempts": record.attempts,
            "temporary": record.temporary,
            "ended": record.ended,
            "job": record.job.model_dump(),
        }
        write_json(self.job_folder(record.job.id) / "job.json", data)

    def record(self, job_id: str) -> Record:
        """Return a job.

        Raises:
            NotFoundError: There is none.
        """
        with self._lock:
            if job_id not in self._jobs:
                raise NotFoundError("job")
            return self._jobs[job_id]

    def records(self) -> list[Record]:
        """Return all jobs, the newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda record: -record.serial)

    def job_folder(self, job_id: str) -> Path:
        """Return the folder of a job, whose id is checked."""
        if not _ID.fullmatch(job_id):
            raise NotFoundError("job")
        return self.folder / "jobs" / job_id

    def drop_job(self, job_id: str) -> None:
        """Delete a job and its results."""
        with self._lock:
            self._jobs.pop(job_id, None)
        _remove(self.job_folder(job_id))

    def take_path(self, take_id: str) -> Path:
        """Return the sound of a take that is written.

        Raises:
            NotFoundError: There is none.
        """
        found = _TAKE.fullmatch(take_id)
        if found is None:
            raise NotFoundError("take")
        with self._lock:
            record = self._jobs.get(found[1])
        path = self.job_folder(found[1]) / f"take-{int(found[2])}.wav"
        is_told = record is not None and any(take.id == take_id for take in record.job.takes)
        if not is_told or not path.is_file():
            raise NotFoundError("take")
        return path

    # --- room ------------------------------------------------------------------------

    def num_bytes(self) -> int:
        """Bytes of all files."""
        total = 0
        for folder, _, names in os.walk(self.folder):  # passes over what others delete meanwhile
            for name in names:
                with suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
        return total

    def sweep(self, now: float | None = None, needed: Collection[str] = ()) -> int:
        """Delete what is older than its age, and return how many things that was.

        Args:
            now: Time of day. Default: as it is.
            needed: Uploads and jobs that are kept besides those that jobs need.
        """
        before = (time.time() if now is None else now) - self.limits.age_s
        kept = self._needed() | set(needed)
        ended = [r for r in self._ended() if r.job.id not in kept]
        old_jobs = [r.job.id for r in ended if (r.ended or 0) < before]
        for job_id in old_jobs:
            self.drop_job(job_id)
        kept |= self._used()
        with self._lock:
            old = [m.id for m in self._media.values() if m.created < before and m.id not in kept]
        for media_id in old:
            self.drop_media(media_id)
        return len(old_jobs) + len(old) + self._sweep_unread(before, kept)

    def _sweep_unread(self, before: float, kept: Collection[str]) -> int:
        """Delete what has a damaged record and was last changed before a time of day."""
        old = []
        for folder in list(self._unread):
            with suppress(FileNotFoundError):
                if folder.stat().st_mtime < before and folder.name not in kept:
                    old.append(folder)
        with self._lock:
            self._unread = [folder for folder in self._unread if folder not in old]
        for folder in old:
            _remove(folder)
        return len(old)

    def _make_room(self, needed: Collection[str] = ()) -> None:
        """Delete the oldest results and unused uploads that are over a count.

        Raises:
            UserError: The store is full of what can't be deleted.
        """
        self.sweep(needed=needed)
        kept = self._needed() | set(needed)
        for record in self._ended()[self.limits.results :]:
            if record.job.id not in kept:
                self.drop_job(record.job.id)
        kept |= self._used()
        with self._lock:
            media = sorted(self._media.values(), key=lambda m: -m.created)
        for old in [m for m in media[self.limits.media - 1 :] if m.id not in kept]:
            self.drop_media(old.id)
        if self.num_bytes() > self.limits.stored_bytes:
            raise UserError(
                f"the server holds more than {self.limits.stored_mb} MB; delete uploads and jobs, "
                "or try again later"
            )

    def _ended(self) -> list[Record]:
        """Jobs that have ended, the one that ended last first."""
        ended = [r for r in self.records() if r.job.state in FINAL]
        return sorted(ended, key=lambda record: -(record.ended or 0))

    def _needed(self) -> set[str]:
        """What jobs that have not ended need."""
        waiting = [r.job for r in self.records() if r.job.state not in FINAL]
        return {item_id for job in waiting for item_id in self._needs(job)}

    def _needs(self, job: Job) -> set[str]:
        """Upload of a job, job of the take that it works on, and the upload of that take."""
        take_id = job.request.get("take") or ""
        needs = {job.request.get("media"), take_id.partition("-")[0]}
        with suppress(NotFoundError):
            needs.add(self.media_of(take_id))
        return {item_id for item_id in needs if item_id}

    def _used(self) -> set[str]:
        """Uploads of jobs that are kept, and of their takes."""
        jobs = [record.job for record in self.records()]
        used = {job.request.get("media") for job in jobs}
        used |= {take.media for job in jobs for take in job.takes}
        return {media_id for media_id in used if media_id}

    def media_of(self, take_id: str) -> str | None:
        """Return the upload that a take was made for."""
        found = _TAKE.fullmatch(take_id)
        takes = [] if found is None else self.record(found[1]).job.takes
        return next((take.media for take in takes if take.id == take_id), None)

    # --- from disk -------------------------------------------------------------------

    def _read_all(self) -> None:
        for folder, data in self._stored("media", "media.json"):
            try:
                media = Media.model_validate(data)
                _check_id(media.id, folder)
            except ValueError as error:
                logger.warning("%s: a record that can't be read: %.200s", folder, error)
                self._unread.append(folder)
                continue
            self._media[media.id] = media
        for folder, data in self._stored("jobs", "job.json"):
            try:
                record = Record(**dict(_Stored.model_validate(data)))
                _check_id(record.job.id, folder)
            except ValueError as error:
                logger.warning("%s: a record that can't be read: %.200s", folder, error)
                self._unread.append(folder)
                continue
            if record.temporary:  # whoever waited for it is gone
                _remove(folder)
            else:
                self._jobs[record.job.id] = record

    def _stored(self, kind: str, name: str) -> Iterator[tuple[Path, Any]]:
        for folder in sorted((self.folder / kind).iterdir()):
            if not _ID.fullmatch(folder.name) or not folder.is_dir():  # somebody else's
                continue
            path = folder / name
            if not os.path.lexists(path):  # the client was told nothing of it
                _remove(folder)
                continue
            try:
                data = parse_json(read_text(path, max_bytes=_MAX_RECORD_BYTES), path)
            except (UserError, OSError) as error:
                logger.warning("%s", error)
                self._unread.append(folder)
                continue
            yield folder, data


def _check_id(item_id: str, folder: Path) -> None:
    if item_id != folder.name:
        raise ValueError(f"expected the folder's name as its id, got {item_id!r:.40}")


def shown_name_of(name: str | None) -> str:
    """Return the name of an upload for people: its last part, without control characters."""
    last = re.split(r"[/\\]", name or "")[-1]
    return printable(last)[:MAX_NAME_CHARS] or "upload"


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def new_id() -> str:
    """Draw an id."""
    return secrets.token_hex(16)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
