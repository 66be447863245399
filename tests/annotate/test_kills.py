"""The proof of `benchmarks/annotate_kills.py`, small: the real command, really killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.annotate_kills import files_with_the_key, killed_run

pytestmark = pytest.mark.slow


def test_killed_again_and_again_every_clip_ends_once_and_the_key_is_nowhere(
    tmp_path: Path,
) -> None:
    report = asyncio.run(killed_run(tmp_path, clips=40, kills=3, concurrency=4, spread=30, seed=2))
    assert report.broken() == []
    assert report.num_kills == 3
    assert report.ends["kept"] > 0
    assert (tmp_path / "export" / "manifest.jsonl").is_file()
    assert "[key]" in (tmp_path / "log.txt").read_text()  # the test can fail: the key did travel
    assert files_with_the_key(tmp_path) == []
