"""Every corpus from small files in the format that its project publishes, damage included."""

from __future__ import annotations

import csv
import json
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omni2sound.data.corpora import IMPORTERS, importer
from omni2sound.data.corpora import assemble as assemble_module
from omni2sound.data.corpora.assemble import ImportReport, assemble
from omni2sound.data.corpora.finding.folder import MediaFolder
from omni2sound.data.corpora.hub.unpack import unpack
from omni2sound.data.corpora.manifest import Clip, write_manifest
from omni2sound.errors import UserError
from tests.data.corpora.media import sound, video, write


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    return folder


def media(tmp_path: Path, *names: str, duration_s: float = 10.0) -> Path:
    """A media folder with files of one length."""
    made = {n: video(duration_s) if n.endswith(".mp4") else sound(duration_s) for n in names}
    return write(tmp_path / "media", made)


def run(name: str, published: Path, folder: Path) -> tuple[dict[str, Clip], ImportReport]:
    clips, report = assemble(name, importer(name)(published), MediaFolder(folder))
    assert sum(report.num_clips.values()) == len(clips)
    return {clip.clip_id: clip for clip in clips}, report


def places(report: ImportReport) -> list[tuple[str, int]]:
    return [(p.file, p.line) for p in report.problems]


def test_vggsound(tmp_path: Path, published: Path) -> None:
    (published / "vggsound.csv").write_bytes(
        b"---g-f_I2yQ,1,people marching,test\n"
        b'--0PQM4-hqg,30,"vehicle horn, car horn, honking",train\n'
        b"--56QUhyDQM,185,playing tennis\n"  # 3: a column is missing
        b"short,10,dog barking,train\n"  # 4: no YouTube id
        b"abcdefghijk,ten,dog barking,train\n"  # 5: no number
        b"abcdefghijk,10,dog barking,dev\n"  # 6: no such split
        b'abcdefghijk,10,"dog barking,train\n'  # 7: a quote that is never closed
        b"abcdefghijk,10,\xff\xfe,train\n"  # 8: no text
        b"zzzzzzzzzzz,7,cat purring,train\r\n"
        b"-gonenever-,7,cat purring,train\n"
    )
    folder = media(
        tmp_path, "00/---g-f_I2yQ_000001.mp4", "--0PQM4-hqg_000030.mp4", "zzzzzzzzzzz_000007.wav"
    )
    clips, report = run("vggsound", published, folder)
    assert clips["---g-f_I2yQ_000001"] == Clip(
        clip_id="---g-f_I2yQ_000001",
        corpus="vggsound",
        split="test",
        video="00/---g-f_I2yQ_000001.mp4",
        duration_s=10.0,
        labels=("people marching",),
        source="youtube:---g-f_I2yQ",
        source_start_s=1.0,
        licence="annotation CC-BY-4.0, video of its owner",
    )
    assert clips["--0PQM4-hqg_000030"].labels == ("vehicle horn, car horn, honking",)
    assert clips["zzzzzzzzzzz_000007"].audio == "zzzzzzzzzzz_000007.wav"
    assert places(report) == [("vggsound.csv", line) for line in (3, 4, 5, 6, 7, 8)]
    assert "expected 4 columns" in report.problems[0].reason
    assert report.missing == ("-gonenever-_000007",)
    assert report.num_rows == 10
    assert report.num_clips == {"test": 1, "train": 2}


AUDIOSET_HEADER = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n"
    "# num_ytids=2, num_segs=2, num_unique_labels=527, num_positive_labels=3\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)


def test_audioset(tmp_path: Path, published: Path) -> None:
    (published / "eval_segments.csv").write_text(
        AUDIOSET_HEADER + '--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/0bt9lr"\n'
    )
    (published / "balanced_train_segments.csv").write_text(
        AUDIOSET_HEADER
        + '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n'  # 4: a label of no class
        + '-0RWZT-miFs, 430.000, 420.000, "/m/068hy"\n'  # 5: ends before it begins
        + '-0RWZT-miFs, 420.000, 430.000, "/m/068hy"\n'
        + '-1RWZT-miFs, 20.500, 30.500, "/m/0bt9lr"\n'
    )
    (published / "class_labels_indices.csv").write_text(
        'index,mid,display_name\n0,/m/068hy,"Domestic animals, pets"\n1,/m/0bt9lr,"Dog"\n'
    )
    folder = media(
        tmp_path, "eval/Y--4gqARaEJE.wav", "-0RWZT-miFs_420000_430000.flac", "-1RWZT-miFs.m4a"
    )
    clips, report = run("audioset", published, folder)
    assert clips["--4gqARaEJE_0"].labels == ("Domestic animals, pets", "Dog")
    assert clips["--4gqARaEJE_0"].split == "test"
    assert clips["-0RWZT-miFs_420000"].source_start_s == 420
    assert clips["-1RWZT-miFs_20500"].duration_s == 10
    assert places(report) == [("balanced_train_segments.csv", line) for line in (4, 5)]
    labels = published / "class_labels_indices.csv"
    labels.write_text(labels.read_text() + "2,/m/09x0r\n")
    with pytest.raises(UserError, match=r"class_labels_indices\.csv:4: "):
        run("audioset", published, folder)
    labels.unlink()
    clips, _ = run("audioset", published, folder)
    assert clips["--4gqARaEJE_0"].labels == ("/m/068hy", "/m/0bt9lr")
    ontology = [{"id": "/m/068hy", "name": "Pets"}, {"id": "/m/0bt9lr", "name": "Dog"}]
    (published / "ontology.json").write_text(json.dumps(ontology))
    clips, _ = run("audioset", published, folder)
    assert clips["--4gqARaEJE_0"].labels == ("Pets", "Dog")


def test_audiocaps(tmp_path: Path, published: Path) -> None:
    header = "audiocap_id,youtube_id,start_time,caption\n"
    (published / "train.csv").write_text(
        header
        + "91139,r1nicOVtvkQ,130,A woman talks nearby as water pours\n"
        + "58146,UDGBjjwyaqE,20,\n"  # 3: no caption
        + '11542,yYEVLuqEytU,40,"Wind, then rain"\n'
    )
    captions = ["A dog barks", "A dog is barking", "Barking", "A dog barks", "Loud barks"]
    (published / "test.csv").write_text(
        header + "".join(f"{k},7fmOlUlwoNg,50,{c}\n" for k, c in enumerate(captions))
    )
    folder = media(tmp_path, "r1nicOVtvkQ_130.wav", "7fmOlUlwoNg.mp4", "yYEVLuqEytU_40.wav")
    clips, report = run("audiocaps", published, folder)
    assert clips["r1nicOVtvkQ_130000"].captions == ("A woman talks nearby as water pours",)
    assert clips["yYEVLuqEytU_40000"].captions == ("Wind, then rain",)
    several = clips["7fmOlUlwoNg_50000"]
    assert several.captions == ("A dog barks", "A dog is barking", "Barking", "Loud barks")
    assert (several.split, several.video) == ("test", "7fmOlUlwoNg.mp4")
    assert places(report) == [("train.csv", 3), ("test.csv", 5)]
    assert report.problems[1].reason == "repeats test.csv:2 (test)"
    (published / "validation.csv").write_text(header)
    _, report = run("audiocaps", published, folder)
    assert ("validation.csv", 1) in places(report)


def test_musiccaps(tmp_path: Path, published: Path) -> None:
    head = "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,"
    head += "is_balanced_subset,is_audioset_eval\n"
    row = '{},30,40,"/m/04rlf","[\'sad\']","A sad, slow piano.",4,False,{}\n'
    rows_ = row.format("-0Gj8-vB1q4", "False") + row.format("-0SdAVK79lg", "True")
    bad = row.format("-1LrH01Ei1w", "maybe") + ',30,40,"","","x",4,False,True\n'
    (published / "musiccaps-public.csv").write_text(head + rows_ + bad)
    folder = media(tmp_path, "-0Gj8-vB1q4.wav", "-0SdAVK79lg.wav")
    clips, report = run("musiccaps", published, folder)
    assert {c.split: c.captions for c in clips.values()} == {
        "train": ("A sad, slow piano.",),
        "test": ("A sad, slow piano.",),
    }
    assert clips["-0Gj8-vB1q4_30000"].source == "youtube:-0Gj8-vB1q4"
    assert places(report) == [("musiccaps-public.csv", 4), ("musiccaps-public.csv", 5)]


def test_wavcaps(tmp_path: Path, published: Path) -> None:
    files = published / "json_files"
    for folder in ("AudioSet_SL", "FreeSound", "SoundBible", "blacklist"):
        (files / folder).mkdir(parents=True)
    (files / "SoundBible" / "sb_final.json").write_text(
        '{"num_captions_per_audio": 1, "data": [\n'
        '{"id": "2219", "caption": "An airplane is landing.", "author": "D S", "duration": 10.1},\n'
        '{"id": "2218", "caption": "Someone is ringing a bell." "duration": 1.5},\n'  # 3: a comma
        '{"id": "2217", "duration": 86.4},\n'  # 4: no caption
        '{"id": "2215", "caption": "A dog is barking.", "duration": "long"},\n'  # 5
        '{"id": "2214", "caption": "An engine is starting.", "duration": 9.8}\n]}\n'
    )
    (files / "FreeSound" / "fsd_final.json").write_text(  # as a bare list
        '[{"id": "2219", "caption": "Rain falls.", "duration": 10.0},'
        ' {"id": "77", "caption": "Wind blows.", "duration": 3.0}]'
    )
    (files / "AudioSet_SL" / "as_final.json").write_text(
        '{"num_captions_per_audio": 1, "data": ['
        '{"id": "Yb0RFKhbpFJA.wav", "caption": "Music plays.", "duration": 10.0},'
        '{"id": "Y7fmOlUlwoNg.wav", "caption": "A dog barks.", "duration": 10.0}]}'
    )
    blacklist = {"AudioSet": ["Y7fmOlUlwoNg.wav"], "FreeSound": ["77"]}
    (files / "blacklist" / "blacklist_exclude_all_ac.json").write_text(json.dumps(blacklist))
    folder = media(
        tmp_path,
        "FreeSound_flac/2219.flac",
        "FreeSound_flac/77.flac",
        "SoundBible_flac/2219.flac",
        "SoundBible_flac/2214.flac",
        "AudioSet_SL_flac/Yb0RFKhbpFJA.flac",
        "AudioSet_SL_flac/Y7fmOlUlwoNg.flac",
    )
    clips, report = run("wavcaps", published, folder)
    assert clips["SoundBible-2219"].audio == "SoundBible_flac/2219.flac"
    assert clips["SoundBible-2219"].author == "D S"
    assert clips["FreeSound-2219"].audio == "FreeSound_flac/2219.flac"
    assert clips["FreeSound-2219"].source == "freesound:2219"
    assert clips["AudioSet-Yb0RFKhbpFJA"].source == "youtube:b0RFKhbpFJA"
    assert set(clips) == {
        "SoundBible-2219",
        "SoundBible-2214",
        "FreeSound-2219",
        "AudioSet-Yb0RFKhbpFJA",
    }
    assert places(report) == [("sb_final.json", line) for line in (3, 4, 5)]
    assert [(e.file, e.reason) for e in report.excluded] == [
        ("as_final.json", "on a blacklist"),
        ("fsd_final.json", "on a blacklist"),
    ]


def test_clotho(tmp_path: Path, published: Path) -> None:
    columns = "file_name," + ",".join(f"caption_{k}" for k in range(1, 6))
    (published / "clotho_captions_development.csv").write_text(
        f"{columns}\n"
        'Distorted AM Radio noise.wav,"A muddled noise, of sorts",b,c,d,e\n'
        "Paper.wav,a,b,c,d\n"  # 3: a caption is missing
    )
    (published / "clotho_metadata_development.csv").write_bytes(
        b"file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
        b'Distorted AM Radio noise.wav,noise;radio,281705,https://freesound.org/281705,"[441000, '
        b'1234567]",Bj\xf6rn,http://creativecommons.org/licenses/by/3.0/\n'
    )
    (published / "clotho_captions_evaluation.csv").write_text(f"{columns}\nRain.wav,a,b,c,d,e\n")
    folder = media(tmp_path, "development/Distorted AM Radio noise.wav", "evaluation/Rain.wav")
    clips, report = run("clotho", published, folder)
    assert clips["Distorted AM Radio noise"] == Clip(
        clip_id="Distorted AM Radio noise",
        corpus="clotho",
        split="train",
        audio="development/Distorted AM Radio noise.wav",
        captions=("A muddled noise, of sorts", "b", "c", "d", "e"),
        labels=("noise", "radio"),
        source="freesound:281705",
        source_start_s=10.0,
        licence="http://creativecommons.org/licenses/by/3.0/",
        author="Björn",
    )
    assert (clips["Rain"].split, clips["Rain"].source) == ("test", "")
    assert places(report) == [("clotho_captions_development.csv", 3)]


def test_fsd50k(tmp_path: Path, published: Path) -> None:
    truth, metadata = published / "FSD50K.ground_truth", published / "FSD50K.metadata"
    truth.mkdir()
    metadata.mkdir()
    (truth / "dev.csv").write_text(
        "fname,labels,mids,split\n"
        '64760,"Electric_guitar,Guitar","/m/02sgy,/m/0342h",train\n'
        '16399,"Purr,,Animal","/m/02yds9",train\n'  # 3: an empty label
        "16400,Purr,/m/02yds9,test\n"  # 4: no such split here
        "sound,Purr,/m/02yds9,val\n"  # 5: no number
        "16401,Purr,/m/02yds9,val\n"
    )
    (truth / "eval.csv").write_text('fname,labels,mids\n37199,"Rain","/m/06mb1"\n')
    (truth / "vocabulary.csv").write_text("0,Accelerating_and_revving_and_vroom,/m/07q2z82\n")
    info = {"64760": {"license": "http://creativecommons.org/licenses/by/3.0/", "uploader": "me"}}
    (metadata / "dev_clips_info_FSD50K.json").write_text(json.dumps(info))
    folder = media(
        tmp_path,
        "FSD50K.dev_audio/64760.wav",
        "FSD50K.dev_audio/16401.wav",
        "FSD50K.eval_audio/37199.wav",
        "Clotho/37199.wav",
    )
    clips, report = run("fsd50k", published, folder)
    assert clips["64760"].labels == ("Electric guitar", "Guitar")
    assert (clips["64760"].author, clips["64760"].source) == ("me", "freesound:64760")
    assert clips["16401"].split == "val"
    assert (clips["37199"].split, clips["37199"].audio) == ("test", "FSD50K.eval_audio/37199.wav")
    assert places(report) == [("dev.csv", line) for line in (3, 4, 5)]


def test_headers_of_fma_that_no_csv_reader_takes(tmp_path: Path, published: Path) -> None:
    (published / "tracks.csv").write_text("x" * (csv.field_size_limit() + 1) + "\n")
    with pytest.raises(UserError, match="expected two rows of headers"):
        run("fma", published, media(tmp_path))


def test_fma(tmp_path: Path, published: Path) -> None:
    (published / "genres.csv").write_text(
        "genre_id,#tracks,parent,title,top_level\n21,8693,0,Hip-Hop,21\n10,13845,0,Pop,10\n"
    )
    (published / "tracks.csv").write_text(
        ",album,artist,set,set,track,track,track\n"
        ",information,name,split,subset,genres,license,title\n"
        "track_id,,,,,,,\n"
        '2,"<p>Two\nlines, and a ""quote""</p>",AWOL,training,small,[21],Attribution 3.0,Food\n'
        "3,,AWOL,training,medium,[21],Attribution 3.0\n"  # 6: a column is missing
        "5,,AWOL,dev,small,[21],Attribution 3.0,This World\n"  # 7: no such split
        '10,"<p>never closed,Kurt,training,small,[10],Attribution 3.0,Freeway\n'  # 8
        '20,"Spiritual\n\nSongs",Nicky,test,large,"[10, 21]",CC BY-NC,Spiritual Level\n'
        "x1,,Nicky,test,large,[10],CC BY-NC,Where is your Love?\n"  # 12: no number
    )
    folder = media(tmp_path, "000/000002.mp3", "000/000020.mp3", "000/000010.mp3")
    clips, report = run("fma", published, folder)
    assert clips["000002"] == Clip(
        clip_id="000002",
        corpus="fma",
        split="train",
        audio="000/000002.mp3",
        labels=("Hip-Hop", "music"),
        source="fma:2",
        licence="Attribution 3.0",
        author="AWOL",
    )
    assert set(clips) == {"000002", "000020"}
    assert clips["000020"].labels == ("Pop", "Hip-Hop", "music")
    assert places(report) == [("tracks.csv", line) for line in (6, 7, 8, 12)]


def test_million_song_as_text(tmp_path: Path, published: Path) -> None:
    (published / "unique_tracks.txt").write_text(
        "TRMMMYQ128F932D901<SEP>SOQMMHC12AB0180CB8<SEP>Faster Pussy cat<SEP>Silent Night\n"
        "TRMMMKD128F425225D<SEP>SOVFVAK12A8C1350D9<SEP>Karkkiautomaatti\n"  # 2: a part is missing
        "oops<SEP>SOVFVAK12A8C1350D9<SEP>Karkkiautomaatti<SEP>Tanssi vaan\n"  # 3: no track id
    )
    clips, report = run("msd", published, media(tmp_path, "M/M/M/TRMMMYQ128F932D901.mp3"))
    (clip,) = clips.values()
    assert (clip.labels, clip.author) == (("music",), "Faster Pussy cat")
    assert clip.source == "msd:SOQMMHC12AB0180CB8"
    assert places(report) == [("unique_tracks.txt", 2), ("unique_tracks.txt", 3)]


def test_million_song_as_a_database(tmp_path: Path, published: Path) -> None:
    with sqlite3.connect(published / "track_metadata.db") as songs:
        songs.execute(
            "CREATE TABLE songs (track_id text PRIMARY KEY, title text, song_id text, release text,"
            " artist_id text, artist_mbid text, artist_name text, duration real,"
            " artist_familiarity real, artist_hotttnesss real, year int, track_7digitalid int,"
            " shs_perf int, shs_work int)"
        )
        row = ["TRMMMYQ128F932D901", "Silent Night", "SOQMMHC12AB0180CB8", "", "ARYZTJS1187B98C555"]
        rest = ["", "Faster Pussy cat", 252.0, 0.6, 0.4, 2003, 7032331, -1, 0]
        songs.execute(f"INSERT INTO songs VALUES ({','.join('?' * 14)})", row + rest)
        songs.execute("INSERT INTO songs (track_id, title) VALUES ('bad', 'x')")
    songs.close()
    with sqlite3.connect(published / "artist_term.db") as terms:
        terms.execute("CREATE TABLE artist_term (artist_id text, term text)")
        for term in ("glam metal", "hard rock"):
            terms.execute("INSERT INTO artist_term VALUES ('ARYZTJS1187B98C555', ?)", [term])
    terms.close()
    clips, report = run("msd", published, media(tmp_path, "7032331.clip.mp3"))
    assert clips["TRMMMYQ128F932D901"].labels == ("glam metal", "hard rock", "music")
    assert places(report) == [("track_metadata.db", 2)]


@pytest.mark.parametrize("kind", ["manifest", "parquet"])
def test_annotations(tmp_path: Path, published: Path, kind: str) -> None:
    given = [
        Clip(
            clip_id=name,
            corpus="vggsound",
            split="train",
            video=f"v/{name}.mp4",
            duration_s=10.0,
            captions=("A crowd marches past.", "Boots on gravel."),
            audio_captions=("Many people walk.",),
            source=f"youtube:{name}",
            quality=0.41,
        )
        for name in ("one", "two", "gone")
    ]
    if kind == "manifest":
        write_manifest(published / "manifest.jsonl", given, media=published)
        with (published / "manifest.jsonl").open("a") as file:
            file.write('{"clip_id": "five"\n')  # 5: cut off
    else:
        (published / "data").mkdir()
        table = pa.Table.from_pylist([asdict(c) for c in given])
        pq.write_table(table, published / "data" / "train.parquet")
    clips, report = run("annotations", published, media(tmp_path, "v/one.mp4", "v/two.mp4"))
    assert list(clips.values()) == given[:2]
    assert report.missing == ("gone",)
    assert places(report) == ([("manifest.jsonl", 5)] if kind == "manifest" else [])


def hub_table(path: Path, cells: list[dict[str, object]], **types: object) -> None:
    """A file as `datasets` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(cells)
    known = json.dumps({"info": {"features": types}}).encode()
    table = table.replace_schema_metadata({"huggingface": known})
    pq.write_table(table, path, row_group_size=2)


def test_hub(tmp_path: Path, published: Path) -> None:
    def cell(data: bytes | None) -> dict[str, object]:
        return {"bytes": data, "path": "../../etc/passwd"}

    audio = {"_type": "Audio", "sampling_rate": 8000}
    hub_table(
        published / "data" / "train-00000-of-00001.parquet",
        [
            {"audio": cell(sound(1.0)), "caption": ["a dog ", "barks"], "license": "CC0"},
            {"audio": cell(None), "caption": ["no sound"], "license": None},  # 2
            {"audio": cell(b"<html>"), "caption": ["a page"], "license": None},  # 3
            {"audio": cell(sound(1.0)), "caption": [], "license": None},  # 4: not told
            {"audio": cell(sound(1.0, 440.0)), "caption": ["a tone"], "license": None},
        ],
        audio=audio,
        caption={"feature": {"_type": "Value"}, "_type": "List"},
    )
    hub_table(
        published / "clips" / "validation-00000-of-00001.parquet",
        [
            {"video": cell(video(1.0)), "audio": cell(sound(1.0)), "label": 1},
            {"video": cell(video(1.0)), "audio": cell(sound(1.0)), "label": 2},  # 2: no class
        ],
        video={"_type": "Video"},
        label={"_type": "ClassLabel", "names": ["cat", "dog"]},
    )
    folder = tmp_path / "media"
    done = unpack(published, folder)
    assert (done.num_written, done.num_found) == (5, 0)
    assert [(p.line, p.reason) for p in done.problems] == [
        (2, "no sound or video in it"),
        (3, "sound or video of no known kind"),
    ]
    assert unpack(published, folder).num_found == 5
    clips, report = run("hub", published, folder)
    first = clips["data-train-00000-of-00001-0000001"]
    assert (first.split, first.captions, first.licence) == ("train", ("a dog", "barks"), "CC0")
    assert first.audio is not None
    assert (folder / first.audio).read_bytes() == sound(1.0)
    assert {c.labels for c in clips.values() if c.split == "val"} == {("dog",)}
    assert all((c.video is None) == (c.split == "train") for c in clips.values())
    assert (len(clips), len(report.missing)) == (3, 2)
    assert sorted(line for _, line in places(report)) == [2, 4]


def test_hub_tables_without_media_or_texts_are_refused(tmp_path: Path, published: Path) -> None:
    path = published / "train.parquet"
    pq.write_table(pa.table({"caption": ["a dog"]}), path)
    with pytest.raises(UserError, match=r"no column of sounds or videos .* it has caption"):
        unpack(published, tmp_path)
    pq.write_table(pa.Table.from_pylist([{"audio": {"bytes": b"", "path": ""}}]), path)
    with pytest.raises(UserError, match="no column of captions or labels"):
        run("hub", published, tmp_path)


def test_scenes(tmp_path: Path) -> None:
    scene = {
        "id": "train-main-0-000000",
        "kind": "main",
        "split": "train",
        "seed": 0,
        "duration_s": 5.0,
        "video": "train-main-0-000000/video.mp4",
        "audio": "train-main-0-000000/mix.wav",
        "stems": [],
        "events": "train-main-0-000000/events.json",
        "classes": ["bell"],
        "captions": {"plain": "a bell rings", "tags": "a bell rings"},
    }
    unseen = scene | {"id": "test-offscreen-0-000000", "kind": "offscreen"}
    folder = media(tmp_path, scene["video"], scene["audio"])  # type: ignore[arg-type]
    by_ear = scene | {"id": "train-main-0-000001", "audio_only_caption": "something rings"}
    lines = [json.dumps(s) for s in (scene, unseen, scene | {"captions": []}, by_ear)]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    clips, report = run("scenes", folder, folder)
    clip = clips["train-main-0-000000"]
    assert (clip.audio, clip.video) == (scene["audio"], scene["video"])
    assert (clip.captions, clip.labels, clip.duration_s) == (("a bell rings",), ("bell",), 5.0)
    assert clip.audio_captions == ()  # of a corpus from before there were any
    assert clips["train-main-0-000001"].audio_captions == ("something rings",)
    assert [e.reason for e in report.excluded] == ["has off-screen sounds"]
    assert places(report) == [("manifest.jsonl", 3)]


@pytest.mark.parametrize("name", list(IMPORTERS))
def test_a_folder_without_the_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"expected|no dev\.csv"):
        list(importer(name)(tmp_path))


def test_an_unknown_corpus_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="no importer 'vgg'; known: annotations, audiocaps"):
        importer("vgg")


def test_a_file_of_malformed_rows_is_refused_and_not_collected(
    tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble_module, "MAX_PROBLEMS", 100)
    (published / "vggsound.csv").write_text("a\n" * 101)
    with pytest.raises(UserError, match=r"vggsound\.csv:101: more than 100 malformed rows \(exp"):
        run("vggsound", published, media(tmp_path))
    (published / "vggsound.csv").write_text("a\n" * 100)
    assert len(run("vggsound", published, media(tmp_path))[1].problems) == 100
