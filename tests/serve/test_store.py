"""Records of a server's folder that were damaged are passed over, and named in its log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.robustness.odd_more import served
from omni2sound.serve.limits import Limits
from omni2sound.serve.store import Store


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("serial", "first"),
        ("client", None),
        ("ended", {}),
        ("job.state", "odd"),
        ("job.request", {}),
        ("job.request.take", 1),
        ("job.request.media", {}),
    ],
)
def test_an_odd_record_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str, value: object
) -> None:
    served(tmp_path)
    (file,) = tmp_path.glob("served/jobs/*/job.json")
    assert len(Store(tmp_path / "served", Limits()).records()) == 1
    data = json.loads(file.read_text())
    *steps, last = path.split(".")
    node = data
    for step in steps:
        node = node[step]
    node[last] = value
    file.write_text(json.dumps(data))
    store = Store(tmp_path / "served", Limits())
    store.sweep()
    assert store.records() == []
    assert "a record that can't be read" in caplog.text
