"""The paper's ablations, as changes to any recipe of three stages.

In:   a recipe, e.g. `paper()` or `tiny()`.
Out:  the same with one thing changed, named "tiny+no-bridge"; the number of steps in all
      stays what it was, so that no variant wins by training longer. Where stages are merged or
      left out, silence weighs what it weighs in the last stage.

Source: arXiv:2601.02731, ablation tables as reported (docs/decisions/0006).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from omni2sound.errors import ConfigError
from omni2sound.train.recipe import Recipe, Stage

__all__ = ["ABLATIONS", "ablated"]


def _of_all_steps(stage: Stage, recipe: Recipe) -> Stage:
    """The stage, as long as the whole recipe; an extension would make it longer still."""
    return replace(stage, steps=recipe.num_steps, extend_steps=0)


def _t2a_only(recipe: Recipe) -> Recipe:
    """Text to audio alone: the pre-training, for all steps."""
    first = recipe.stages[0]
    last = recipe.stages[-1]
    only = replace(
        _of_all_steps(first, recipe), final_lr=last.final_lr, silence_weight=last.silence_weight
    )
    return replace(recipe, stages=(only,))


def _v2a_only(recipe: Recipe) -> Recipe:
    """Video to audio alone, from the first step."""
    return _joint_alone(recipe, {"V2A": 1.0})


def _no_pretraining(recipe: Recipe) -> Recipe:
    """The joint stage alone, from random weights ("S2 only")."""
    return _joint_alone(recipe, recipe.stages[1].task_weights)


def _joint_alone(recipe: Recipe, task_weights: Mapping[str, float]) -> Recipe:
    first, second, last = recipe.stages
    stage = replace(
        _of_all_steps(second, recipe),
        lr=first.lr,  # it starts from random weights, as the first stage does
        warmup_steps=first.warmup_steps,
        final_lr=last.final_lr,
        task_weights=task_weights,
        silence_weight=last.silence_weight,
    )
    return replace(recipe, stages=(stage,))


def _without_bridge(t2a: float) -> Callable[[Recipe], Recipe]:
    """No step with both text and video: T2A has the share, V2A the rest, and no stage 3.

    What stage 3 makes harder are VT2A samples only, so without the bridge it is more of stage 2.
    """

    def change(recipe: Recipe) -> Recipe:
        recipe = _no_stage_3(recipe)
        first, second = recipe.stages
        weights = {"T2A": t2a, "V2A": 1 - t2a}
        return replace(recipe, stages=(first, replace(second, task_weights=weights)))

    return change


def _no_bridge(recipe: Recipe) -> Recipe:
    """As much T2A as the recipe has, and the share of VT2A to V2A."""
    return _without_bridge(recipe.stages[1].task_weights["T2A"])(recipe)


def _audio_only_captions(recipe: Recipe) -> Recipe:
    """The bridge with captions that were written from the sound alone."""
    return replace(
        recipe, stages=tuple(replace(s, caption_role="audio-only") for s in recipe.stages)
    )


def _merged_stages(recipe: Recipe) -> Recipe:
    """Stages 2 and 3 at once: hard from the first joint step ("S1 -> [S2+S3]")."""
    first, second, last = recipe.stages
    merged = replace(
        second,
        name="2+3-merged",
        steps=second.steps + last.steps,
        final_lr=last.final_lr,
        extend_steps=0,
        offscreen_prob=last.offscreen_prob,
        offscreen_snr_db=last.offscreen_snr_db,
        token_drop_sample_prob=last.token_drop_sample_prob,
        token_drop_prob=last.token_drop_prob,
        silence_weight=last.silence_weight,
    )
    return replace(recipe, stages=(first, merged))


def _no_stage_3(recipe: Recipe) -> Recipe:
    """The joint stage to the end ("S1 -> S2")."""
    first, second, last = recipe.stages
    longer = replace(
        second,
        steps=second.steps + last.steps,
        final_lr=last.final_lr,
        extend_steps=0,
        silence_weight=last.silence_weight,
    )
    return replace(recipe, stages=(first, longer))


ABLATIONS: Mapping[str, Callable[[Recipe], Recipe]] = {
    "t2a-only": _t2a_only,
    "v2a-only": _v2a_only,
    "no-pretraining": _no_pretraining,
    "t2a-0.2": _without_bridge(0.2),
    "t2a-0.4": _without_bridge(0.4),
    "no-bridge": _no_bridge,
    "audio-only-captions": _audio_only_captions,
    "merged-stages": _merged_stages,
    "no-stage-3": _no_stage_3,
}
"""By the name that follows the recipe's and a plus sign."""


def ablated(recipe: Recipe, name: str) -> Recipe:
    """The recipe with one thing changed.

    Raises:
        ConfigError: If there is no such ablation, or the recipe has not three stages.
    """
    if name not in ABLATIONS:
        raise ConfigError(f"no ablation {name!r}; known: {', '.join(ABLATIONS)}")
    if len(recipe.stages) != 3:
        raise ConfigError(f"ablations change recipes of three stages, not {recipe.name!r}")
    changed = ABLATIONS[name](recipe)
    return replace(changed, name=f"{recipe.name}+{name}")
