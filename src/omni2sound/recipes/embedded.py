"""The default model: 17 M parameters, ten minutes of one GPU.

Run:  omni2sound train embedded --data FEATURES --parts PARTS --out runs/embedded

Guidance dropout and the two robustness probabilities are the paper's (docs/decisions/0006).
The task shares are not: with minutes instead of a million steps, a T2A share of 0.10 leaves
text-to-audio untrained. Sizes, steps and learning rates are chosen. `embedded-v3` was trained
with these stages in three runs, each from the EMA weights of the previous one, while its
features were still being computed (docs/experiments, 2026-11-26); never yet as a single run. On a
CPU it takes hours, with --set batch_seconds=64.
"""

from __future__ import annotations

from omni2sound.diffusion.objective import Objective
from omni2sound.models.conditioning import ConditionerConfig
from omni2sound.models.dit import DiTConfig
from omni2sound.train.recipe import Recipe, Stage


def embedded() -> Recipe:
    """Build the recipe of the default model."""
    joint = {"T2A": 0.45, "V2A": 0.25, "VT2A": 0.30}
    return Recipe(
        name="embedded-v3",
        dit=DiTConfig(
            latent_dim=128,
            width=320,
            depth=7,
            num_heads=5,
            conditioner=ConditionerConfig(sentence=True),
        ),
        batch_seconds=1280.0,
        # One GPU is faster than threads can feed it (docs/decisions/0053).
        resident=True,
        # Few recordings for the number of steps (docs/decisions/0054), and few templates (0047).
        speed=0.1,
        text_noise=0.3,
        text_drop=0.2,
        # The first component matters sixty times as much as the last; weighted by the root.
        channel_weight_exponent=0.5,
        # Most frames are room tone; with equal weights the classes are not learned.
        silence_weight=0.15,
        # High noise levels decide what sounds at all: more of them than the logit-normal has.
        objective=Objective(time_mean=0.4, time_std=1.2),
        optimizer="muon",
        weight_decay=0.02,
        validate_every=400,
        stages=(
            # What things sound like, before when they sound.
            Stage(
                name="1-pretraining",
                steps=260,
                lr=2e-3,
                final_lr=1.8e-3,
                warmup_steps=60,
                task_weights={"T2A": 1.0},
            ),
            # One task per step; video adds the timing. Silence gets more weight.
            Stage(
                name="2-interleaved",
                steps=1440,
                lr=1.8e-3,
                final_lr=1.7e-3,
                warmup_steps=20,
                task_weights=joint,
                silence_weight=0.3,
            ),
            # Harder samples: token dropout and off-screen sounds.
            Stage(
                name="3-robust",
                steps=2650,
                lr=1.3e-3,
                final_lr=1e-5,
                warmup_steps=20,
                task_weights=joint,
                offscreen_prob=0.15,
                token_drop_sample_prob=0.15,
                silence_weight=0.5,
            ),
        ),
    )
