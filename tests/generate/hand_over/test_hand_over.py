"""Hand-over: files that others read, equal sums, equal bytes, relative paths."""

from __future__ import annotations

import csv
import json
import shutil
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
import opentimelineio as otio
import pytest
from opentimelineio.url_utils import filepath_from_url

from omni2sound.errors import UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.ranges import Range
from omni2sound.generate.edit.source import check_edit, open_source
from omni2sound.generate.hand_over.folder import hand_over
from omni2sound.generate.output import OutputOptions, save
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings
from omni2sound.generate.stems.exact import with_stems
from omni2sound.generate.stems.mix import open_mix
from omni2sound.generate.stems.remix import Mixing, save_mix
from omni2sound.generate.stems.sources import Source, Stem
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe
from omni2sound.media.samples import Audio, resample
from tests.build import video_with_square
from tests.media.clips import write_video

RATE_HZ = 44_100
HITS_S = (0.5, 1.25)
LENGTH_S = 2.0


def clicks(at_s: tuple[float, ...], level: float) -> Audio:
    rng = np.random.default_rng(0)
    time_s = np.arange(round(LENGTH_S * RATE_HZ)) / RATE_HZ
    rises = [np.where(time_s >= t, np.exp(-np.maximum(time_s - t, 0) / 0.05), 0) for t in at_s]
    samples_CN = (level * sum(rises) * rng.normal(size=(2, len(time_s)))).astype(np.float32)
    return Audio(samples_CN=samples_CN, sample_rate_hz=RATE_HZ)


def write_take(
    path: Path,
    *,
    level: float = 0.05,
    seed: int = 3,
    start_s: float = 0,
    sounds: dict[str, Audio] | None = None,
) -> Path:
    sounds = sounds or {"a-dog": clicks(HITS_S, level), "rest": clicks((), level)}
    stems = [
        Stem(source=Source(name=name, text=name), seed=1, audio=audio)
        for name, audio in sounds.items()
    ]
    result = GenerationResult(
        audio=stems[0].audio,
        request=GenerationRequest(prompt="rain", seed=seed, stems=True),
        seed=seed, num_inference_steps=8, guidance_scale=3.0, model="m", model_sha256="0",
        dtype="auto", timings=Timings(load_s=0, encode_s=0, sample_s=0, decode_s=0),
    )  # fmt: skip
    facts = {"start_s": start_s} if start_s else {}
    save(with_stems(result, stems), path, video=None, options=OutputOptions(), more_facts=facts)
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return video_with_square(tmp_path / "film.mp4", duration_s=2.0)


def test_what_an_editor_reads(tmp_path: Path, film: Path) -> None:
    takes = [write_take(tmp_path / f"t-{k}.wav", seed=k) for k in (1, 2)]
    later = write_take(tmp_path / "later.wav", start_s=0.5)
    made = hand_over([*takes, later], tmp_path / "editor", film=film, film_start_s=3600)
    assert made.num_stems == 6
    assert made.notes == ()
    names = ["t-1.wav", "t-2.wav", "later.wav", "t-1/a-dog.wav", "t-1/rest.wav"]
    for name in names:
        path = tmp_path / "editor" / name
        sound = probe(path).audio
        assert sound is not None and (sound.codec, sound.sample_rate_hz) == ("pcm_s24le", 48_000)
        first = (3600.5 if name == "later.wav" else 3600) * 48_000
        with av.open(str(path)) as container:
            assert container.metadata["time_reference"] == str(int(first))
    timeline = otio.adapters.read_from_file(str(tmp_path / "editor" / "timeline.otio"))
    again = otio.adapters.read_from_string(otio.adapters.write_to_string(timeline))
    assert again.is_equivalent_to(timeline)
    written = (tmp_path / "editor" / "timeline.otio").read_text()
    assert otio.adapters.write_to_string(timeline) == written
    assert [t.name for t in timeline.video_tracks()] == ["film"]
    audio = timeline.audio_tracks()
    assert [(t.name, t.enabled) for t in audio][:3] == [
        ("takes", True), ("t-1: a-dog", False), ("t-1: rest", False)
    ]  # fmt: skip
    clip = audio[0][0]
    assert list(clip.media_references()) == ["t-1", "t-2"]
    assert clip.active_media_reference_key == "t-1"
    at_s = [(m.marked_range.start_time - clip.source_range.start_time).to_seconds()
            for m in clip.markers]  # fmt: skip
    assert at_s == pytest.approx(HITS_S, abs=0.01)
    assert audio[5][0].duration().to_seconds() == 0.5  # a gap before the later take
    for each in timeline.find_clips():
        for reference in each.media_references().values():
            url = reference.target_url
            assert not url.startswith("/") and (tmp_path / "editor" / url).is_file()
    with (tmp_path / "editor" / "markers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(r["time_s"]) for r in rows[:2]] == pytest.approx(HITS_S, abs=0.01)
    assert rows[0]["name"] == "a-dog"


def test_a_mix_beside_its_take_has_no_markers_of_its_own(tmp_path: Path) -> None:
    take, mix = write_take(tmp_path / "t.wav"), tmp_path / "mix.wav"
    mixing = Mixing.read(*open_mix(take))
    save_mix(mixing, mix, video=None, options=OutputOptions())
    for takes, wanted in (([take], {"t"}), ([take, mix], {"t"}), ([mix], {"mix"})):
        hand_over(takes, tmp_path / "editor", overwrite=True)
        with (tmp_path / "editor" / "markers.csv").open() as file:
            assert {row["take"] for row in csv.DictReader(file)} == wanted


def test_scenes_stand_one_after_another_on_one_track(tmp_path: Path) -> None:
    film = video_with_square(tmp_path / "film.mp4", duration_s=5.5, fps=5)
    starts_s = (0, 2, 3.52)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "LENGTH_S", 1.5)
        takes = [
            write_take(tmp_path / f"scene-{k}.wav", seed=k, start_s=start_s)
            for k, start_s in enumerate(starts_s)
        ]
    hand_over(takes, tmp_path / "editor", film=film, film_start_s=3600)
    timeline = otio.adapters.read_from_file(str(tmp_path / "editor" / "timeline.otio"))
    names = [track.name for track in timeline.tracks]
    assert names == ["film", "takes", "a-dog", "rest"]
    for track in timeline.audio_tracks():
        clips = list(track.find_clips())
        assert [track.range_of_child(c).start_time.to_seconds() for c in clips] == list(starts_s)
    shown = timeline.video_tracks()[0][0]
    begins = [m.marked_range.start_time for m in shown.markers]
    assert [m.name for m in shown.markers] == ["scene-0", "scene-1", "scene-2"]
    assert [at.to_seconds() for at in begins] == list(starts_s)
    for clip in timeline.find_clips():
        for marker in clip.markers:
            assert clip.trimmed_range().contains(marker.marked_range.start_time)


def test_only_takes_are_switched_on_whatever_stems_are_called(tmp_path: Path) -> None:
    parts = {"takes": clicks(HITS_S, 0.05), "rest": clicks((), 0.05)}
    takes = [write_take(tmp_path / f"t-{k}.wav", start_s=2 * k, sounds=parts) for k in range(2)]
    hand_over(takes, tmp_path / "editor")
    timeline = otio.adapters.read_from_file(str(tmp_path / "editor" / "timeline.otio"))
    rows = [(t.name, t.enabled, len(list(t.find_clips()))) for t in timeline.audio_tracks()]
    assert rows == [("takes", True, 2), ("takes", False, 2), ("rest", False, 2)]


def test_the_film_is_as_long_as_its_picture(tmp_path: Path) -> None:
    write_video(
        tmp_path / "film.mp4",
        ticks=range(10),
        time_base=Fraction(1, 10),
        sound=clicks(HITS_S, 0.05),
    )
    assert probe(tmp_path / "film.mp4").duration_s == pytest.approx(2, abs=0.1)
    hand_over([write_take(tmp_path / "a.wav")], tmp_path / "editor", film=tmp_path / "film.mp4")
    timeline = otio.adapters.read_from_file(str(tmp_path / "editor" / "timeline.otio"))
    (shown,) = timeline.video_tracks()[0].find_clips()
    assert shown.duration().to_seconds() == shown.available_range().duration.to_seconds() == 1
    with pytest.raises(UserError, match=r"^film: .*no picture"):
        hand_over([tmp_path / "a.wav"], tmp_path / "b", film=tmp_path / "a.wav")


def test_stems_still_add_up_in_24_bits_and_are_lowered_together(tmp_path: Path) -> None:
    loud = write_take(tmp_path / "loud.wav", level=0.6)
    made = hand_over([loud], tmp_path / "editor")
    assert "loud: stems are" in made.notes[0]
    gain = json.loads((tmp_path / "editor" / "hand-over.json").read_text())["takes"][0]
    halvings = round(gain["stems_gain_db"] / -6.0206)
    parts = [read_audio(p).samples_CN for p in sorted((tmp_path / "editor" / "loud").iterdir())]
    assert max(np.abs(p).max() for p in parts) < 1
    assert all((p * 2**22 == np.rint(p * 2**22)).all() for p in parts)
    wholes = [np.rint(p * 2**22).astype(np.int64) for p in parts]
    summed = sum(parts[1:], parts[0])  # in floats, which lose nothing on this grid
    assert (summed * 2**22 == sum(wholes)).all()
    assert (sum(parts[::-1][1:], parts[-1]) == summed).all()
    originals = [read_audio(p) for p in sorted((tmp_path / "loud.wav.stems").glob("*.wav"))]
    peak = max(np.abs(x.samples_CN).max() for x in originals)
    assert 0.4 < peak * 0.5**halvings < 1.1
    exact = resample(read_audio(tmp_path / "loud.wav.stems" / "a-dog.wav"), 48_000).samples_CN
    exact = (
        exact + resample(read_audio(tmp_path / "loud.wav.stems" / "rest.wav"), 48_000).samples_CN
    )
    assert np.abs(summed - exact * 0.5**halvings).max() < 2**-20  # two roundings to the grid


def test_work_in_a_hand_over_is_replaced_only_if_asked(tmp_path: Path) -> None:
    take, folder = write_take(tmp_path / "a.wav"), tmp_path / "editor"
    hand_over([take], folder)
    (folder / ".DS_Store").write_text("left by a system")
    hand_over([take], folder)
    for name in ("cut/film.prproj", "timeline.otio", "a/rest.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("ab") as file:
            file.write(b"mine")
        kept = (folder / name).read_bytes()
        with pytest.raises(UserError, match=rf"{name}: was (added|changed) since the hand-over"):
            hand_over([take], folder)
        assert (folder / name).read_bytes() == kept
        hand_over([take], folder, overwrite=True)
        assert not (folder / name).exists() or (folder / name).read_bytes() != kept
    data = json.loads((folder / "hand-over.json").read_text())
    del data["files"]
    (folder / "hand-over.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match="was added"):
        hand_over([take], folder)


@pytest.mark.parametrize("start_s", ["null", '"abc"', "NaN", "-1", "true", "1e9", "[1]"])
def test_an_odd_start_in_a_sidecar_is_one_line(tmp_path: Path, start_s: str) -> None:
    take = write_take(tmp_path / "a.wav")
    path = tmp_path / "a.wav.json"
    made = json.loads(path.read_text()) | {"start_s": "HERE"}
    path.write_text(json.dumps(made).replace('"HERE"', start_s))
    with pytest.raises(UserError, match=r"a\.wav\.json: start_s: expected a number"):
        hand_over([take], tmp_path / "editor")
    assert not (tmp_path / "editor").exists()
    source = open_source(take)
    asked = Edit(prompt="rain", ranges=(Range(start_s=0.5, end_s=1),))
    with pytest.raises(UserError, match="start_s"):
        check_edit(source, tmp_path / "b.wav", asked, OutputOptions())


def test_urls_lead_to_files_of_any_name(tmp_path: Path, film: Path) -> None:
    odd = film.rename(tmp_path / "a #1%?.mp4")
    take = write_take(tmp_path / "t #1%ü?.wav")
    hand_over([take], tmp_path / "editor", film=odd)
    timeline = otio.adapters.read_from_file(str(tmp_path / "editor" / "timeline.otio"))
    urls = [r.target_url for c in timeline.find_clips() for r in c.media_references().values()]
    assert len(urls) == 4
    for url in urls:
        assert (tmp_path / "editor" / filepath_from_url(url)).is_file()
        assert urlsplit(url).path == url  # no part of a name is taken for a query or fragment


def test_equal_takes_give_equal_bytes_and_strangers_are_refused(tmp_path: Path) -> None:
    take = write_take(tmp_path / "a.wav")
    for name in ("one", "two"):
        hand_over([take], tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 6
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    hand_over([take], tmp_path / "one")  # one of ours is replaced
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    with pytest.raises(UserError, match="exists and is no folder of a hand-over"):
        hand_over([take], tmp_path / "mine")
    shutil.rmtree(tmp_path / "a.wav.stems")
    assert hand_over([take], tmp_path / "one").num_stems == 0
    assert "a-dog" not in (tmp_path / "one" / "markers.csv").read_text()
    (tmp_path / "a.wav.json").unlink()
    with pytest.raises(UserError, match=r"a\.wav: has no sidecar"):
        hand_over([take], tmp_path / "three")
