"""The command line as a film maker types it: several videos, spans, formats, takes, levels."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.checks.transcripts import in_terminal
from omni2sound.cli.main import app
from omni2sound.errors import UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe
from omni2sound.media.loudness.meter import measure
from omni2sound.media.samples import Audio
from omni2sound.media.video import iter_frames
from tests.build import video_with_square
from tests.media.clips import number_of, write_video
from tests.warm.start import warm

OMNI2SOUND = Path(sys.executable).with_name("omni2sound")
RATE_HZ = 48_000


@pytest.fixture
def folder(folder: Path) -> Path:
    """The current folder, with a video without and one with sound."""
    write_video(
        folder / "film.mov",
        ticks=range(50),
        time_base=Fraction(1, 25),
        codec="prores_ks",
        pix_fmt="yuv422p10le",
        size=(64, 64),
        sound=tone(2.0),
        sound_codec="pcm_s16le",
    )
    return folder


def tone(seconds: float, amplitude: float = 0.25) -> Audio:
    wave = amplitude * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
    return Audio(samples_CN=wave.astype(np.float32)[None], sample_rate_hz=RATE_HZ)


def run(model: Path, *arguments: object) -> Any:
    command = [*map(str, arguments), "--model", str(model), "--device", "cpu"]
    if arguments[0] == "generate" and "--steps" not in arguments:
        command += ["--steps", "1"]
    result = CliRunner().invoke(app, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def reports(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# --- several videos ------------------------------------------------------------------


def test_files_folders_and_patterns_are_sounded_once_each(folder: Path, model: Path) -> None:
    (folder / "clips").mkdir()
    for name in ("a.mp4", "b.mp4", "b.omni2sound.mp4"):
        video_with_square(folder / "clips" / name, duration_s=0.4)
    (folder / "clips" / "notes.txt").write_text("notes")
    typed = ["clips", "cl*.mp4", "clip.mp4", "--out-dir", "out", "--seed", 3]
    made = run(model, "generate", *typed)
    wanted = [f"out/{name}.omni2sound.mp4" for name in ("a", "b", "clip")]
    assert made.exit_code == 0, made.output
    assert made.stdout.split() == wanted
    assert run(model, "generate", *typed).stdout == ""  # what is there is not made again
    alone = run(model, "generate", "clip.mp4", "-o", "alone.mp4", "--seed", 3)
    assert alone.exit_code == 0
    assert Path("alone.mp4").read_bytes()[:8] == Path(wanted[2]).read_bytes()[:8]
    one, many = (read_audio(p).samples_CN for p in ("alone.mp4", wanted[2]))
    np.testing.assert_array_equal(one, many)


def test_videos_of_one_name_are_told_apart(folder: Path, model: Path) -> None:
    for name in ("day", "night"):
        (folder / name).mkdir()
        video_with_square(folder / name / "a.mp4", duration_s=0.4)
    made = run(model, "generate", "day", "night", "--out-dir", "out")
    names = [Path(line).name for line in made.stdout.split()]
    assert names == ["day-a.omni2sound.mp4", "night-a.omni2sound.mp4"]


def test_a_failing_video_is_told_and_the_others_go_on(folder: Path, model: Path) -> None:
    (folder / "bad.mp4").write_bytes(b"no video")
    made = run(model, "generate", "bad.mp4", "clip.mp4", "--out-dir", "out", "--json")
    assert made.exit_code == 1
    assert made.stderr.startswith("omni2sound: bad.mp4: cannot be read as video")
    failed, done = map(json.loads, made.stdout.splitlines())
    assert failed["error"]["kind"] == "MediaError"
    assert done["output"] == "out/clip.omni2sound.mp4"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["a dog barks"], r'for a sound from words: omni2sound generate --prompt "a dog barks"'),
        (["https://example.org/a.mp4"], "https://example.org/a.mp4: is an address; save the video"),
        (["*.avi"], "matches no file"),
        (["empty"], "holds no videos"),
        (["clip.mp4", "film.mov", "-o", "x.mp4"], "--output: names one file for 2 videos"),
        (["clip.mp4", "-o", "x.mp4", "--out-dir", "d"], "--output: names a file, and --out-dir"),
        (["--prompt", "rain", "--out-dir", "d"], "--out-dir: is for videos"),
        (["clip.mp4", "--start", "2"], "--start: 2 s is not before the end of clip.mp4 at 1.2"),
        (["clip.mp4", "--start", "1", "--end", "0:01"], "--end: expected a time after the start"),
        (["clip.mp4", "--end", "1", "--duration", "1"], "--end: says where .* so does --duration"),
        (["--prompt", "rain", "--start", "1"], "--start: is a time in a video"),
        (["clip.mp4", "--mix-db", "3"], "--mix-db: .*set --keep-audio"),
        (["clip.mp4", "--bits", "24"], "--bits: clip.omni2sound.mp4 can't be written with 24"),
        (["clip.mp4", "-o", "x.flac", "--bits", "32"], "--bits: x.flac can't be written with 32"),
        (["clip.mp4", "--channels", "3"], "--channels: expected a whole number from 1 to 2"),
        (["clip.mp4", "--for", "podcast", "--loudness", "-20"], "--for: has a loudness of its own"),
    ],
)
def test_what_makes_no_sense_is_told(
    folder: Path, model: Path, typed: list[str], message: str
) -> None:
    (folder / "empty").mkdir()
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=message):
        run(model, "generate", *typed)
    assert sorted(folder.rglob("*")) == before


# --- spans, formats, levels ----------------------------------------------------------


def test_a_span_is_sounded_and_copied_alone(folder: Path, model: Path) -> None:
    (report,) = reports(
        run(model, "generate", "film.mov", "--start", "0:00.6", "--end", 1, "--json")
    )
    out = Path("film.omni2sound.mov")
    assert report["output"] == str(out)
    assert (report["start_s"], report["duration_s"]) == (0.6, 0.4)
    assert probe(out).duration_s == Fraction(2, 5)
    whole = [number_of(frame) for frame in iter_frames("film.mov", fps=25)]
    assert [number_of(frame) for frame in iter_frames(out, fps=25)] == whole[15:25]


def test_a_mov_stays_one_with_sound_for_an_editor(folder: Path, model: Path) -> None:
    (report,) = reports(run(model, "generate", "film.mov", "--json"))
    assert report["output"] == "film.omni2sound.mov"
    assert (report["sample_rate_hz"], report["channels"]) == (48_000, 2)
    info = probe(report["output"])
    assert info.video is not None and info.video.codec == "prores"
    assert info.audio is not None
    assert (info.audio.codec, info.audio.sample_rate_hz) == ("pcm_s24le", 48_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bits", "codec"),
    [("x.wav", 16, "pcm_s16le"), ("x.wav", 24, "pcm_s24le"), ("x.wav", 32, "pcm_f32le"),
     ("x.flac", 24, "flac"), ("x.mov", 16, "pcm_s16le"), ("x.mov", 32, "pcm_f32le")],
)  # fmt: skip
def test_bits_channels_and_rate_are_as_asked(
    folder: Path, model: Path, name: str, bits: int, codec: str
) -> None:
    more = ["--bits", bits, "--channels", 1, "--rate", 44_100, "--seed", 1]
    run(model, "generate", "clip.mp4", "-o", name, *more)
    info = probe(name)
    assert info.audio is not None
    assert (info.audio.codec, info.audio.channels, info.audio.sample_rate_hz) == (codec, 1, 44_100)
    run(model, "generate", "clip.mp4", "-o", "y.wav", "--bits", 32, *more[2:])
    step = 2.0 ** -(bits - 1) if bits < 32 else 0
    difference = read_audio(name).samples_CN - read_audio("y.wav").samples_CN
    assert np.abs(difference).max() <= 0.51 * step


@pytest.mark.parametrize("name", ["x.wav", "x.mov"])
def test_the_mix_has_both_sounds_at_their_gains(folder: Path, model: Path, name: str) -> None:
    more = ["--seed", 4, "--bits", 32, "-o"]
    run(model, "generate", "film.mov", *more, "new.wav")
    result = run(model, "generate", "film.mov", "--keep-audio", "--mix-db", -12, *more, name)
    assert "replaced" not in result.stderr
    new, mixed = (read_audio(path).samples_CN for path in ("new.wav", name))
    own = read_audio("film.mov").samples_CN
    expected = own + 10 ** (-12 / 20) * new
    assert np.abs(mixed - expected).max() < 2e-5


def test_a_line_says_that_the_own_sound_is_gone(folder: Path, model: Path) -> None:
    said = "film.mov: its own sound was replaced; --keep-audio mixes it in"
    assert said in run(model, "generate", "film.mov").stderr
    assert "replaced" not in run(model, "generate", "clip.mp4").stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "lufs"), [("youtube", -14), ("podcast", -16), ("broadcast", -23)]
)
def test_for_is_a_loudness(folder: Path, model: Path, where: str, lufs: int) -> None:
    mix = ["--keep-audio", "--mix-db", -60]
    run(model, "generate", "film.mov", *mix, "--for", where, "-o", "x.wav")
    loudness = measure(read_audio("x.wav")).integrated_lufs
    assert loudness is not None
    assert loudness == pytest.approx(lufs, abs=0.2)


# --- takes and pictures --------------------------------------------------------------


def test_added_takes_are_those_of_one_longer_run(folder: Path, model: Path) -> None:
    take = ["generate", "--prompt", "rain", "-o", "x.wav", "--takes"]
    run(model, *take, 2, "--seed", 5)
    with pytest.raises(UserError, match=r"x-1.wav: exists already"):
        run(model, *take, 2)
    added = reports(run(model, *take, 2, "--add", "--json"))
    assert [(r["output"], r["seed"]) for r in added] == [("x-3.wav", 7), ("x-4.wav", 8)]
    run(model, "generate", "--prompt", "rain", "-o", "y.wav", "--takes", 4, "--seed", 5)
    for number in (1, 2, 3, 4):
        one, other = (read_audio(f"{name}-{number}.wav").samples_CN for name in "xy")
        np.testing.assert_array_equal(one, other)


def test_a_single_output_is_the_first_take(folder: Path, model: Path) -> None:
    run(model, "generate", "--prompt", "rain", "-o", "x.wav", "--seed", 9)
    (added,) = reports(run(model, "generate", "--prompt", "rain", "-o", "x.wav", "--add", "--json"))
    assert (added["output"], added["seed"]) == ("x-2.wav", 10)


def test_pictures_of_outputs_and_of_all_takes(folder: Path, model: Path) -> None:
    run(model, "generate", "film.mov", "-o", "x.mov", "--takes", 2, "--preview")
    from PIL import Image

    assert Path("x-2.mov.png").exists()
    with Image.open("x-1.mov.png") as one, Image.open("x-takes.png") as sheet:
        assert one.width == sheet.width
        assert sheet.height != one.height
    Path("y.wav.png").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"y\.wav\.png: exists already"):
        run(model, "generate", "film.mov", "-o", "y.wav", "--preview")
    assert Path("y.wav.png").read_bytes() == b"precious"


# --- how it talks --------------------------------------------------------------------


def at_terminal(*arguments: object, columns: int = 80) -> tuple[int, str]:
    """Run the program in a terminal; return its exit code and what the terminal got."""
    command = [sys.executable, "-m", "omni2sound", *map(str, arguments)]
    code, shown = in_terminal(warm(command), columns=columns)
    return code, shown.decode()


@pytest.mark.slow
def test_a_terminal_sees_stages_by_name_and_share(folder: Path, model: Path) -> None:
    code, shown = at_terminal("generate", "clip.mp4", "--steps", 40, "--model", model)
    assert code == 0, shown
    assert "clip.omni2sound.mp4" in shown
    stages = ("loading the model", "encoding", "generating", "decoding", "writing")
    # A stage that is over before the next picture of the bar is never drawn.
    places = [shown.index(stage) for stage in stages if stage in shown]
    assert places
    assert places == sorted(places)
    assert re.search(r"\d+ %", shown)


def test_without_a_terminal_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from omni2sound import stages
    from omni2sound.cli import progress

    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.02)
    monkeypatch.setattr(progress, "_is_quiet", lambda: False)
    with progress.stages_shown(total=3) as advance:
        stages.enter("generating")
        stages.advance(1, 4)
        time.sleep(0.1)
        advance()
        stages.enter("writing")
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert "omni2sound: generating (1 of 3), 25 %, 0 s" in lines
    assert "omni2sound: writing (2 of 3), 0 s" in lines


@pytest.mark.slow
def test_verbose_says_model_video_and_times(folder: Path, model: Path) -> None:
    command = [sys.executable, "-m", "omni2sound", "generate", "film.mov", "--steps", "1",
               "--model", str(model), "--device", "cpu", "-v"]  # fmt: skip
    done = subprocess.run(warm(command), check=True, capture_output=True, text=True)
    said = done.stderr
    assert re.search(r"model tiny \(sha256 [0-9a-f]{12}\.\.\.\) on cpu, \w+, \d+ threads", said)
    assert "film.mov: 64x64 prores, 25 fps, sound pcm_s16le, 48000 Hz, mono, 2.00 s" in said
    assert re.search(r"film\.omni2sound\.mov: load .* s, encode .* s, sample", said)


@pytest.mark.slow
def test_ctrl_c_says_what_is_done_and_how_to_go_on(folder: Path, model: Path) -> None:
    command = [sys.executable, "-m", "omni2sound", "generate", "--prompt", "rain", "--takes", "50",
               "-o", "x.wav", "--model", str(model), "--device", "cpu", "--steps", "60",
               "--duration", "8"]  # fmt: skip
    with subprocess.Popen(
        warm(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "x-1.wav\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    found = re.search(r"interrupted: (\d+) of 50 takes are done \((.*)\); to go on, give", said)
    assert found, said
    assert set(found[2].split(", ")) == {p.name for p in folder.glob("x-*.wav")}
    assert f"--takes {50 - int(found[1])} --add in place of --takes 50" in said


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        (["generate", "no.mp4", "--json"], "MediaError"),
        (["generate", "--takes", "x", "--json"], "BadParameter"),
        (["generate", "--no-such", "--json"], "NoSuchOption"),
        (["batch", "j.jsonl", "--out", "o", "--takes", "3", "--json"], "NoSuchOption"),
    ],
)
def test_errors_are_json_if_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    typed: list[str], kind: str,
) -> None:  # fmt: skip
    from omni2sound.cli import main as main_module

    monkeypatch.setattr(sys, "argv", ["omni2sound", *typed])
    with pytest.raises(SystemExit) as end:
        main_module.main()
    told = json.loads(capsys.readouterr().out)["error"]
    assert end.value.code == told["exit_code"] == 2
    assert told["kind"] == kind
    if "--takes" in typed and typed[0] == "batch":
        assert "in a batch it is a column of JOBS" in told["message"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_permissions_have_a_code_of_their_own(folder: Path, model: Path) -> None:
    (folder / "closed").mkdir(mode=0o500)
    command = [OMNI2SOUND, "generate", "clip.mp4", "-o", "closed/x.mp4", "--model", model]
    assert subprocess.run(command, check=False).returncode == 3


@pytest.mark.slow
def test_a_full_disk_has_a_code_of_its_own(folder: Path, model: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    command = [sys.executable, "-m", "omni2sound", "generate", "--prompt", "rain", "--steps", "1",
               "--model", str(model), "--device", "cpu"]  # fmt: skip
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            warm(command), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3
    assert "omni2sound: standard output: No space left on device\n" in done.stderr


def test_the_cause_decides_the_code() -> None:
    import errno

    from omni2sound.cli.main import is_of_environment

    error = UserError("x.wav: cannot be written")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_of_environment(error)
    assert is_of_environment(PermissionError(errno.EACCES, "Permission denied"))
    assert not is_of_environment(FileNotFoundError(errno.ENOENT, "No such file"))
    assert not is_of_environment(UserError("seed: expected"))


def test_a_forgotten_command_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["omni2sound", "clip.mp4"])
    result = CliRunner().invoke(app, ["clip.mp4"])
    assert result.exit_code == 2
    assert "for its sound: omni2sound generate clip.mp4" in result.output


def test_a_cue_may_have_minutes() -> None:
    from omni2sound.generate.words.cues import parse_cue

    cue = parse_cue("1:05-1:10.5: 5 dogs: bark")
    assert (cue.start_s, cue.end_s, cue.text) == (65.0, 70.5, "5 dogs: bark")
    assert parse_cue("0-2:15 dogs").end_s == 2.0


@pytest.mark.slow
def test_lines_stand_above_the_bar(folder: Path, model: Path) -> None:
    code, shown = at_terminal("generate", "film.mov", "--steps", 2, "--model", model)
    assert code == 0, shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = [line.split("\r")[-1].rstrip() for line in plain.replace("\r\n", "\n").split("\n")]
    said = "film.mov: its own sound was replaced; --keep-audio mixes it in"
    assert said in lines, lines
