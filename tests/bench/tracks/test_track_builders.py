"""Tracks from other people's data: who is in, who is out, why, and the same for two people."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from omni2sound.bench.tracks.caption_check import HeardSound, ModalityCheck, flags_of
from omni2sound.bench.tracks.music_mixes import MixPlan, choose_clips
from omni2sound.bench.tracks.public import (
    Columns,
    build_corpus_track,
    build_recaptioned_track,
    build_table_track,
    read_caption_rows,
    read_table,
)
from omni2sound.bench.tracks.review import decide, read_queue
from omni2sound.bench.tracks.scenes import stored_recordings
from omni2sound.bench.tracks.track import Track, read_track
from omni2sound.bench.tracks.vggsound import (
    CaptionRow,
    VggsoundPlan,
    Waiting,
    build_vggsound_track,
)
from omni2sound.data.corpora.manifest import Clip, Manifest
from omni2sound.errors import Refused, UserError
from omni2sound.llm.chat import ChatReply, ChatRequest, ModelId
from omni2sound.media.audio import read_audio
from omni2sound.media.mux import mux
from omni2sound.media.samples import Audio

RATE_HZ = 16_000
NAMES = [f"clip{k}" for k in range(8)]


def quiet(step: str) -> Callable[[int, int], None]:
    return lambda done, total: None


def seen(sound: str, answer: str = "yes") -> HeardSound:
    return HeardSound.model_validate({"sound": sound, "seen": answer})


GOOD = {"only_visible": (), "label_fits": True, "background_voice": False, "reason": "fits"}
CHECKS = {
    "clip0": ModalityCheck(sounds=(seen("bark"),), **GOOD),
    "clip1": ModalityCheck(sounds=(seen("bark"),), **GOOD),
    "clip2": ModalityCheck(sounds=(seen("bark"), seen("siren", "no")), **GOOD),
    "clip3": ModalityCheck(
        sounds=(seen("bark"), seen("voice", "no")), **{**GOOD, "background_voice": True}
    ),
    "clip4": ModalityCheck(sounds=(seen("bark"),), **{**GOOD, "only_visible": ("red coat",)}),
    "clip5": ModalityCheck(sounds=(seen("bark", "unclear"),), **GOOD),
    "clip7": ModalityCheck(sounds=(seen("siren", "no"),), **GOOD),
}


class Scripted:
    """A chat model that has its answers by heart and counts what it is asked."""

    id = ModelId(endpoint="local", model="scripted")

    def __init__(self) -> None:
        self.asked: list[ChatRequest] = []

    async def ask(self, request: ChatRequest) -> ChatReply:
        self.asked.append(request)
        if request.label not in CHECKS:
            raise Refused("I would rather not")
        return ChatReply(text=CHECKS[request.label].model_dump_json())


@pytest.fixture(scope="module")
def media(scene_track: Track, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos with sound, as VGGSound has them."""
    folder = tmp_path_factory.mktemp("vggsound")
    for name, clip in zip(NAMES, scene_track.clips, strict=True):
        assert clip.video is not None
        quiet_scene = read_audio(scene_track.path(clip.audio))
        room = 0.02 * np.random.default_rng(0).standard_normal(quiet_scene.samples_CN.shape)
        sound = Audio(
            samples_CN=(0.9 * quiet_scene.samples_CN + room).astype(np.float32),
            sample_rate_hz=RATE_HZ,
        )
        mux(scene_track.path(clip.video), sound, folder / f"{name}.mp4")
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("music")
    time_s = np.arange(20 * 22_050) / 22_050
    clips = []
    for name, hz in (("low", 110), ("high", 880)):
        soundfile.write(folder / f"{name}.wav", 0.3 * np.sin(2 * np.pi * hz * time_s), 22_050)
        clips.append(
            Clip(
                clip_id=name,
                corpus="musiccaps",
                split="test",
                audio=f"{name}.wav",
                duration_s=20.0,
                captions=(f"a {name} tone",),
            )
        )
    return Manifest(path=folder / "m.jsonl", media=folder, clips=tuple(clips))


CLIPS = [
    Clip(
        clip_id=name,
        corpus="vggsound",
        split="test",
        video=f"{name}.mp4",
        labels=("dog barking",),
        source=f"youtube:{name}",
        source_start_s=30.0,
    )
    for name in NAMES
]
CAPTIONS = {n: CaptionRow(caption=f"A dog barks, {n}.", visual="a dog") for n in NAMES}


def build(
    media: Path, top: Path, music: Manifest | None, *, model: Scripted | None = None, **changes: Any
) -> Track | Waiting:
    plan = VggsoundPlan(mixes=MixPlan(count=2, seed=5), captions_by="us", clip_s=2.0)
    captions = changes.pop("captions", CAPTIONS)
    return build_vggsound_track(
        CLIPS,
        media,
        captions,
        top / "track",
        top / "work",
        plan,
        model=model,
        hears_speech=changes.pop("hears_speech", lambda path: path.stem == "clip7"),
        music=music,
        missing=("gone",),
        on_step=quiet,
    )


def work_through(queue: Path) -> None:
    when = datetime(2026, 11, 24, 10, tzinfo=UTC)
    decide(queue, "clip4", "edit", who="ann", when=when, new_caption="A dog barks.")
    decide(queue, "clip5", "reject", who="ann", when=when)
    decide(queue, "clip6", "accept", who="bob", when=when)


@pytest.fixture(scope="module")
def built(
    media: Path, music: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Track, Path]:
    top = tmp_path_factory.mktemp("vgg")
    waiting = build(media, top, music, model=Scripted())
    assert isinstance(waiting, Waiting)
    work_through(waiting.queue)
    track = build(media, top, music, model=Scripted())
    assert isinstance(track, Track)
    return track, top


def test_doubts_wait_for_a_person_and_nothing_is_written_before(
    media: Path, music: Manifest, tmp_path: Path
) -> None:
    model = Scripted()
    waiting = build(media, tmp_path, music, model=model)
    assert isinstance(waiting, Waiting) and waiting.num_waiting == 3
    rows = {row.clip_id: row.flags for row in read_queue(waiting.queue)}
    assert rows["clip4"] == "only visible: red coat"
    assert rows["clip5"] == "seen or not"
    assert "I would rather not" in rows["clip6"]  # the model refused: a person looks
    assert len(model.asked) == 8
    assert "Silent video: a dog" in str(model.asked[0].messages)
    with pytest.raises(UserError, match="holds no track"):
        read_track(tmp_path / "track")


def test_every_clip_is_in_or_out_for_a_reason(built: tuple[Track, Path]) -> None:
    track, _ = built
    parts = {c.clip_id: c.part for c in track.clips}
    mixes = [i for i in parts if i.endswith("+music")]
    assert len(mixes) == 2
    assert {i: p for i, p in parts.items() if i not in mixes} == {
        "clip0": "main",
        "clip1": "main",
        "clip2": "offscreen",
        "clip4": "main",
        "clip6": "main",
    }
    captions = {c.clip_id: c.caption for c in track.clips}
    assert captions["clip4"] == "A dog barks."
    lines = (track.folder / "decisions.jsonl").read_text(encoding="utf-8").splitlines()
    told = {line["clip_id"]: line for line in map(json.loads, lines)}
    assert set(told) == {*NAMES, *mixes, "gone"}
    assert told["gone"]["out"] == "media missing"
    assert "background voice" in told["clip3"]["out"]
    assert "speech was tagged" in told["clip7"]["out"]
    assert told["clip5"]["out"] == "rejected in review"
    review = {"decision": "edit", "who": "ann", "when": "2026-11-24T10:00:00+00:00"}
    assert told["clip4"]["review"] == {**review, "flags": "only visible: red coat"}
    assert told["clip4"]["caption_before"] == CAPTIONS["clip4"].caption
    assert track.info.built["checked_by"] == "scripted at local"


def test_two_people_build_the_same_track(
    built: tuple[Track, Path], media: Path, music: Manifest, tmp_path: Path
) -> None:
    track, _ = built
    waiting = build(media, tmp_path, music, model=Scripted())
    assert isinstance(waiting, Waiting)
    work_through(waiting.queue)
    again = build(media, tmp_path, music, model=Scripted())
    assert isinstance(again, Track)
    assert again.identity == track.identity
    for name in ("track.json", "clips.jsonl", "digests.jsonl", "decisions.jsonl"):
        assert (again.folder / name).read_bytes() == (track.folder / name).read_bytes()


def test_a_mix_has_the_snr_and_onset_that_it_says(built: tuple[Track, Path], media: Path) -> None:
    track, _ = built
    for clip in (c for c in track.clips if c.clip_id.endswith("+music")):
        mix, draw = clip.origin, clip.origin["mix"]
        own = read_audio(media / f"{mix['of']}.mp4", mono=True, duration_s=2).samples_CN[0]
        both = read_audio(track.path(clip.audio)).samples_CN[0] / mix["scaled_by"]
        added = both - own
        first = round(draw["onset_s"] * RATE_HZ)
        assert np.abs(added[: first - 1]).max() < 1e-3
        snr_db = 10 * np.log10(np.mean(own[first:] ** 2) / np.mean(added[first:] ** 2))
        assert snr_db == pytest.approx(draw["snr_db"], abs=0.5)  # the fade takes a little
        assert -5 <= draw["snr_db"] <= 10
        assert draw["music_caption"] in clip.caption


def test_a_decision_falls_with_its_caption(media: Path, music: Manifest, tmp_path: Path) -> None:
    waiting = build(media, tmp_path, None, model=Scripted())
    assert isinstance(waiting, Waiting)
    work_through(waiting.queue)
    changed = {**CAPTIONS, "clip4": CaptionRow(caption="Two dogs bark.")}
    again = build(media, tmp_path, None, model=Scripted(), captions=changed)
    assert isinstance(again, Waiting) and again.num_waiting == 1


def test_low_similarity_is_off_screen_without_a_model(media: Path, tmp_path: Path) -> None:
    captions = {n: CaptionRow(caption="x", similarity=0.1 if n == "clip1" else 0.4) for n in NAMES}
    track = build(media, tmp_path, None, captions=captions, hears_speech=lambda path: False)
    assert isinstance(track, Track)
    assert [c.clip_id for c in track.clips if c.part == "offscreen"] == ["clip1"]
    assert track.info.built["checked_by"] is None


def test_half_filled_rows_are_no_decisions(media: Path, tmp_path: Path) -> None:
    waiting = build(media, tmp_path, None, model=Scripted())
    assert isinstance(waiting, Waiting)
    when = datetime(2026, 11, 24, tzinfo=UTC)
    with pytest.raises(UserError, match="edit needs"):
        decide(waiting.queue, "clip4", "edit", who="ann", when=when)
    with pytest.raises(UserError, match="not who and when"):
        decide(waiting.queue, "clip4", "accept", who="", when=when)
    with pytest.raises(UserError, match="has no clip"):
        decide(waiting.queue, "nobody", "accept", who="ann", when=when)
    text = waiting.queue.read_text(encoding="utf-8")
    waiting.queue.write_text(text.replace("seen or not", "x,y"), encoding="utf-8")
    with pytest.raises(UserError):
        read_queue(waiting.queue)


def test_flags_say_what_is_doubted() -> None:
    assert flags_of(CHECKS["clip0"]) == ()
    assert flags_of(CHECKS["clip2"]) == ()  # unseen is no doubt, it is a part of the track
    nothing = ModalityCheck(sounds=(), **{**GOOD, "label_fits": False})
    assert flags_of(nothing) == ("no sound", "label")


def test_which_clips_get_music_does_not_depend_on_the_others() -> None:
    ids = [f"c{k}" for k in range(50)]
    plan = MixPlan(count=10, seed=1)
    chosen = choose_clips(ids, plan)
    without = [i for i in ids if i not in chosen][:20]
    assert choose_clips([i for i in ids if i not in without], plan) == chosen
    assert choose_clips(ids[::-1], plan) == chosen


# --- further tracks ---------------------------------------------------------------------


def test_audiocaps_gets_one_caption_of_five_by_seed(media: Path, tmp_path: Path) -> None:
    five = tuple(f"caption {k}" for k in range(5))
    clips = [
        Clip(clip_id=n, corpus="audiocaps", split="test", audio=f"{n}.mp4", captions=five)
        for n in NAMES
    ]
    one = build_corpus_track("audiocaps", clips, media, tmp_path / "a", clip_s=10.0, seed=0)
    two = build_corpus_track("audiocaps", clips[::-1], media, tmp_path / "b", clip_s=10.0, seed=0)
    assert one.identity == two.identity
    assert one.info.tasks == ("T2A",)  # there is no picture
    assert len({c.caption for c in one.clips}) > 1
    assert all(c.origin["captions"] == list(five) for c in one.clips)


def test_a_table_needs_its_columns_and_files(media: Path, tmp_path: Path) -> None:
    columns = Columns(clip_id="uid", caption="text", video="path")
    row = {"uid": "k1", "text": "A dog.", "path": "clip0.mp4"}
    track = build_table_track(
        "kling-audio-eval", [row], media, tmp_path, columns=columns, clip_s=8.0
    )
    assert track.clips[0].audio == "media:clip0.mp4"
    for wrong, words in (({**row, "text": ""}, "no 'text'"), ({**row, "path": "x.mp4"}, "no file")):
        with pytest.raises(UserError, match=words):
            build_table_track(
                "kling-audio-eval", [wrong], media, tmp_path, columns=columns, clip_s=8.0
            )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_captions_may_hold_what_splits_lines_elsewhere(
    media: Path, tmp_path: Path, suffix: str
) -> None:
    # huggingface/tau#354, datalad/datalad#3523: captions by models, titles of videos.
    texts = [
        "then\u2028rain",
        "wind\x85blows",
        "a door\x0ccloses",
        "one\u2029two",
        "a,\nb",
        'a "x"',
    ]
    rows = [
        {"id": n, "caption": t, "video": f"{n}.mp4"} for n, t in zip(NAMES, texts, strict=False)
    ]
    table = tmp_path / f"table{suffix}"
    if suffix == ".csv":
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".jsonl":
        table.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), table)
    track = build_table_track(
        "t", read_table(table), media, tmp_path / "track", columns=Columns(), clip_s=2.0
    )
    assert [clip.caption for clip in read_track(track.folder).clips] == texts
    table.write_text('id,caption,video\na,"rain')
    if suffix == ".csv":
        with pytest.raises(UserError, match=r"table\.csv:2: not CSV: a quote is never closed"):
            read_table(table)


def test_foreign_captions_change_captions_only(scene_track: Track, tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    lines = [f"{c.clip_id},Something else" for c in scene_track.clips[1:]]
    table.write_text("\n".join(["name,caption", *lines]) + "\n", encoding="utf-8")
    texts = {name: row["caption"] for name, row in read_caption_rows(table).items()}
    track, left_out = build_recaptioned_track(
        scene_track, texts, "video-llama", tmp_path / "foreign"
    )
    assert left_out == (scene_track.clips[0].clip_id,)
    assert track.info.name == "stage-omni+captions-video-llama"
    for ours, theirs in zip(track.clips, scene_track.clips[1:], strict=True):
        assert ours.caption == "Something else"
        assert ours.origin["caption_before"] == theirs.caption
        assert track.digests[ours.clip_id] == scene_track.digests[theirs.clip_id]
    assert stored_recordings(track).catalogue == stored_recordings(scene_track).catalogue


def test_audio_is_what_the_clip_says(built: tuple[Track, Path]) -> None:
    track, _ = built
    for clip in track.clips:
        assert clip.duration_s == 2
        assert read_audio(track.path(clip.audio), duration_s=2).duration_s == 2
