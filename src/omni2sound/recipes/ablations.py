"""The paper's ablations, as changes to any recipe of three stages.

In:   a recipe, e.g. `paper()` or `tiny()`.
Out:  the recipe with one change, named "tiny+no-bridge". The total number of steps is kept, so
      that no variant wins by training longer. Where stages are merged or dropped, the silence
      weight is that of the last stage.

Source: arXiv:2601.02731, ablation tables as reported (docs/decisions/0006).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from omni2sound.errors import ConfigError
from omni2sound.train.recipe import Recipe, Stage


def _stretch(stage: Stage, recipe: Recipe) -> Stage:
    """Stretch a stage to all steps of the recipe, without extensions."""
    return replace(stage, steps=recipe.num_steps, extend_steps=0)


def _t2a_only(recipe: Recipe) -> Recipe:
    """Text to audio alone: pre-training for all steps."""
    first = recipe.stages[0]
    last = recipe.stages[-1]
    only = replace(
        _stretch(first, recipe), final_lr=last.final_lr, silence_weight=last.silence_weight
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
        _stretch(second, recipe),
        lr=first.lr,  # from random weights, like the first stage
        warmup_steps=first.warmup_steps,
        final_lr=last.final_lr,
        task_weights=task_weights,
        silence_weight=last.silence_weight,
    )
    return replace(recipe, stages=(stage,))


def _without_bridge(t2a: float) -> Callable[[Recipe], Recipe]:
    """No step with both text and video: T2A has the given share, V2A the rest; no stage 3.

    Stage 3 makes only VT2A samples harder; without them it equals stage 2.
    """

    def change(recipe: Recipe) -> Recipe:
        recipe = _no_stage_3(recipe)
        first, second = recipe.stages
        weights = {"T2A": t2a, "V2A": 1 - t2a}
        return replace(recipe, stages=(first, replace(second, task_weights=weights)))

    return change


def _no_bridge(recipe: Recipe) -> Recipe:
    """No VT2A: its share goes to V2A, and T2A keeps its own."""
    return _without_bridge(recipe.stages[1].task_weights["T2A"])(recipe)


def _audio_only_captions(recipe: Recipe) -> Recipe:
    """VT2A with captions that were written from the sound alone."""
    return replace(
        recipe, stages=tuple(replace(s, caption_role="audio-only") for s in recipe.stages)
    )


def _merged_stages(recipe: Recipe) -> Recipe:
    """Stages 2 and 3 at once, with hard samples from the start ("S1 -> [S2+S3]")."""
    last = recipe.stages[-1]
    first, longer = _no_stage_3(recipe).stages
    merged = replace(
        longer,
        name="2+3-merged",
        offscreen_prob=last.offscreen_prob,
        offscreen_snr_db=last.offscreen_snr_db,
        token_drop_sample_prob=last.token_drop_sample_prob,
        token_drop_prob=last.token_drop_prob,
    )
    return replace(recipe, stages=(first, merged))


def _no_stage_3(recipe: Recipe) -> Recipe:
    """Stage 2 to the end ("S1 -> S2")."""
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
"""Ablations by the name that follows the recipe's and a plus sign."""


def ablate(recipe: Recipe, name: str) -> Recipe:
    """Apply an ablation to a recipe.

    Raises:
        ConfigError: If the name is unknown, or the recipe does not have three stages.
    """
    if name not in ABLATIONS:
        raise ConfigError(f"no ablation {name!r}; known: {', '.join(ABLATIONS)}")
    if len(recipe.stages) != 3:
        raise ConfigError(f"ablations change recipes of three stages, not {recipe.name!r}")
    changed = ABLATIONS[name](recipe)
    return replace(changed, name=f"{recipe.name}+{name}")
