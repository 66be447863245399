"""A manifest comes back as it was, and says where it is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.config import from_json
from omni2sound.data.corpora.manifest import (
    SPLITS,
    Clip,
    clip_to_json,
    count_clips,
    read_manifest,
    write_manifest,
)
from omni2sound.errors import ConfigError, UserError

WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
SECONDS = st.floats(0, 1e5, exclude_min=True)
CLIPS = st.builds(
    Clip,
    clip_id=WORDS,
    corpus=WORDS,
    split=st.sampled_from(SPLITS),
    audio=st.none() | st.just("a/b.wav"),
    video=st.just("b.mp4"),
    start_s=SECONDS,
    duration_s=st.none() | SECONDS,
    captions=st.lists(WORDS, max_size=3).map(tuple),
    labels=st.lists(WORDS, max_size=3).map(tuple),
    source=st.just("") | WORDS,
    source_start_s=st.none() | SECONDS,
    quality=st.none() | st.floats(-1, 1),
)


def clip(name: str = "one", **more: object) -> Clip:
    known: dict[str, object] = {"clip_id": name, "corpus": "c", "split": "train", "audio": "a.wav"}
    return Clip(**(known | more))  # type: ignore[arg-type]


@given(CLIPS)
def test_a_clip_survives_json(some: Clip) -> None:
    assert from_json(Clip, json.loads(json.dumps(clip_to_json(some)))) == some


def test_a_manifest_survives_its_file_and_moves_with_its_media(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "media").mkdir(parents=True)
    clips = (clip("one"), clip("two", split="test", captions=("ä dog\u2028barks",)))
    write_manifest(corpus / "m.jsonl", clips, media=corpus / "media")
    shutil.move(corpus, tmp_path / "elsewhere")
    manifest = read_manifest(tmp_path / "elsewhere" / "m.jsonl")
    assert manifest.clips == clips
    assert manifest.media == tmp_path / "elsewhere" / "media"
    assert manifest.of_split("test") == clips[1:]
    with pytest.raises(UserError, match="no clips in split 'val'; it has test, train"):
        manifest.of_split("val")


def test_media_far_away_are_named_by_their_whole_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_manifest(tmp_path / "a" / "m.jsonl", [clip()], media=tmp_path / "b")
    shutil.move(tmp_path / "a" / "m.jsonl", tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl").media == tmp_path / "b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio": "../secret.wav"}, "below the media folder"),
        ({"audio": "/etc/passwd"}, "below the media folder"),
        ({"audio": None}, "neither audio nor video"),
        ({"split": "dev"}, "split: expected one of 'train', 'val', 'test'"),
        ({"duration_s": 0}, "more than 0"),
        ({"start_s": float("nan")}, "NaN is no JSON"),
        ({"start_s": -1.0}, "0 or more"),
        ({"captions": "a dog"}, "captions: expected a list"),
        ({"quality": "good"}, "quality: expected float"),
        ({"clip_id": ""}, "clip_id is empty"),
        ({"sound": "x"}, "unknown field 'sound'"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_manifest(tmp_path / "m.jsonl", [clip("one"), clip("two")], media=tmp_path)
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | change)
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    for read in (read_manifest, count_clips):
        with pytest.raises(ConfigError, match=rf"m.jsonl:3: .*{message}"):
            read(tmp_path / "m.jsonl")


def test_what_is_no_manifest_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with pytest.raises(UserError, match="no such manifest"):
        read_manifest(path)
    path.write_text('{"id": "scene-1", "events": "scene-1/events.json"}\n')
    with pytest.raises(UserError, match="data import scenes"):
        read_manifest(path)
    write_manifest(path, [clip("one"), clip("one")], media=tmp_path)
    for read in (read_manifest, count_clips):
        with pytest.raises(ConfigError, match=r"m\.jsonl:3: clip 'one' is in line 2 too"):
            read(path)


@pytest.mark.parametrize("num", [0, 1, 3])
def test_clips_are_counted_as_they_are_read(tmp_path: Path, num: int) -> None:
    write_manifest(tmp_path / "m.jsonl", [clip(str(n)) for n in range(num)], media=tmp_path)
    assert count_clips(tmp_path / "m.jsonl") == len(read_manifest(tmp_path / "m.jsonl").clips)


def test_media_outside_the_folder_of_a_manifest_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "omni2sound")
    (tmp_path / "own").mkdir()
    path = tmp_path / "own" / "clips.jsonl"
    for media, said in ((".", False), ("media", False), ("..", True), ("/etc", True)):
        path.write_text(json.dumps({"omni2sound_manifest": 1, "media": media}) + "\n")
        caplog.clear()
        for _ in range(2):
            read_manifest(path)
        texts = [record.getMessage() for record in caplog.records]
        assert len(texts) == said
        assert all("lie outside its folder" in text for text in texts)
