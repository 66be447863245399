"""Corpora of YouTube's videos with the odd rows and names that public reports tell of.

The other corpora are in `test_reports_by_name`. The reports stand beside the inputs as
OWNER/REPOSITORY#NUMBER; docs/reference/corpora.md tells them in words. Right means: the file is
the clip's, or the clip is listed, with the reason.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from omni2sound.data.corpora import importer
from omni2sound.data.corpora.assemble import assemble
from omni2sound.data.corpora.finding.folder import MediaFolder
from tests.data.corpora.media import run, sound, unsure, video, write

TEN_S, SIXTY_S = sound(10.0), sound(60.0)
A, B, C, D, E = "AAAAAAAAAA1", "-BBBBBBBBB2", "_CCCCCCCCC3", "--DDDDDDDD4", "YEEEEEEEEE5"


def vggsound(*rows: tuple[str, int]) -> dict[str, str]:
    return {"vggsound.csv": "".join(f"{v},{s},dog barking,train\n" for v, s in rows)}


@pytest.mark.parametrize(
    "name",
    [
        "{id}_000030.mp4",  # the project's own archives
        "{id}_30.mp4",
        "{id}_30_40.mp4",
        "{id}_30000_40000.mp4",  # hche11/VGGSound#6: hpDY7u8B8hE_5000_15000
        "{id}_000030_000040.mp4",
        "{id}_30.0_40.0.mp4",
        "{id}_30.000.wav",  # audeering/audtorch#53: --i-y1v8Hy8_0.000.wav
        "{id}_30.0-40.0.wav",  # MorenoLaQuatra/audioset-download#3
        "Y{id}_30.000_40.000.wav",  # CASIA-IVA-Lab/ChatBridge#3, DCASE-REPO/dcase2018_baseline#27
        "Y{id}.wav",  # qiuqiangkong/audioset_tagging_cnn#57
        "[{id}]-[30-40].wav",
        "A dog [{id}] 30-40.mkv",
        "{id}_30.mp4.wav",  # `ffmpeg -i $f $f.wav`
        "{id}.mkv",
        "dog barking/{id}_30.m4a",  # folders by class: aoifemcdonagh/audioset-processing
        "train/00/{id}_000030.webm",
    ],
)
@pytest.mark.parametrize("youtube_id", [A, B, C, D, E])
def test_a_segment_is_found_by_the_names_of_downloaders(
    tmp_path: Path, name: str, youtube_id: str
) -> None:
    path = name.format(id=youtube_id)
    data = video(10.0) if path.endswith((".mp4", ".mkv", ".webm")) else TEN_S
    clips, report = run("vggsound", vggsound((youtube_id, 30)), {path: data}, tmp_path)
    (clip,) = clips.values()
    assert clip.sound_file == path
    assert (clip.start_s, clip.duration_s) == (0.0, 10.0)
    assert not report.unsure


@pytest.mark.parametrize(
    "name",
    [
        "{id}.mp4",  # whole videos, as yt-dlp saves them
        "A title, with [brackets] [{id}].mp4",  # yt-dlp/yt-dlp#6416
        "A title-{id}.mp4",  # mhogomchungu/media-downloader#366
        "{id}.f137.mp4",  # ytdl-org/youtube-dl#4355
    ],
)
@pytest.mark.parametrize("youtube_id", [A, D])
def test_a_whole_video_is_cut_at_the_start_time(tmp_path: Path, name: str, youtube_id: str) -> None:
    path = name.format(id=youtube_id)
    rows = vggsound((youtube_id, 30), (youtube_id, 50), (youtube_id, 0))
    clips, report = run("vggsound", rows, {path: video(60.0)}, tmp_path)
    assert [(c.video, c.start_s, c.duration_s) for c in clips.values()] == [
        (path, 30.0, 10.0),
        (path, 50.0, 10.0),
        (path, 0.0, 10.0),
    ]
    assert not report.unsure


def test_vggsound(tmp_path: Path) -> None:
    rows = vggsound((A, 30), (B, 30), (C, 100), (D, 7), (D, 90), (E, 5), ("FFFFFFFFFF6", 1))
    more = vggsound(
        ("GGGGGGGGGG7", 10), ("HHHHHHHHHH8", 2), ("IIIIIIIIII9", 20), ("aaaaaaaaaa1", 3)
    )
    clips, report = run(
        "vggsound",
        {"vggsound.csv": rows["vggsound.csv"] + more["vggsound.csv"]},
        {
            # nateraw/download-musiccaps-dataset#3: 20 s where 10 s were asked for
            f"{A}_000030.mp4": video(20.0),
            # YuanGongND/cav-mae#9: 2 s, 3 s of 10 s
            f"{C}_000100.mp4": video(2.0),
            f"{B}.mp4": video(3.0),
            # two segments of one video, and one file of 10 s named by the video
            f"{D}.mp4": video(10.0),
            # sound alone named mp4, pictures alone, a broken download
            f"{E}_000005.mp4": video(10.0, has_pictures=False),
            "FFFFFFFFFF6_000001.mp4": video(10.0, has_sound=False),
            "GGGGGGGGGG7_000010.mp4": video(10.0)[:700],
            "HHHHHHHHHH8_000002.mp4": b"",
            # another segment of the video
            "IIIIIIIIII9_000090.mp4": video(10.0),
            "IIIIIIIIII9_000020.mp4.part": video(10.0),
        },
        tmp_path,
    )
    assert set(clips) == {f"{C}_000100", f"{E}_000005"}
    assert clips[f"{C}_000100"].duration_s == pytest.approx(2.0, abs=0.2)
    assert [s.clip_id for s in report.short] == [f"{C}_000100"]
    assert (clips[f"{E}_000005"].audio, clips[f"{E}_000005"].video) == (f"{E}_000005.mp4", None)
    # Ids that differ in case alone are two videos.
    assert report.missing == ("IIIIIIIIII9_000020", "aaaaaaaaaa1_000003")
    reasons = unsure(report)
    assert "where the clip begins in it is not known" in reasons[f"{A}_000030"]
    assert "too short for the whole video" in reasons[f"{B}_000030"]
    assert reasons[f"{D}_000007"].startswith("one file for several clips")
    assert reasons[f"{D}_000090"] == reasons[f"{D}_000007"]
    assert reasons["FFFFFFFFFF6_000001"] == "has pictures but no sound"
    assert "damaged or cut off" in reasons["GGGGGGGGGG7_000010"]
    assert "the file is empty" in reasons["HHHHHHHHHH8_000002"]


def test_audioset(tmp_path: Path) -> None:
    header = "# YTID, start_seconds, end_seconds, positive_labels\n"
    rows = [(A, 30, 40), (B, 0, 10), (C, 20, 27), (D, 70, 80), (E, 390, 400)]
    table = header + "".join(f'{v}, {s}.000, {e}.000, "/m/068hy,/m/0bt9lr"\n' for v, s, e in rows)
    clips, report = run(
        "audioset",
        {"balanced_train_segments.csv": table.replace("\n", "\r\n")},
        {
            # one sound under each of its classes: aoifemcdonagh/audioset-processing
            f"Animal/{A}_30.0-40.0.wav": TEN_S,
            f"Dog/{A}_30.0-40.0.wav": TEN_S,
            f"Animal/{B}_0.wav": sound(10.0, 440.0),
            f"Dog/{B}_0.wav": sound(10.0, 880.0),
            # a segment at the end of a video lasts less than 10 s, in the table too
            f"Y{C}.wav": sound(7.0),
            # the video ended before the segment did
            f"Y{D}.wav": sound(8.2),
            # MorenoLaQuatra/audioset-download#3: files of no length
            f"{E}_390.0-400.0.wav": sound(0.0),
        },
        tmp_path,
    )
    assert clips[f"{A}_30000"].audio == f"Animal/{A}_30.0-40.0.wav"
    assert (clips[f"{C}_20000"].duration_s, clips[f"{D}_70000"].duration_s) == (7.0, 8.2)
    assert [s.clip_id for s in report.short] == [f"{D}_70000"]
    assert set(unsure(report)) == {f"{B}_0", f"{E}_390000"}
    assert "several files that differ" in unsure(report)[f"{B}_0"]


def audiocaps(*rows: tuple[int, str, int]) -> dict[str, str]:
    lines = [f'{n},{v},{s},"it rains, and a man speaks"' for n, v, s in rows]
    return {"train.csv": "\n".join(["audiocap_id,youtube_id,start_time,caption", *lines, ""])}


def test_audiocaps(tmp_path: Path) -> None:
    # hkchengrex/MMAudio#64: files by audiocap_id or by YouTube id; a missing one took FSD50K's.
    clips, report = run(
        "audiocaps",
        audiocaps((101, A, 0), (102, B, 40), (103, C, 20), (104, D, 30), (105, E, 9)),
        {
            f"audiocaps/{A}.wav": TEN_S,
            "audiocaps/102.wav": TEN_S,
            "FSD50K.dev_audio/103.wav": TEN_S,
            "fma_small/000/000104.mp3": sound(30.0),
            "somewhere/105.wav": TEN_S,
        },
        tmp_path,
    )
    assert {c: clip.audio for c, clip in clips.items()} == {
        f"{A}_0": f"audiocaps/{A}.wav",
        f"{B}_40000": "audiocaps/102.wav",
    }
    assert report.missing == (f"{C}_20000", f"{D}_30000")
    assert unsure(report) == {
        f"{E}_9000": "may be another corpus's; put it into a folder named audiocaps"
    }


@pytest.mark.parametrize("root", ["FSD50K.eval_audio", "fma_full", "esc50"])
def test_a_number_in_a_folder_of_another_corpus_alone_is_not_sure(
    tmp_path: Path, root: str
) -> None:
    write(tmp_path / "published", {n: t.encode() for n, t in audiocaps((1, A, 30)).items()})
    write(tmp_path / root, {"1.wav": TEN_S})
    items = importer("audiocaps")(tmp_path / "published")
    clips, report = assemble("audiocaps", items, MediaFolder(tmp_path / root))
    assert not clips
    assert set(unsure(report)) == {f"{A}_30000"}


def test_a_number_beside_folders_of_corpora_is_not_sure(tmp_path: Path) -> None:
    files = {"1.wav": TEN_S, "clotho/rain.wav": TEN_S, "audiocaps/2.wav": TEN_S}
    clips, report = run("audiocaps", audiocaps((1, A, 30), (2, B, 30)), files, tmp_path)
    assert set(clips) == {f"{B}_30000"}
    assert set(unsure(report)) == {f"{A}_30000"}


def test_audiocaps_by_numbers_in_a_folder_of_its_own(tmp_path: Path) -> None:
    clips, report = run(
        "audiocaps",
        audiocaps((1, A, 0), (2, B, 40), (3, C, 20)),
        {"train/1.wav": TEN_S, "train/2.wav": sound(4.0), "train/3.wav": SIXTY_S},
        tmp_path,
    )
    assert set(clips) == {f"{A}_0"}
    assert "perhaps another sound" in unsure(report)[f"{B}_40000"]
    assert "not known" in unsure(report)[f"{C}_20000"]


def test_audiocaps_rows_of_one_clip_have_numbers_of_their_own(tmp_path: Path) -> None:
    rows = audiocaps((7, A, 30))["train.csv"] + f"8,{A},30,rain\n"
    clips, _ = run("audiocaps", {"test.csv": rows}, {"8.wav": TEN_S}, tmp_path)
    assert clips[f"{A}_30000"].audio == "8.wav"


def test_audiocaps_of_a_spreadsheet_without_numbers_of_rows(tmp_path: Path) -> None:
    rows = f"youtube_id;start_time;caption\r\n{A};30;rain, then wind\r\n;;\r\n"
    clips, report = run("audiocaps", {"train.csv": rows}, {f"{A}_30.wav": TEN_S}, tmp_path)
    assert clips[f"{A}_30000"].captions == ("rain, then wind",)
    assert not report.problems


def test_sound_alone_is_sound_whatever_its_suffix(tmp_path: Path) -> None:
    # yt-dlp saves "bestaudio" as .webm or .mp4 (qiuqiangkong/audioset_tagging_cnn#57).
    alone = video(10.0, has_pictures=False)
    files = {f"{A}.webm": alone, f"{B}.mp4": alone, f"{C}.m4a": alone, f"{D}.mp4": video(10.0)}
    files |= {f"{D}.wav": TEN_S, f"{E}.mp4": video(10.0, has_sound=False), f"{E}.m4a": alone}
    rows = audiocaps(*((n, v, 30) for n, v in enumerate((A, B, C, D, E))))
    clips, report = run("audiocaps", rows, files, tmp_path)
    assert [(c.audio, c.video) for c in clips.values()] == [
        (f"{A}.webm", None),
        (f"{B}.mp4", None),
        (f"{C}.m4a", None),
        (f"{D}.wav", f"{D}.mp4"),
        (f"{E}.m4a", f"{E}.mp4"),
    ]
    assert not report.unsure


def test_a_segment_of_another_corpus_is_not_taken(tmp_path: Path) -> None:
    files = {f"vggsound/{A}.mp4": video(10.0), f"vggsound/{B}_000100.mp4": video(10.0)}
    files |= {f"vggsound/{C}.mp4": video(60.0), f"audioset/Y{D}.wav": TEN_S}
    rows = audiocaps((1, A, 30), (2, B, 30), (3, C, 30), (4, D, 30))
    clips, report = run("audiocaps", rows, files, tmp_path)
    assert {c: (clip.sound_file, clip.start_s) for c, clip in clips.items()} == {
        f"{C}_30000": (f"vggsound/{C}.mp4", 30.0),
        f"{D}_30000": (f"audioset/Y{D}.wav", 0.0),
    }
    assert "folder of vggsound" in unsure(report)[f"{A}_30000"]
    assert report.missing == (f"{B}_30000",)


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    files = {f"disk/audiocaps/{A}.wav": TEN_S, f"media/{B}.wav": TEN_S}
    write(tmp_path, files)
    media = tmp_path / "media"
    (media / "linked").symlink_to(tmp_path / "disk" / "audiocaps")
    (media / "again").symlink_to(tmp_path / "disk" / "audiocaps")
    (media / "up").symlink_to(media)
    (tmp_path / "disk" / "audiocaps" / "circle").symlink_to(media)
    (media / "nowhere").symlink_to(tmp_path / "gone")
    (media / f"{C}.wav").symlink_to(media / f"{B}.wav")
    clips, report = run("audiocaps", audiocaps((1, A, 5), (2, B, 5), (3, C, 5)), {}, tmp_path)
    assert clips[f"{A}_5000"].audio in {f"linked/{A}.wav", f"again/{A}.wav"}
    assert clips[f"{B}_5000"].audio == f"{B}.wav"
    assert clips[f"{C}_5000"].audio == f"{C}.wav"
    assert not report.unsure
