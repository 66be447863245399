"""Each corpus with the odd rows and names that public reports tell of.

The reports stand beside the inputs as OWNER/REPOSITORY#NUMBER; docs/reference/corpora.md tells
them in words. Right means: the file is the clip's, or the clip is listed, with the reason.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from omni2sound.data.corpora import importer
from omni2sound.data.corpora.assemble import ImportReport, assemble
from omni2sound.data.corpora.finding.folder import MediaFolder
from omni2sound.data.corpora.manifest import Clip
from tests.data.corpora.media import sound, video, write

TEN_S, SIXTY_S = sound(10.0), sound(60.0)
A, B, C, D, E = "AAAAAAAAAA1", "-BBBBBBBBB2", "_CCCCCCCCC3", "--DDDDDDDD4", "YEEEEEEEEE5"


def run(
    name: str, tables: dict[str, str], files: dict[str, bytes], tmp_path: Path
) -> tuple[dict[str, Clip], ImportReport]:
    published, media = tmp_path / "published", tmp_path / "media"
    write(published, {n: text.encode() for n, text in tables.items()})
    write(media, files)
    clips, report = assemble(name, importer(name)(published), MediaFolder(media))
    return {clip.clip_id: clip for clip in clips}, report


def unsure(report: ImportReport) -> dict[str, str]:
    return {u.clip_id: u.reason for u in report.unsure}


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


def clotho(split: str, *names: str) -> dict[str, str]:
    columns = "file_name," + ",".join(f"caption_{k}" for k in range(1, 6))
    rows = [f'"{n}",a,b,c,d,e' if "," in n or '"' in n else f"{n},a,b,c,d,e" for n in names]
    return {f"clotho_captions_{split}.csv": "\n".join([columns, *rows, ""])}


def test_clotho(tmp_path: Path) -> None:
    names = [
        " typical neighborhood in Porto.wav",  # felixgontier/dcase-2023-baseline#1
        "trailing blank .wav",
        "a, comma; and 'quotes'.wav",
        "v1.2 of rain.wav",
        "Rain_at_5:30?.wav",  # Windows writes no ":" and "?"
        "Caf\u00e9.wav",  # macOS unpacks the accent as a character of its own
        "AC/DC.wav",
        "R&amp;B.wav",
        "stripped by a copy .wav",
        "103.wav",
        "gone.wav",
    ]
    folder = "clotho_audio_development/"
    clips, report = run(
        "clotho",
        clotho("development", *names),
        {
            f"{folder} typical neighborhood in Porto.wav": TEN_S,
            f"{folder}trailing blank .wav": TEN_S,
            f"{folder}a, comma; and 'quotes'.wav": TEN_S,
            f"{folder}v1.2 of rain.wav": TEN_S,
            f"{folder}Rain_at_5_30_.wav": TEN_S,
            f"{folder}Cafe\u0301.wav": TEN_S,
            f"{folder}AC_DC.wav": TEN_S,
            f"{folder}R&B.wav": TEN_S,
            f"{folder}stripped by a copy.wav": TEN_S,
            "FSD50K.eval_audio/103.wav": TEN_S,
            "__MACOSX/gone.wav": TEN_S,
            f"{folder}._gone.wav": b"resource fork",
        },
        tmp_path,
    )
    assert list(clips) == [n.removesuffix(".wav") for n in names[:-2]]
    assert clips["AC/DC"].audio == f"{folder}AC_DC.wav"
    assert report.missing == ("103", "gone")
    assert not report.unsure


def test_clotho_names_that_differ_by_a_blank_are_two_sounds(tmp_path: Path) -> None:
    rows = clotho("development", " rain.wav", "rain.wav", "wind.wav", "wind .wav")
    files = {" rain.wav": sound(10.0, 300.0), "rain.wav": TEN_S, "Wind.wav": TEN_S}
    clips, report = run("clotho", rows, files, tmp_path)
    assert {c: clip.audio for c, clip in clips.items()} == {
        " rain": " rain.wav",
        "rain": "rain.wav",
    }
    assert set(unsure(report)) == {"wind", "wind "}


@pytest.mark.parametrize("folders", [("development", "evaluation"), ("clotho/dev", "clotho/test")])
def test_clotho_one_title_in_two_splits_is_two_sounds(
    tmp_path: Path, folders: tuple[str, str]
) -> None:
    rows = clotho("development", "rain.wav", "wind.wav") | clotho("evaluation", "rain.wav")
    first, second = folders
    files = {f"{first}/rain.wav": sound(10.0, 300.0), f"{second}/rain.wav": TEN_S}
    clips, report = run("clotho", rows, files | {f"{first}/wind.wav": TEN_S}, tmp_path)
    assert {(c.clip_id, c.split, c.audio) for c in clips.values()} == {
        ("development-rain", "train", f"{first}/rain.wav"),
        ("evaluation-rain", "test", f"{second}/rain.wav"),
        ("wind", "train", f"{first}/wind.wav"),
    }
    assert not report.problems


def test_clotho_one_title_in_two_splits_and_one_file(tmp_path: Path) -> None:
    rows = clotho("development", "rain.wav") | clotho("evaluation", "rain.wav", "wind.wav")
    files = {"rain.wav": TEN_S, "development/wind.wav": TEN_S}
    clips, report = run("clotho", rows, files, tmp_path)
    assert not clips
    assert set(unsure(report)) == {"development-rain", "evaluation-rain"}
    assert report.missing == ("wind",)  # the development set's is another sound


def test_fsd50k(tmp_path: Path) -> None:
    tables = {
        "FSD50K.ground_truth/dev.csv": "fname,labels,mids,split\n"
        + "".join(f'{n},"Purr,Cat","/m/02yds9",train\n' for n in (64760, 103, 104, 105)),
        "FSD50K.ground_truth/eval.csv": 'fname,labels,mids\n37199,"Rain","/m/06mb1"\n',
        "FSD50K.ground_truth/vocabulary.csv": "0,Purr,/m/02yds9\n",
    }
    clips, report = run(
        "fsd50k",
        tables,
        {
            "FSD50K.dev_audio/64760.wav": sound(0.3),
            "audiocaps/103.wav": TEN_S,
            "FreeSound_flac/104.flac": TEN_S,
            "FSD50K.eval_audio/105.wav": TEN_S,
            "FSD50K.dev_audio/37199.wav": sound(10.0, 300.0),
            "FSD50K.eval_audio/37199.wav": TEN_S,
        },
        tmp_path,
    )
    assert {c: clip.audio for c, clip in clips.items()} == {
        "64760": "FSD50K.dev_audio/64760.wav",
        "37199": "FSD50K.eval_audio/37199.wav",
    }
    assert report.missing == ("103", "104", "105")


def test_wavcaps(tmp_path: Path) -> None:
    def rows(*found: tuple[str, float]) -> str:
        data = [{"id": i, "caption": "Rain\u2028falls.", "duration": d} for i, d in found]
        return json.dumps({"num_captions_per_audio": 1, "data": data}, ensure_ascii=False)

    tables = {
        "json_files/FreeSound/fsd_final.json": rows(
            ("2219", 10.0), ("2220", 3.0), ("592228", 720_000.0), ("2221", 10.0), ("2222", 10.0)
        ),
        # XinhaoMei/WavCaps#4: ids are YouTube's with a Y in front; no start times
        "json_files/AudioSet_SL/as_final.json": rows(
            (f"Y{A}.wav", 10.0), (f"Y{B}.wav", 10.0), (f"Y{C}.wav", 10.0), (f"Y{E}.wav", 9.4)
        ),
        "json_files/BBC_Sound_Effects/bbc_final.json": rows(
            ("NHU05001001", 10.0), ("07040171", 10)
        ),
        "json_files/SoundBible/sb_final.json": rows(("2219", 10.0)),
    }
    clips, report = run(
        "wavcaps",
        tables,
        {
            # archives hold the folders of the machine that made them
            "mnt/fast/nobackup/FreeSound_flac/2219.flac": TEN_S,
            "freesound/2220.flac": sound(8.0),
            # XinhaoMei/WavCaps#23: a file of 1 Hz that lasts 200 hours
            "FreeSound_flac/592228.flac": b"fLaC" + bytes(40),
            "SoundBible_flac/2219.flac": sound(10.0, 300.0),
            "SoundBible_flac/2221.flac": TEN_S,  # another source's number
            "FSD50K.dev_audio/2222.wav": TEN_S,
            f"AudioSet_SL_flac/Y{A}.flac": TEN_S,
            f"AudioSet_SL_flac/{B}.flac": TEN_S,
            f"AudioSet_SL_flac/Y{C}.flac": SIXTY_S,
            f"AudioSet_001/Y{E}.flac": sound(9.4),
            "BBC_Sound_Effects_flac/NHU05001001.flac": TEN_S,
            # NVIDIA/audio-flamingo#55: 403 s under a duration of 10 s
            "BBC_Sound_Effects_flac/07040171.flac": sound(40.0),
        },
        tmp_path,
    )
    assert {c: clip.audio for c, clip in clips.items()} == {
        "FreeSound-2219": "mnt/fast/nobackup/FreeSound_flac/2219.flac",
        "SoundBible-2219": "SoundBible_flac/2219.flac",
        f"AudioSet-Y{A}": f"AudioSet_SL_flac/Y{A}.flac",
        f"AudioSet-Y{B}": f"AudioSet_SL_flac/{B}.flac",
        f"AudioSet-Y{E}": f"AudioSet_001/Y{E}.flac",
        "BBC-NHU05001001": "BBC_Sound_Effects_flac/NHU05001001.flac",
    }
    assert clips["FreeSound-2219"].captions == ("Rain\u2028falls.",)
    assert set(unsure(report)) == {
        "FreeSound-2220",
        "FreeSound-592228",
        f"AudioSet-Y{C}",
        "BBC-07040171",
    }
    assert report.missing == ("FreeSound-2221", "FreeSound-2222")


def test_fma(tmp_path: Path) -> None:
    tracks = (2, 5, 10, 20, 99134, 133297, 108925)
    tables = {
        "fma_metadata/genres.csv": "genre_id,#tracks,parent,title,top_level\n21,1,0,Hip-Hop,21\n",
        "fma_metadata/tracks.csv": ",album,artist,set,set,track,track,track\n"
        ",information,name,split,subset,genres,license,title\n"
        "track_id,,,,,,,\n"
        + "".join(
            f'{n},"<p>Two\nlines,\u2028 \x85</p>",AWOL,training,small,[21],CC BY,Food\n'
            for n in tracks
        ),
    }
    clips, report = run(
        "fma",
        tables,
        {
            "fma_small/000/000002.mp3": sound(30.0),
            "000/000005.wav": sound(30.0),
            "esc50/10.wav": sound(5.0),  # a number of another corpus
            "20.mp3": sound(30.0),  # whose? FMA keeps it as 000/000020.mp3
            # mdeff/fma#8, #36, #44, #70: cut behind their end, no or little sound
            "fma_small/099/099134.mp3": b"",
            "fma_small/133/133297.mp3": b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(1742),
            "fma_small/108/108925.mp3": sound(1.6),
        },
        tmp_path,
    )
    assert {c: clip.audio for c, clip in clips.items()} == {
        "000002": "fma_small/000/000002.mp3",
        "000005": "000/000005.wav",
        "108925": "fma_small/108/108925.mp3",
    }
    assert clips["000002"].labels == ("Hip-Hop", "music")
    assert set(unsure(report)) == {"000020", "099134", "133297"}
    assert report.missing == ("000010",)
    assert not report.problems


def test_million_song(tmp_path: Path) -> None:
    tracks = [f"TRMMMYQ128F932D90{k}" for k in range(5)]
    published = tmp_path / "published"
    published.mkdir()
    with sqlite3.connect(published / "track_metadata.db") as songs:
        songs.execute(
            "CREATE TABLE songs (track_id, song_id, artist_id, artist_name, track_7digitalid)"
        )
        for track, number in zip(tracks, (701, 702, 703, 704, 704), strict=True):
            songs.execute("INSERT INTO songs VALUES (?, 'SO', 'AR', 'x', ?)", [track, number])
    songs.close()
    clips, report = run(
        "msd",
        {},
        {
            f"A/B/C/{tracks[0]}.mp3": sound(30.0),
            "7digital/702.clip.mp3": sound(30.0),
            "fma_full/703.mp3": sound(30.0),
            "7digital/704.mp3": sound(30.0),  # one preview for two tracks
        },
        tmp_path,
    )
    assert {c: clip.audio for c, clip in clips.items()} == {
        tracks[0]: f"A/B/C/{tracks[0]}.mp3",
        tracks[1]: "7digital/702.clip.mp3",
    }
    assert report.missing == (tracks[2],)
    assert set(unsure(report)) == {tracks[3], tracks[4]}


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
