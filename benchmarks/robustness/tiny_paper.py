"""A plugin for `eight_tables.py`: the recipe `paper` and a CLIP at a thousandth of their sizes.

    omni2sound --plugin benchmarks/robustness/tiny_paper.py train tiny-paper --data ...

Objective, sampler, task shares, guidance dropout, precision, checkpointing, the transformer's
layout and the changes of stage 3 are those of `paper`. Sizes, lengths and probabilities of the
changes are not, so that some fifty steps meet everything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from omni2sound.encoders.clip import ClipShape, ClipVision, build_clip
from omni2sound.encoders.registry import VISION_ENCODERS, VisionEncoderSpec
from omni2sound.models.dit import RELEASED
from omni2sound.models.oobleck import OobleckConfig
from omni2sound.models.released import ReleasedConditionerConfig
from omni2sound.recipes import RECIPES
from omni2sound.recipes.paper import paper
from omni2sound.train.recipe import Recipe

OOBLECK = OobleckConfig(channels=2)
CLIP = ClipShape(width=16, depth=1, num_heads=2, frame_px=42, dim=16)
SYNC_DIM = 16
STEPS = (16, 20, 16)
"""Of each stage, without an extension."""


def tiny_paper() -> Recipe:
    """`paper` with a network of some hundred thousand parameters and stages of a few steps."""
    recipe = paper()
    assert recipe.sampling is not None
    stages = [
        replace(
            stage,
            steps=steps,
            lr=10 * stage.lr,
            warmup_steps=min(stage.warmup_steps, 4),
            extend_steps=min(stage.extend_steps, 4),
            t2a_best_share=1.0,  # the eight tables hold no scores
            offscreen_prob=stage.offscreen_prob and 0.5,
            token_drop_sample_prob=stage.token_drop_sample_prob and 0.5,
        )
        for stage, steps in zip(recipe.stages, STEPS, strict=True)
    ]
    conditions = ReleasedConditionerConfig(vision_dim=CLIP.dim, sync_dim=SYNC_DIM, token_dim=32)
    return replace(
        recipe,
        name="tiny-paper",
        dit=replace(RELEASED, width=64, depth=2, num_heads=2, conditioner=conditions),
        sampling=replace(recipe.sampling, steps=4),
        batch_seconds=40.0,
        stages=tuple(stages),
        validate_every=6,
        sample_every=0,
    )


def load_clip(device: torch.device | str, **_: Any) -> ClipVision:
    """The real class with random weights, the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_clip(CLIP)
    return ClipVision(network, device, shape=CLIP)


RECIPES.register("tiny-paper", tiny_paper)
VISION_ENCODERS.register(
    "tiny-clip",
    VisionEncoderSpec(
        dim=CLIP.dim, size_px=(CLIP.frame_px, CLIP.frame_px), load=load_clip, resizes=True
    ),
)
