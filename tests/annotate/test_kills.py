"""`benchmarks/robustness/annotate_kills.py`, small: the real command, really killed."""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest

from benchmarks.robustness import annotate_kills
from benchmarks.robustness.annotate_kills import files_with_the_key, killed_run
from benchmarks.robustness.llm_kills import start_process
from omni2sound.annotate.report.status import costs_of
from tests.warm.start import warm

KILLS = 3
"""One of them between a good reply and its commit, by this seed and spread."""

pytestmark = pytest.mark.slow


def test_killed_again_and_again_every_clip_ends_once_and_the_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = itertools.count()

    async def start(*argv: str, **options: Any) -> Process:
        """A kill is to strike at once, so only what comes after the last one starts warm."""
        python = [sys.executable]
        head = python if next(starts) < KILLS else warm(list(python))
        return await start_process(*argv, python=head, **options)

    monkeypatch.setattr(annotate_kills, "start_process", start)
    report = asyncio.run(
        killed_run(tmp_path, clips=40, kills=KILLS, concurrency=4, spread=30, seed=2)
    )
    assert report.broken() == []
    assert report.num_kills == KILLS
    assert report.ends["kept"] > 0
    assert costs_of(tmp_path / "run")["USD"].escalated > 0
    assert (tmp_path / "export" / "manifest.jsonl").is_file()
    # The test can fail: the key did travel, and the server's words with it were kept.
    assert any(b"[key]" in path.read_bytes() for path in (tmp_path / "run").glob("*.sqlite*"))
    assert files_with_the_key(tmp_path) == []
