"""Tracks from anybody's folder: which clips are in, with which caption and category."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from typer.testing import CliRunner

from omni2sound.bench.report.categories import LEAST_CLIPS, category_rows
from omni2sound.bench.scoring.evaluate import ClipRecord
from omni2sound.bench.tracks.folder import build_folder_track
from omni2sound.bench.tracks.foleybench import build_foleybench_track
from omni2sound.bench.tracks.track import Track, TrackClip, TrackInfo, read_track
from omni2sound.cli.main import app
from omni2sound.errors import UserError
from omni2sound.media import Audio
from tests.media.clips import write_video


def sound(path: Path, duration_s: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(8_000 * duration_s))
    soundfile.write(path, noise, 8_000)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sounds of two categories, a silent video with a sound beside it, and what can't be used."""
    folder = tmp_path / "media"
    sound(folder / "doors" / "creak.wav", 2.0)
    (folder / "doors" / "creak.txt").write_text("A door\ncreaks.\n")
    sound(folder / "water" / "drip.flac", 0.5)
    (folder / "water" / "drip.txt").write_text("Water drips.")
    sound(folder / "water" / "untold.wav")
    (folder / "water" / "broken.wav").write_bytes(b"RIFF")
    (folder / "water" / "broken.txt").write_text("Something.")
    return folder


def test_folders_are_categories_and_what_can_not_be_used_is_named(
    folder: Path, tmp_path: Path
) -> None:
    made = build_folder_track("mine", folder, tmp_path / "track", max_s=1.5)
    assert {c.clip_id: (c.label, c.caption, c.duration_s) for c in made.track.clips} == {
        "doors-creak": ("doors", "A door creaks.", 1.5),
        "water-drip": ("water", "Water drips.", 0.5),
    }
    left_out = dict(made.left_out)
    assert left_out["water/untold"] == "has no caption"
    assert "broken.wav" in left_out["water/broken"]
    assert made.track.info.tasks == ("T2A",)
    again = build_folder_track("mine", folder, tmp_path / "again", max_s=1.5)
    assert again.track.identity == made.track.identity == read_track(tmp_path / "track").identity


@pytest.mark.parametrize("column", ["doors/creak.wav", "creak.wav", "creak", "doors/creak"])
def test_a_table_names_files_by_path_or_name_and_goes_before_folders(
    folder: Path, tmp_path: Path, column: str
) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"file_name,caption,category\n{column},A hinge complains.,Hinges\n")
    made = build_folder_track("mine", folder, tmp_path / "track", table=table)
    by_id = {c.clip_id: c for c in made.track.clips}
    assert (by_id["doors-creak"].caption, by_id["doors-creak"].label) == (
        "A hinge complains.",
        "Hinges",
    )
    assert by_id["water-drip"].caption == "Water drips.", "its text file still counts"


def test_a_silent_video_takes_the_sound_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    sound(folder / "a.wav")
    write_video(folder / "a.mp4", ticks=range(0, 600, 75))
    write_video(folder / "mute.mp4", ticks=range(0, 600, 75))
    for name in ("a", "mute"):
        (folder / f"{name}.txt").write_text("Something.")
    made = build_folder_track("mine", folder, tmp_path / "track")
    (clip,) = made.track.clips
    assert (clip.audio, clip.video, clip.label) == ("media:a.wav", "media:a.mp4", "")
    assert made.left_out == (("mute", "has no sound"),)
    assert made.track.info.tasks == ("VT2A", "V2A", "T2A")


def test_bad_folders_and_tables_are_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("sound,words\na,b\n")
    (tmp_path / "twice.csv").write_text("name,caption\na.wav,b\na,c\n")
    for argv, match in (
        ({"folder": tmp_path / "none"}, "no such folder"),
        ({"folder": tmp_path / "empty"}, "no videos or sounds"),
        ({"folder": folder, "table": tmp_path / "t.csv"}, "expected a column of files"),
        ({"folder": folder, "table": tmp_path / "twice.csv"}, "earlier row"),
    ):
        with pytest.raises(UserError, match=match):
            build_folder_track("mine", out=tmp_path / "track", **argv)
    sound(folder / "doors" / "creak.flac")
    with pytest.raises(UserError, match="are the sound of one clip"):
        build_folder_track("mine", folder, tmp_path / "track")


def test_the_command_names_what_is_left_out(folder: Path, tmp_path: Path) -> None:
    argv = ["bench", "build", "folder", str(folder), "--out", str(tmp_path / "t"), "--name", "my"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.output
    assert '"name": "my"' in done.stdout and '"num_clips": 2' in done.stdout
    assert "water/untold: has no caption" in done.stderr


def record(clip_id: str, system: str, kl: float) -> ClipRecord:
    return ClipRecord(
        clip_id=clip_id, part="main", system=system, task="T2A", stage=None, kl={"yamnet": kl}
    )


def test_categories_with_enough_clips_have_a_row_with_their_own_mean() -> None:
    labels = ["a"] * LEAST_CLIPS + ["b"] * LEAST_CLIPS + ["few"] * (LEAST_CLIPS - 1)
    clips = tuple(
        TrackClip(
            clip_id=str(i), part="main", caption="c", duration_s=1.0, audio="own:a.wav", label=label
        )
        for i, label in enumerate(labels)
    )
    track = Track(
        folder=Path(),
        media=None,
        info=TrackInfo(name="t", version="1", built={"labels": "category"}),
        clips=clips,
        digests={},
        clips_sha256="",
        media_sha256="",
    )
    records = [
        record(c.clip_id, s, 1.0 + ("ab".find(c.label))) for c in clips for s in ("m", "oracle")
    ]
    header, *rows = category_rows(track, records)
    assert header == ["category", "clips", "m T2A: KL yamnet"]
    assert [(row[0], row[1], row[2].split()[0]) for row in rows] == [
        ("a", "10", "1.00"),
        ("b", "10", "2.00"),
    ]
    assert not category_rows(replace(track, info=replace(track.info, built={})), records)


def test_foleybench_rows_become_clips_with_their_categories(tmp_path: Path) -> None:
    """Its form on the Hub: videos in base64; what can't be used is named."""
    video = tmp_path / "one.mp4"
    write_video(video, ticks=range(0, 600, 25))
    with_sound = tmp_path / "two.mp4"
    noise_CN = 0.1 * np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32)
    heard = Audio(samples_CN=noise_CN, sample_rate_hz=16_000)
    write_video(with_sound, ticks=range(0, 600, 25), sound=heard)
    rows = {
        "key": ["a", "b", "c", "d"],
        "video_data": [
            base64.b64encode(with_sound.read_bytes()).decode(),
            base64.b64encode(video.read_bytes()).decode(),
            "no base64!",
            None,
        ],
        "caption": ["Wood\nis tapped.", "Silent.", "Bad.", "None."],
        "ucs_category": ["WOOD", "WATER", "WATER", "WATER"],
    }
    shards = tmp_path / "data"
    shards.mkdir()
    pq.write_table(pa.table(rows), shards / "train-00000-of-00001.parquet")
    made = build_foleybench_track(shards, tmp_path / "media", tmp_path / "track")
    (clip,) = made.track.clips
    assert (clip.label, clip.caption) == ("WOOD", "Wood is tapped.")
    assert made.track.path(clip.audio).read_bytes() == with_sound.read_bytes()
    assert dict(made.left_out) == {
        "0000002": "has no sound",
        "0000003": "its video is not in base64",
        "0000004": "has no video",
    }
    argv = ["bench", "build", "foleybench", str(shards), "--media", str(tmp_path / "media")]
    done = CliRunner().invoke(app, [*argv, "--out", str(tmp_path / "again")])
    assert json.loads(done.stdout)["name"] == "foleybench"
    assert read_track(tmp_path / "again").identity == made.track.identity
    with pytest.raises(UserError, match="no column 'kind'; it has key, video_data, caption, ucs"):
        build_foleybench_track(shards, tmp_path / "m", tmp_path / "t", category="kind")


def test_foleybench_files_without_a_usable_video_are_named_with_the_reason(tmp_path: Path) -> None:
    cases: list[tuple[Any, str]] = [
        ([], "0 rows, and none has a video$"),
        (["no base64!"], "1 rows, and none has a video; the first: 0000001: its video is not in"),
        ([{"bytes": b"x"}], "the first: 0000001: its video is no text in base64, but dict"),
        ([7, None], "2 rows, and none has a video; the first: 0000001: .*, but int"),
    ]
    file = tmp_path / "train.parquet"
    for videos, message in cases:
        kind = pa.string() if not videos else None
        texts = pa.array(["A sound."] * len(videos), pa.string())
        pq.write_table(pa.table({"video_data": pa.array(videos, kind), "caption": texts}), file)
        with pytest.raises(UserError, match=message):
            build_foleybench_track(file, tmp_path / "media", tmp_path / "track")
    for category in ("video_data", "caption"):
        with pytest.raises(UserError, match="expected a column of categories"):
            build_foleybench_track(file, tmp_path / "m", tmp_path / "t", category=category)
    with pytest.raises(UserError, match="no column 'kind'"):
        build_foleybench_track(file, tmp_path / "m", tmp_path / "t", category="kind")
    with pytest.raises(UserError, match="nowhere: no such file or folder; expected FoleyBench's"):
        build_foleybench_track(tmp_path / "nowhere", tmp_path / "m", tmp_path / "t")
    assert not (tmp_path / "m").exists()


def test_foleybench_videos_of_another_release_are_replaced_even_at_equal_size(
    tmp_path: Path,
) -> None:
    """Lines in base64 may be broken, as `base64` and MIME break them."""
    sound = 0.1 * np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32)
    file = tmp_path / "one.mp4"
    write_video(file, ticks=[0, 100], sound=Audio(samples_CN=sound, sample_rate_hz=16_000))
    video = file.read_bytes()
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "0000001.mp4").write_bytes(bytes(len(video)))
    rows = {"video_data": [base64.encodebytes(video).decode()], "caption": ["A sound."]}
    pq.write_table(pa.table(rows), tmp_path / "train.parquet")
    build_foleybench_track(tmp_path / "train.parquet", tmp_path / "media", tmp_path / "track")
    assert (tmp_path / "media" / "0000001.mp4").read_bytes() == video
