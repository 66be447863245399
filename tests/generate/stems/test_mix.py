"""Mixing stems: what changes what, and what leaves every sample alone."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.errors import ConfigError, UserError
from omni2sound.generate.output import OutputOptions, save
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.stems.description import MixDescription, MixedStem, Room, read_mix
from omni2sound.generate.stems.exact import add, on_grid
from omni2sound.generate.stems.mix import changed, mix_stems, open_mix, read_stems
from omni2sound.generate.stems.remix import _KEPT, Mixing, remake, save_mix
from omni2sound.generate.stems.room import impulse_response, in_room, panned
from omni2sound.generate.studio.video import spanned
from omni2sound.generate.words.cues import Cue
from omni2sound.media.audio import read_audio
from omni2sound.media.samples import Audio
from omni2sound.media.video import iter_frames
from tests.build import tiny_model_folder, video_with_square

RATE_HZ = 16_000
TWO = MixDescription(stems=(MixedStem(name="a", file="a.wav"), MixedStem(name="b", file="b.wav")))


def noise(seed: int, channels: int = 1, seconds: float = 1.0) -> Audio:
    rng = np.random.default_rng(seed)
    samples_CN = 0.1 * rng.normal(size=(channels, round(seconds * RATE_HZ)))
    return on_grid([Audio(samples_CN=samples_CN.astype(np.float32), sample_rate_hz=RATE_HZ)])[0]


def test_the_plain_mix_is_the_sum_and_a_shorter_stem_ends_in_silence() -> None:
    sounds = {"a": noise(0), "b": noise(1)}
    np.testing.assert_array_equal(
        mix_stems(TWO, sounds).samples_CN, add(list(sounds.values())).samples_CN
    )
    short = {"a": noise(0), "b": noise(1, seconds=0.5)}
    mixed = mix_stems(TWO, short).samples_CN
    np.testing.assert_array_equal(
        mixed[:, RATE_HZ // 2 :], short["a"].samples_CN[:, RATE_HZ // 2 :]
    )


def test_gain_pan_and_mute_act_on_their_stem_alone() -> None:
    sounds = {"a": noise(0), "b": noise(1)}
    half = changed(TWO, {"a": {"gain_db": -20 * np.log10(2)}, "b": {"mute": True}})
    np.testing.assert_allclose(
        mix_stems(half, sounds).samples_CN, sounds["a"].samples_CN / 2, atol=1e-7
    )
    left = mix_stems(changed(TWO, {"a": {"pan": -1}, "b": {"mute": True}}), sounds).samples_CN
    assert left.shape[0] == 2
    assert np.abs(left[1]).max() < 1e-7 < np.abs(left[0]).max()


@pytest.mark.parametrize("pan", [-1.0, -0.4, 0.2, 1.0])
def test_pan_keeps_the_power_of_equal_channels(pan: float) -> None:
    both_CN = np.repeat(noise(2).samples_CN, 2, axis=0)
    moved_CN = panned(both_CN, pan)
    assert np.isclose(np.square(moved_CN).sum(), np.square(both_CN).sum(), rtol=1e-5)
    assert (np.square(moved_CN[1]).sum() > np.square(moved_CN[0]).sum()) == (pan > 0)


@pytest.mark.parametrize("seconds", [0.2, 0.4, 1.0])
def test_a_room_dies_away_in_its_time_and_has_its_level(seconds: float) -> None:
    response_CK = impulse_response(seconds, 48_000).astype(np.float64)
    left_CK = np.square(response_CK)[:, ::-1].cumsum(axis=1)[:, ::-1]  # Schroeder's curve
    decay_db_K = 10 * np.log10(left_CK.mean(axis=0) / left_CK.mean(axis=0)[0] + 1e-12)
    fit = (decay_db_K < -10) & (decay_db_K > -30)
    slope_db_per_s = np.polyfit(np.flatnonzero(fit) / 48_000, decay_db_K[fit], 1)[0]
    # The treble, most of the power of white noise, dies away twice as fast.
    assert 0.4 * seconds < -60 / slope_db_per_s < 1.1 * seconds
    assert abs(np.corrcoef(response_CK)[0, 1]) < 0.3
    dry_CN = np.repeat(noise(3).samples_CN, 2, axis=0)
    wet_CN = in_room(dry_CN, RATE_HZ, Room(seconds=seconds, wet_db=-12)) - dry_CN
    middle = slice(RATE_HZ // 2, None)
    ratio_db = 10 * np.log10(np.square(wet_CN[:, middle]).mean() / np.square(dry_CN).mean())
    assert abs(ratio_db + 12) < 1.5


@pytest.mark.parametrize(
    ("stems", "error"),
    [
        ({"file": "../a.wav"}, "expected a path inside"),
        ({"file": "/etc/passwd"}, "expected a path inside"),
        ({"file": "a.wav", "gain_db": 99}, "gain_db"),
        ({"file": "a.wav", "pan": "left"}, "pan"),
        ({"file": "a.wav", "colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_a_description_that_does_not_hold_together_is_refused(
    tmp_path: Path, stems: dict[str, object], error: str
) -> None:
    data = {"omni2sound_mix": 1, "stems": [{"name": "a", **stems}]}
    (tmp_path / "mix.json").write_text(json.dumps(data))
    with pytest.raises((UserError, ConfigError), match=error):
        read_mix(tmp_path / "mix.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


def test_the_command_mixes_and_makes_one_stem_anew(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline = Omni2SoundPipeline.from_pretrained(model, device="cpu")
    asked = GenerationRequest(
        prompt="rain", cues=(Cue(start_s=0.2, end_s=0.6, text="a dog"),), duration_s=1.0,
        num_inference_steps=1, seed=3, stems=True,
    )  # fmt: skip
    (first,) = pipeline.run(asked)
    (other,) = pipeline.run(replace(asked, seed=9))
    save(first, tmp_path / "a.wav", video=None, options=OutputOptions(bits=32))

    def run(*typed: str) -> dict[str, object]:
        command = ["mix", "a.wav.stems", *typed, "--json", "--bits", "32", "--device", "cpu"]
        done = CliRunner().invoke(app, [*command, "--model", str(model)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        report: dict[str, object] = json.loads(done.stdout)
        return report

    assert run()["output"] == "a.mix.wav"
    plain = read_audio("a.wav").samples_CN
    np.testing.assert_array_equal(read_audio("a.mix.wav").samples_CN, plain)
    report = run("--mute", "rest", "--pan", "a-dog=0.5", "-o", "dog.wav")
    assert read_audio("dog.wav").num_channels == 2
    assert [s["mute"] for s in report["mix"]] == [False, True]  # type: ignore[attr-defined]
    run("--anew", "a-dog", "--seed", "9", "--gain", "rest=-6", "-o", "new.wav")
    sounds = [read_audio(f"new.wav.stems/{name}.wav").samples_CN for name in ("a-dog", "rest")]
    np.testing.assert_array_equal(sounds[0], other.stems[0].audio.samples_CN)
    np.testing.assert_array_equal(sounds[1], first.stems[1].audio.samples_CN)
    assert [s.gain_db for s in read_mix(Path("new.wav.stems/mix.json")).stems] == [0, -6]
    result = CliRunner().invoke(app, ["mix", "a.wav.stems", "--gain", "cat=3", "-o", "x.wav"])
    assert "there is no 'cat'; known are a-dog, rest" in str(result.exception)


def test_a_mix_of_a_span_keeps_its_pictures_and_all_that_was_asked(
    model: Path, tmp_path: Path
) -> None:
    film, output = tmp_path / "film.mp4", tmp_path / "a.mp4"
    video_with_square(film, duration_s=2.0)
    pipeline = Omni2SoundPipeline.from_pretrained(model, device="cpu")
    asked = GenerationRequest(
        video=film, seen="a car", cues=(Cue(start_s=0.2, end_s=0.4, text="a dog"),),
        text_guidance_scale=2.0, num_inference_steps=1, seed=3, stems=True,
    )  # fmt: skip
    with spanned(film, start_s=1.5, end_s=None) as span:
        (made,) = pipeline.run(replace(asked, video=span))
        facts = {"start_s": 1.5}
        first = save(made, output, video=span, options=OutputOptions(), more_facts=facts)
    options, at = OutputOptions(), [output]
    for name in ("b.mp4", "c.mp4"):
        mixing = remake(pipeline, Mixing.read(*open_mix(at[-1])), "a-dog", 9, film)
        at.append(tmp_path / name)
        report = save_mix(mixing, at[-1], video=film, options=options)
        assert {k: report[k] for k in first if k in _KEPT} == {
            k: first[k] for k in first if k in _KEPT
        }
        assert "copied_video" not in report
    requests = [open_mix(path)[1].made["request"] for path in at]
    assert requests[0] == requests[1] == requests[2]
    pictures = [list(iter_frames(path, fps=Fraction(10))) for path in at]
    assert len(pictures[0]) == len(pictures[2])
    for before, after in zip(pictures[0], pictures[2], strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_mix_over_the_old_one_keeps_its_stems(model: Path, tmp_path: Path) -> None:
    pipeline = Omni2SoundPipeline.from_pretrained(model, device="cpu")
    asked = GenerationRequest(
        prompt="rain", cues=(Cue(start_s=0.2, end_s=0.4, text="a dog"),), duration_s=0.5,
        num_inference_steps=1, stems=True,
    )  # fmt: skip
    output, options = tmp_path / "a.wav", OutputOptions(overwrite=True)
    save(next(pipeline.run(asked)), output, video=None, options=options)
    folder, description = open_mix(output)
    old = read_stems(folder, description)
    louder = changed(description, {"rest": {"gain_db": -6}})
    save_mix(Mixing.read(folder, louder), output, video=None, options=options)
    folder, description = open_mix(output)
    assert description.stems == louder.stems
    for name, sound in read_stems(folder, description).items():
        np.testing.assert_array_equal(sound.samples_CN, old[name].samples_CN)
