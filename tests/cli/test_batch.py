"""`omni2sound batch`: jobs are made once, fail alone, and resume."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.errors import UserError
from tests.build import tiny_model_folder, video_with_square
from tests.warm.start import warm

OMNI2SOUND = Path(sys.executable).with_name("omni2sound")


def reports(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def write_jobs(folder: Path, *jobs: object) -> Path:
    lines = [job if isinstance(job, str) else json.dumps(job) for job in jobs]
    (folder / "jobs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "jobs.jsonl"


def run_jobs(model: Path, *more: object) -> Any:
    """What `omni2sound batch` does with these arguments; its own errors are raised."""
    command = ["batch", "jobs.jsonl", "--out", "out", *map(str, more)]
    result = CliRunner().invoke(app, [*command, "--model", str(model), "--device", "cpu"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


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
        patch.setattr("omni2sound.generate.load.PipelineOptions.load", never)
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


@pytest.mark.slow
def test_a_job_is_done_only_if_output_and_sidecar_fit(folder: Path, model: Path) -> None:
    write_jobs(folder, {"id": "a", "prompt": "rain", "steps": 1, "duration_s": 0.5, "seed": 1})
    (made,) = reports(run_jobs(model, "--json"))
    path = Path("out/a.wav")
    whole = path.read_bytes()
    for left in (None, b""):
        path.unlink()
        if left is not None:
            path.write_bytes(left)
        assert run_jobs(model).stdout == "out/a.wav\n"
        assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])
    refused = run_jobs(model)
    assert refused.exit_code == 1 and "a.wav: exists already and was changed" in refused.stderr
    assert path.read_bytes() == whole[:-1]
    assert run_jobs(model, "--overwrite").exit_code == 0
    assert path.read_bytes() == whole
    assert run_jobs(model).stdout == ""
    Path("out/a.wav.json").write_text("of somebody else")
    refused = run_jobs(model)
    assert refused.exit_code == 1 and "a.wav: exists already" in refused.stderr
    assert Path("out/a.wav.json").read_text() == "of somebody else"
    assert {p.name for p in Path("out").iterdir()} == {"a.wav", "a.wav.json"}
    assert made["output_bytes"] == len(whole)


def test_a_job_may_say_what_its_video_shows(folder: Path, model: Path) -> None:
    job = {"video": "clip.mp4", "steps": 1, "seed": 1}
    write_jobs(
        folder,
        {"id": "features", "recognise": False, **job},
        {"id": "told", "seen": "a dog", **job},
        {"id": "both", "seen": "a dog", "recognise": False, **job},
    )
    result = run_jobs(model, "--json")
    assert result.exit_code == 1
    assert "job 'both': seen: contradicts `recognise=False`" in result.stderr
    features, told, failed = (json.loads(line) for line in result.stdout.splitlines())
    assert failed["error"]["field"] == "seen"
    assert "seen" not in features
    assert told["seen"] == told["text"] == "a dog"
    assert features["request_sha256"] != told["request_sha256"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_job_is_done_again_if_the_model_looks_into_videos_by_now(
    folder: Path, model: Path
) -> None:
    """The card's default changes neither weights nor their digest, but the sound."""
    write_jobs(folder, {"id": "a", "video": "clip.mp4", "steps": 1, "seed": 1, "output": "a.wav"})
    before = reports(run_jobs(model, "--json"))[0]
    card = json.loads((model / "card.json").read_text())
    looking = card | {"defaults": card["defaults"] | {"recognise": True}}
    (model / "card.json").write_text(json.dumps(looking))
    try:
        result = run_jobs(model, "--json", "--overwrite")
    finally:
        (model / "card.json").write_text(json.dumps(card))
    after = json.loads(result.stdout)
    assert after["request_sha256"] != before["request_sha256"]
    assert "omni2sound: jobs.jsonl:1: job 'a': seen: nothing that is known" in result.stderr


def test_a_job_is_done_again_if_the_model_places_sounds_by_now(folder: Path, model: Path) -> None:
    """A mono file of an earlier card is not what is asked for; one of one channel is."""
    job = {"video": "clip.mp4", "steps": 1, "seed": 1}
    write_jobs(
        folder,
        {"id": "a", "output": "a.wav", **job},
        {"id": "b", "output": "b.wav", "channels": 1, **job},
    )
    before = reports(run_jobs(model, "--json"))
    card = json.loads((model / "card.json").read_text())
    placing = card | {"defaults": card["defaults"] | {"stereo": True}}
    (model / "card.json").write_text(json.dumps(placing))
    try:
        after = reports(run_jobs(model, "--json", "--overwrite"))
    finally:
        (model / "card.json").write_text(json.dumps(card))
    assert [facts["channels"] for facts in after] == [2, 1]
    assert after[0]["request_sha256"] != before[0]["request_sha256"]
    assert after[1]["request_sha256"] == before[1]["request_sha256"]


def test_a_job_has_cues(folder: Path, model: Path) -> None:
    cue = {"cues": ["0.1-0.3: a dog barks"], "duration_s": 0.5, "steps": 1}
    write_jobs(folder, {"id": "a", **cue}, {"id": "bad", "cues": ["a dog"]})
    result = run_jobs(model, "--json")
    made, failed = map(json.loads, result.stdout.splitlines())
    assert "cues: expected START-END" in failed["error"]["message"]
    assert made["cues"] == [{"start_s": 0.1, "end_s": 0.3, "text": "a dog barks"}]
    assert "job 'bad': cues: expected START-END: TEXT" in result.stderr


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
        "jobs.jsonl:2: is not JSON: ",
        "jobs.jsonl:4: job: unknown field 'promt', perhaps 'prompt'; known: ",
        "jobs.jsonl:5: job.steps: expected int, got 'many'",
        "jobs.jsonl:6: job 'empty': nothing to generate from",
        "jobs.jsonl:7: job 'missing': missing.mp4: no such file",
        "jobs.jsonl:8: id: '../up': ",
        "jobs.jsonl:9: job 'out': output: '../out.wav' lies outside",
        "jobs.jsonl:10: job 'same': output: good.wav is the output of job 'good' too",
        "jobs.jsonl:11: job: expected an object",
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


def test_a_failure_before_the_model_is_that_jobs_own(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omni2sound.generate.request import GenerationRequest

    def broken(self: GenerationRequest, default_s: float) -> float:
        if self.video is not None:
            raise TypeError("open() got an unexpected keyword")
        return 0.5

    monkeypatch.setattr(GenerationRequest, "resolve_duration", broken)
    write_jobs(folder, {"id": "a", "video": "clip.mp4"}, {"id": "b", "prompt": "x", "steps": 1})
    result = run_jobs(model)
    assert result.exit_code == 1
    complaint = "omni2sound: jobs.jsonl:1: job 'a': TypeError: open() got an unexpected keyword\n"
    assert result.stderr.startswith(complaint)
    assert "Traceback" not in result.stderr
    assert result.stdout == "out/b.wav\n"


def test_an_id_that_stands_twice_fails_alone(folder: Path, model: Path) -> None:
    line = {"prompt": "x", "steps": 1}
    write_jobs(folder, {"id": "a", **line}, {"id": "b", **line}, {"id": "a", **line})
    result = run_jobs(model)
    assert result.exit_code == 1
    assert result.stdout.split() == ["out/a.wav", "out/b.wav"]
    assert "jobs.jsonl:3: the id 'a' is that of line 1; choose another\n" in result.stderr


# OmniAudio#2 and ytarchive#11 tell of ids with a dash; the others are names on people's disks.
ODD_IDS = [
    "-AAAAAAAAA6_000007",
    "--0PQM4-hqg_000030",
    "_BBBBBBBBB7_000012",
    " harbour at dawn",
    "犬が吠える (1)",
    "AC/DC".replace("/", ":"),
    "it's 50% [final]; #2 & more",
    ".hidden",
    "雨" * 70,
]


def test_any_file_name_is_an_id(folder: Path, model: Path) -> None:
    write_jobs(
        folder,
        *({"id": i, "prompt": "rain", "steps": 1, "duration_s": 0.5} for i in ODD_IDS),
        *(
            {"id": i, "prompt": "rain", "steps": 1}
            for i in ("", ".", "..", "a/b", "a\\b", "a\nb", "a\0b", "a\u2028b", "\ud83d", "x" * 221)
        ),
    )
    result = run_jobs(model)
    assert result.stdout.split("\n")[:-1] == [f"out/{i}.wav" for i in ODD_IDS]
    assert {p.stem for p in (folder / "out").glob("*.wav")} == set(ODD_IDS)
    assert result.stderr.count(": expected a file name, ") == 9
    assert result.stderr.count("half of a character") == 1


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


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(folder: Path, model: Path) -> None:
    """Stopped as a process, by SIGTERM, somewhere after its first result."""
    jobs = [{"id": f"j{i}", "prompt": "rain", "seed": i, "duration_s": 2} for i in range(200)]
    write_jobs(folder, *jobs)
    command = [OMNI2SOUND, "batch", "jobs.jsonl", "--out", "out"]
    command += ["--model", str(model)]
    with subprocess.Popen(warm(command), stdout=subprocess.PIPE, text=True) as process:
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
