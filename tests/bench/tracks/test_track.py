"""Tracks: two people build the same, damage is found, and a score needs nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from omni2sound.bench.tracks.scenes import (
    TrackPlan,
    build_scene_track,
    read_truth,
    stored_recordings,
)
from omni2sound.bench.tracks.track import (
    CLIPS,
    Track,
    TrackClip,
    TrackInfo,
    read_track,
    write_track,
)
from omni2sound.data.workers import Workers
from omni2sound.errors import ConfigError, IntegrityError, UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe

pytestmark = pytest.mark.slow

SHORT = TrackPlan(num_clips=4, seed=3, duration_s=2.0)
CLIP = TrackClip(
    clip_id="a", part="main", caption="a dog barks", duration_s=8.0, audio="media:sounds/a.wav"
)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def short(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Track:
    """The first four clips of `scene_track`, built alone."""
    return build_scene_track(store, tmp_path_factory.mktemp("short"), SHORT)


def test_two_people_build_the_same_bytes(short: Track, store: Path, tmp_path: Path) -> None:
    again = build_scene_track(store, tmp_path / "again", SHORT, workers=Workers(count=2))
    assert again.identity == short.identity
    assert bytes_of(again.folder) == bytes_of(short.folder)


def test_a_longer_track_begins_with_the_shorter_one(scene_track: Track, short: Track) -> None:
    assert short.clips == scene_track.clips[:4] == scene_track.limited(4).clips
    assert [c.part for c in short.clips] == ["main", "offscreen"] * 2
    for clip in short.clips:
        assert short.digests[clip.clip_id] == scene_track.digests[clip.clip_id]


def test_another_seed_is_another_track_and_is_not_written_over(
    scene_track: Track, store: Path, tmp_path: Path
) -> None:
    other = TrackPlan(num_clips=2, seed=4, duration_s=2.0)
    with pytest.raises(UserError, match="another track"):
        build_scene_track(store, scene_track.folder, other)
    track = build_scene_track(store, tmp_path, other)
    assert track.clips_sha256 != scene_track.clips_sha256


def test_a_stopped_build_goes_on_to_the_same_bytes(
    short: Track, store: Path, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_scene_track(store, tmp_path, SHORT, on_clip=stop)
    with pytest.raises(UserError, match="holds no track"):
        read_track(tmp_path)
    build_scene_track(store, tmp_path, SHORT)
    assert bytes_of(tmp_path) == bytes_of(short.folder)


def test_clips_hold_what_they_say(scene_track: Track) -> None:
    for clip in scene_track.clips:
        assert clip.video is not None and clip.truth is not None
        video = probe(scene_track.path(clip.video))
        assert video.audio is None  # a system must not look there
        assert read_audio(scene_track.path(clip.audio)).duration_s == 2
        scene, events = read_truth(scene_track.path(clip.truth))
        assert scene.duration_s == clip.duration_s
        unseen = [e for e in events if not e.on_screen]
        assert bool(unseen) == (clip.part == "offscreen")
    heard = stored_recordings(scene_track)
    assert all(len(heard.waveform(r.recording_id)) for r in heard.catalogue.recordings)


def test_a_changed_line_is_found(scene_track: Track, tmp_path: Path) -> None:
    for path in scene_track.folder.glob("*.json*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    changed = (tmp_path / CLIPS).read_text(encoding="utf-8").replace("main", "offscreen", 1)
    (tmp_path / CLIPS).write_text(changed, encoding="utf-8")
    with pytest.raises(IntegrityError, match="changed since"):
        read_track(tmp_path)


def test_ids_are_those_of_the_clips_and_not_of_their_place(tmp_path: Path) -> None:
    tracks = []
    for person in ("one", "two"):
        media = tmp_path / person / "media"
        (media / "sounds").mkdir(parents=True)
        (media / "sounds" / "a.wav").write_bytes(person.encode())
        folder = tmp_path / person / "track"
        folder.mkdir()
        info = TrackInfo(name="mine", version="1", tasks=("T2A",))
        tracks.append(write_track(folder, info, [CLIP], media=media))
    one, two = tracks
    assert one.clips_sha256 == two.clips_sha256  # the same clips, captions and decisions
    assert one.media_sha256 != two.media_sha256  # but other copies of them
    assert two.path(CLIP.audio).read_bytes() == b"two"
    assert replace(one, folder=two.folder).info.tasks == ("T2A",)


@pytest.mark.parametrize("path", ["a.wav", "own:../a.wav", "media:/etc/passwd", "http://x/a.wav"])
def test_no_path_leads_out(path: str) -> None:
    with pytest.raises(ConfigError, match="path"):
        replace(CLIP, audio=path)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a:b", "a\nb"])
def test_an_id_must_be_able_to_name_a_file(name: str) -> None:
    with pytest.raises(ConfigError, match="clip id"):
        replace(CLIP, clip_id=name)


def test_empty_and_repeated_clips_are_refused(tmp_path: Path) -> None:
    info = TrackInfo(name="mine", version="1")
    with pytest.raises(UserError, match="at least one clip"):
        write_track(tmp_path, info, [])
    with pytest.raises(ConfigError, match="twice"):
        write_track(tmp_path, info, [CLIP, CLIP], media=tmp_path)
    (tmp_path / "track.json").write_text(json.dumps({"omni2sound_track": 99}), encoding="utf-8")
    with pytest.raises(ConfigError, match="format 1"):
        read_track(tmp_path)
