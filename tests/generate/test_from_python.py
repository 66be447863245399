"""Inputs that are no files, and results that need none."""

from __future__ import annotations

import gc
import io
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from omni2sound.errors import MediaError, UserError
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.media.audio import read_audio
from omni2sound.media.info import probe
from tests.build import tiny_model_folder, video_with_square


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Omni2SoundPipeline:
    folder = tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")
    return Omni2SoundPipeline.from_pretrained(folder, device="cpu")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    video_with_square(tmp_path / "clip.mp4", duration_s=1.2)
    return tmp_path / "clip.mp4"


def test_a_file_object_is_as_its_file(pipeline: Omni2SoundPipeline, video: Path) -> None:
    with video.open("rb") as stream:
        given = pipeline(stream, num_inference_steps=1, seed=3)
    assert repr(given) == "<V2A by tiny: 1.2 s, seed 3>"
    path = given.request.video
    assert path is not None and path.exists()
    np.testing.assert_array_equal(
        given.audio.samples_CN, pipeline(video, num_inference_steps=1, seed=3).audio.samples_CN
    )
    written = io.BytesIO()
    report = given.save(written, file_format="mp4")
    assert report["duration_s"] == 1.2 and "output" not in report
    (video.parent / "copy.mp4").write_bytes(written.getvalue())
    assert probe(video.parent / "copy.mp4").video is not None
    del given
    gc.collect()
    assert not path.exists()  # gone with the last result that needs it


def test_frames_are_as_their_file(pipeline: Omni2SoundPipeline) -> None:
    rng = np.random.default_rng(0)
    frames_THWC = rng.integers(0, 256, (12, 32, 48, 3), dtype=np.uint8)
    result = pipeline(frames_THWC, fps=12, num_inference_steps=1, seed=1)
    assert result.duration_s == 1.0
    again = pipeline(frames_THWC, fps=12, num_inference_steps=1, seed=1)
    np.testing.assert_array_equal(result.audio.samples_CN, again.audio.samples_CN)


@pytest.mark.parametrize(
    ("video", "fps", "field"),
    [
        (np.zeros((4, 8, 8, 3), np.uint8), None, "fps"),
        (np.zeros((4, 8, 8, 3), np.float32), 25, "video"),
        (np.zeros((4, 8, 8), np.uint8), 25, "video"),
        (np.zeros((0, 8, 8, 3), np.uint8), 25, "video"),
        (io.StringIO("text"), None, "video"),
        (io.BytesIO(b"x"), 25, "fps"),
    ],
)
def test_what_is_no_video_is_refused(
    pipeline: Omni2SoundPipeline, video: object, fps: float | None, field: str
) -> None:
    with pytest.raises(UserError) as told:
        pipeline(video, fps=fps)  # type: ignore[arg-type]
    assert told.value.field == field


def test_words_for_a_video_are_told_to_be_a_prompt(pipeline: Omni2SoundPipeline) -> None:
    for words in ("rain", "a dog barks", "a" * 5000, "rain\0"):
        with pytest.raises(MediaError, match="no such file; words are the `prompt`"):
            pipeline(words)


def test_a_span_is_that_of_the_shell(pipeline: Omni2SoundPipeline, video: Path) -> None:
    result = pipeline(video, start_s=0.4, end_s=1.0, num_inference_steps=1, seed=2)
    assert result.duration_s == pytest.approx(0.6, abs=1e-4)


def test_without_a_seed_one_is_drawn_and_named(pipeline: Omni2SoundPipeline) -> None:
    first, second = (pipeline(prompt="rain", num_inference_steps=1) for _ in range(2))
    assert first.seed != second.seed
    again = pipeline(prompt="rain", num_inference_steps=1, seed=first.seed)
    np.testing.assert_array_equal(first.audio.samples_CN, again.audio.samples_CN)


def test_limited_samples_are_those_of_a_file(pipeline: Omni2SoundPipeline, tmp_path: Path) -> None:
    result = pipeline(prompt="rain", num_inference_steps=1, seed=0)
    result.audio.samples_CN[:] *= 3 / np.abs(result.audio.samples_CN).max()
    limited = result.limited()
    assert np.abs(limited.samples_CN).max() <= 1
    result.save(tmp_path / "x.wav", bits=32)
    np.testing.assert_array_equal(limited.samples_CN, read_audio(tmp_path / "x.wav").samples_CN)


def test_a_notebook_shows_a_player(pipeline: Omni2SoundPipeline, tmp_path: Path) -> None:
    result = pipeline(prompt="<b>rain</b>", num_inference_steps=1, seed=5)
    page = result._repr_html_()
    assert "&lt;b&gt;rain" in page and "<b>" not in page and "seed 5" in page
    (found,) = re.findall(r'<audio controls src="data:audio/flac;base64,([^"]*)"', page)
    (tmp_path / "x.flac").write_bytes(b64decode(found))
    assert read_audio(tmp_path / "x.flac").duration_s == result.audio.duration_s


def test_a_file_object_needs_a_format(pipeline: Omni2SoundPipeline) -> None:
    result = pipeline(prompt="rain", num_inference_steps=1, seed=5)
    with pytest.raises(UserError, match="file_format: a file object needs one of wav, flac"):
        result.save(io.BytesIO())
    with pytest.raises(UserError, match="binary mode"):
        result.save(io.StringIO(), file_format="wav")  # type: ignore[arg-type]
