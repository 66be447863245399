"""`omni2sound generate`: what it writes and prints, and what it refuses.

Most calls run in this process, through the same `app` that the command starts; those where
the process itself matters run as one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.errors import UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe
from omni2sound.media.loudness.meter import measure

OMNI2SOUND = Path(sys.executable).with_name("omni2sound")


def invoke(model: Path, *arguments: object) -> Any:
    """What `omni2sound generate` does with these arguments; its own errors are raised."""
    command = ["generate", *map(str, arguments), "--model", str(model), "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def reports(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def tag(path: Path) -> dict[str, Any]:
    """The facts in the file's metadata, wherever the container puts them."""
    with av.open(path) as container:
        tags = dict(container.metadata)
        for stream in container.streams:
            tags |= stream.metadata
    found = {name.lower(): value for name, value in tags.items()}
    facts = json.loads(found["comment"])
    assert isinstance(facts, dict)
    return facts


@pytest.mark.slow
def test_as_a_process_a_video_gets_its_sound(folder: Path, model: Path) -> None:
    command = [OMNI2SOUND, "generate", "clip.mp4", "--model", model, "--seed", "7", "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # No bar, no log: nobody is at a terminal, and on a slow machine a line now and then.
    assert re.fullmatch(r"(omni2sound: .*, \d+ s\n)*", done.stderr)
    report = json.loads(done.stdout)
    card = json.loads((model / "card.json").read_text())
    assert report["output"] == "clip.omni2sound.mp4"
    assert report["task"] == "V2A"
    assert report["duration_s"] == 1.2
    assert report["sample_rate_hz"] == 16_000
    assert (report["seed"], report["steps"], report["guidance"]) == (7, 3, 2.0)
    assert report["model"] == card["name"] == "tiny"
    assert len(report["model_sha256"]) == 64
    assert set(report["time_s"]) == {"load", "encode", "sample", "decode", "write"}
    assert all(seconds > 0 for seconds in report["time_s"].values())
    made_in_s = sum(report["time_s"][part] for part in ("encode", "sample", "decode"))
    assert report["rtf"] == pytest.approx(made_in_s / 1.2, abs=1e-3)

    assert json.loads((folder / "clip.omni2sound.mp4.json").read_text()) == report
    facts = tag(folder / "clip.omni2sound.mp4")
    assert facts == {
        k: v
        for k, v in report.items()
        if k not in ("output", "output_bytes", "output_sha256", "leveling", "time_s", "rtf")
    }
    info = probe(folder / "clip.omni2sound.mp4")
    assert info.audio is not None
    assert info.video is not None
    assert info.video.num_frames == 30


@pytest.mark.parametrize(
    "suffix",
    [
        *("wav", "mkv", "mp4"),
        *(
            pytest.param(suffix, marks=pytest.mark.slow)
            for suffix in ("flac", "mp3", "opus", "ogg", "m4a", "mov")
        ),
    ],
)
def test_the_suffix_chooses_the_format(folder: Path, model: Path, suffix: str) -> None:
    (report,) = reports(invoke(model, "clip.mp4", "--steps", 1, "-o", f"out.{suffix}", "--json"))
    info = probe(folder / f"out.{suffix}")
    assert info.audio is not None
    assert (info.video is not None) == (suffix in ("mkv", "mov", "mp4"))
    assert tag(folder / f"out.{suffix}")["model_sha256"] == report["model_sha256"]
    assert abs(float(read_audio(folder / f"out.{suffix}").duration_s) - 1.2) < 0.1


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_copy_is_as_long_as_asked(folder: Path, model: Path, suffix: str) -> None:
    out = f"out.{suffix}"
    invoke(model, "clip.mp4", "--duration", 0.5, "--steps", 1, "-o", out)
    info = probe(folder / out)
    assert info.video is not None
    assert info.video.num_frames == 13  # of 25 a second, the last one for half its time
    assert info.duration_s == pytest.approx(0.5, abs=0.001)
    assert read_audio(folder / out).duration_s == pytest.approx(0.5, abs=0.001)


def test_a_sentence_alone_gives_a_wav(folder: Path, model: Path) -> None:
    result = invoke(model, "--prompt", "rain", "--seed", 1, "--steps", 1)
    assert result.stdout == "omni2sound.wav\n"
    assert read_audio(folder / "omni2sound.wav").samples_CN.shape == (1, 16_000)


def test_same_seed_same_bytes(folder: Path, model: Path) -> None:
    request = ("clip.mp4", "--prompt", "rain", "--steps", 2)
    for name in ("a", "b"):
        invoke(model, *request, "--seed", 5, "-o", f"{name}.mp4")
    invoke(model, *request, "--seed", 6, "-o", "c.mp4")
    a, b, c = ((folder / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_takes_are_numbered_and_take_the_next_seeds(folder: Path, model: Path) -> None:
    result = invoke(model, "--prompt", "rain", "--seed", 5, "--takes", 2, "-o", "x.wav", "--json")
    first, second = reports(result)
    assert (first["output"], second["output"]) == ("x-1.wav", "x-2.wav")
    assert (first["seed"], second["seed"]) == (5, 6)
    assert second["time_s"]["load"] == second["time_s"]["encode"] == 0
    invoke(model, "--prompt", "rain", "--seed", 6, "-o", "alone.wav")
    alone, take = (read_audio(folder / name).samples_CN for name in ("alone.wav", "x-2.wav"))
    np.testing.assert_array_equal(alone, take)


def test_a_seed_is_drawn_and_reported(folder: Path, model: Path) -> None:
    (report,) = reports(invoke(model, "--prompt", "rain", "-o", "a.wav", "--json", "--steps", 1))
    again = ["--prompt", "rain", "-o", "b.wav", "--steps", 1, "--seed", report["seed"]]
    invoke(model, *again)
    assert (folder / "a.wav").read_bytes() == (folder / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to generate from"),
        (["--prompt", ""], "--prompt: is empty"),
        (["missing.mp4"], "missing.mp4: no such file"),
        (["notes.txt"], "cannot be read as video"),
        (["clip.mp4", "-o", "out.xyz"], "suffix '.xyz'"),
        (["clip.mp4", "-o", "out.webm"], "cannot hold .* video"),
        (["clip.mp4", "-o", "nowhere/out.mp4"], "folder nowhere does not exist"),
        (["clip.mp4", "-o", "notes.wav"], "exists already"),
        (["clip.mp4", "-o", "clip.mp4", "--overwrite"], "is the input itself"),
        (["--prompt", "x", "-o", "out.mp4"], "needs a video"),
        (["--prompt", "x", "--keep-audio"], "--keep-audio: needs a video"),
        (["clip.mp4", "--loudness", "3"], "--loudness: expected -50 to -5 LUFS"),
        (["clip.mp4", "--steps", "0"], "--steps: expected a whole number from 1 to 1000, got 0"),
        (["clip.mp4", "--duration", "0"], "--duration: expected"),
        (["clip.mp4", "--duration", "nan"], "--duration: expected"),
        (["clip.mp4", "--negative-prompt", "x", "--guidance", "1"], "--negative-prompt: has no"),
        (["clip.mp4", "--takes", "0"], "--takes: expected"),
        (["still.png"], "is a still picture and has no duration"),
        (["still.png", "--duration", "1", "-o", "a.mp4"], "still picture can't be copied"),
    ],
)
def test_what_can_be_refused_is_refused_before_the_model_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr("omni2sound.generate.load.PipelineOptions.load", never)
    (folder / "notes.txt").write_text("notes")
    (folder / "notes.wav").write_bytes(b"precious")
    _write_png(folder / "still.png")
    before = sorted(folder.iterdir())
    with pytest.raises(UserError, match=message):
        invoke(folder / "no model", *arguments)
    assert sorted(folder.iterdir()) == before
    assert (folder / "notes.wav").read_bytes() == b"precious"


@pytest.mark.parametrize("value", ["2s", "2,5", "two", "1:60", "1:2:3:4"])
def test_what_is_no_time_is_refused(folder: Path, model: Path, value: str) -> None:
    with pytest.raises(UserError, match="--duration: expected seconds or a time as 1:30"):
        invoke(model, "clip.mp4", "--duration", value)


def _write_png(path: Path) -> None:
    with av.open(path, "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        picture = np.full((32, 32, 3), 90, dtype=np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_a_still_picture_sounds_as_long_as_asked(folder: Path, model: Path) -> None:
    _write_png(folder / "still.png")
    result = invoke(model, "still.png", "--duration", 0.5, "--steps", 1)
    assert result.stdout == "still.omni2sound.wav\n"
    assert read_audio(folder / "still.omni2sound.wav").duration_s == 0.5


def test_overwrite_replaces(folder: Path, model: Path) -> None:
    (folder / "out.wav").write_bytes(b"old")
    invoke(model, "--prompt", "rain", "--steps", 1, "-o", "out.wav", "--overwrite")
    assert (folder / "out.wav").read_bytes()[:4] == b"RIFF"


def test_an_unknown_model_is_one_line_and_code_2(folder: Path) -> None:
    command = [OMNI2SOUND, "generate", "--prompt", "x", "--model", "nothing-of-the-kind"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("omni2sound: no model 'nothing-of-the-kind'")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_duration_beyond_the_video_is_said(folder: Path, model: Path) -> None:
    whole = invoke(model, "clip.mp4", "--duration", 1.2, "--steps", 1, "-o", "a.wav")
    assert "lasts" not in whole.stderr
    cut = invoke(model, "clip.mp4", "--duration", 3, "--steps", 1, "-o", "b.wav")
    assert "clip.mp4: lasts 1.20 s" in cut.stderr


def test_sound_that_is_not_there_cannot_be_kept(folder: Path, model: Path) -> None:
    result = invoke(model, "clip.mp4", "--keep-audio", "--steps", 1, "-o", "a.mp4")
    assert "clip.mp4: has no sound of its own to keep" in result.stderr


def test_pictures_are_encoded_again_on_request_only(folder: Path, model: Path) -> None:
    with pytest.raises(UserError, match=r"cannot hold mpeg4 video.*or --reencode"):
        invoke(model, "clip.mp4", "--steps", 1, "-o", "a.webm")
    invoke(model, "clip.mp4", "--steps", 1, "-o", "a.webm", "--reencode")
    video = probe(folder / "a.webm").video
    assert video is not None
    assert video.codec == "vp9"
    source = probe(folder / "clip.mp4").video
    assert source is not None
    assert video.num_frames == source.num_frames


def test_notes_name_options(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library user reads `prompt` in the sidecar's note, a shell user --prompt."""
    monkeypatch.setattr("omni2sound.generate.words.notes.SILENT_DBFS", 200.0)
    result = invoke(model, "clip.mp4", "-o", "clip.wav")
    assert result.exit_code == 0
    assert result.stderr.endswith("or say what should be heard with --prompt\n")
    (note,) = json.loads((folder / "clip.wav.json").read_text())["notes"]
    assert note.endswith("with `prompt`")


def test_a_comment_of_the_video_stays(folder: Path, model: Path) -> None:
    with av.open("clip.mp4") as source, av.open("commented.mp4", "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        target.metadata["comment"] = "mine"
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    for name in ("b.mp4", "b.mkv"):
        invoke(model, "commented.mp4", "--steps", 1, "-o", name)
        with av.open(name) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
        assert tags["comment"] == "mine"
        assert json.loads(tags["omni2sound"])["task"] == "V2A"


def test_a_loudness_is_reached_and_reported(folder: Path, model: Path) -> None:
    arguments = ["--prompt", "rain", "--seed", 1, "--steps", 1, "--loudness", -30, "--json"]
    (report,) = reports(invoke(model, *arguments, "-o", "a.wav"))
    assert report["loudness_lufs"] == tag(folder / "a.wav")["loudness_lufs"] == -30
    found = measure(read_audio(folder / "a.wav")).integrated_lufs
    assert found == pytest.approx(-30, abs=0.5)
    assert report["leveling"]["lufs"] == pytest.approx(found, abs=0.1)
