"""`omni2sound generate`: what it writes and prints, what it refuses, how jobs go on.

Most calls run in this process, through the same `app` that the command starts; those where
the process itself matters run as one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from omni2sound.cli import jobs as jobs_module
from omni2sound.cli.main import app
from omni2sound.errors import UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe
from omni2sound.media.loudness import loudness_lufs
from tests.build import tiny_model_folder, video_with_square

OMNI2SOUND = Path(sys.executable).with_name("omni2sound")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a video in it."""
    video_with_square(tmp_path / "clip.mp4", duration_s=1.2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def test_as_a_process_a_video_gets_its_sound(folder: Path, model: Path) -> None:
    command = [OMNI2SOUND, "generate", "clip.mp4", "--model", model, "--seed", "7", "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no bar, no log: nobody is at a terminal
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
        k: v for k, v in report.items() if k not in ("output", "leveling", "time_s", "rtf")
    }
    info = probe(folder / "clip.omni2sound.mp4")
    assert info.audio is not None
    assert info.video is not None
    assert info.video.num_frames == 30


@pytest.mark.parametrize(
    "suffix", ["wav", "flac", "mp3", "opus", "ogg", "m4a", "mkv", "mov", "mp4"]
)
def test_the_suffix_chooses_the_format(folder: Path, model: Path, suffix: str) -> None:
    (report,) = reports(invoke(model, "clip.mp4", "--steps", 1, "-o", f"out.{suffix}", "--json"))
    info = probe(folder / f"out.{suffix}")
    assert info.audio is not None
    assert (info.video is not None) == (suffix in ("mkv", "mov", "mp4"))
    assert tag(folder / f"out.{suffix}")["model_sha256"] == report["model_sha256"]
    assert abs(float(read_audio(folder / f"out.{suffix}").duration_s) - 1.2) < 0.1


def test_a_sentence_alone_gives_a_wav(folder: Path, model: Path) -> None:
    result = invoke(model, "--prompt", "rain", "--seed", 1, "--steps", 1)
    assert result.stdout == "omni2sound.wav\n"
    assert read_audio(folder / "omni2sound.wav").samples_CN.shape == (1, 16_000)


def test_same_seed_same_bytes(folder: Path, model: Path) -> None:
    for name in ("a", "b"):
        invoke(model, "clip.mp4", "--prompt", "rain", "--seed", 5, "-o", f"{name}.mp4")
    invoke(model, "clip.mp4", "--prompt", "rain", "--seed", 6, "-o", "c.mp4")
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
        (["clip.mp4", "--keep-audio", "-o", "out.wav"], "--keep-audio: needs a video"),
        (["clip.mp4", "--loudness", "3"], "--loudness: expected -50 to -5 LUFS"),
        (["clip.mp4", "--steps", "0"], "--steps: expected 1 to 1000, got 0"),
        (["clip.mp4", "--duration", "0"], "--duration: expected"),
        (["clip.mp4", "--duration", "nan"], "--duration: expected"),
        (["clip.mp4", "--negative-prompt", "x", "--guidance", "1"], "--negative-prompt: has no"),
        (["clip.mp4", "--takes", "0"], "--takes: expected"),
        (["still.png"], "is a still picture and has no duration"),
        (["still.png", "--duration", "1", "-o", "a.mp4"], "still picture can't be copied"),
        (["--jobs", "jobs.jsonl"], "go together"),
        (["--out-dir", "out"], "go together"),
        (["clip.mp4", "--jobs", "j", "--out-dir", "out"], "VIDEO can't go with --jobs"),
        (["--seed", "1", "--jobs", "j", "--out-dir", "out"], "--seed can't go with --jobs"),
    ],
)
def test_what_can_be_refused_is_refused_before_the_model_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        pytest.fail("the model was loaded")

    monkeypatch.setattr("omni2sound.cli.generate.load_pipeline", never)
    (folder / "notes.txt").write_text("notes")
    (folder / "notes.wav").write_bytes(b"precious")
    _write_png(folder / "still.png")
    before = sorted(folder.iterdir())
    with pytest.raises(UserError, match=message):
        invoke(folder / "no model", *arguments)
    assert sorted(folder.iterdir()) == before
    assert (folder / "notes.wav").read_bytes() == b"precious"


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


# --- jobs ----------------------------------------------------------------------------


def write_jobs(folder: Path, *jobs: object) -> Path:
    lines = [job if isinstance(job, str) else json.dumps(job) for job in jobs]
    (folder / "jobs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "jobs.jsonl"


def run_jobs(model: Path, *more: object) -> Any:
    return invoke(model, "--jobs", "jobs.jsonl", "--out-dir", "out", *more)


def test_jobs_are_made_once(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jobs(
        folder,
        {"id": "a", "prompt": "rain", "steps": 1, "duration_s": 0.5},
        {"id": "b", "video": "clip.mp4", "steps": 2, "guidance": 1, "seed": 4},
        {"id": "c", "video": "clip.mp4", "prompt": "x", "steps": 1, "output": "deep/er/c.flac"},
    )
    made = reports(run_jobs(model, "--json"))
    assert [report["id"] for report in made] == ["a", "b", "c"]
    outputs = [Path(report["output"]) for report in made]
    assert outputs == [Path("out/a.wav"), Path("out/b.mp4"), Path("out/deep/er/c.flac")]
    assert [report["task"] for report in made] == ["T2A", "V2A", "VT2A"]
    assert (made[1]["steps"], made[1]["guidance"], made[1]["seed"]) == (2, 1.0, 4)
    before = [path.stat().st_mtime_ns for path in outputs]

    def never(*args: object, **kwargs: object) -> None:
        pytest.fail("nothing is left to do, but the model was loaded")

    with monkeypatch.context() as patch:
        patch.setattr(jobs_module, "load_pipeline", never)
        assert run_jobs(model).stdout == ""
        again = reports(run_jobs(model, "--json"))
    assert again == made
    assert [path.stat().st_mtime_ns for path in outputs] == before

    # One is gone, one was cut off before its sidecar, one is wanted otherwise.
    outputs[0].unlink()
    Path("out/b.mp4.json").unlink()
    Path("out/b.mp4").unlink()
    write_jobs(
        folder,
        {"id": "a", "prompt": "rain", "steps": 1, "duration_s": 0.5},
        {"id": "b", "video": "clip.mp4", "steps": 2, "guidance": 1, "seed": 4},
        {"id": "c", "video": "clip.mp4", "prompt": "y", "steps": 1, "output": "deep/er/c.flac"},
    )
    refused = run_jobs(model)  # c would replace a file made from something else
    assert refused.exit_code == 1
    assert "jobs.jsonl:3: job 'c': c.flac: exists already and is of another" in refused.stderr
    assert [path.exists() for path in outputs] == [True] * 3
    assert json.loads(Path("out/deep/er/c.flac.json").read_text())["prompt"] == "x"
    assert run_jobs(model, "--overwrite").exit_code == 0
    assert json.loads(Path("out/deep/er/c.flac.json").read_text())["prompt"] == "y"


def test_a_job_is_done_again_for_another_video_model_or_precision(
    folder: Path, model: Path, tmp_path: Path
) -> None:
    write_jobs(folder, {"id": "a", "video": "clip.mp4", "steps": 1, "output": "a.wav"})
    digests = [reports(run_jobs(model, "--json"))[0]["request_sha256"]]
    again = ["--json", "--overwrite"]
    digests.append(reports(run_jobs(model, *again, "--dtype", "bfloat16"))[0]["request_sha256"])
    video_with_square(folder / "clip.mp4", duration_s=0.8)
    digests.append(reports(run_jobs(model, *again))[0]["request_sha256"])
    other = tiny_model_folder(tmp_path / "other", seed=1)
    digests.append(reports(run_jobs(other, *again))[0]["request_sha256"])
    assert len(set(digests)) == 4


def test_one_bad_job_fails_alone(folder: Path, model: Path) -> None:
    write_jobs(
        folder,
        {"id": "good", "prompt": "rain", "steps": 1},
        "{this is not JSON",
        "",
        {"id": "typo", "promt": "rain"},
        {"id": "type", "prompt": "rain", "steps": "many"},
        {"id": "empty"},
        {"id": "missing", "video": "missing.mp4"},
        {"id": "../up", "prompt": "rain"},
        {"id": "out", "prompt": "rain", "output": "../out.wav"},
        {"id": "same", "prompt": "rain", "output": "good.wav"},
        ["no", "object"],
        {"id": "long", "prompt": "rain", "duration_s": 1e9},
        {"id": "last", "prompt": "rain", "steps": 1},
    )
    result = run_jobs(model)
    assert result.exit_code == 1
    assert result.stdout.split() == ["out/good.wav", "out/last.wav"]
    *complaints, summary = result.stderr.splitlines()
    assert summary == "12 jobs: 2 made, 0 were done already, 10 failed"
    assert all(line.startswith("omni2sound: ") for line in complaints)
    starts = [
        "jobs.jsonl:2: ",
        "jobs.jsonl:4: unknown key 'promt'; known: ",
        "jobs.jsonl:5: steps: ",
        "jobs.jsonl:6: job 'empty': nothing to generate from",
        "jobs.jsonl:7: job 'missing': missing.mp4: no such file",
        "jobs.jsonl:8: id '../up': ",
        "jobs.jsonl:9: job 'out': output '../out.wav' lies outside",
        "jobs.jsonl:10: job 'same': good.wav: is the output of job 'good' too",
        "jobs.jsonl:11: ",
        "jobs.jsonl:12: job 'long': duration_s: expected",
    ]
    assert len(complaints) == len(starts)
    for line, start in zip(complaints, starts, strict=True):
        assert line.removeprefix("omni2sound: ").startswith(start)
    made = {path.name for path in (folder / "out").iterdir()}
    assert made == {"good.wav", "good.wav.json", "last.wav", "last.wav.json"}


def test_a_failure_inside_the_model_is_that_jobs_own(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omni2sound.generate.pipeline import Omni2SoundPipeline

    run = Omni2SoundPipeline.run

    def sometimes(self: Omni2SoundPipeline, request: Any, **more: Any) -> Any:
        if request.prompt == "break":
            raise RuntimeError("out of memory,\nfor example")
        return run(self, request, **more)

    monkeypatch.setattr(Omni2SoundPipeline, "run", sometimes)
    write_jobs(folder, {"id": "a", "prompt": "break"}, {"id": "b", "prompt": "x", "steps": 1})
    result = run_jobs(model)
    assert result.exit_code == 1
    complaint = "omni2sound: jobs.jsonl:1: job 'a': RuntimeError: out of memory, for example\n"
    assert result.stderr.startswith(complaint)
    assert result.stdout == "out/b.wav\n"


def test_an_id_that_stands_twice_fails_alone(folder: Path, model: Path) -> None:
    line = {"prompt": "x", "steps": 1}
    write_jobs(folder, {"id": "a", **line}, {"id": "b", **line}, {"id": "a", **line})
    result = run_jobs(model)
    assert result.exit_code == 1
    assert result.stdout.split() == ["out/a.wav", "out/b.wav"]
    assert "jobs.jsonl:3: the id 'a' is that of line 1; choose another\n" in result.stderr


def test_a_duration_beyond_the_video_is_said(folder: Path, model: Path) -> None:
    whole = invoke(model, "clip.mp4", "--duration", 1.2, "--steps", 1, "-o", "a.wav")
    assert "lasts" not in whole.stderr
    cut = invoke(model, "clip.mp4", "--duration", 3, "--steps", 1, "-o", "b.wav")
    assert "clip.mp4: lasts 1.20 s" in cut.stderr


def test_sound_that_is_not_there_cannot_be_kept(folder: Path, model: Path) -> None:
    result = invoke(model, "clip.mp4", "--keep-audio", "--steps", 1, "-o", "a.mp4")
    assert "clip.mp4: has no sound of its own to keep" in result.stderr


def test_a_loudness_is_reached_and_reported(folder: Path, model: Path) -> None:
    arguments = ["--prompt", "rain", "--seed", 1, "--steps", 1, "--loudness", -30, "--json"]
    (report,) = reports(invoke(model, *arguments, "-o", "a.wav"))
    assert report["loudness_lufs"] == tag(folder / "a.wav")["loudness_lufs"] == -30
    found = loudness_lufs(read_audio(folder / "a.wav"))
    assert found == pytest.approx(-30, abs=0.5)
    assert report["leveling"]["lufs"] == pytest.approx(found, abs=0.1)


def _nothing(folder: Path) -> None:
    (folder / "jobs.jsonl").write_text("\n\n")


def _latin(folder: Path) -> None:
    (folder / "jobs.jsonl").write_bytes(b'{"id": "\xe9"}')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_nothing, "holds no jobs"),
        (_latin, "not UTF-8"),
        (lambda folder: None, "No such file"),
    ],
)
def test_a_jobs_file_that_makes_no_sense_is_refused_whole(
    folder: Path, model: Path, make: Callable[[Path], None], message: str
) -> None:
    make(folder)
    with pytest.raises(UserError, match=message):
        run_jobs(model)
    assert not (folder / "out").exists()


def test_a_stopped_run_goes_on_where_it_was(folder: Path, model: Path) -> None:
    """Stopped as a process, by SIGTERM, somewhere after its first result."""
    jobs = [{"id": f"j{i}", "prompt": "rain", "seed": i, "duration_s": 2} for i in range(200)]
    write_jobs(folder, *jobs)
    command = [OMNI2SOUND, "generate", "--jobs", "jobs.jsonl", "--out-dir", "out"]
    command += ["--model", str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "out/j0.wav\n"
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    made = {path.name for path in (folder / "out").glob("*.wav")}
    assert 1 <= len(made) < 200
    assert not [path for path in (folder / "out").iterdir() if path.name.startswith(".")]

    write_jobs(folder, *jobs[: len(made) + 2])
    started = time.time_ns()
    assert len(run_jobs(model, "--overwrite").stdout.split()) in (2, 3)
    kept = [path for path in (folder / "out").glob("*.wav") if path.stat().st_mtime_ns < started]
    assert len(kept) >= len(made) - 1
