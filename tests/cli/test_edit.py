"""`omni2sound edit`: what it writes, keeps and refuses."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.errors import UserError
from omni2sound.generate.edit.seams import EDGE_S
from omni2sound.media.audio import read_audio, write_audio
from omni2sound.media.info import probe
from omni2sound.media.samples import Audio
from tests.build import tiny_model_folder
from tests.media.clips import packets_of, write_video

RATE_HZ = 48_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


def noise(seconds: float, channels: int) -> Audio:
    rng = np.random.default_rng(3)
    samples_CN = (0.1 * rng.normal(size=(channels, round(seconds * RATE_HZ)))).astype(np.float32)
    return Audio(samples_CN=samples_CN, sample_rate_hz=RATE_HZ)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with sounds and a film that has one."""
    monkeypatch.chdir(tmp_path)
    for name, bits in (("a16.wav", 16), ("a24.flac", 24), ("a32.wav", 32)):
        write_audio(name, noise(2.0, 2), bits=bits)
    write_video(
        tmp_path / "film.mov",
        ticks=range(50),
        time_base=Fraction(1, 25),
        size=(64, 64),
        sound=noise(2.0, 1),
        sound_codec="pcm_s24le",
    )
    return tmp_path


def run(model: Path, *arguments: object) -> Any:
    command = ["edit", *map(str, arguments), "--steps", "1", "--model", str(model), "--device"]
    result = CliRunner().invoke(app, [*command, "cpu"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("name", ["a16.wav", "a24.flac", "a32.wav", "film.mov"])
def test_outside_the_range_the_file_keeps_every_sample(
    folder: Path, model: Path, name: str
) -> None:
    result = run(model, name, "--range", "0.8-1.2", "--prompt", "rain", "--seed", 1, "--json")
    report = json.loads(result.stdout)
    out = Path(name).stem + ".edited" + Path(name).suffix
    assert report["output"] == out
    assert report["ranges"] == [[0.8, 1.2]] and len(report["edited_sha256"]) == 64
    old, new = read_audio(name), read_audio(out)
    assert new.samples_CN.shape == old.samples_CN.shape
    start, end = round((0.8 - EDGE_S) * RATE_HZ), round((1.2 + EDGE_S) * RATE_HZ)
    for outside in (slice(0, start), slice(end, None)):
        np.testing.assert_array_equal(new.samples_CN[:, outside], old.samples_CN[:, outside])
    inside = slice(round(0.9 * RATE_HZ), round(1.1 * RATE_HZ))
    assert np.abs(new.samples_CN - old.samples_CN)[:, inside].max() > 1e-3
    assert "replaced" not in result.stderr
    if name == "film.mov":
        assert packets_of(Path(out)) == packets_of(Path(name))


def test_takes_and_variations(folder: Path, model: Path) -> None:
    more = ["--prompt", "rain", "--strength", 0.3, "--seed", 4, "--takes", 2, "-o", "v.wav"]
    assert run(model, "a16.wav", *more).stdout.split() == ["v-1.wav", "v-2.wav"]
    first, second = (read_audio(f"v-{k}.wav").samples_CN for k in (1, 2))
    assert np.abs(first - second).max() > 1e-4


def test_a_take_brings_its_words_and_a_sound_can_go_to_a_film(folder: Path, model: Path) -> None:
    made = {"request_sha256": "0", "output_bytes": 1, "output_sha256": "0", "prompt": "rain"}
    Path("a16.wav.json").write_text(json.dumps(made))
    report = json.loads(run(model, "a16.wav", "--strength", 0.3, "-o", "v.wav", "--json").stdout)
    assert report["prompt"] == "rain"
    more = ["--video", "film.mov", "--strength", 0.5, "-o", "new.mov", "--seed", 1]
    run(model, "a24.flac", "--prompt", "rain", *more)
    assert packets_of(Path("new.mov")) == packets_of(Path("film.mov"))


def test_a_sound_is_made_longer(folder: Path, model: Path) -> None:
    run(model, "a16.wav", "--range", "2-0:03", "--prompt", "rain", "-o", "long.wav")
    assert read_audio("long.wav").duration_s == 3
    info = probe("long.wav")
    assert info.audio is not None and info.audio.codec == "pcm_s16le"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["a16.wav", "--prompt", "x"], "nothing to change; give --range .* or a --strength"),
        (["a16.wav", "--range", "3"], "--range: expected START-END"),
        (["a16.wav", "--range", "1-2"], "nothing to generate from"),
        (["a16.wav", "--range", "2.5-3", "--prompt", "x"], "--range: 2.5-3 begins after"),
        (["film.mov", "--range", "1-3"], "--range: ends after the video at 2.000 s"),
        (["none.wav", "--range", "1-2", "--prompt", "x"], "none.wav: no such file"),
        (["a16.wav", "--range", "1-2", "--prompt", "x", "-o", "a16.wav"], "exists already"),
        (["a16.wav", "--range", "1-2", "--prompt", "x", "-o", "x.mp4"], "needs a video"),
    ],
)
def test_what_can_be_refused_is_refused(
    folder: Path, model: Path, typed: list[str], message: str
) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(UserError, match=message):
        run(model, *typed)
    assert sorted(folder.iterdir()) == before
