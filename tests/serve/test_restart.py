"""A server that ends: what was taken is made by the next one."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from examples.studio_client import Client
from starlette.testclient import TestClient

from omni2sound.errors import UserError
from omni2sound.generate.load import PipelineOptions
from omni2sound.serve.app import create_app
from omni2sound.serve.bodies import FINAL, Job, JobKind, Media, State
from omni2sound.serve.context import Server, Settings
from omni2sound.serve.engine import Engine
from omni2sound.serve.limits import Limits
from omni2sound.serve.metrics import Metrics
from omni2sound.serve.routes.jobs import _events
from omni2sound.serve.run import serve
from omni2sound.serve.store import Record, Store
from omni2sound.staging import alone_in
from tests.serve.served import ServerProcess, wait_until, wait_until_ready


@pytest.mark.slow
def test_jobs_survive_a_signal_and_a_kill(model: Path, tmp_path: Path) -> None:
    options = ("--model", str(model), "--device", "cpu")
    server = ServerProcess(tmp_path / "folder", *options)
    client = Client(server.address)
    wait_until_ready(client)
    long = client.submit(prompt="rain", duration_s=30, steps=50, seed=5)["id"]
    short = client.submit(prompt="rain", duration_s=0.3, seed=6)["id"]
    wait_until(lambda: client.json("GET", f"/v1/jobs/{long}")["state"] == "running")
    assert server.stop() == 0

    server = ServerProcess(tmp_path / "folder", *options)
    client = Client(server.address)
    late = client.submit(prompt="rain", duration_s=0.3, seed=6)["id"]
    server.kill()

    server = ServerProcess(tmp_path / "folder", *options)
    client = Client(server.address)
    wait_until_ready(client)
    client.json("DELETE", f"/v1/jobs/{long}")
    takes = [client.finish(job)["takes"][0] for job in (short, late)]
    assert client.bytes(takes[0]["sound"]) == client.bytes(takes[1]["sound"])
    os.kill(server.pid, signal.SIGINT)
    assert server.wait() == 0
    log = (tmp_path / "folder.log").read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert {p.name for p in tmp_path.iterdir()} == {"folder", "folder.log"}


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(UserError, match="another process"):
        serve(Settings(folder=tmp_path), 0, lambda _: None)


def _job(folder: Path, *, attempts: int) -> Store:
    store = Store(folder, Limits())
    request = {"kind": "generate", "prompt": "rain", "seed": 1}
    job = Job(id="1" * 32, kind="generate", state="running", created=0.0, request=request)
    record = store.add_job(job, "a client")
    record.attempts = attempts
    store.write(record)
    return Store(folder, Limits())


def test_a_job_that_ended_the_server_three_times_fails(tmp_path: Path) -> None:
    for attempts, state in ((2, "waiting"), (3, "failed")):
        store = _job(tmp_path / state, attempts=attempts)
        options = PipelineOptions(model="no such model")
        engine = Engine(store, options, lambda _: None, Metrics(), warm=False)
        engine.queue.close()
        engine.start()
        engine.stop()
        assert store.record("1" * 32).job.state == state


def test_a_step_that_cannot_be_stopped_counts_neither_as_done_nor_as_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_cancelled in (True, False):
        begun, over = threading.Event(), threading.Event()
        monkeypatch.setattr(Engine, "_do", lambda *_: (begun.set(), over.wait(30)))  # noqa: B023
        store = _job(tmp_path / str(is_cancelled), attempts=2)
        record = store.record("1" * 32)
        engine = Engine(store, PipelineOptions(), lambda _: None, Metrics(), warm=False)
        engine.start()
        assert begun.wait(30)
        if is_cancelled:
            engine.cancel(record)
            over.set()
            wait_until(lambda: record.job.state in FINAL)  # noqa: B023
            assert record.job.state == "cancelled"
        engine.stop(timeout_s=0.1)
        if not is_cancelled:
            known = Store(store.folder, Limits()).record("1" * 32)
            assert (known.job.state, known.attempts) == ("waiting", 2)
        over.set()


def test_the_last_event_of_a_job_is_its_end(tmp_path: Path) -> None:
    _job(tmp_path, attempts=0)
    server: Server = create_app(Settings(folder=tmp_path)).state.server
    record = server.store.record("1" * 32)

    async def follow() -> list[bytes]:
        server.feed.open(asyncio.get_running_loop())
        told = []
        async for event in _events(server, record.job.id):
            told.append(event)
            if len(told) == 2:  # while this one is sent
                record.job = record.job.model_copy(update={"state": "done"})
                server.feed.changed(record.job.id)
        return told

    assert b'"state": "done"' in asyncio.run(follow())[-1]


def test_health_follows_the_last_load(model: Path, tmp_path: Path) -> None:
    engine = Engine(
        Store(tmp_path, Limits()), PipelineOptions(model="no such model"), lambda _: None, Metrics()
    )
    engine.start()
    assert engine.ready.wait(30)
    assert engine.failure is not None
    engine.options = PipelineOptions(model=model, device="cpu")
    request = {"kind": "generate", "prompt": "rain", "seed": 1, "duration_s": 0.1, "steps": 1}
    for job_id in ("1" * 32, "2" * 32):
        job = Job(id=job_id, kind="generate", state="waiting", created=0.0, request=request)
        record = engine.submit(job, "a client")
        wait_until(lambda: record.job.state in FINAL)  # noqa: B023
        assert record.job.state == "done"
        assert engine.failure is None
        engine.failure = "an encoder can't be loaded"  # a later job may show that it can
    engine.stop()


def test_what_is_old_is_deleted_unless_a_job_needs_it(tmp_path: Path) -> None:
    store = _job(tmp_path, attempts=0)
    record = store.record("1" * 32)
    media_id, _ = store.receive(io.BytesIO(b"data"), "film.mp4")
    empty = dict.fromkeys(("frames_per_second", "width", "height", "strip", "peaks"))
    made = {"name": "film.mp4", "kind": "sound", "duration_s": 1.0, "has_sound": True, "bytes": 4}
    store.add_media(Media(id=media_id, created=0.0, file="", **empty, **made))
    record.job = record.job.model_copy(update={"request": {"media": media_id}})
    assert store.sweep(now=1e12) == 0
    record.job = record.job.model_copy(update={"state": "done"})
    record.ended = 1e6
    assert store.sweep(now=1e6 + store.limits.age_s - 1) == 0
    assert store.sweep(now=1e6 + store.limits.age_s + 1) == 2
    assert not [*(tmp_path / "jobs").iterdir(), *(tmp_path / "media").iterdir()]


def test_a_take_that_a_job_needs_is_kept(tmp_path: Path) -> None:
    app = create_app(Settings(folder=tmp_path, limits=Limits(results=1)))
    store: Store = app.state.server.store

    def add(digit: str, state: State, **request: str) -> Record:
        kind: JobKind = "export" if "take" in request else "generate"
        job = Job(id=digit * 32, kind=kind, state=state, created=0.0, request={**request})
        return store.add_job(job, "a client")

    now = time.time()
    add("1", "done").ended = now - 2
    add("2", "done").ended = now - 1
    export = add("3", "waiting", take=f"{'1' * 32}-1")
    assert store.sweep(now=1e12) == 1
    browser = TestClient(app, base_url="http://127.0.0.1:8765")
    assert browser.delete(f"/v1/jobs/{'1' * 32}").status_code == 409
    export.job = export.job.model_copy(update={"state": "done"})
    export.ended = now - 3  # taken last, ended first
    add("4", "waiting")
    assert [record.job.id[0] for record in store.records()] == ["4", "1"]


def test_counting_bytes_passes_over_what_is_deleted_meanwhile(tmp_path: Path) -> None:
    store, ended = Store(tmp_path, Limits()), threading.Event()

    def churn() -> None:
        while not ended.is_set():
            media_id, _ = store.receive(io.BytesIO(b"data"), "film.mp4")
            store.drop_media(media_id)

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert max(store.num_bytes() for _ in range(100)) <= 8
    finally:
        ended.set()
        for thread in threads:
            thread.join()
