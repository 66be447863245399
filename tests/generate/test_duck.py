"""Ducking: down in all frames of speech, and nowhere far from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.generate.output import OutputOptions
from omni2sound.generate.studio import duck
from omni2sound.media.samples import Audio

RATE_HZ = 16_000


@given(
    spans=st.lists(st.tuples(st.floats(0, 9), st.floats(0.1, 2)), max_size=4),
    depth_db=st.floats(1, 40),
)
@settings(max_examples=25, deadline=None)
def test_the_sound_is_down_in_speech_before_it_and_nowhere_else(
    spans: list[tuple[float, float]], depth_db: float
) -> None:
    frames = np.zeros(1000, bool)
    for start_s, length_s in spans:
        frames[round(start_s * 100) : round((start_s + length_s) * 100)] = True
    flat = Audio(samples_CN=np.ones((1, 10 * RATE_HZ), np.float32), sample_rate_hz=RATE_HZ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duck, "speech_frames", lambda _: frames)
        gain_N = duck.ducked(flat, flat, depth_db).samples_CN[0]
    at_N = np.arange(len(gain_N)) * 100 // RATE_HZ
    inside = gain_N[frames[at_N]]
    assert np.allclose(inside, 10 ** (-depth_db / 20), rtol=0.03 * depth_db)
    near = np.convolve(frames, np.ones(2 * 52 + 1), "same") > 0
    assert (gain_N[~near[at_N]] == 1).all()
    assert (gain_N <= 1).all()


@pytest.mark.parametrize("own_s", [1.0, 2.5])
def test_the_sound_comes_back_after_an_own_one_that_ends_in_speech(own_s: float) -> None:
    flat = Audio(samples_CN=np.ones((1, 4 * RATE_HZ), np.float32), sample_rate_hz=RATE_HZ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duck, "speech_frames", lambda _: np.ones(round(own_s * 100), bool))
        gain_N = duck.ducked(flat, flat, 9.0).samples_CN[0]
    assert (gain_N[: round(own_s * RATE_HZ)] < 0.4).all()
    assert (gain_N[round((own_s + 0.52) * RATE_HZ) :] == 1).all()


def test_noise_is_no_speech() -> None:
    rng = np.random.default_rng(0)
    samples_CN = (0.05 * rng.normal(size=(1, 2 * RATE_HZ))).astype(np.float32)
    own = Audio(samples_CN=samples_CN, sample_rate_hz=RATE_HZ)
    assert not duck.speech_frames(own).any()
    assert duck.ducked(own, own, 9.0) is own


def test_ducking_is_for_kept_sound() -> None:
    with pytest.raises(UserError, match="duck_db: is the level"):
        OutputOptions(duck_db=9)
