"""Corpora of titles and numbers with the odd rows and names that public reports tell of.

Corpora of YouTube's videos are in `test_reports`, and what is right for both is said there.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.data.corpora.media import run, sound, unsure

TEN_S, SIXTY_S = sound(10.0), sound(60.0)
A, B, C, D, E = "AAAAAAAAAA1", "-BBBBBBBBB2", "_CCCCCCCCC3", "--DDDDDDDD4", "YEEEEEEEEE5"


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
