"""Projects: what is done stays, what changed is made again, all of it repeats byte for byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import file_sha256
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.project.description import read_project
from omni2sound.generate.project.run import Runner, repeat
from tests.build import tiny_model_folder, video_with_square

STEPS: list[dict[str, Any]] = [
    {"id": "a", "do": "generate", "seed": 3, "settings": {
        "prompt": "rain", "cues": ["0.2: a door slams"], "seen": "a car", "steps": 1,
        "stems": True, "rate": 16000}},
    {"id": "b", "do": "edit", "of": "a", "seed": 4,
     "settings": {"ranges": ["0.4-0.7"], "num_inference_steps": 1}},
    {"id": "c", "do": "mix", "of": "a", "seed": 9,
     "settings": {"changes": {"rest": {"gain_db": -6}}, "anew": "a-door-slams"}},
]  # fmt: skip


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> PipelineOptions:
    model = tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")
    return PipelineOptions(model=str(model), device="cpu", deterministic=True)


def write(folder: Path, steps: list[dict[str, Any]], **more: Any) -> None:
    data = {"omni2sound_project": 1, "video": "film.mp4", "steps": steps, **more}
    (folder / "project.json").write_text(json.dumps(data))


def digests(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".json"]
    return {str(p.relative_to(folder)): file_sha256(p) for p in files}


@pytest.mark.slow
def test_a_project_goes_on_where_something_changed_and_repeats_byte_for_byte(
    options: PipelineOptions, tmp_path: Path
) -> None:
    folder = tmp_path / "film"
    folder.mkdir()
    video_with_square(folder / "film.mp4", duration_s=1.2)
    write(folder, STEPS, hand_over={"takes": ["a", "b", "c"], "film_start_s": 3600})
    runner = Runner.open(folder, options)
    assert [done for *_, done in runner.run()] == [False] * 3
    handed = runner.hand_over()
    assert handed is not None and handed.takes == ("a", "b", "c")
    first = digests(folder)
    assert {"takes/a.wav", "takes/b.wav", "takes/c.wav.stems/rest.wav",
            "hand-over/timeline.otio"} <= set(first)  # fmt: skip
    assert [done for *_, done in Runner.open(folder, options).run()] == [True] * 3
    assert repeat(folder, options) == []

    moved = tmp_path / "elsewhere"  # the same in another folder, from nothing
    moved.mkdir()
    for name in ("film.mp4", "project.json"):
        shutil.copy(folder / name, moved / name)
    again = Runner.open(moved, options)
    list(again.run())
    again.hand_over()
    assert digests(moved) == first

    (moved / "takes" / "b.wav").write_bytes(b"x")
    changed = [{**STEPS[0]}, {**STEPS[1]}, {**STEPS[2], "seed": 10}]
    write(moved, changed)
    assert [done for *_, done in Runner.open(moved, options).run()] == [True, False, False]
    assert digests(moved)["takes/b.wav"] == first["takes/b.wav"]
    assert repeat(folder, options) == []


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"id": "a", "do": "edit"}], "a: is missing: name the step"),
        ([{"id": "a", "do": "mix", "of": "b"}], "no earlier step is called 'b'"),
        ([{"id": "../a", "do": "generate"}], "expected a file name"),
        ([STEPS[0], STEPS[0]], "two are called 'a'"),
        ([{"id": "a", "do": "sing"}], "expected one of"),
    ],
)
def test_a_project_that_does_not_hold_together_is_refused(
    tmp_path: Path, steps: list[dict[str, Any]], message: str
) -> None:
    write(tmp_path, steps)
    with pytest.raises((UserError, ConfigError), match=message):
        read_project(tmp_path)


def test_the_command_names_the_step_that_fails(tmp_path: Path, options: PipelineOptions) -> None:
    data = {"omni2sound_project": 1, "steps": [{"id": "a", "do": "generate"}]}
    (tmp_path / "project.json").write_text(json.dumps(data))
    done = CliRunner().invoke(app, ["project", str(tmp_path), "--model", str(options.model)])
    assert "step 'a': nothing to generate from" in str(done.exception)
    assert "has not been made yet" in str(
        CliRunner().invoke(app, ["project", str(tmp_path), "--repeat"]).exception
    )
