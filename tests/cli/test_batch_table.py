"""Jobs as a CSV table; every option of `generate` a column; takes of a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.errors import UserError
from omni2sound.generate.studio.job import COLUMNS, Job, read_jobs
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe


def run(model: Path, table: str, *more: object) -> Any:
    Path("jobs.csv").write_text(table, encoding="utf-8")
    command = ["batch", "jobs.csv", "--out", "out", *map(str, more)]
    result = CliRunner().invoke(app, [*command, "--model", str(model), "--device", "cpu"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_table_is_as_json_lines(folder: Path) -> None:
    Path("a.csv").write_text(
        "\ufeffid,prompt,cues,duration_s,takes,guidance,ambience,for\n"
        'a,"rain, heavy",0.5-1: a dog | 0:02-1:03: a bell,1:30,3,2.5,no,podcast\n'
        "b,rain,,,,,,\n",
        encoding="utf-8",
    )
    lines = [
        {"id": "a", "prompt": "rain, heavy", "cues": ["0.5-1: a dog", "0:02-1:03: a bell"],
         "duration_s": 90, "takes": 3, "guidance": 2.5, "ambience": False, "for": "podcast"},
        {"id": "b", "prompt": "rain"},
    ]  # fmt: skip
    Path("a.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    table, json_lines = (read_jobs(Path(f"a.{suffix}")) for suffix in ("csv", "jsonl"))
    assert [job for _, job in table] == [job for _, job in json_lines]
    assert [number for number, _ in table] == [2, 3]


def test_whole_numbers_of_pandas_are_whole(folder: Path) -> None:
    """A column with holes becomes one of floats, in both formats."""
    Path("a.csv").write_text("id,prompt,takes,seed\na,rain,2.0,7.0\nb,rain,,\n")
    Path("a.jsonl").write_text('{"id": "a", "prompt": "rain", "takes": 2.0, "seed": 7.0}\n')
    for path in (Path("a.csv"), Path("a.jsonl")):
        job = read_jobs(path)[0][1]
        assert isinstance(job, Job)
        assert (job.takes, job.seed) == (2, 7)
        assert isinstance(job.seed, int)


def test_a_json_list_is_told_from_damaged_lines(folder: Path) -> None:
    Path("a.jsonl").write_text('[\n  {"id": "a", "prompt": "rain"}\n]\n')
    with pytest.raises(UserError, match="holds a JSON list; write one object a line"):
        read_jobs(Path("a.jsonl"))


def test_every_option_of_generate_is_a_column() -> None:
    from omni2sound.cli.generate.run import JOB_OPTIONS
    from omni2sound.cli.main import _command

    of_the_run = {
        "videos", "output", "out_dir", "add", "cue_file", "model", "device", "dtype",
        "low_memory", "encoders", "lora", "deterministic", "engine", "overwrite", "as_json",
        "no_recognise", "no_ambience",
    }  # fmt: skip
    options = {p.name for p in _command("generate").params} - of_the_run - {"help"}
    columns = {JOB_OPTIONS.get(name, name) for name in COLUMNS}
    assert options <= columns
    assert columns - options == {"id", "video", "recognise", "ambience", "output"}


def test_takes_of_a_job_are_made_once_and_more_are_added(folder: Path, model: Path) -> None:
    table = "id,prompt,takes,seed,steps,duration_s\na,rain,{},5,1,0.5\n"
    assert run(model, table.format(2)).stdout.split() == ["out/a-1.wav", "out/a-2.wav"]
    assert run(model, table.format(2)).stdout == ""
    assert run(model, table.format(3)).stdout.split() == ["out/a-3.wav"]
    assert [json.loads(Path(f"out/a-{k}.wav.json").read_text())["seed"] for k in (1, 2, 3)] == [
        5, 6, 7,
    ]  # fmt: skip


def test_a_row_has_options_of_its_own(folder: Path, model: Path) -> None:
    table = (
        "id,video,start_s,end_s,steps,bits,channels,rate,output,preview\n"
        "a,clip.mp4,0.2,0:00.8,1,24,1,44100,a.wav,yes\n"
        "b,clip.mp4,,,1,,,,b.mov,\n"
    )
    assert run(model, table).exit_code == 0
    info = probe("out/a.wav")
    assert info.audio is not None
    assert (info.audio.codec, info.audio.channels) == ("pcm_s24le", 1)
    assert float(read_audio("out/a.wav").duration_s) == pytest.approx(0.6, abs=1e-4)
    assert Path("out/a.wav.png").exists() and not Path("out/b.mov.png").exists()
    made = json.loads(Path("out/b.mov.json").read_text())
    assert (made["sample_rate_hz"], made["channels"]) == (48_000, 2)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id,promt\na,rain\n", "columns: there is no 'promt'; known are id, video, start_s"),
        ("prompt\nrain\n", "columns: 'id' is missing"),
        ("id,prompt\n", "holds no jobs"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_whole(
    folder: Path, model: Path, table: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(model, table)


def test_a_bad_row_fails_alone(folder: Path, model: Path) -> None:
    table = (
        "id,prompt,takes,duration_s,ambience,for,loudness_lufs\n"
        "a,rain,many,,,,\n"
        "b,rain,,1:99,,,\n"
        "c,rain,,,perhaps,,\n"
        "d,rain,,,,cinema,\n"
        "e,rain,,,,podcast,-20\n"
        "f,rain\n"
    )
    result = run(model, table)
    assert result.exit_code == 1
    for number, said in enumerate(
        ("takes: expected a number, got 'many'", "duration_s: expected seconds or a time as 1:30",
         "ambience: expected true or false", "destination", "--for: has a loudness of its own",
         "expected 7 columns"), 2,
    ):  # fmt: skip
        assert f"jobs.csv:{number}: " in result.stderr
        assert said in result.stderr.splitlines()[number - 2]
