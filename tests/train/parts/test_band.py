"""Laws of the band extension's training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import ConfigError, UserError
from omni2sound.generate.model import load_model
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.band import BandConfig, BandExtension
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue, Recording, SoundClass
from omni2sound.train.parts.band import (
    BandRecipe,
    FullBand,
    band_loss,
    cliff_hz,
    draw_excerpts,
    full_band_recordings,
    split_bands,
    train_band,
    train_band_model,
)
from tests.build import tiny_model_folder


def white(seconds: float = 0.5, *, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(size=round(44_100 * seconds))
    return (0.1 * samples).astype(np.float32)


def recordings() -> list[FullBand]:
    return [
        FullBand(
            recording_id=f"{class_id}-{i}",
            class_id=class_id,
            samples_N=white(seed=i),
            cliff_hz=22_050.0,
        )
        for i, class_id in enumerate(("hiss", "hiss", "click"))
    ]


def recipe(num_steps: int) -> BandRecipe:
    return BandRecipe(num_steps=num_steps, batch_size=2, crop_s=0.16)


def tiny() -> BandExtension:
    return BandExtension(BandConfig(width=8, depth=1))


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 24_000, 32_000])
def test_the_cliff_is_where_an_earlier_rate_ended(rate_hz: int) -> None:
    stored_N = soxr.resample(soxr.resample(white(), 44_100, rate_hz), rate_hz, 44_100)
    assert 0.88 * rate_hz / 2 <= cliff_hz(stored_N) <= rate_hz / 2 + 500  # on the slope


def test_sounds_that_fade_upwards_have_no_cliff() -> None:
    hz = np.fft.rfftfreq(22_050, 1 / 44_100)
    spectrum = np.fft.rfft(white()) * 10 ** (-hz / 1000 * 4 / 20)  # 4 dB a kHz
    assert cliff_hz(np.fft.irfft(spectrum).astype(np.float32)) == 22_050
    assert cliff_hz(white(0.01)) == 22_050


@given(seconds=st.floats(0.02, 0.4), seed=st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_the_two_bands_add_up(seconds: float, seed: int) -> None:
    sound_N = white(seconds, seed=seed)
    low_N, added_N = split_bands(sound_N)
    back_N = soxr.resample(low_N, 16_000, 44_100)
    shared = min(len(back_N), len(sound_N))
    assert np.abs(back_N[:shared] + added_N[:shared] - sound_N[:shared]).max() < 1e-5
    assert abs(len(low_N) - len(sound_N) * 160 / 441) <= 1


@given(step=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_excerpts_are_a_function_of_seed_and_step(step: int) -> None:
    once, again = (draw_excerpts(recordings(), recipe(1), step) for _ in range(2))
    other = draw_excerpts(recordings(), recipe(1), step + 1)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0], other[0])
    assert once[0].shape == (2, 2560) and once[1].shape == (2, 7056)


def test_bands_above_the_cliff_do_not_count() -> None:
    target_BTH = torch.randn(2, 5, 4)
    predicted_BTH = target_BTH.clone()
    predicted_BTH[..., 2:] += 3
    known_BH, width_H = torch.tensor([[1.0, 1, 0, 0]] * 2), torch.ones(4)
    assert all(x == 0 for x in band_loss(predicted_BTH, target_BTH, known_BH, width_H))
    assert all(x > 0 for x in band_loss(predicted_BTH, target_BTH, known_BH.fill_(1), width_H))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    autoencoder = MelPcaAutoencoder(MelPcaConfig(latent_dim=8))
    whole, part, rest = tiny(), tiny(), tiny()
    train_band(whole, autoencoder, recordings(), recipe=recipe(3), out=tmp_path / "whole")
    steps = train_band(
        part, autoencoder, recordings(), recipe=recipe(3), out=tmp_path / "run", max_minutes=1e-9
    )
    assert steps == 1
    train_band(rest, autoencoder, recordings(), recipe=recipe(3), out=tmp_path / "run", resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, rest.state_dict()[name]), name
    with pytest.raises(ConfigError):
        train_band(
            tiny(), autoencoder, recordings()[:2], recipe=recipe(3), out=tmp_path / "run",
            resume=True,
        )  # fmt: skip


def test_training_brings_the_level_nearer(tmp_path: Path) -> None:
    autoencoder = MelPcaAutoencoder(MelPcaConfig(latent_dim=8))
    model, long = tiny(), BandRecipe(num_steps=60, batch_size=2, crop_s=0.16, coded_share=0.0)
    train_band(model, autoencoder, recordings(), recipe=long, out=tmp_path)
    low_N, added_N = split_bands(recordings()[0].samples_N)
    low_1N = torch.from_numpy(low_N[: len(low_N) // 160 * 160])[None]
    predicted_BTH = model(model.log_mel(model.low_spectrum.transform(low_1N)))
    target_BTH = model.log_power(torch.from_numpy(added_N[: low_1N.shape[1] * 441 // 160])[None])
    assert (predicted_BTH - target_BTH).mean().abs() < 0.7  # 3 dB


def test_an_autoencoder_of_another_rate_is_refused(tmp_path: Path) -> None:
    other = MelPcaAutoencoder(MelPcaConfig(latent_dim=8, num_bands=40))
    with pytest.raises(ConfigError, match="80 mel bands at 16 kHz"):
        train_band(tiny(), other, recordings(), recipe=recipe(1), out=tmp_path)


def corpus(folder: Path) -> Path:
    """A prepared corpus of three recordings: full-band, half-band, and of the test split."""
    kind = SoundClass(
        class_id="hiss",
        names=("a hiss",),
        held_out_names=("a fizz",),
        verbs=("hisses",),
        held_out_verbs=("fizzes",),
        kind="sustained",
        motions=(),
        yamnet_classes=("Hiss",),
        pictures=False,
    )
    items = [("full", "train", 44_100), ("half", "train", 22_050), ("held", "test", 48_000)]
    recordings = tuple(
        Recording(
            recording_id=name,
            class_id="hiss",
            family=name,
            split=split,  # type: ignore[arg-type]
            package="made-in-code",
            path=f"{name}.wav",
            licence="CC0-1.0",
            attribution="nobody",
            start_s=0.0,
            end_s=0.5,
        )
        for name, split, _ in items
    )
    catalogue = Catalogue(classes=(kind,), recordings=recordings, pictures=())
    (folder / "full-band").mkdir(parents=True)
    (folder / "training.json").write_text(catalogue.to_json(), encoding="utf-8")
    for name, _, rate_hz in items:
        soundfile.write(folder / "full-band" / f"{name}.flac", white()[: rate_hz // 2], rate_hz)
    return folder


def test_only_full_band_recordings_of_the_split_are_read(tmp_path: Path) -> None:
    assets = SceneAssets.open(corpus(tmp_path / "corpus"), kinds="all")
    assert [r.recording_id for r in full_band_recordings(assets, "train")] == ["full"]
    held = full_band_recordings(assets, "test")
    assert [r.recording_id for r in held] == ["held"]
    assert abs(len(held[0].samples_N) - 44_100 * len(white()[:24_000]) / 48_000) <= 1
    with pytest.raises(UserError, match="no val recording"):
        full_band_recordings(assets, "val")


def test_the_model_gets_the_band_and_keeps_the_rest(tmp_path: Path) -> None:
    before = tiny_model_folder(tmp_path / "tiny")
    after = train_band_model(
        corpus(tmp_path / "corpus"), tmp_path / "run", parts=str(before), max_minutes=1e-9
    )
    old, new = load_model(before), load_model(after)
    assert new.band is not None and new.sample_rate_hz == 44_100
    assert new.training["band"]["steps"] == 1
    assert "nobody" in new.attribution
    for component, tensors in old.tensors().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, new.tensors()[component][name]), (component, name)
