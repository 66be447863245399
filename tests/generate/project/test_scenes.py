"""Films in scenes: each begins at a cut, none is too short, and the project holds together."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.errors import MediaError, UserError
from omni2sound.files import file_sha256
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.project.description import read_project
from omni2sound.generate.project.run import Runner
from omni2sound.generate.project.scenes import scene_starts, write_scenes
from tests.media.clips import write_video
from tests.recognise.test_cuts import PX, shot


@given(
    steps=st.lists(st.integers(1, 200), max_size=30),
    rest=st.integers(1, 200),
    shortest=st.integers(1, 100),
)
@settings(max_examples=30)
def test_scenes_begin_at_cuts_and_none_is_too_short(
    steps: list[int], rest: int, shortest: int
) -> None:
    cuts_s = [sum(steps[: k + 1]) / 25 for k in range(len(steps))]
    end_s, shortest_s = (sum(steps) + rest) / 25, shortest / 25
    starts = scene_starts(cuts_s, end_s, shortest_s)
    assert starts[0] == 0 and set(starts[1:]) <= set(cuts_s)
    lengths = [b - a for a, b in pairwise([*starts, end_s])]
    assert min(lengths) >= shortest_s - 1e-9 or len(starts) == 1
    dropped = [c for c in cuts_s if c not in starts and end_s - c >= shortest_s + 1e-9]
    assert all(any(0 < c - a < shortest_s + 1e-9 for a in starts) for c in dropped)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    frames = [f for seed in (5, 6, 7) for f in shot(seed, 30, shake=1)]
    (tmp_path / "project").mkdir()
    return write_video(
        tmp_path / "project" / "film.mp4",
        ticks=[20 * i for i in range(len(frames))],
        size=(PX, PX),
        picture=lambda i: frames[i],
    )


def test_a_film_becomes_a_project_of_its_scenes(film: Path) -> None:
    runner = CliRunner()
    asked = ["project", str(film.parent), "--film", str(film), "--shortest", "0.9"]
    done = runner.invoke(app, asked)
    assert done.exit_code == 0, done.output
    project = read_project(film.parent)
    assert [step.id for step in project.steps] == ["scene-01", "scene-02", "scene-03"]
    assert [step.seed for step in project.steps] == [1, 2, 3]
    assert project.video == "film.mp4" and project.video_sha256 == file_sha256(film)
    assert project.hand_over is not None
    assert project.hand_over.takes == tuple(step.id for step in project.steps)
    ends = [step.settings.get("end_s") for step in project.steps]
    starts = [step.settings["start_s"] for step in project.steps]
    assert ends[:-1] == starts[1:] and ends[-1] is None
    assert starts == pytest.approx([0, 1, 2], abs=0.021)
    before = (film.parent / "project.json").read_text()
    assert "exists already" in str(runner.invoke(app, asked).exception)
    assert (film.parent / "project.json").read_text() == before


def test_a_film_that_was_cut_anew_is_refused_before_a_take_is_replaced(film: Path) -> None:
    path = write_scenes(film.parent, film, shortest_s=0.9)
    shorter = shot(5, 40)
    write_video(film, ticks=[20 * i for i in range(40)], size=(PX, PX), picture=shorter.__getitem__)
    options = PipelineOptions(model="none", device="cpu")
    with pytest.raises(UserError, match=r"film\.mp4: has changed since its cuts were found"):
        next(Runner.open(film.parent, options).run())
    asked = json.loads(path.read_text())
    del asked["video_sha256"]
    path.write_text(json.dumps(asked))
    with pytest.raises(UserError, match=r"'scene-03': 2 s is not before the end of film\.mp4"):
        next(Runner.open(film.parent, options).run())
    assert not (film.parent / "takes").exists()


def test_films_that_are_none_or_lie_elsewhere_are_refused(film: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="lies outside of"):
        write_scenes(tmp_path / "other", film)
    with pytest.raises(UserError, match=r"from 0\.5 to 600"):
        write_scenes(film.parent, film, shortest_s=0)
    still = film.parent / "still.png"
    Image.new("RGB", (32, 32)).save(still)
    with pytest.raises(MediaError, match="no moving picture"):
        write_scenes(film.parent, still)
    assert not list(tmp_path.rglob("project.json"))
    for asked in (["--shortest", "3"], ["--repeat", "--film", str(film)]):
        done = CliRunner().invoke(app, ["project", str(film.parent), *asked])
        assert isinstance(done.exception, UserError)
