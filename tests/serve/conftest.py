"""A server in a thread with a tiny model, shared by the tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.studio_client import Client

from omni2sound.generate.load import PipelineOptions
from omni2sound.serve.context import Settings
from omni2sound.serve.limits import Limits
from tests.build import tiny_model_folder
from tests.media.films import write_film
from tests.serve.served import ServerThread


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    settings = Settings(
        folder=tmp_path_factory.mktemp("served") / "folder",
        model=PipelineOptions(model=model, device="cpu"),
        limits=Limits(upload_mb=5, duration_s=120, jobs=20),
    )
    thread = ServerThread(settings)
    yield thread
    thread.stop()


@pytest.fixture
def client(server: ServerThread) -> Client:
    return Client(server.address)


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A second of pictures without sound."""
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4").read_bytes()
