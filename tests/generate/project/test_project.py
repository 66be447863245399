"""Projects: what is done stays, what changed is made again, all of it repeats byte for byte."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import file_sha256
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.project.description import Step, read_project
from omni2sound.generate.project.run import Runner, differing, repeat
from omni2sound.generate.project.state import Done, State, files_of
from omni2sound.media.info import probe
from tests.build import tiny_model_folder, video_with_square
from tests.generate.hand_over.test_hand_over import write_take

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

    made = {name: json.loads((moved / f"takes/{name}.wav.json").read_text()) for name in "ab"}
    assert made["a"]["task"] == made["b"]["task"] == "VT2A"  # what is edited follows the film, too
    (moved / "takes" / "b.wav").write_bytes(b"x")
    with pytest.raises(UserError, match=r"takes/b\.wav: is not as this step made it"):
        list(Runner.open(moved, options).run())
    assert (moved / "takes" / "b.wav").read_bytes() == b"x"
    changed = [{**STEPS[0]}, {**STEPS[1]}, {**STEPS[2], "seed": 10}]
    write(moved, changed)
    forced = Runner.open(moved, options, overwrite=True)
    assert [done for *_, done in forced.run()] == [True, False, False]
    assert digests(moved)["takes/b.wav"] == first["takes/b.wav"]
    for name in ("takes/a.wav", "takes/a.wav.stems/rest.wav", "hand-over/markers.csv"):
        flip(folder / name)
    assert repeat(folder, options) == [
        "hand-over/markers.csv", "takes/a.wav", "takes/a.wav.stems/rest.wav"
    ]  # fmt: skip


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.fixture
def done(options: PipelineOptions, tmp_path: Path) -> Runner:
    """A project whose one step is done: a take that begins at 0.5 s."""
    video_with_square(tmp_path / "film.mp4", duration_s=1.2)
    shutil.copy(tmp_path / "film.mp4", tmp_path / "own.mp4")
    steps = [
        {"id": "a", "do": "generate", "settings": {"video": "own.mp4", "start_s": "0:00.5"}},
        {"id": "m", "do": "mix", "of": "a"},
    ]
    write(tmp_path, steps, hand_over={"takes": ["a"]})
    runner = Runner.open(tmp_path, options)
    (tmp_path / "takes").mkdir()
    output = write_take(runner.output("a"), start_s=0.5)
    digest = runner._digest(runner.project.steps[0])
    state = State(steps={"a": Done(asked=digest, files=files_of(output))})
    state.write(tmp_path / "takes")
    return runner


def test_a_step_is_not_done_if_a_stem_or_its_own_video_differs(
    done: Runner, options: PipelineOptions
) -> None:
    take, mix = done.project.steps
    before = done._digest(mix)
    assert next(done.run())[2]
    flip(done.folder / "takes" / "a.wav.stems" / "rest.wav")
    assert done._digest(mix) != before
    with pytest.raises(UserError, match=r"takes/a\.wav\.stems/rest\.wav: is not as this step"):
        next(done.run())
    again = Runner.open(done.folder, options)
    assert again._digest(take) == done._digest(take)
    flip(done.folder / "own.mp4")
    assert Runner.open(done.folder, options)._digest(take) != done._digest(take)


def test_what_differs_is_named(done: Runner, tmp_path: Path) -> None:
    done.hand_over()
    shutil.copytree(done.folder, again := tmp_path / "again")
    other = replace(done, target=again)
    assert differing(done, other) == []
    (done.handed / "cut.prproj").touch()  # somebody's own
    assert differing(done, other) == []
    for name in ("takes/a.wav", "takes/a.wav.stems/rest.wav", "hand-over/timeline.otio"):
        flip(done.folder / name)
        assert differing(done, other) == [name]
        flip(done.folder / name)
    (done.handed / "markers.csv").unlink()
    assert differing(done, other) == ["hand-over/markers.csv"]


def test_a_hand_over_is_written_again_only_if_something_changed(done: Runner) -> None:
    assert done.hand_over() is not None
    assert done.hand_over() is None
    mine = done.handed / "cut.prproj"
    mine.write_text("mine")
    assert done.hand_over() is None
    flip(done.folder / "film.mp4")
    done._videos.clear()
    with pytest.raises(UserError, match=r"cut\.prproj: was added since the hand-over"):
        done.hand_over()
    assert mine.read_text() == "mine"
    done.overwrite = True
    assert done.hand_over() is not None
    assert not mine.exists()


def test_what_is_made_of_a_take_follows_its_part_of_its_video(done: Runner) -> None:
    mix = done.project.steps[1]
    assert done.project.video_of(mix) == "own.mp4"
    with done._span(mix, Fraction(1, 2)) as film:
        assert film is not None
        assert float(probe(film).duration_s) == pytest.approx(0.5, abs=0.1)
    without = Step(id="e", do="edit", of="a", settings={"video": None})
    assert done.project.video_of(without) is None


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"id": "a", "do": "edit"}], "a: is missing: name the step"),
        ([{"id": "a", "do": "mix", "of": "b"}], "no earlier step is called 'b'"),
        ([{"id": "../a", "do": "generate"}], "expected a file name"),
        ([STEPS[0], STEPS[0]], "two are called 'a'"),
        ([{"id": "a", "do": "sing"}], "expected one of"),
        ([{"id": "a", "do": "generate", "settings": {"seed": 1}}], "beside `settings`"),
        ([{"id": "a", "do": "generate", "settings": {"id": "b"}}], "beside `settings`"),
        ([{"id": "a", "do": "generate", "settings": {"video": "/x.mp4"}}], "inside of the folder"),
        ([{"id": "a", "do": "generate", "settings": {"video": "../x.mp4"}}], "inside of the fold"),
        ([{"id": "a", "do": "generate", "settings": {"video": 3}}], "expected a path or null"),
        ([STEPS[0], {**STEPS[1], "settings": {"video": "x.mp4"}}], "expected null"),
    ],
)
def test_a_project_that_does_not_hold_together_is_refused(
    tmp_path: Path, steps: list[dict[str, Any]], message: str
) -> None:
    write(tmp_path, steps)
    with pytest.raises((UserError, ConfigError), match=message):
        read_project(tmp_path)


def test_the_film_lies_in_the_folder_and_settings_are_those_of_a_jobs_file(
    options: PipelineOptions, tmp_path: Path
) -> None:
    write(tmp_path, STEPS, video="../film.mp4")
    with pytest.raises(UserError, match="inside of the folder"):
        read_project(tmp_path)
    settings = {"video": None, "for": "podcast", "start_s": "1:02"}
    write(tmp_path, [{"id": "a", "do": "generate", "settings": settings}], video=None)
    with pytest.raises(UserError, match="step 'a': start_s: is a time in a video"):
        list(Runner.open(tmp_path, options).run())


def test_the_command_names_the_step_that_fails(tmp_path: Path, options: PipelineOptions) -> None:
    data = {"omni2sound_project": 1, "steps": [{"id": "a", "do": "generate"}]}
    (tmp_path / "project.json").write_text(json.dumps(data))
    done = CliRunner().invoke(app, ["project", str(tmp_path), "--model", str(options.model)])
    assert "step 'a': nothing to generate from" in str(done.exception)
    assert "has not been made yet" in str(
        CliRunner().invoke(app, ["project", str(tmp_path), "--repeat"]).exception
    )
