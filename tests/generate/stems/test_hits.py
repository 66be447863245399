"""Point cues: where their onsets lie, and that they change nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.ranges import Range
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.stems import onsets
from omni2sound.generate.stems.exact import STEP
from omni2sound.generate.stems.hits import placed_at
from omni2sound.generate.stems.onsets import onset_s, onsets_s
from omni2sound.generate.words.cue_files import read_cues
from omni2sound.generate.words.cues import Cue, parse_cue
from omni2sound.media.samples import Audio
from tests.build import tiny_model_folder

HIT = Cue(start_s=0.7, text="a door slams")


def hit(at_s: float, rate_hz: int, *, lead_db: float = -30, seed: int = 0) -> Audio:
    """Noise that dies away from a second on, behind a soft lead."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(3 * rate_hz) / rate_hz - at_s
    level_N = np.where(time_s < 0, 10 ** (lead_db / 20), np.exp(-np.maximum(time_s, 0) / 0.2))
    samples_N = (0.3 * level_N * rng.normal(size=len(time_s))).astype(np.float32)
    return Audio(samples_CN=samples_N[None], sample_rate_hz=rate_hz)


@given(
    at_s=st.floats(0.05, 2.4),
    cue_s=st.floats(0, 4.9),
    rate_hz=st.sampled_from([16_000, 44_100, 48_000]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_a_hit_is_found_and_put_at_its_second(
    at_s: float, cue_s: float, rate_hz: int, seed: int
) -> None:
    made = hit(at_s, rate_hz, seed=seed)
    assert abs(onset_s(made.samples_CN[0], rate_hz) - at_s) < 0.012
    placed = placed_at(made, cue_s, 5 * rate_hz)
    assert placed.num_samples == 5 * rate_hz
    first = np.flatnonzero(placed.samples_CN[0])[0] / rate_hz
    assert cue_s - 0.0045 <= first <= cue_s + 0.001
    loud = np.flatnonzero(np.abs(placed.samples_CN[0]) > 0.15)
    if cue_s < 4.8:
        assert abs(loud[0] / rate_hz - cue_s) < 0.02


def test_all_onsets_are_found_and_silence_has_none() -> None:
    rate_hz = 16_000
    both = [
        hit(at_s, rate_hz, lead_db=-80, seed=k).samples_CN[0] for k, at_s in enumerate((0.5, 1.7))
    ]
    for samples_N, found_s in (
        (both[0] + both[1], [0.5, 1.7]), (both[0] * np.float32(1e-4), []), (np.zeros(100), [])
    ):  # fmt: skip
        sound = Audio(samples_CN=samples_N[None].astype(np.float32), sample_rate_hz=rate_hz)
        assert onsets_s(sound) == pytest.approx(found_s, abs=0.012)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_times_of_clicks_are_neither_early_nor_drift(rate_hz: int) -> None:
    clicks = np.arange(20) * round(0.4037 * rate_hz) + round(0.3 * rate_hz)
    samples_CN = np.zeros((1, 8 * rate_hz + rate_hz), np.float32)
    samples_CN[0, clicks] = 0.5
    sound = Audio(samples_CN=samples_CN, sample_rate_hz=rate_hz)
    late_s = np.array(onsets_s(sound)) - clicks / rate_hz
    assert abs(late_s.mean()) < 0.00125
    assert np.abs(late_s).max() < 0.0025
    assert abs(late_s[:10].mean() - late_s[10:].mean()) < 0.00125


@pytest.mark.parametrize("length", [0, 1, 159, 160, 3 * 400, 3 * 400 + 121, 5000])
def test_loudness_is_the_same_in_any_blocks(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples_N = np.random.default_rng(length).normal(size=length).astype(np.float32)
    whole_F = onsets._loudness([samples_N], 16_000)
    assert len(whole_F) == length // 40 + 1
    monkeypatch.setattr(onsets, "_CHUNK_FRAMES", 10)
    for size in (1, 37, 400, 1000):
        blocks = [samples_N[k : k + size] for k in range(0, length, size)]
        assert (onsets._loudness(blocks, 16_000) == whole_F).all()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Omni2SoundPipeline:
    folder = tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")
    return Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="float32")


def test_a_point_cue_adds_a_hit_to_what_is_made_without_it(pipeline: Omni2SoundPipeline) -> None:
    asked = GenerationRequest(prompt="rain", duration_s=1.5, num_inference_steps=1, seed=3)
    (without,) = pipeline.run(asked)
    (made,) = pipeline.run(replace(asked, cues=(HIT,)))
    (apart,) = pipeline.run(replace(asked, cues=(HIT,), stems=True))
    assert made.cues == (HIT,) and made.stems == ()
    rate_hz = made.audio.sample_rate_hz
    before = slice(0, round(0.69 * rate_hz))
    difference_CN = made.audio.samples_CN - without.audio.samples_CN
    assert np.abs(difference_CN[:, before]).max() <= STEP
    np.testing.assert_array_equal(made.audio.samples_CN, apart.audio.samples_CN)
    assert [(s.source.name, s.source.at_s) for s in apart.stems] == [
        ("rest", None),
        ("a-door-slams", 0.7),
    ]
    (alone,) = pipeline.run(replace(asked, prompt=None, cues=(HIT,)))
    assert alone.audio.num_samples == made.audio.num_samples
    np.testing.assert_array_equal(alone.audio.samples_CN, apart.stems[1].audio.samples_CN)


def test_points_are_typed_and_read_from_files(tmp_path: Path) -> None:
    assert parse_cue("3.1: a door slams") == Cue(start_s=3.1, text="a door slams")
    assert parse_cue("1:05: rain").start_s == 65
    assert parse_cue("3: 10 dogs bark").text == "10 dogs bark"
    (tmp_path / "a.csv").write_text("start,end,text\n3.1,,a door slams\n4,5,rain\n")
    (tmp_path / "a.json").write_text('[{"start": 3.1, "text": "a door slams"}, "4-5: rain"]')
    for name in ("a.csv", "a.json"):
        first, second = map(parse_cue, read_cues(tmp_path / name))
        assert (first.end_s, second.end_s) == (None, 5)
    with pytest.raises(UserError, match="cues: has no end; an edit needs spans"):
        Edit(ranges=(Range(start_s=0, end_s=1),), cues=(HIT,))
