"""Real networks, real processes: whoever does the work, the export is the same bytes."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omni2sound.data.corpora.manifest import Clip, write_manifest
from tests.media.clips import write_video
from tests.warm.start import warm

pytestmark = pytest.mark.slow
FILES = ("manifest.jsonl", "data/train-00000-of-00001.parquet", "statistics.json", "README.md")
NUM_CLIPS = 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_video(folder / "v.mp4", ticks=range(0, 600, 75))
    rng = np.random.default_rng(0)
    clips = []
    for number in range(NUM_CLIPS):
        noise = rng.standard_normal(16_000) * np.linspace(0.3, 0.01, 16_000) ** (1 + number % 3)
        soundfile.write(folder / f"{number}.wav", noise, 16_000)
        clips.append(
            Clip(
                clip_id=f"c{number}",
                corpus="made",
                split="train",
                audio=f"{number}.wav",
                video="v.mp4" if number % 2 else None,
                duration_s=1.0,
                captions=("Somebody hisses.",),
            )
        )
    write_manifest(folder / "clips.jsonl", clips, media=folder)
    # Noise fits no caption: with the thresholds of real clips nothing would be left to compare.
    low = ("route_audio_visual", "route_drop", "hand_off", "hand_off_music", "hand_off_event")
    rows = [f"{name} = -1.0" for name in (*low, "drop", "drop_music", "drop_event")]
    rows[4] = "hand_off_event = 0.3"
    (folder / "all.toml").write_text("[embedded]\nsource = 'all'\n" + "\n".join(rows))
    return folder


def annotate(corpus: Path, *argv: str, killing: bool = False) -> str:
    command = [sys.executable, "-m", "omni2sound", "annotate", *argv]
    process = subprocess.Popen(
        command if killing else warm(command),  # workers of a warm one are no descendants
        cwd=corpus,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed: list[int] = []
    watcher = threading.Thread(target=kill_a_worker, args=(process, killed), daemon=True)
    if killing:
        watcher.start()
    out, error = process.communicate()
    assert process.returncode == 0, error
    assert bool(killed) == killing
    return out


def kill_a_worker(parent: subprocess.Popen[str], killed: list[int]) -> None:
    """The first of its Ray workers that is seen at work."""
    while parent.poll() is None:
        for pid in _descendants(parent.pid):
            if b"ray::_run_single_threaded" in _read(Path(f"/proc/{pid}/cmdline")):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
        time.sleep(0.05)


def _descendants(root: int) -> list[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = _read(path).rpartition(b") ")[2].split()
        if fields:
            parents[int(path.parent.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {root})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has gone
        return b""


def run_and_export(
    corpus: Path, name: str, *engine: str, killing: bool = False
) -> dict[str, bytes]:
    run, out = f"run-{name}", f"export-{name}"
    thresholds = ("--thresholds", "all.toml")
    annotate(corpus, "run", "clips.jsonl", run, *thresholds, *engine, killing=killing)
    annotate(corpus, "export", run, "--out", out)
    return {file: (corpus / out / file).read_bytes() for file in FILES}


@pytest.fixture(scope="module")
def here(corpus: Path) -> dict[str, bytes]:
    return run_and_export(corpus, "here", "--workers", "1")


def test_two_processes_export_the_same(corpus: Path, here: dict[str, bytes]) -> None:
    assert run_and_export(corpus, "two", "--workers", "2") == here
    counted = json.loads(here["statistics.json"])
    assert counted["kept"] > 0 and counted["escalated"] > 0


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra `scale` is missing")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers in /proc")
def test_ray_exports_the_same_though_a_worker_is_killed(
    corpus: Path, here: dict[str, bytes]
) -> None:
    engine = ("--engine", "ray", "--workers", "2")
    assert run_and_export(corpus, "ray", *engine, killing=True) == here


def test_judges_compare_with_the_captions_that_came_with_the_clips(
    corpus: Path, here: dict[str, bytes]
) -> None:
    (corpus / "judge.json").write_text('{"judge": {"better": "first", "reason": "-"}}')
    kept = json.loads(here["statistics.json"])["kept"]
    told = annotate(corpus, "judge", "run-here", "--judge", "scripted:judge.json")
    assert f"wins 0, losses 0, ties {kept} (position preferred: {kept}), failed 0" in told
    assert "caption-audio score (embedded): " in told and "nan" not in told
    assert "win rate" in annotate(corpus, "judge", "run-here", "--judge", "local")
    itself = annotate(corpus, "judge", "run-here", "--against", "run-here")
    assert "win rate 0.500 [0.500, 0.500]" in itself
    assert "senior for all, CPU s" in annotate(corpus, "status", "run-here")
