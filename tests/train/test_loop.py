"""The training loop: exact resume, strict refusals, and a model that learns its conditions."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch._dynamo.utils import counters

from benchmarks.robustness.click_corpus import (
    DURATION_S,
    RATE_HZ,
    click_clip,
    click_recipe,
    click_store,
)
from omni2sound.config import override
from omni2sound.data.batches.on_device import DeviceFeatures
from omni2sound.data.store.index import describe_store
from omni2sound.data.store.rows import FeatureStore, write_shard
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import MelPcaAutoencoder
from omni2sound.models.dit import DiT
from omni2sound.recipes.tiny import tiny
from omni2sound.train import loop, progress
from omni2sound.train.loop import TrainOptions, TrainResult, train
from omni2sound.train.parallel import prepare_model
from omni2sound.train.progress import learning_rate
from omni2sound.train.recipe import Recipe
from omni2sound.train.validation import validation_loss

OnStep = Callable[[int, int], None]


class Run:
    """Trains from the same first weights each time."""

    def __init__(self, store: FeatureStore, vae: MelPcaAutoencoder, encoder: TextEncoder) -> None:
        self.store, self.vae, self.encoder = store, vae, encoder
        self.validation: FeatureStore | None = store

    def __call__(
        self, out: Path, recipe: Recipe, *, on_step: OnStep | None = None, **options: Any
    ) -> tuple[dict[str, torch.Tensor], TrainResult]:
        torch.manual_seed(0)
        return train(
            DiT(recipe.dit),
            recipe,
            self.store,
            self.validation,
            self.vae,
            TrainOptions(out=out, **options),
            prompts=self.encoder,
            on_step=on_step,
        )


@pytest.fixture
def run(store: FeatureStore, vae: MelPcaAutoencoder, encoder: TextEncoder) -> Run:
    return Run(store, vae, encoder)


@pytest.fixture(scope="module")
def plain(
    features: Path,
    vae: MelPcaAutoencoder,
    encoder: TextEncoder,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, torch.Tensor]:
    """Weights of an undisturbed run of `click_recipe`."""
    run = Run(FeatureStore([features]), vae, encoder)
    return run(tmp_path_factory.mktemp("plain") / "run", click_recipe())[0]


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"optimizer": "muon"}, marks=pytest.mark.slow),
        pytest.param({"accumulate": 2}, marks=pytest.mark.slow),
        pytest.param({"activation_checkpointing": True}, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_is_the_same_run(tmp_path: Path, run: Run, changes: dict[str, Any]) -> None:
    recipe = replace(click_recipe(), **changes)
    whole, _ = run(tmp_path / "a", recipe)
    run(tmp_path / "b", recipe, max_steps=5)
    parts, result = run(tmp_path / "b", recipe, resume=True)
    assert result.steps == 12
    assert result.finished
    assert same(whole, parts)


@pytest.mark.slow
def test_checkpointing_and_readers_change_no_bit(
    tmp_path: Path, run: Run, plain: dict[str, torch.Tensor]
) -> None:
    kept, _ = run(tmp_path / "b", replace(click_recipe(), activation_checkpointing=True))
    read, _ = run(tmp_path / "c", click_recipe(), num_readers=2)
    assert same(plain, kept)
    assert same(plain, read)


def test_a_batch_in_parts_gives_the_same_gradient(
    tmp_path: Path, run: Run, plain: dict[str, torch.Tensor]
) -> None:
    parts, _ = run(tmp_path / "b", replace(click_recipe(), accumulate=4))
    for name, value in plain.items():
        torch.testing.assert_close(parts[name], value, atol=1e-5, rtol=1e-4)


def test_another_recipe_or_other_data_is_refused_with_the_difference(
    tmp_path: Path, run: Run
) -> None:
    run(tmp_path / "a", click_recipe(), max_steps=1)
    with pytest.raises(ConfigError, match="set `resume`, or give another `out`"):
        run(tmp_path / "a", click_recipe())
    changed = override(click_recipe(), "stages.0.lr", 0.5)
    with pytest.raises(ConfigError, match=r"recipe\.stages\.0\.lr: was 0\.002, is 0\.5\. Use"):
        run(tmp_path / "a", changed, resume=True)
    run.store.description = [{"made": "elsewhere"}]
    with pytest.raises(ConfigError, match=r'data\.0\.made: was "in code", is "elsewhere"'):
        run(tmp_path / "a", click_recipe(), resume=True)


@pytest.mark.slow
def test_other_rows_of_the_same_description_are_refused(tmp_path: Path, run: Run) -> None:
    run(tmp_path / "a", click_recipe(), max_steps=1)
    before = run.store
    fewer = click_store(tmp_path / "fewer", run.encoder, heard=5)
    assert fewer.description == before.description
    run.store = fewer
    with pytest.raises(ConfigError, match=r"resume .*/a: data_sha256\.0: was \S+, is \S+\. Use"):
        run(tmp_path / "a", click_recipe(), resume=True)
    run.store, run.validation = before, fewer
    with pytest.raises(ConfigError, match=r"/a: validation_sha256\.0: was \S+, is \S+\. Use"):
        run(tmp_path / "a", click_recipe(), resume=True)
    run.validation = None
    with pytest.raises(ConfigError, match=r"/a: validation_sha256: was .*, is null\. Use"):
        run(tmp_path / "a", click_recipe(), resume=True)
    run.validation = click_store(tmp_path / "copy", run.encoder)  # the same rows elsewhere
    assert run(tmp_path / "a", click_recipe(), resume=True)[1].finished


def test_another_text_encoder_is_refused_where_prompts_are_changed(
    tmp_path: Path, run: Run
) -> None:
    unchanged = replace(click_recipe(), stages=click_recipe().stages[:1])
    run(tmp_path / "a", click_recipe(), max_steps=1)
    run(tmp_path / "b", unchanged, max_steps=1)
    run.encoder = TextEncoder.load()
    with torch.no_grad():
        next(run.encoder.network.parameters())[0, 0] += 1
    with pytest.raises(ConfigError, match=r"/a: prompts_sha256: was \S+, is \S+\. Use"):
        run(tmp_path / "a", click_recipe(), resume=True)
    assert run(tmp_path / "b", unchanged, resume=True)[1].finished


@pytest.mark.slow
def test_without_validation_features_no_stage_is_judged_or_extended(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "CONVERGED_GAIN", -1.0)  # with them, each would be extended
    recipe = replace(click_recipe(), sample_every=6)
    stages = tuple(replace(s, extend_steps=5) for s in recipe.stages)
    run.validation = None
    _, result = run(tmp_path / "a", replace(recipe, stages=stages))
    assert (result.steps, result.finished, result.stage_converged) == (12, True, {})
    assert "val/" not in (tmp_path / "a" / "log.jsonl").read_text()
    assert (tmp_path / "a" / "samples" / "step-00000006").is_dir()


@pytest.mark.slow
def test_what_changes_no_result_may_change_on_resume(
    tmp_path: Path, run: Run, plain: dict[str, torch.Tensor]
) -> None:
    run(tmp_path / "b", click_recipe(), max_steps=5)
    other = replace(click_recipe(), validate_every=3, activation_checkpointing=True)
    parts, _ = run(tmp_path / "b", other, resume=True)
    assert same(plain, parts)


@pytest.mark.slow
def test_validation_falls_when_it_trains(
    tmp_path: Path, run: Run, store: FeatureStore, vae: MelPcaAutoencoder
) -> None:
    recipe = click_recipe(steps=60)
    torch.manual_seed(0)
    model = DiT(recipe.dit)
    before = validation_loss(model, store, vae, recipe)
    weights, result = run(tmp_path / "a", recipe)
    model.load_state_dict(weights)
    after = validation_loss(model, store, vae, recipe)
    assert result.finished
    assert all(after[task] < 0.9 * before[task] for task in before)
    assert set(result.stage_converged) == {s.name for s in recipe.stages}


@pytest.mark.slow
def test_a_stage_goes_on_until_it_has_converged_also_after_a_resume(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No loss doubles within two steps, so by this measure no stage has ever converged.
    monkeypatch.setattr(progress, "CONVERGED_GAIN", -1.0)
    recipe = click_recipe(steps=20)
    first = replace(recipe.stages[0], extend_steps=5)
    recipe = replace(recipe, stages=(first, replace(recipe.stages[2], steps=3)))
    whole, result = run(tmp_path / "a", recipe)
    assert result.steps == 28
    assert result.stage_converged[first.name] is False
    for stop in (19, 23):  # before the verdict, and within the extension
        out = tmp_path / f"b{stop}"
        run(out, recipe, max_steps=stop)
        parts, again = run(out, recipe, resume=True)
        assert again == result
        assert same(whole, parts)


def test_what_a_later_stage_needs_is_asked_for_at_once(
    tmp_path: Path, run: Run, vae: MelPcaAutoencoder
) -> None:
    with_text = run.encoder
    run.encoder = None  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="stage 3-robust changes prompts"):
        run(tmp_path / "a", click_recipe())
    run.encoder = with_text
    with pytest.raises(ConfigError, match="4 clips can't be divided into 3 micro-batches"):
        run(tmp_path / "a", replace(click_recipe(), accumulate=3))
    first = replace(click_recipe().stages[0], caption_role="audio-only")
    with pytest.raises(
        ConfigError, match=r"role 'audio-only', and the features have \['caption'\]"
    ):
        run(tmp_path / "a", replace(click_recipe(), stages=(first,)))
    run.store = run.validation = click_store(tmp_path / "sound-only", pictured=0)
    with pytest.raises(ConfigError, match="no clips for tasks"):
        run(tmp_path / "a", click_recipe())
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_ctrl_c_ends_after_a_whole_step_and_the_run_goes_on_exactly(
    tmp_path: Path, run: Run, plain: dict[str, torch.Tensor], number: signal.Signals
) -> None:
    def interrupt(step: int, _: int) -> None:
        if step == 5:
            signal.raise_signal(number)

    _, result = run(tmp_path, click_recipe(), on_step=interrupt)
    assert (result.steps, result.reason) == (5, "interrupted")
    parts, _ = run(tmp_path, click_recipe(), resume=True)
    assert same(plain, parts)


def damaged_store(folder: Path, *, damaged: int) -> FeatureStore:
    describe_store(folder, {"made": "in code"})
    clips = [click_clip(i, video=True) for i in range(8)]
    for i in range(damaged):
        sync = np.full_like(clips[i].sync_LS, np.inf)
        clips[i] = replace(clips[i], sync_LS=sync)
    write_shard(folder / "shard.arrow", clips)
    return FeatureStore([folder])


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(tmp_path: Path, run: Run) -> None:
    run.store = damaged_store(tmp_path / "damaged", damaged=1)
    recipe = click_recipe(steps=12)
    v2a = replace(recipe.stages[0], task_weights={"V2A": 1.0})
    weights, result = run(tmp_path / "a", replace(recipe, stages=(v2a,)))
    assert 0 < result.skipped < 12
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())
    run.store = damaged_store(tmp_path / "all", damaged=8)
    with pytest.raises(ConfigError, match=r"20 steps in a row .* not finite"):
        run(tmp_path / "b", replace(recipe, stages=(replace(v2a, steps=100),)))


@pytest.mark.slow
def test_the_log_holds_each_step_once_and_says_what_it_costs(tmp_path: Path, run: Run) -> None:
    recipe = click_recipe(steps=20)
    run(tmp_path / "a", recipe)
    run(tmp_path / "b", recipe, max_steps=45, save_steps=30)
    newest = sorted((tmp_path / "b").glob("step-*"))[-1]
    newest.rename(tmp_path / "gone")  # the run goes on at 30, and its log was at 45
    run(tmp_path / "b", recipe, resume=True)

    def lines(out: Path) -> list[dict[str, Any]]:
        read = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        speed = {"time", "s_per_step", "sound_s_per_s", "tflops_per_device"}
        return [{k: v for k, v in line.items() if k not in speed} for line in read]

    assert lines(tmp_path / "a") == lines(tmp_path / "b")
    last = json.loads((tmp_path / "a" / "log.jsonl").read_text().splitlines()[-3])
    assert last["step"] == 60
    assert last["sound_s_per_s"] > 0
    assert last["tflops_per_device"] > 0
    assert {"loss", "loss/VT2A", "loss/t0", "loss/t3"} <= set(last)


@pytest.mark.slow
def test_samples_are_written_for_every_task(
    tmp_path: Path, run: Run, plain: dict[str, torch.Tensor]
) -> None:
    recipe = replace(click_recipe(), sample_every=6)
    with_samples, _ = run(tmp_path / "b", recipe)
    assert same(plain, with_samples)  # listening in changes nothing
    for step in ("step-00000006", "step-00000012"):
        folder = tmp_path / "b" / "samples" / step
        ends = (".wav", ".real.wav", ".png", ".txt")
        names = {f"{task}-{i}{end}" for task in recipe.tasks for i in (0, 1) for end in ends}
        assert {p.name for p in folder.iterdir()} == names
    sound, rate_hz = soundfile.read(folder / "V2A-0.wav")
    assert rate_hz == RATE_HZ
    assert len(sound) == DURATION_S * RATE_HZ
    with Image.open(folder / "V2A-0.png") as picture:
        picture.load()
        assert picture.size == (81, 2 * 257)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler, about torch itself
@pytest.mark.parametrize(
    ("backend", "checkpoints", "steps"), [("inductor", True, 2), ("aot_eager", False, 6)]
)
def test_a_compiled_model_learns_the_same(
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    checkpoints: bool,
    steps: int,
) -> None:
    """Each stage brings shapes of its own; what makes C++ of them takes its time and gets one."""
    monkeypatch.setattr(loop, "prepare_model", partial(prepare_model, backend=backend))
    torch.compiler.reset()
    counters.clear()
    recipe = click_recipe(steps=2)
    plain, _ = run(tmp_path / "plain", recipe, max_steps=steps)
    assert not counters["stats"]["unique_graphs"]
    fast = replace(recipe, compile=True, activation_checkpointing=checkpoints)
    compiled, _ = run(tmp_path / "compiled", fast, max_steps=steps)
    assert compiled.keys() == plain.keys()
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, atol=2e-4, rtol=1e-3)
    assert counters["stats"]["unique_graphs"] > 0


def test_the_rate_warms_up_and_falls_to_its_end() -> None:
    stage = replace(tiny().stages[0], steps=100, warmup_steps=10, lr=1.0, final_lr=0.1)
    rates = [learning_rate(stage, i) for i in range(110)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] == pytest.approx(0.1, abs=0.01)
    assert rates[100:] == [pytest.approx(0.1)] * 10  # an extension keeps the last rate


def test_a_resident_run_resumes_exactly(
    tmp_path: Path, store: FeatureStore, encoder: TextEncoder, vae: MelPcaAutoencoder
) -> None:
    recipe = replace(click_recipe(steps=2), resident=True, speed=0.1, text_noise=0.2)

    def weights(out: Path, *, pieces: tuple[int | None, ...]) -> Mapping[str, torch.Tensor]:
        for number, max_steps in enumerate(pieces):
            torch.manual_seed(0)
            made, _ = train(
                DiT(recipe.dit),
                recipe,
                store,
                store,
                vae,
                TrainOptions(out=out, max_steps=max_steps, resume=number > 0),
                prompts=encoder,
            )
        return made

    once = weights(tmp_path / "once", pieces=(None,))
    resumed = weights(tmp_path / "resumed", pieces=(1, 3, None))
    assert all(torch.equal(once[name], value) for name, value in resumed.items())


@pytest.mark.slow
def test_validation_is_the_same_on_the_device(store: FeatureStore, vae: MelPcaAutoencoder) -> None:
    """Other draws of noise and wordings, the same loss within their spread."""
    recipe = replace(click_recipe(), batch_seconds=64 * DURATION_S)
    torch.manual_seed(0)
    model = DiT(recipe.dit)
    resident = DeviceFeatures(store, torch.device("cpu"))
    host = validation_loss(model, store, vae, recipe)
    device = validation_loss(model, store, vae, recipe, on_device=resident)
    assert set(host) == set(device)
    for task, loss in host.items():
        assert device[task] == pytest.approx(loss, rel=0.1)


def test_a_stage_may_weigh_silence_otherwise(
    tmp_path: Path, store: FeatureStore, encoder: TextEncoder, vae: MelPcaAutoencoder
) -> None:
    """A stage's weight is used in its steps, and only there."""
    base = replace(click_recipe(steps=1), silence_weight=0.1)
    second = replace(base.stages[1], silence_weight=1.0)

    def losses(name: str, recipe: Recipe) -> list[Any]:
        torch.manual_seed(0)
        options = TrainOptions(out=tmp_path / name, log_every=1)
        train(DiT(recipe.dit), recipe, store, None, vae, options, prompts=encoder)
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines if '"loss"' in line]

    plain = losses("plain", base)
    changed = losses("changed", replace(base, stages=(base.stages[0], second, base.stages[2])))
    assert plain[0] == changed[0]
    assert plain[1] != changed[1]
