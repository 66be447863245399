"""Small tables of eight corpora as their projects publish them, odd rows included, and media.

In:   a folder.
Out:  for each corpus `NAME/published` and `NAME/media`; sounds are noise and tones in bursts, no
      two alike, and videos show moving noise.

The first training clip of VGGSound is in AudioCaps, too, and its test clip is training data of
AudioSet.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from omni2sound.media import Audio, write_audio

RATE_HZ = 16_000
CORPORA = ("vggsound", "audioset", "audiocaps", "wavcaps", "clotho", "fsd50k", "fma", "msd")
ODD_ROWS = {
    "vggsound": (4, 1),
    "audioset": (2, 0),
    "audiocaps": (2, 0),
    "wavcaps": (3, 0),
    "clotho": (1, 1),
    "fsd50k": (3, 0),
    "fma": (3, 1),
    "msd": (2, 0),
}
"""Rows that can't be used, and clips without media."""
KINDS = ("rain", "dog barking", "bell", "wind")
CAPTIONS = ("Rain falls", "A dog barks twice", "A bell rings", "Wind blows")


def make_corpora(folder: Path) -> None:
    """Write the tables and media of all eight."""
    for name in CORPORA:
        (folder / name / "published").mkdir(parents=True)
        (folder / name / "media").mkdir()
        MAKERS[name](folder / name / "published", folder / name / "media")


def youtube_id(name: str, number: int) -> str:
    return f"{name[:5]}_{number:05d}"


def vggsound(published: Path, media: Path) -> None:
    ids = [youtube_id("vggs_", k) for k in range(6)]
    rows = [
        f"{clip},30,{KINDS[k % 4]},{'test' if k >= 4 else 'train'}" for k, clip in enumerate(ids)
    ]
    rows += [
        "short,10,dog barking,train",
        f"{youtube_id('vggs_', 90)},10,playing tennis",
        f"{youtube_id('vggs_', 91)},ten,dog barking,train",
        f'{youtube_id("vggs_", 92)},10,"dog barking,train',
        f"{youtube_id('vggs_', 93)},7,cat purring,train",  # has no media
    ]
    (published / "vggsound.csv").write_text("".join(row + "\n" for row in rows))
    for k, clip in enumerate(ids):
        write_video(media / f"{clip}_000030.mp4", k)


def audioset(published: Path, media: Path) -> None:
    head = "# Segments csv created\n# num_ytids=2\n# YTID, start_seconds, end_seconds, labels\n"
    ids = [youtube_id("audio", k) for k in range(4)]
    rows = [f'{clip}, 20.000, 30.000, "/m/068hy,/m/0bt9lr"\n' for clip in ids]
    rows.append(f'{youtube_id("vggs_", 4)}, 30.000, 40.000, "/m/0bt9lr"\n')  # a test clip
    rows.append(f'{youtube_id("audio", 9)}, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n')  # unknown
    rows.append(f'{youtube_id("audio", 8)}, 430.000, 420.000, "/m/068hy"\n')  # ends too early
    (published / "balanced_train_segments.csv").write_text(head + "".join(rows))
    (published / "class_labels_indices.csv").write_text(
        'index,mid,display_name\n0,/m/068hy,"Domestic animals, pets"\n1,/m/0bt9lr,"Dog"\n'
    )
    for k, clip in enumerate(ids):
        write_sound(media / f"{clip}_20000_30000.flac", 100 + k, 10.0)
    write_sound(media / f"{youtube_id('vggs_', 4)}_30000_40000.flac", 4, 10.0)


def audiocaps(published: Path, media: Path) -> None:
    ids = [youtube_id("capt_", k) for k in range(3)]
    rows = [f'{k},{clip},20,"{CAPTIONS[k]}, far away"\n' for k, clip in enumerate(ids)]
    rows.append(f"10,{youtube_id('vggs_', 0)},30,It rains on a roof\n")
    rows.append(f"11,{youtube_id('capt_', 9)},20,\n")  # no caption
    rows.append(f"12,{youtube_id('capt_', 8)},soon,Rain\n")  # no time
    (published / "train.csv").write_text(
        "audiocap_id,youtube_id,start_time,caption\n" + "".join(rows)
    )
    for k, clip in enumerate(ids):
        write_sound(media / f"{clip}_20.wav", 200 + k, 10.0)
    write_sound(media / f"{youtube_id('vggs_', 0)}_30.wav", 0, 10.0)


def wavcaps(published: Path, media: Path) -> None:
    (published / "json_files" / "SoundBible").mkdir(parents=True)
    rows = [
        json.dumps({"id": str(k), "caption": CAPTIONS[k], "author": "x", "duration": 5.0})
        for k in range(4)
    ]
    rows += [
        '{"id": "90", "caption": "A bell." "duration": 1.5}',  # a comma is missing
        '{"id": "91", "duration": 86.4}',  # no caption
        '{"id": "92", "caption": "A dog.", "duration": "long"}',
    ]
    (published / "json_files" / "SoundBible" / "sb_final.json").write_text(
        '{"num_captions_per_audio": 1, "data": [\n' + ",\n".join(rows) + "\n]}\n"
    )
    for k in range(4):
        write_sound(media / "SoundBible_flac" / f"{k}.flac", 300 + k, 5.0)


def clotho(published: Path, media: Path) -> None:
    columns = "file_name," + ",".join(f"caption_{k}" for k in range(1, 6))
    rows = [f"Sound {k}.wav,{CAPTIONS[k]},b,c,d,{KINDS[k]}\n" for k in range(3)]
    rows += ["Paper.wav,a,b,c,d\n", "Gone.wav,a,b,c,d,e\n"]  # a caption too few; without media
    (published / "clotho_captions_development.csv").write_text(f"{columns}\n" + "".join(rows))
    for k in range(3):
        write_sound(media / "development" / f"Sound {k}.wav", 400 + k, 18.0)


def fsd50k(published: Path, media: Path) -> None:
    truth = published / "FSD50K.ground_truth"
    truth.mkdir()
    rows = [f'{100 + k},"Bell,Domestic_sounds","/m/0395lw,/m/0k65p",train\n' for k in range(4)]
    rows += [
        '16399,"Purr,,Animal","/m/02yds9",train\n',  # an empty label
        "16400,Purr,/m/02yds9,test\n",  # no such split in this table
        "sound,Purr,/m/02yds9,val\n",  # no number
    ]
    (truth / "dev.csv").write_text("fname,labels,mids,split\n" + "".join(rows))
    (truth / "eval.csv").write_text('fname,labels,mids\n200,"Rain","/m/06mb1"\n')
    for k in range(4):
        write_sound(media / "FSD50K.dev_audio" / f"{100 + k}.wav", 500 + k, 4.0)
    write_sound(media / "FSD50K.eval_audio" / "200.wav", 504, 4.0)


def fma(published: Path, media: Path) -> None:
    (published / "genres.csv").write_text(
        "genre_id,#tracks,parent,title,top_level\n21,8693,0,Hip-Hop,21\n"
    )
    rows = [f'{k},"Two\nlines, and a ""quote""",X,training,small,[21],CC,T\n' for k in (2, 4)]
    rows += [
        "3,,X,training,medium,[21],CC\n",  # a column is missing
        "5,,X,dev,small,[21],CC,This World\n",  # no such split
        "x1,,X,test,large,[21],CC,Where?\n",  # no number
        "6,,X,training,large,[21],CC,Gone\n",  # has no media
    ]
    (published / "tracks.csv").write_text(
        ",album,artist,set,set,track,track,track\n"
        ",information,name,split,subset,genres,license,title\n"
        "track_id,,,,,,,\n" + "".join(rows)
    )
    for k in (2, 4):
        write_sound(media / "000" / f"{k:06d}.flac", 600 + k, 30.0)


def msd(published: Path, media: Path) -> None:
    tracks = [f"TRMMMYQ128F932D90{k}" for k in range(2)]
    rows = [f"{track}<SEP>SOQMMHC12AB0180CB{k}<SEP>X<SEP>Song\n" for k, track in enumerate(tracks)]
    rows += [
        "TRMMMKD128F425225D<SEP>SOVFVAK12A8C1350D9<SEP>X\n",  # a part is missing
        "oops<SEP>SOVFVAK12A8C1350D9<SEP>X<SEP>Song\n",  # no track id
    ]
    (published / "unique_tracks.txt").write_text("".join(rows))
    for k, track in enumerate(tracks):
        write_sound(media / "M" / f"{track}.flac", 700 + k, 30.0)


MAKERS = {
    "vggsound": vggsound,
    "audioset": audioset,
    "audiocaps": audiocaps,
    "wavcaps": wavcaps,
    "clotho": clotho,
    "fsd50k": fsd50k,
    "fma": fma,
    "msd": msd,
}


def sound_of(seed: int, duration_s: float) -> np.ndarray:
    """Bursts of noise over tones that change four times a second; float32 (1, N)."""
    rng = np.random.default_rng(seed)
    pieces, each = [], RATE_HZ // 4
    time_s = np.arange(each) / RATE_HZ
    for _ in range(round(4 * duration_s)):
        tones = np.sin(2 * np.pi * rng.uniform(100, 4000, (6, 1)) * time_s)
        noise = rng.standard_normal(each) * rng.uniform(0, 0.2)
        pieces.append(rng.uniform(0.3, 1) * (0.06 * tones.sum(axis=0) + noise))
    return np.clip(np.concatenate(pieces), -1, 1).astype(np.float32)[None]


def write_sound(path: Path, seed: int, duration_s: float) -> None:
    """Write a made sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, Audio(samples_CN=sound_of(seed, duration_s), sample_rate_hz=RATE_HZ))


def write_video(path: Path, seed: int, duration_s: float = 10.0) -> None:
    """Write moving noise of 64 x 48 pixels with a made sound, as MPEG-4 and AAC."""
    rng, sound_CN = np.random.default_rng(seed), sound_of(seed, duration_s)
    picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as out:
        shown = out.add_stream("mpeg4", rate=Fraction(25))
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        heard = out.add_stream("aac", rate=RATE_HZ, layout="mono")
        for k in range(round(25 * duration_s)):
            moved = np.ascontiguousarray(np.roll(picture, k, axis=1))
            out.mux(shown.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        out.mux(shown.encode(None))
        for first in range(0, sound_CN.shape[1], 1024):
            part = np.ascontiguousarray(sound_CN[:, first : first + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, first
            out.mux(heard.encode(frame))
        out.mux(heard.encode(None))
