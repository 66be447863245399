"""Synthetic sounds: repeatable, different from each other, and like nothing that clips."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.checks.scene_hashes import audio_hash, distance_bits
from omni2sound.errors import ConfigError
from omni2sound.scenes.material.levels import measure_level
from omni2sound.scenes.material.synthesis import MODELS, synthesise


@pytest.mark.parametrize("model", MODELS)
def test_a_name_is_a_sound(model: str) -> None:
    sound = synthesise(f"{model}/0")
    assert sound.dtype == np.float32
    assert 0.2 < len(sound) / 16_000 <= 6
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() == pytest.approx(0.9, abs=1e-5)
    np.testing.assert_array_equal(sound, synthesise(f"{model}/0"))
    assert distance_bits(audio_hash(sound), audio_hash(synthesise(f"{model}/1"))) > 5
    level = measure_level(sound)
    assert level.onset_s < 0.3
    assert level.duration_s > 0.2


@pytest.mark.parametrize("name", ["moon/0", "rain", "rain/", "rain/x", ""])
def test_what_is_no_sound_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="MODEL/NUMBER"):
        synthesise(name)
