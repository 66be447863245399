"""Laws of the pipeline, on a tiny random model of the real classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound import Omni2SoundPipeline
from omni2sound.config import from_json, to_json
from omni2sound.diffusion.guidance import Predict
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.encoders.sync import SyncConfig
from omni2sound.errors import ConfigError, MediaError, ShapeError, UserError
from omni2sound.generate.model import PipelineConfig
from omni2sound.generate.request import MAX_DURATION_S, GenerationRequest, GenerationResult
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.cues import Cue
from omni2sound.media.video import iter_frames
from omni2sound.models.conditioning import Conditions
from omni2sound.recognise.observe import Seen, SeenThing
from tests.build import TINY, tiny_model, tiny_model_folder, video_with_square


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Omni2SoundPipeline:
    return Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_with_square(tmp_path_factory.mktemp("videos") / "square.mp4", duration_s=1.2)


def samples(result: GenerationResult) -> NDArray[np.float32]:
    assert np.isfinite(result.audio.samples_CN).all()
    return result.audio.samples_CN


def differs(a: GenerationResult, b: GenerationResult) -> bool:
    return float(np.abs(samples(a) - samples(b)).max()) > 1e-4


def guided(
    pipeline: Omni2SoundPipeline, conditions: Conditions, duration_s: float | Fraction
) -> Predict:
    network = pipeline._network(2.0, None)
    return network.over_clip(conditions, None, pipeline._num_frames(Fraction(duration_s)))


@given(duration_s=st.floats(0.01, 5.0))
@settings(max_examples=15)
def test_the_sound_is_as_long_as_asked_to_the_sample(
    pipeline: Omni2SoundPipeline, duration_s: float
) -> None:
    """Up to and beyond the native window, which is 2 s here."""
    result = pipeline(prompt="rain", duration_s=duration_s, num_inference_steps=1, seed=0)
    expected = pipeline.model.config.timebase.num_samples(duration_s)
    assert samples(result).shape == (1, expected)
    assert result.duration_s == expected / 16_000


def test_the_task_follows_from_what_is_given(pipeline: Omni2SoundPipeline, video: Path) -> None:
    assert pipeline(video=video, seed=0).task == "V2A"
    assert pipeline(prompt="rain", seed=0).task == "T2A"
    assert pipeline(video, "rain", seed=0).task == "VT2A"


def test_every_condition_is_heard(pipeline: Omni2SoundPipeline, video: Path) -> None:
    length = 1.0
    only_video = pipeline(video=video, duration_s=length, seed=0)
    rain, dog = (
        pipeline(prompt=text, duration_s=length, seed=0) for text in ("rain", "a dog barks")
    )
    both = pipeline(video=video, prompt="rain", duration_s=length, seed=0)
    unguided = pipeline(prompt="rain", duration_s=length, guidance_scale=1.0, seed=0)
    away = pipeline(prompt="rain", duration_s=length, negative_prompt="thunder", seed=0)
    made = [only_video, rain, dog, both, unguided, away]
    for i, a in enumerate(made):
        assert all(differs(a, b) for b in made[:i])


def test_same_seed_same_bytes_other_seed_other_sound(
    pipeline: Omni2SoundPipeline, folder: Path, video: Path
) -> None:
    torch.manual_seed(1)  # the global state must not matter
    first = pipeline(video=video, prompt="rain", seed=5)
    torch.manual_seed(2)
    again = Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="float32")(
        video, "rain", seed=5
    )
    assert samples(first).tobytes() == samples(again).tobytes()
    assert first.facts() == again.facts()
    assert differs(first, pipeline(video=video, prompt="rain", seed=6))


def test_an_empty_negative_prompt_is_the_null_branch(pipeline: Omni2SoundPipeline) -> None:
    plain, empty = (
        pipeline(prompt="rain", seed=0),
        pipeline(prompt="rain", negative_prompt=" ", seed=0),
    )
    assert samples(plain).tobytes() == samples(empty).tobytes()
    assert empty.negative_prompt is None


def test_a_prompt_has_a_scale_of_its_own(pipeline: Omni2SoundPipeline, video: Path) -> None:
    """0 is the video alone, the common scale is plain guidance, more is something else."""
    length = 1.0
    only_video = pipeline(video, duration_s=length, seed=0)
    both = pipeline(video, "rain", duration_s=length, seed=0)

    def scaled(text_guidance_scale: float) -> GenerationResult:
        return pipeline(
            video, "rain", duration_s=length, text_guidance_scale=text_guidance_scale, seed=0
        )

    same = pipeline.model.defaults.guidance
    assert np.abs(samples(scaled(0.0)) - samples(only_video)).max() < 1e-3
    assert np.abs(samples(scaled(same)) - samples(both)).max() < 1e-3
    more = scaled(3 * same)
    assert differs(more, both)
    assert more.facts()["text_guidance"] == 3 * same
    assert "text_guidance" not in both.facts()
    with pytest.raises(UserError, match="beside a video"):
        pipeline(prompt="rain", text_guidance_scale=2.0, seed=0)


def test_a_take_is_what_its_seed_gives_alone(pipeline: Omni2SoundPipeline) -> None:
    calls = []
    request = GenerationRequest(prompt="rain", seed=10, takes=3, num_inference_steps=2)
    takes = list(pipeline.run(request, on_step=lambda done, total: calls.append((done, total))))
    assert [take.seed for take in takes] == [10, 11, 12]
    assert calls == [(i, 6) for i in range(1, 7)]
    alone = pipeline(prompt="rain", seed=12, num_inference_steps=2)
    assert samples(takes[2]).tobytes() == samples(alone).tobytes()
    assert takes[0].timings.encode_s > 0
    assert takes[1].timings.encode_s == takes[1].timings.load_s == 0


def test_a_saved_model_sounds_the_same(
    pipeline: Omni2SoundPipeline, folder: Path, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "copy")
    copy = Omni2SoundPipeline.from_pretrained(tmp_path / "copy", device="cpu", dtype="float32")
    assert copy.model.sha256 == pipeline.model.sha256
    a, b = pipeline(prompt="rain", seed=0), copy(prompt="rain", seed=0)
    assert samples(a).tobytes() == samples(b).tobytes()
    assert (tmp_path / "copy/card.json").read_bytes() == (folder / "card.json").read_bytes()


def test_what_is_saved_is_what_was_read_whatever_it_was_computed_in(
    folder: Path, tmp_path: Path
) -> None:
    rounded = Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="bfloat16")
    rounded.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy/card.json").read_bytes() == (folder / "card.json").read_bytes()


def test_a_batch_equals_its_clips_one_by_one(pipeline: Omni2SoundPipeline) -> None:
    """Guidance, text of different lengths and both kinds of pictures included."""
    rng = np.random.default_rng(0)
    duration_s = 1.2
    vision = rng.integers(0, 255, (2, 10, 224, 224, 3), dtype=np.uint8)
    sync = rng.integers(0, 255, (2, 30, 32, 32, 3), dtype=np.uint8)
    prompts = ["rain", "a dog barks twice in a large hall"]
    encode = pipeline.encoder.encode_arrays
    together = pipeline.generate_batch(
        encode(vision, sync, prompts, duration_s=duration_s), duration_s=duration_s, seeds=[3, 8]
    )
    assert together.shape == (2, 19_200)
    for i, seed in enumerate([3, 8]):
        one = slice(i, i + 1)
        alone = pipeline.generate_batch(
            encode(vision[one], sync[one], prompts[one], duration_s=duration_s),
            duration_s=duration_s,
            seeds=[seed],
        )
        torch.testing.assert_close(alone[0], together[i], atol=2e-3, rtol=1e-2)


def test_arrays_and_the_file_they_came_from_give_the_same_sound(
    pipeline: Omni2SoundPipeline, video: Path
) -> None:
    vision = np.stack(list(iter_frames(video, fps=8, size_px=(224, 224))))
    sync = np.stack(list(iter_frames(video, fps=25, size_px=(32, 32))))
    conditions = pipeline.encoder.encode_arrays(vision[None], sync[None], None, duration_s=1.2)
    from_arrays = pipeline.generate_batch(conditions, duration_s=1.2, seeds=[4])
    from_file = pipeline(video=video, seed=4)
    np.testing.assert_array_equal(from_arrays.numpy(), samples(from_file))


@pytest.mark.slow
def test_a_long_video_has_its_length_and_no_seams(
    pipeline: Omni2SoundPipeline, tmp_path: Path
) -> None:
    """35 s in windows of 2 s: what happens at window edges happens between them as often."""
    path = video_with_square(tmp_path / "long.mp4", duration_s=35.0, fps=10, size_px=(16, 16))
    result = pipeline(video=path, seed=1, num_inference_steps=2)
    assert samples(result).shape == (1, 35 * 16_000)

    conditions = pipeline.encoder.encode(None, "rain", 35)
    predict = guided(pipeline, conditions, result.audio.duration_s)
    noise = torch.randn(1, 35 * 25, 8, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool1d(noise.mT, 9, 1, 4).mT  # so that a jump would show
    jump_L = predict(smooth, torch.tensor([0.5]))[0].diff(dim=0).norm(dim=1)
    # Windows are 50 frames, and begin at most 25 apart.
    edges = sorted({e for i in range(34) for e in (i * 825 // 33 - 1, i * 825 // 33 + 49)})
    at_edges = jump_L[[e for e in edges if 0 <= e < len(jump_L)]]
    assert at_edges.mean() < 1.5 * jump_L.mean()
    assert at_edges.max() <= 1.5 * jump_L.quantile(0.99)

    wave_N = samples(result)[0]
    steps_N = np.abs(np.diff(wave_N))
    for second in (20,):  # where one decoded chunk meets the next
        around = steps_N[second * 16_000 - 1600 : second * 16_000 + 1600]
        assert around.max() <= 1.2 * steps_N.max()
        assert around.mean() < 1.5 * steps_N.mean()


def test_one_window_and_many_share_one_path(pipeline: Omni2SoundPipeline) -> None:
    """A network without memory gives the same prediction in windows and as a whole."""
    conditions = pipeline.encoder.encode(None, "rain", 4)
    predict = guided(pipeline, conditions, 4)
    calls = []
    pipeline_denoise = pipeline.model.dit.denoise

    def counted(x_BLC: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        calls.append(tuple(x_BLC.shape))
        return pipeline_denoise(x_BLC, *rest, **more)  # type: ignore[arg-type]

    pipeline.model.dit.denoise = counted  # type: ignore[method-assign]
    try:
        predict(torch.zeros(1, 100, 8), torch.tensor([0.5]))
    finally:
        del pipeline.model.dit.denoise
    assert calls == [(6, 50, 8)]  # three windows, each with its null branch, in one call


def test_bfloat16_is_near_float32(folder: Path, pipeline: Omni2SoundPipeline) -> None:
    half = Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    conditions = half.encoder.encode(None, "rain", 1)
    x = torch.randn(1, 25, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.5])
    near = guided(half, conditions, 1)(x, t)
    exact = guided(pipeline, conditions, 1)(x, t)
    assert near.dtype == torch.float32
    assert (near - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize(
    ("objective", "sampler"),
    [
        (Objective(kind="rectified"), SamplerConfig(kind="euler")),
        (Objective(), SamplerConfig(kind="dpmpp-2m-sde")),
    ],
)
def test_other_solvers_keep_the_law_of_seeds(objective: Objective, sampler: SamplerConfig) -> None:
    config = replace(TINY, objective=objective, sampler=sampler)
    pipeline = TorchPipeline(
        tiny_model(config=config), device=torch.device("cpu"), dtype=torch.float32
    )
    conditions = pipeline.encoder.encode_arrays(None, None, ["rain", "rain"], duration_s=0.4)
    one = pipeline.encoder.encode_arrays(None, None, ["rain"], duration_s=0.4)
    both = pipeline.generate_batch(conditions, duration_s=0.4, seeds=[1, 2])
    second = pipeline.generate_batch(one, duration_s=0.4, seeds=[2])
    torch.testing.assert_close(both[1], second[0], atol=2e-3, rtol=1e-2)
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_a_solver_that_does_not_fit_is_refused_at_loading(tmp_path: Path) -> None:
    tiny_model(config=replace(TINY, objective=Objective(kind="rectified"))).save(tmp_path / "m")
    with pytest.raises(ConfigError, match="solves 'v' models"):
        Omni2SoundPipeline.from_pretrained(tmp_path / "m", device="cpu")


def test_the_config_survives_its_json() -> None:
    assert from_json(PipelineConfig, json.loads(json.dumps(to_json(TINY)))) == TINY


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="sync features differ between components, 6 and 7"):
        replace(TINY, sync=SyncConfig(frame_px=32, channels=(4, 4, 4, 4), feature_dim=7))


Values = dict[str, object]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "nothing to generate from"),
        ({"prompt": "  "}, "prompt: is empty"),
        ({"prompt": "x" * 2001}, "expected at most 2000 characters, got 2001"),
        (
            {"prompt": "x", "duration_s": 0.0},
            "of seconds from 0.001 to 3600, got 0.0",
        ),
        ({"video": 3}, "video: expected a path, got 3"),
        ({"prompt": 5}, "prompt: expected a text, got 5"),
        (
            {"prompt": "x", "num_inference_steps": "8"},
            "from 1 to 1000, got '8'",
        ),
        ({"prompt": "x", "duration_s": "x"}, "from 0.001 to 3600, got 'x'"),
        ({"prompt": "x", "seed": 1.5}, "seed: expected a whole number from 0"),
        ({"prompt": "x", "seed": True}, "seed: expected a whole number from 0"),
        ({"prompt": "x", "duration_s": -1.0}, "duration_s: expected"),
        ({"prompt": "x", "duration_s": float("nan")}, "duration_s: expected"),
        ({"prompt": "x", "duration_s": MAX_DURATION_S + 1}, "to 3600, got 3601"),
        ({"prompt": "x", "num_inference_steps": 0}, "num_inference_steps: expected"),
        ({"prompt": "x", "guidance_scale": -0.1}, "guidance_scale: expected"),
        ({"prompt": "x", "guidance_scale": float("inf")}, "guidance_scale: expected"),
        ({"prompt": "x", "seed": -1}, "seed: expected"),
        ({"prompt": "x", "seed": 2**63}, "seed: expected"),
        ({"prompt": "x", "takes": 0}, "takes: expected"),
        ({"prompt": "x", "seed": 2**63 - 2, "takes": 3}, "no room for 3 takes"),
        (
            {"prompt": "x", "negative_prompt": "y", "guidance_scale": 1.0},
            "negative_prompt: has no effect",
        ),
    ],
)
def test_bad_requests_say_what_is_wrong_in_one_line(values: Values, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        GenerationRequest(**values)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


Make = Callable[[Path], Path]


def _text(path: Path) -> Path:
    path.write_text("no video")
    return path


def _silence(path: Path) -> Path:
    from omni2sound.media.audio import write_audio
    from omni2sound.media.samples import Audio

    path = path.with_suffix(".wav")
    write_audio(path, Audio(samples_CN=np.zeros((1, 800), np.float32), sample_rate_hz=16_000))
    return path


@pytest.mark.parametrize("make", [lambda path: path, _text, _silence])
def test_what_is_no_video_is_refused(
    pipeline: Omni2SoundPipeline, tmp_path: Path, make: Make
) -> None:
    with pytest.raises(MediaError):
        pipeline(video=make(tmp_path / "input.mp4"), seed=0)


def test_sound_ends_with_the_video(pipeline: Omni2SoundPipeline, video: Path) -> None:
    assert pipeline(video=video, duration_s=0.5, seed=0).duration_s == 0.5
    assert pipeline(video=video, duration_s=100.0, seed=0).duration_s == 1.2


def test_less_than_a_millisecond_is_refused(pipeline: Omni2SoundPipeline) -> None:
    with pytest.raises(UserError, match=r"duration_s: expected .* from 0\.001 to 3600"):
        pipeline(prompt="rain", duration_s=1e-5, seed=0)


def test_batches_that_do_not_hold_together_are_refused(pipeline: Omni2SoundPipeline) -> None:
    encode = pipeline.encoder.encode_arrays
    pictures = np.zeros((1, 8, 224, 224, 3), np.uint8)
    with pytest.raises(ShapeError, match="got sizes \\[\\]"):
        encode(None, None, None, duration_s=1)
    with pytest.raises(ShapeError, match="only one of them"):
        encode(pictures, None, None, duration_s=1)
    with pytest.raises(ShapeError, match="one batch size"):
        encode(pictures, np.zeros((2, 25, 32, 32, 3), np.uint8), None, duration_s=1)
    conditions = encode(None, None, ["rain"], duration_s=1)
    with pytest.raises(ShapeError, match="seeds: expected one per clip"):
        pipeline.generate_batch(conditions, duration_s=1, seeds=[1, 2])
    with pytest.raises(UserError, match=r"at most 2\.0 s"):
        pipeline.generate_batch(conditions, duration_s=3, seeds=[1])


DOG = SeenThing(
    name="dog", sound="dog", place="left", start_s=0, end_s=1, moving=True, sounding=True,
    prominence=0.5, silent=None,
)  # fmt: skip


def seeing(
    pipeline: Omni2SoundPipeline, monkeypatch: pytest.MonkeyPatch, *things: SeenThing
) -> None:
    """Let recognition find just these things; the networks are tested in tests/recognise."""
    seen = Seen(things=things, looked_s=(0.0,))
    monkeypatch.setattr(pipeline.encoder, "recognise", lambda *_, **__: seen)


def test_what_is_recognised_is_what_its_words_give(
    pipeline: Omni2SoundPipeline, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words beside masked pictures: the same as saying them with `seen`; pictures are not used."""
    seeing(pipeline, monkeypatch, DOG)
    recognised = pipeline(video=video, recognise=True, seed=0)
    assert recognised.text == "A dog barks."
    assert recognised.task == "V2A"
    assert recognised.facts()["seen"] == [asdict(DOG)]
    assert recognised.notes[0] == "seen: dog (left, 0-1 s)"
    told = pipeline(video=video, seen="A dog barks.", seed=0)
    assert not differs(recognised, told)
    assert told.facts()["seen"] == "A dog barks."
    assert differs(recognised, pipeline(video=video, seed=0))
    assert differs(recognised, pipeline(video=video, prompt="A dog barks.", seed=0))
    # Sync features still say when: without the video it is another sound.
    assert differs(recognised, pipeline(prompt="A dog barks.", duration_s=1.2, seed=0))


def test_only_silent_things_give_silence(
    pipeline: Omni2SoundPipeline, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeing(pipeline, monkeypatch, replace(DOG, sound=None, sounding=False, silent="it is mute"))
    silent = pipeline(video=video, recognise=True, seed=0)
    assert not samples(silent).any()
    assert "the result is silent" in silent.notes[-1]
    asked = pipeline(video=video, prompt="rain", recognise=True, seed=0)
    assert samples(asked).any()
    assert asked.text == "rain"


def test_what_is_left_out_is_seen_and_not_heard(
    pipeline: Omni2SoundPipeline, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeing(pipeline, monkeypatch, DOG, replace(DOG, name="bell", sound="bell"))
    request = GenerationRequest(video=video, recognise=True, leave_out=("bell", "cat"))
    result = next(pipeline.run(request))
    assert not differs(result, pipeline(video=video, seen="A dog barks.", seed=0))
    assert "bell (left, 0-1 s, no sound: left out)" in result.notes[0]
    assert any("not seen" in note and "cat" in note for note in result.notes)


def test_nothing_recognised_is_as_without_recognition(
    pipeline: Omni2SoundPipeline, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeing(pipeline, monkeypatch)
    assert not differs(pipeline(video=video, recognise=True, seed=0), pipeline(video=video, seed=0))
    assert pipeline(video=video, seed=0).seen is None  # this model's card does not ask for it
    assert pipeline(video=video, seed=0).notes == ()


def test_a_long_video_keeps_its_pictures_masked_in_every_window(
    pipeline: Omni2SoundPipeline, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = video_with_square(tmp_path / "long.mp4", duration_s=5)
    seeing(pipeline, monkeypatch, replace(DOG, end_s=5))
    recognised = pipeline(video=video, recognise=True, seed=0)
    conditions = pipeline.encoder.encode(video, "A dog barks.", 5, pictures=False)
    assert conditions.vision_BTV is not None
    noise = replace(conditions, vision_BTV=torch.randn_like(conditions.vision_BTV))
    monkeypatch.setattr(pipeline.encoder, "encode", lambda *_, **__: noise)
    assert not differs(recognised, pipeline(video=video, recognise=True, seed=0))


def test_a_cue_sounds_in_its_span_and_nothing_elsewhere(
    pipeline: Omni2SoundPipeline, video: Path
) -> None:
    """In a clip of 3 s, longer than the native window; half a fade may lie beyond the span."""
    cue = Cue(start_s=1, end_s=2, text="a dog barks")
    result = pipeline(cues=[cue], duration_s=3, seed=0)
    heard = np.abs(samples(result)[0])
    assert heard[20_000:28_000].max() > 1e-4
    assert not heard[:14_000].any()
    assert not heard[34_500:].any()
    assert result.facts()["cues"] == [asdict(cue)]
    assert result.task == "T2A"
    assert pipeline(video=video, cues=[replace(cue, start_s=0)], seed=0).task == "VT2A"


def test_a_cue_for_the_whole_clip_is_a_prompt(pipeline: Omni2SoundPipeline, video: Path) -> None:
    whole = Cue(start_s=0, end_s=9, text="rain")
    for more in ({"duration_s": 1.0}, {"video": video, "recognise": False}):
        told, cued = pipeline(prompt="rain", **more, seed=0), pipeline(cues=[whole], **more, seed=0)
        assert samples(told).tobytes() == samples(cued).tobytes()


def test_beside_a_prompt_a_cue_changes_its_span(pipeline: Omni2SoundPipeline, video: Path) -> None:
    """With a video, a negative prompt and a scale for texts, all of which apply to both."""
    dog = Cue(start_s=0.2, end_s=0.6, text="a dog barks")
    more = {"video": video, "negative_prompt": "thunder", "text_guidance_scale": 2.0}
    rain, both = (
        pipeline(prompt="rain", **more, seed=0),
        pipeline(prompt="rain", cues=[dog], **more, seed=0),
    )
    assert differs(rain, both)
    assert both.cues == (dog,)
    assert both.text == "rain"


def test_a_cue_after_the_end_is_refused(pipeline: Omni2SoundPipeline) -> None:
    with pytest.raises(UserError, match="begins at 3 s, but the sound ends at 2 s"):
        pipeline(cues=[Cue(start_s=3, end_s=4, text="rain")], duration_s=2, seed=0)
    with pytest.raises(UserError, match="cues: expected at most 32"):
        GenerationRequest(cues=(Cue(start_s=0, end_s=1, text="rain"),) * 33)


def test_a_scene_gives_a_bed_below_the_sound(
    pipeline: Omni2SoundPipeline, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sea = replace(DOG, name="sea", sound="sea")
    seeing(pipeline, monkeypatch, DOG, sea)
    over, without = (
        pipeline(video=video, recognise=True, ambience=ambience, seed=0)
        for ambience in (True, False)
    )
    assert (over.ambience, without.ambience) == ("the sea rolls in", None)
    assert over.facts()["ambience"] == "the sea rolls in"
    bed = samples(over) - samples(without)
    assert 0.001 < np.sqrt((bed**2).mean()) / np.sqrt((samples(without) ** 2).mean()) < 0.5


@pytest.mark.parametrize(
    "wrong",
    [{"seen": "a dog"}, {"recognise": True}, {"seen": " ", "video": Path("x.mp4")},
     {"seen": "a dog", "recognise": False, "video": Path("x.mp4")}],
)  # fmt: skip
def test_words_about_no_video_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        GenerationRequest(prompt="rain", **wrong)
