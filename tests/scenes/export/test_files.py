"""Scenes as files: whole, reproducible, readable."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from omni2sound.errors import ConfigError, UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.video import iter_frames
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.export import files
from omni2sound.scenes.export.files import BuildPlan, build_corpus, inspect, write_scene
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.render.render import render_sound
from omni2sound.scenes.scene import Scene

START = "from omni2sound.cli.main import main; main()"
PLAN = BuildPlan(num_scenes=2, split="train", seed=3, duration_s=1.5)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def corpus(assets: SceneAssets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    build_corpus(assets, out, PLAN)
    return out


def test_the_same_seed_gives_the_same_bytes(
    assets: SceneAssets, corpus: Path, tmp_path: Path
) -> None:
    build_corpus(assets, tmp_path, PLAN)

    assert digests(tmp_path) == digests(corpus)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_the_manifest_names_files_that_exist(corpus: Path) -> None:
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]

    assert [line["id"] for line in lines] == ["main-train-3-000000", "main-train-3-000001"]
    for line in lines:
        assert (corpus / line["video"]).is_file()
        assert (corpus / line["audio"]).is_file()
        scene = Scene.from_json((corpus / line["events"]).read_text())
        assert len(line["stems"]) == len(scene.events)
        assert all((corpus / stem).is_file() for stem in line["stems"])
        assert set(line["captions"]) == {"label", "plain", "ordered", "detailed", "soundatlas"}
        assert line["wrong_caption"] not in line["captions"].values()
        assert line["audio_only_caption"]


def test_files_hold_what_the_arrays_hold(assets: SceneAssets, corpus: Path) -> None:
    folder = corpus / "main-train-3-000000"
    scene = Scene.from_json((folder / "events.json").read_text())
    sound = render_sound(scene, assets)

    heard = read_audio(folder / "mix.wav")
    assert heard.sample_rate_hz == SAMPLE_RATE_HZ
    np.testing.assert_allclose(heard.samples_CN[0], sound.mix_N, atol=2e-4)
    frames = list(iter_frames(folder / "video.mp4", fps=25))
    assert frames[0].shape == (240, 2 * round(120 * scene.aspect), 3)
    assert len(frames) == pytest.approx(1.5 * 25, abs=4)


def test_every_item_is_attributed(assets: SceneAssets, corpus: Path) -> None:
    rows = [r.split("\t") for r in (corpus / "attribution.tsv").read_text().splitlines()]
    scenes = [Scene.from_json(p.read_text()) for p in corpus.glob("*/events.json")]
    used = {e.recording_id for s in scenes for e in s.events}
    used |= {o.picture_id for s in scenes for o in s.objects if o.picture_id}

    assert used <= {row[0] for row in rows[1:]}
    assert all(row[1] == "CC0-1.0" for row in rows[1:])


def test_a_build_goes_on_where_it_stopped(
    assets: SceneAssets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = files.write_scene

    def interrupted(scene: Scene, corpus: SceneAssets, out: Path) -> Path:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(scene.scene_id)
        return write(scene, corpus, out)

    monkeypatch.setattr(files, "write_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(assets, tmp_path, PLAN)
    assert not (tmp_path / "manifest.jsonl").exists()

    monkeypatch.setattr(files, "write_scene", write)
    before = (tmp_path / written[0] / "video.mp4").stat().st_mtime_ns
    build_corpus(assets, tmp_path, PLAN)
    assert (tmp_path / written[0] / "video.mp4").stat().st_mtime_ns == before
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 2


def test_a_scene_that_fails_leaves_nothing(
    assets: SceneAssets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = draw_scene(assets, split="train", seed=0, index=0, kind="main", duration_s=1.5)
    monkeypatch.setattr(files, "write_video", lambda *args: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        write_scene(scene, assets, tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_scene_of_the_same_name_is_not_replaced(assets: SceneAssets, corpus: Path) -> None:
    other = BuildPlan(num_scenes=2, split="train", seed=3, duration_s=1.6)

    with pytest.raises(UserError, match="holds another scene"):
        build_corpus(assets, corpus, other)


@pytest.mark.parametrize(
    "other",
    [
        BuildPlan(num_scenes=1, split="train", seed=3, duration_s=1.5),
        BuildPlan(num_scenes=2, split="train", seed=4, duration_s=1.5),
        BuildPlan(num_scenes=2, split="val", seed=3, duration_s=1.5),
    ],
)
def test_a_manifest_never_forgets_scenes_that_are_there(
    assets: SceneAssets, corpus: Path, other: BuildPlan
) -> None:
    manifest = (corpus / "manifest.jsonl").read_bytes()

    with pytest.raises(UserError, match="not among the"):
        build_corpus(assets, corpus, other)
    assert (corpus / "manifest.jsonl").read_bytes() == manifest


def test_more_scenes_join_those_that_are_there(assets: SceneAssets, tmp_path: Path) -> None:
    build_corpus(assets, tmp_path, replace(PLAN, num_scenes=1))
    killed = tmp_path / ".main-train-9-000000.part"
    killed.mkdir()
    (killed / "events.json").write_text("half a sc")
    build_corpus(assets, tmp_path, PLAN)

    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 2


def test_a_file_is_no_folder_for_scenes(assets: SceneAssets, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")

    with pytest.raises(UserError, match="is a file"):
        build_corpus(assets, tmp_path / "out", PLAN)
    assert (tmp_path / "out").read_text() == "mine"


def test_sound_only_scenes_have_no_video(assets: SceneAssets, tmp_path: Path) -> None:
    plan = BuildPlan(num_scenes=1, split="val", seed=0, kind="audio", duration_s=1.5)
    manifest = build_corpus(assets, tmp_path, plan)

    assert json.loads(manifest.read_text())["video"] is None
    assert not list(tmp_path.rglob("*.mp4"))
    assert inspect(tmp_path, tmp_path / "sheet.png") == 1


def test_inspect_draws_scenes_and_corpora(corpus: Path, tmp_path: Path) -> None:
    assert inspect(corpus, tmp_path / "all.png") == 2
    assert inspect(corpus / "main-train-3-000001", tmp_path / "one.png") == 1

    with Image.open(tmp_path / "all.png") as both, Image.open(tmp_path / "one.png") as one:
        assert both.width == one.width
        assert both.height > 1.5 * one.height


def test_inspect_says_what_it_needs(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a scene"):
        inspect(tmp_path, tmp_path / "sheet.png")
    with pytest.raises(UserError, match="png"):
        inspect(corpus, tmp_path / "sheet.jpg")


@pytest.mark.parametrize("path", ["../a/events.json", "/etc/events.json", "a/../../b.json", 1])
def test_a_corpus_names_scenes_inside_its_folder(tmp_path: Path, path: object) -> None:
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"events": path}) + "\n")
    with pytest.raises(ConfigError, match="a path inside the folder"):
        inspect(tmp_path, tmp_path / "sheet.png")


def store(assets: SceneAssets, folder: Path) -> Path:
    """The corpus as `fetch` would leave it."""
    import soundfile

    for name in ("recordings", "pictures"):
        (folder / name).mkdir(parents=True)
    for recording in assets.catalogue.recordings:
        path = folder / "recordings" / f"{recording.recording_id}.flac"
        soundfile.write(path, assets.waveform(recording.recording_id), SAMPLE_RATE_HZ)
    for picture in assets.catalogue.pictures:
        path = folder / "pictures" / f"{picture.picture_id}.png"
        Image.fromarray(assets.rgba(picture.picture_id)).save(path)
    (folder / "catalogue.json").write_text(assets.catalogue.to_json())
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START, "scenes", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_the_command_builds_and_inspects(assets: SceneAssets, tmp_path: Path) -> None:
    ready, out = store(assets, tmp_path / "store"), tmp_path / "scenes"
    options = ["--scenes", 1, "--split", "offscreen", "--duration", 1.5, "--licences", "CC0-1.0"]

    built = run("build", *options, "--out", out, "--corpus", ready)
    assert built.returncode == 0, built.stderr
    assert built.stdout.strip() == str(out / "manifest.jsonl")
    (line,) = [json.loads(text) for text in (out / "manifest.jsonl").read_text().splitlines()]
    assert (line["kind"], line["split"]) == ("offscreen", "test")

    drawn = run("inspect", out, "-o", tmp_path / "sheet.png")
    assert drawn.returncode == 0, drawn.stderr
    again = run("inspect", out, "-o", tmp_path / "sheet.png")
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_bad_requests_end_in_one_line(tmp_path: Path) -> None:
    missing = run("build", "--scenes", 1, "--out", tmp_path / "x", "--corpus", tmp_path)
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
    assert "scenes fetch" in missing.stderr
    assert not (tmp_path / "x").exists()
    assert run("build", "--scenes", 1, "--split", "moon", "--out", tmp_path).returncode == 2


@pytest.mark.slow
def test_fetch_says_which_package_is_missing(tmp_path: Path) -> None:
    done = run("fetch", "--corpus", tmp_path / "store", "--from", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert ".deb" in done.stderr
    assert not (tmp_path / "store" / "catalogue.json").exists()


def test_a_scene_of_variable_rate_shows_each_picture_when_it_is(
    assets: SceneAssets, tmp_path: Path
) -> None:
    def draw(index: int) -> Scene:
        return draw_scene(assets, split="train", seed=3, index=index, kind="main", duration_s=1.5)

    def count(scene: Scene) -> int:
        return math.ceil(Fraction(scene.duration_s) * Fraction(scene.fps))

    scene = next(s for s in map(draw, range(100)) if len(s.shown_frames(count(s))) < count(s))
    shown = scene.shown_frames(count(scene))
    assert shown[0] == 0
    assert shown[-1] == count(scene) - 1
    assert set(np.diff(shown)) == {1, 2}
    write_scene(scene, assets, tmp_path)
    with av.open(str(tmp_path / scene.scene_id / "video.mp4")) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert times == pytest.approx([i / float(Fraction(scene.fps)) for i in shown], abs=1e-4)


def test_about_one_scene_in_six_has_a_variable_rate(assets: SceneAssets) -> None:
    scene = draw_scene(assets, split="train", seed=3, index=0, kind="main", duration_s=1.5)
    named = [replace(scene, scene_id=f"main-train-3-{i:06d}") for i in range(600)]
    variable = sum(len(s.shown_frames(60)) < 60 for s in named)
    assert 60 <= variable <= 140
