"""Editing with a model: what is kept, what is made new, and from what."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.samplers import sample
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.errors import UserError
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.edit import edit
from omni2sound.generate.edit.files import edit_file
from omni2sound.generate.edit.holding import held
from omni2sound.generate.edit.ranges import Range
from omni2sound.generate.edit.seams import EDGE_S
from omni2sound.generate.edit.source import check_edit, open_source
from omni2sound.generate.output import OutputOptions, save
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings
from omni2sound.generate.stems.exact import add, with_stems
from omni2sound.generate.stems.mix import open_mix, read_stems
from omni2sound.generate.stems.remix import Mixing, remake, save_mix
from omni2sound.generate.stems.sources import Source, Stem
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.cues import Cue
from omni2sound.media.audio import read_audio
from omni2sound.media.samples import Audio
from tests.build import tiny_model_folder, video_with_square

RATE_HZ = 44_100
HORN = Edit(ranges=(Range(start_s=0.5, end_s=0.9),), prompt="a horn", num_inference_steps=2)
RAIN = Edit(ranges=(Range(start_s=1.0, end_s=1.6),), prompt="rain", num_inference_steps=2)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> TorchPipeline:
    folder = tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")
    return TorchPipeline.load(folder, device="cpu")


def noise(seconds: float = 3.0, channels: int = 2) -> Audio:
    rng = np.random.default_rng(0)
    samples_CN = (0.05 * rng.normal(size=(channels, round(seconds * RATE_HZ)))).astype(np.float32)
    return Audio(samples_CN=samples_CN, sample_rate_hz=RATE_HZ)


@pytest.mark.parametrize("kind", ["dpmpp-2m", "dpmpp-2m-sde"])
@pytest.mark.parametrize("num_steps", [1, 2, 8])
def test_held_latents_come_back_exactly(kind: str, num_steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    given, noise_BLC = (torch.randn(1, 20, 4, generator=generator) for _ in range(2))
    is_new = torch.arange(20) >= 12
    seen = []

    def predict(x_BLC: torch.Tensor, t_B: torch.Tensor) -> torch.Tensor:
        seen.append((x_BLC.clone(), float(t_B[0])))
        return 0.3 * x_BLC

    objective = Objective(kind="v")
    made = sample(
        held(predict, objective, given, noise_BLC, is_new),
        noise_BLC,
        objective=objective,
        config=SamplerConfig(kind=kind),  # type: ignore[arg-type]
        num_steps=num_steps,
        generator=[generator],
    )
    assert (made - given)[:, ~is_new].abs().max() < 1e-4
    for x_BLC, t in seen:  # the network sees them with the noise of the level
        angle = t * math.pi / 2
        kept = math.cos(angle) * given + math.sin(angle) * noise_BLC
        assert (x_BLC - kept)[:, ~is_new].abs().max() < 1e-5
    assert (made - given)[:, is_new].abs().max() > 0.1


def test_outside_the_range_the_sound_survives_sample_for_sample(
    pipeline: TorchPipeline,
) -> None:
    given = noise()
    (made,) = edit(pipeline, given, RAIN)
    start, end = round((1.0 - EDGE_S) * RATE_HZ), round((1.6 + EDGE_S) * RATE_HZ)
    assert made.audio.samples_CN.shape == given.samples_CN.shape
    for outside in (slice(0, start), slice(end, None)):
        np.testing.assert_array_equal(
            made.audio.samples_CN[:, outside], given.samples_CN[:, outside]
        )
    inside = slice(round(1.1 * RATE_HZ), round(1.5 * RATE_HZ))
    assert np.abs(made.audio.samples_CN - given.samples_CN)[:, inside].max() > 1e-3


def test_equal_seeds_give_equal_edits_and_takes_go_on(pipeline: TorchPipeline) -> None:
    given = noise(channels=1)
    first, second = edit(pipeline, given, replace(RAIN, seed=4, takes=2))
    (alone,) = edit(pipeline, given, replace(RAIN, seed=5))
    assert (first.seed, second.seed) == (4, 5)
    np.testing.assert_array_equal(second.audio.samples_CN, alone.audio.samples_CN)
    assert np.abs(first.audio.samples_CN - alone.audio.samples_CN).max() > 1e-4


def test_a_sound_goes_on_past_its_end(pipeline: TorchPipeline) -> None:
    given = noise(1.0)
    (made,) = edit(pipeline, given, replace(RAIN, ranges=(Range(start_s=1.0, end_s=2.5),)))
    assert made.audio.duration_s == 2.5
    kept = round((1.0 - EDGE_S) * RATE_HZ)
    np.testing.assert_array_equal(made.audio.samples_CN[:, :kept], given.samples_CN[:, :kept])
    with pytest.raises(UserError, match="begins after the sound's end"):
        next(edit(pipeline, given, replace(RAIN, ranges=(Range(start_s=1.2, end_s=2.0),))))


def test_strength_says_how_far_a_variation_goes(pipeline: TorchPipeline) -> None:
    given = noise(1.0, channels=1)
    distances = []
    for strength in (0.05, 0.5, 1.0):
        whole = Edit(ranges=(Range(start_s=0, end_s=1),), prompt="rain", strength=strength, seed=1)
        (made,) = edit(pipeline, given, whole)
        latents = [
            pipeline.model.autoencoder.encode(torch.from_numpy(x.samples_CN[:, ::3].copy()))
            for x in (given, made.audio)
        ]
        distances.append(float((latents[0] - latents[1]).square().mean()))
    assert distances[0] < distances[1] < distances[2]


def test_a_video_and_cues_act_on_the_sounds_own_clock(
    pipeline: TorchPipeline, tmp_path: Path
) -> None:
    video_with_square(tmp_path / "clip.mp4", duration_s=3.0)
    (made,) = edit(pipeline, noise(), replace(RAIN, video=tmp_path / "clip.mp4", prompt=None))
    assert made.audio.duration_s == 3
    cue = Cue(start_s=0.9, end_s=1.2, text="rain")
    wide = replace(RAIN, prompt=None, cues=(cue,), ranges=(Range(start_s=0.5, end_s=2.2),))
    (made,) = edit(pipeline, noise(), wide)
    # After the cue nothing sounds; the given sound begins to come back .27 s before the end.
    silent_CN = made.audio.samples_CN[:, round(1.6 * RATE_HZ) : round(1.9 * RATE_HZ)]
    assert np.abs(silent_CN).max() < 1e-6  # the resampler rings
    far = replace(cue, start_s=4.9, end_s=5.0)
    with pytest.raises(UserError, match="cues: none acts around"):
        next(
            edit(pipeline, noise(6.0), replace(RAIN, prompt=None, cues=(far,), ranges=RAIN.ranges))
        )


def test_what_makes_no_edit_is_refused(pipeline: TorchPipeline) -> None:
    with pytest.raises(UserError, match="nothing to change"):
        Edit(prompt="rain")
    with pytest.raises(UserError, match="strength: expected"):
        Edit(prompt="rain", strength=0)
    with pytest.raises(UserError, match="sound: expected one or two channels, got 6"):
        next(edit(pipeline, noise(channels=6), RAIN))
    with pytest.raises(UserError, match="nothing to generate from"):
        next(edit(pipeline, noise(), replace(RAIN, prompt=None)))


def write_take(
    path: Path, bits: int, *, gain: float = 1.0, loudness_lufs: float | None = None
) -> Path:
    """A take of two stems of 1.5 s."""
    rng = np.random.default_rng(1)
    sounds = (gain * 0.1 * rng.normal(size=(2, 1, 3 * RATE_HZ // 2))).astype(np.float32)
    stems = [
        Stem(
            source=Source(name=name, text=name), seed=3,
            audio=Audio(samples_CN=samples_CN, sample_rate_hz=RATE_HZ),
        )
        for name, samples_CN in zip(("a-dog", "rest"), sounds, strict=True)
    ]  # fmt: skip
    result = GenerationResult(
        audio=stems[0].audio,
        request=GenerationRequest(prompt="a dog", duration_s=1.5, seed=3, stems=True),
        seed=3, num_inference_steps=2, guidance_scale=3.0, model="m", model_sha256="0",
        dtype="auto", timings=Timings(load_s=0, encode_s=0, sample_s=0, decode_s=0),
    )  # fmt: skip
    options = OutputOptions(bits=bits, loudness_lufs=loudness_lufs)
    save(with_stems(result, stems), path, video=None, options=options)
    return path


def edited(pipeline: TorchPipeline, path: Path, output: Path, asked: Edit = HORN) -> list[str]:
    """Edit a file; returns the notes."""
    source = open_source(path)
    options = check_edit(source, output, asked, OutputOptions())
    (report,) = edit_file(pipeline, source, asked, [output], options)
    return [note for note in report.get("notes", ()) if "stems" in note]


def stems_of(path: Path) -> dict[str, NDArray[np.float32]]:
    sounds: Mapping[str, Audio] = read_stems(*open_mix(path))
    return {name: sound.samples_CN for name, sound in sounds.items()}


@pytest.mark.parametrize("bits", [16, 24])
def test_stems_of_an_edit_add_up_to_it(pipeline: TorchPipeline, tmp_path: Path, bits: int) -> None:
    take, out = write_take(tmp_path / "take.wav", bits), tmp_path / "out.wav"
    assert edited(pipeline, take, out) == []
    start, end = (round(t * RATE_HZ) for t in (0.5 - EDGE_S, 0.9 + EDGE_S))
    given, made = read_audio(take).samples_CN, read_audio(out).samples_CN
    before, after = stems_of(take), stems_of(out)
    assert list(after) == ["a-dog", "rest", "edited"]
    total = add(list(read_stems(*open_mix(out)).values())).samples_CN
    np.testing.assert_allclose(total, made, atol=0 if bits > 16 else 2**-16)
    for outside in (slice(0, start), slice(end, None)):
        np.testing.assert_array_equal(made[:, outside], given[:, outside])
        assert not after["edited"][:, outside].any()
        for name in before:
            np.testing.assert_array_equal(after[name][:, outside], before[name][:, outside])
    middle = slice(round(0.69 * RATE_HZ), round(0.71 * RATE_HZ))
    assert not after["rest"][:, middle].any()
    assert after["edited"][:, middle].any()


@pytest.mark.parametrize("bits", [24, 32])
def test_a_limited_take_keeps_its_stems(pipeline: TorchPipeline, tmp_path: Path, bits: int) -> None:
    take, out = write_take(tmp_path / "take.wav", bits, gain=2.5), tmp_path / "out.wav"
    total = np.sum(list(stems_of(take).values()), axis=0)
    assert np.abs(total).max() > 1 >= np.abs(read_audio(take).samples_CN).max()
    assert edited(pipeline, take, out) == []
    given, made = read_audio(take).samples_CN, read_audio(out).samples_CN
    start, end = (round(t * RATE_HZ) for t in (0.5 - EDGE_S, 0.9 + EDGE_S))
    for outside in (slice(0, start), slice(end, None)):
        np.testing.assert_array_equal(made[:, outside], given[:, outside])
        after = np.sum(list(stems_of(out).values()), axis=0)
        np.testing.assert_array_equal(after[:, outside], total[:, outside])


def test_an_edit_of_an_edit_and_a_stem_made_anew(pipeline: TorchPipeline, tmp_path: Path) -> None:
    take, out, more = (tmp_path / name for name in ("take.wav", "out.wav", "more.wav"))
    edited(pipeline, write_take(take, 24), out)
    longer = replace(HORN, ranges=(Range(start_s=0.8, end_s=1.7),))
    assert edited(pipeline, out, more, longer) == []
    after = stems_of(more)
    assert list(after) == ["a-dog", "rest", "edited", "edited-2"]
    total = sum(after.values())
    np.testing.assert_array_equal(total, read_audio(more).samples_CN)

    mixing = Mixing.read(*open_mix(more))
    again = remake(pipeline, mixing, "rest", 9, None)
    rest = again.sounds["rest"].samples_CN
    assert rest.any()
    for span_s in ((0.6, 0.8), (0.9, 1.4)):
        assert not rest[:, slice(*(round(t * RATE_HZ) for t in span_s))].any()
    with pytest.raises(UserError, match="edit its range again"):
        remake(pipeline, mixing, "edited", 9, None)
    save_mix(again, tmp_path / "mix.wav", video=None, options=OutputOptions())
    made = Mixing.read(*open_mix(tmp_path / "mix.wav")).made
    assert replace(made, request_sha256=again.made.request_sha256) == again.made


def test_an_edit_without_stems_says_why(pipeline: TorchPipeline, tmp_path: Path) -> None:
    leveled = write_take(tmp_path / "leveled.wav", 24, loudness_lufs=-30)
    loud = write_take(tmp_path / "loud.wav", 24, gain=9)
    take, odd, swapped = (
        write_take(tmp_path / f"{name}.wav", 24) for name in ("take", "odd", "swapped")
    )
    shutil.copy(tmp_path / "swapped.wav.stems/rest.wav", tmp_path / "swapped.wav.stems/a-dog.wav")
    description = tmp_path / "odd.wav.stems" / "mix.json"
    description.write_text(description.read_text().replace('"made": {', '"made": {"cut": 5, '))
    for number, (path, asked, why) in enumerate((
        (leveled, HORN, "not just their sum"),
        (swapped, HORN, "or a stem was changed"),
        (loud, HORN, "lowered as a whole"),
        (odd, HORN, "made.cut: expected"),
        (take, replace(HORN, strength=0.5, ranges=()), "all of it is new"),
    )):  # fmt: skip
        out = tmp_path / f"{number}.wav"
        (note,) = edited(pipeline, path, out, asked)
        assert why in note
        assert not out.with_name(f"{out.name}.stems").exists()


def test_why_an_edit_has_no_stems_names_paths_as_they_are(
    pipeline: TorchPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_take(tmp_path / "take.wav", 24)
    description = tmp_path / "take.wav.stems" / "mix.json"
    description.write_text(description.read_text().replace("a-dog.wav", "../../x.wav"))
    monkeypatch.chdir(tmp_path)
    (note,) = edited(pipeline, Path("take.wav"), Path("out.wav"))
    assert "'../../x.wav': expected a path inside" in note
