"""Everything that can be wrong with a folder of sounds is named, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from omni2sound.bench.systems.folder import PROBLEMS, check_folder
from omni2sound.bench.tracks.track import TrackClip
from omni2sound.errors import UserError

RATE_HZ = 16_000


def clip(name: str) -> TrackClip:
    return TrackClip(
        clip_id=name, part="main", caption="x", duration_s=1.0, audio=f"own:{name}.wav"
    )


def tone(seconds: float = 1.0, rate_hz: int = RATE_HZ, level: float = 0.5) -> np.ndarray:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)


def write(folder: Path, name: str, sound: np.ndarray, rate_hz: int = RATE_HZ) -> None:
    subtype = "FLOAT" if name.endswith(".wav") else None
    soundfile.write(folder / name, sound, rate_hz, subtype=subtype)


def test_a_good_folder_has_no_problem(tmp_path: Path) -> None:
    for name in ("a.wav", "b.flac", "c.wav"):
        write(tmp_path, name, tone())
    (tmp_path / "a.wav.json").write_text("{}", encoding="utf-8")  # a sidecar of ours
    check = check_folder(tmp_path, [clip("a"), clip("b"), clip("c")])
    assert check.problems == ()
    assert [s.clip_id for s in check.sounds] == ["a", "b", "c"]
    assert check.sample_rate_hz == RATE_HZ


def test_each_problem_is_named_once_and_no_clip_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, "good.wav", tone())
    write(tmp_path, "better.wav", tone())
    write(tmp_path, "silence.wav", np.zeros(RATE_HZ, np.float32))
    clipped = tone()
    clipped[100:103] = 1.0
    write(tmp_path, "clip.wav", clipped)
    write(tmp_path, "short.wav", tone(0.9))
    write(tmp_path, "long.wav", tone(1.1))
    write(tmp_path, "rate.wav", tone(rate_hz=22_050), 22_050)
    broken = tone()
    broken[7] = np.nan
    write(tmp_path, "nan.wav", broken)
    (tmp_path / "noise.wav").write_bytes(b"RIFF, but no sound")
    write(tmp_path, "two.wav", tone())
    write(tmp_path, "two.flac", tone())
    write(tmp_path, "stranger.wav", tone())
    (tmp_path / "notes.txt").write_text("read me", encoding="utf-8")
    wanted = ["good", "better", "silence", "clip", "short", "long", "rate", "nan", "noise", "two"]
    wanted.append("gone")
    check = check_folder(tmp_path, [clip(name) for name in wanted])
    found = {(p.kind, p.name) for p in check.problems}
    assert found == {
        ("missing", "gone"),
        ("unreadable", "noise"),
        ("not finite", "nan"),
        ("twice", "two"),
        ("extra", "stranger.wav"),
        ("extra", "notes.txt"),
        ("silent", "silence"),
        ("clipped", "clip"),
        ("wrong length", "short"),
        ("wrong length", "long"),
        ("wrong rate", "rate"),
    }
    assert {kind for kind, _ in found} == set(PROBLEMS)
    assert len(check.problems) == len(found)
    # What can't be scored is left out, what is only odd is scored; nothing stands in for another.
    assert [s.clip_id for s in check.sounds] == [
        n for n in wanted if n not in ("nan", "noise", "two", "gone")
    ]
    assert all(s.path.stem == s.clip_id for s in check.sounds)


def test_two_samples_at_full_scale_are_a_peak_and_three_are_clipped(tmp_path: Path) -> None:
    for count in (2, 3):
        sound = tone()
        sound[50 : 50 + count] = -1.0
        write(tmp_path, f"n{count}.flac", sound)  # 16 bits
    check = check_folder(tmp_path, [clip("n2"), clip("n3")])
    assert [(p.kind, p.name) for p in check.problems] == [("clipped", "n3")]


def test_the_rate_that_is_asked_for_counts(tmp_path: Path) -> None:
    write(tmp_path, "a.wav", tone(rate_hz=44_100), 44_100)
    assert check_folder(tmp_path, [clip("a")]).problems == ()
    (problem,) = check_folder(tmp_path, [clip("a")], sample_rate_hz=48_000).problems
    assert problem.told == "44100 Hz, expected 48000 Hz"
    write(tmp_path, "a.wav", tone(rate_hz=8_000), 8_000)
    (problem,) = check_folder(tmp_path, [clip("a")]).problems
    assert (problem.kind, problem.scored) == ("wrong rate", True)


def test_clips_past_a_limit_are_not_extra(tmp_path: Path) -> None:
    write(tmp_path, "a.wav", tone())
    write(tmp_path, "b.wav", tone())
    assert check_folder(tmp_path, [clip("a")], others=["a", "b"]).problems == ()


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        check_folder(tmp_path / "none", [clip("a")])
