"""`benchmarks/robustness/annotate_kills.py`, small: the real command, really killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.robustness.annotate_kills import files_with_the_key, killed_run
from omni2sound.annotate.report.status import costs_of

pytestmark = pytest.mark.slow


def test_killed_again_and_again_every_clip_ends_once_and_the_key_is_nowhere(
    tmp_path: Path,
) -> None:
    report = asyncio.run(killed_run(tmp_path, clips=40, kills=3, concurrency=4, spread=30, seed=2))
    assert report.broken() == []
    assert report.num_kills == 3
    assert report.ends["kept"] > 0
    assert costs_of(tmp_path / "run")["USD"].escalated > 0
    assert (tmp_path / "export" / "manifest.jsonl").is_file()
    # The test can fail: the key did travel, and the server's words with it were kept.
    assert any(b"[key]" in path.read_bytes() for path in (tmp_path / "run").glob("*.sqlite*"))
    assert files_with_the_key(tmp_path) == []
