"""aisfx: its front end and patches by law, its weights where its package is installed."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.encoders.metric import aisfx
from omni2sound.encoders.metric.aisfx import AiSfx, EmbeddingNetwork, Head, HeadConfig, load_network
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, ShapeError, UserError

RATE_HZ = AiSfx.sample_rate_hz
CLASSES = HeadConfig(class_names=("bell", "dog", "rain"))
installed = pytest.mark.skipif(
    importlib.util.find_spec("aisfx") is None, reason="omni2sound setup --with aisfx was not run"
)


@pytest.fixture(scope="module")
def tagger() -> AiSfx:
    """The network with random weights."""
    torch.manual_seed(0)
    return AiSfx(EmbeddingNetwork(), Head(CLASSES))


def noise(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


@settings(max_examples=6, deadline=None)
@given(seconds=st.floats(0.01, 6))
def test_there_is_a_patch_every_half_patch(tagger: AiSfx, seconds: float) -> None:
    sound = noise(seconds)
    scores, embeddings = tagger.scores_and_embeddings(sound)
    hops = math.ceil(max(0, len(sound) - tagger.patch_samples) / tagger.patch_hop_samples)
    assert scores.shape == (1 + hops, 3)
    assert embeddings.shape == (1 + hops, 512)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


def test_patches_do_not_depend_on_what_follows(tagger: AiSfx) -> None:
    sound = noise(5)
    short = tagger.scores_and_embeddings(sound[: tagger.patch_samples])[1]
    np.testing.assert_allclose(
        tagger.scores_and_embeddings(sound)[1][0], short[0], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("hertz", [100.0, 1000.0, 9000.0, 18000.0])
def test_a_tone_is_in_its_band_also_above_8_khz(tagger: AiSfx, hertz: float) -> None:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = torch.from_numpy(np.sin(2 * np.pi * hertz * time_s).astype(np.float32))
    frames = tagger.log_mel(tone)
    band = int(frames.mean(dim=0).argmax())
    mel = 1127 * math.log1p(hertz / 700)
    expected = mel / (1127 * math.log1p(22050 / 700)) * 97 - 1
    assert abs(band - expected) <= 2
    # The largest value of the network's training data is about that of a full-scale tone.
    assert 0.8 < float(frames.max()) <= 1.05


def test_bands_sum_to_one() -> None:
    torch.testing.assert_close(aisfx._unit_sum_mels().sum(dim=0), torch.ones(96))


def test_odd_sounds_are_refused(tagger: AiSfx) -> None:
    with pytest.raises(ShapeError):
        tagger.scores_and_embeddings(np.zeros((2, 5), np.float32))
    with pytest.raises(UserError, match="NaN"):
        tagger.scores_and_embeddings(np.array([np.nan], np.float32))


def test_classes_are_named_once() -> None:
    for names in ((), ("a", "a")):
        with pytest.raises(ConfigError, match="each once"):
            HeadConfig(class_names=names)


def test_a_file_that_would_run_code_or_is_another_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pth"
    monkeypatch.setattr(aisfx, "bundled_path", lambda *_: path)
    for content in ((Path("/"), {}), ({"embedding_net.x": torch.zeros(1)}, {}), 3):
        torch.save(content, path)
        with pytest.raises(IntegrityError, match="aisfx"):
            load_network()


def test_without_the_package_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNI2SOUND_NETWORKS", str(tmp_path))
    monkeypatch.setattr("omni2sound.bundled.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match="setup --with aisfx"):
        load_network()


@installed
def test_the_bundled_network_hears_what_lies_above_8_khz() -> None:
    tagger = AiSfx.load()
    sound = noise(3)
    spectrum = np.fft.rfft(sound)
    spectrum[np.fft.rfftfreq(len(sound), 1 / RATE_HZ) > 8000] = 0
    low = np.fft.irfft(spectrum, len(sound)).astype(np.float32)
    whole, dull = (tagger.scores_and_embeddings(x)[1].mean(axis=0) for x in (sound, low))
    cosine = whole @ dull / np.linalg.norm(whole) / np.linalg.norm(dull)
    assert cosine < 0.95
