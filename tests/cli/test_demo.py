"""The demo, with a tiny random model in the default one's place."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import av
import pytest
from PIL import Image

from omni2sound.cli import demo as command
from omni2sound.errors import MissingPartError, UserError
from tests.build import tiny_model_folder, video_with_square


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny_model_folder(tmp_path / "model")
    video = video_with_square(tmp_path / "bikes.mp4")
    monkeypatch.setattr(command, "demo_video", lambda: video)
    monkeypatch.setattr("omni2sound.generate.load.resolve_model", lambda name, component="": model)


def test_it_leaves_a_video_a_sound_and_a_picture(
    tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    for _ in range(2):  # the second run replaces what the first one left
        command.demo(out=out, device="cpu")
        shown = capsys.readouterr().out.splitlines()
        assert [Path(line).name for line in shown] == ["demo.mp4", "demo_t2a.wav", "demo.png"]
    with av.open(out / "demo.mp4") as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
    with Image.open(out / "demo.png") as picture:
        assert picture.format == "PNG"
    facts = json.loads((out / "demo_t2a.wav.json").read_text())
    assert facts["prompt"] == command.PROMPT


def test_a_file_in_the_way_is_named(tiny: None, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"):
        command.demo(out=tmp_path / "out", device="cpu")


def test_without_the_video_it_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMNI2SOUND_NETWORKS", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match="run: omni2sound setup"):
        command.demo_video()


def test_the_bundled_video_is_where_we_look() -> None:
    assert command.demo_video().is_file()
