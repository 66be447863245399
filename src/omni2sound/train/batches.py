"""Batches of a run: the samplers of its stages, and what a rank trains on at a step.

In:   a recipe, features, a `Progress`.
Out:  this rank's micro-batches of a step; threads may build those of later steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from omni2sound.data.batches.batch import Batch, build_batch, pinned, sampler_for
from omni2sound.data.batches.hard_samples import Difficulty, PromptEncoder
from omni2sound.data.batches.on_device import DeviceFeatures
from omni2sound.data.batches.sampler import TaskSampler
from omni2sound.data.store.rows import FeatureStore
from omni2sound.errors import ConfigError
from omni2sound.train.parallel import World
from omni2sound.train.progress import Progress
from omni2sound.train.recipe import Recipe


def samplers_of(
    recipe: Recipe,
    store: FeatureStore,
    validation: FeatureStore | None,
    prompts: PromptEncoder | None,
    world: World,
) -> dict[str, TaskSampler]:
    """Make the sampler of each stage, and check before the first step what each will need.

    Raises:
        ConfigError: If clips, scores, texts or an encoder are missing, or a batch can't be
            shared by the ranks.
    """
    samplers = {}
    for stage in recipe.stages:
        sampler = samplers[stage.name] = sampler_for(
            store,
            seed=recipe.seed,
            batch_seconds=recipe.batch_seconds,
            t2a_best_share=stage.t2a_best_share,
            sources=stage.data,
            tasks=[task for task, weight in stage.task_weights.items() if weight],
        )
        sampler.check_parts(world.size * recipe.accumulate)
        clip = store.row(sampler.draw(0, stage.task_weights).clips[0])
        roles = sorted({text.role for text in clip.texts})
        if stage.caption_role not in roles:
            raise ConfigError(
                f"stage {stage.name} takes texts of role {stage.caption_role!r}, and the features "
                f"have {roles}; make features with such texts, or set caption_role"
            )
        if stage.makes_prompts and prompts is None:
            raise ConfigError(
                f"stage {stage.name} changes prompts, which needs the text encoder that the "
                "features were made with; or set offscreen_prob and token_drop_sample_prob to 0"
            )
    if validation is not None:
        held_out = sampler_for(validation, seed=0, batch_seconds=recipe.batch_seconds)
        held_out.check_parts(world.size)
        held_out.draw(0, dict.fromkeys(recipe.tasks, 1.0))
    return samplers


class StepBatches:
    """Builds this rank's micro-batches of a step."""

    def __init__(
        self,
        recipe: Recipe,
        store: FeatureStore,
        validation: FeatureStore | None,
        prompts: PromptEncoder | None,
        world: World,
        *,
        pin: bool = False,
    ) -> None:
        """Check before the first step what each stage will need.

        With `pin`, batches lie in page-locked memory, for a GPU.

        Raises:
            ConfigError: See `samplers_of`.
        """
        self._recipe, self._store, self._prompts, self._world = recipe, store, prompts, world
        self._samplers = samplers_of(recipe, store, validation, prompts, world)
        self._pin = pin
        self.on_device: DeviceFeatures | None = None
        """The features on the device, once they are there."""

    def build(self, step: int, progress: Progress) -> list[Batch]:
        """Build the micro-batches of a step."""
        stage, _ = progress.stage_at(step)
        drawn = step + progress.draws
        draw = self._samplers[stage.name].draw(drawn, stage.task_weights)
        difficulty = Difficulty(
            offscreen_prob=stage.offscreen_prob,
            offscreen_snr_db=stage.offscreen_snr_db,
            token_drop_sample_prob=stage.token_drop_sample_prob,
            token_drop_prob=stage.token_drop_prob,
            null_prob=self._recipe.null_prob,
            augment=self._recipe.augment,
            text_noise=self._recipe.text_noise,
            text_drop=self._recipe.text_drop,
            speed=self._recipe.speed,
        )
        if self.on_device is not None:
            build: Callable[..., Batch] = self.on_device.batch
            places: list[dict[str, int]] = [{}]
        else:
            silence = self._recipe.silence_weight
            if stage.silence_weight is not None:
                silence = stage.silence_weight
            build = partial(build_batch, self._store, waveforms=silence != 1)
            accumulate, num_parts = (
                self._recipe.accumulate,
                self._world.size * self._recipe.accumulate,
            )
            first = self._world.rank * accumulate
            places = [{"part": first + i, "num_parts": num_parts} for i in range(accumulate)]
        batches = [
            build(
                draw,
                seed=self._recipe.seed,
                step=drawn,
                difficulty=difficulty,
                prompts=self._prompts,
                caption_role=stage.caption_role,
                text_tokens=self._recipe.text_tokens,
                **place,
            )
            for place in places
        ]
        return [pinned(b) for b in batches] if self._pin and self.on_device is None else batches

    @contextmanager
    def ahead(self, num_readers: int) -> Iterator[Callable[[Progress], list[Batch]]]:
        """Yield a function from a run's progress to the micro-batches of its next step.

        `num_readers` threads build those of later steps; 0 builds each when it is asked for.
        """
        if num_readers == 0 or self.on_device is not None:
            yield lambda progress: self.build(progress.step, progress)
            return
        ahead: dict[tuple[int, int], Any] = {}
        with ThreadPoolExecutor(num_readers) as pool:

            def get(progress: Progress) -> list[Batch]:
                # A stage that is extended moves the steps after it: nothing is read across its end.
                stage, _ = progress.stage_at(progress.step)
                for later in range(progress.step, progress.step + num_readers + 1):
                    same = later < progress.num_steps and progress.stage_at(later)[0] is stage
                    key = later, progress.draws
                    if same and key not in ahead:
                        ahead[key] = pool.submit(self.build, later, progress)
                micro_batches: list[Batch] = ahead.pop((progress.step, progress.draws)).result()
                for key in [k for k in ahead if k[1] != progress.draws]:  # before a step back
                    ahead.pop(key).cancel()
                return micro_batches

            yield get
