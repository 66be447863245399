"""The default model, sized for two CPU cores: about 9 M parameters.

Run:  omni2sound train embedded --data FEATURES --parts PARTS --out runs/embedded

Guidance dropout and the two robustness probabilities are the paper's (docs/decisions/0006).
The task shares are not: with an hour and a half of two cores instead of a million steps, a T2A
share of 0.10 leaves text-to-audio untrained. Sizes, steps and learning rates are chosen.
`embedded-v2` is this recipe as it stood at commit 7eac87f; EXPERIMENTS.md has the run.
As it stands now, on 43 classes, it has not been run from start to end (EXPERIMENTS.md, 2026-11-25).
"""

from __future__ import annotations

from omni2sound.diffusion.objective import Objective
from omni2sound.models.conditioning import ConditionerConfig
from omni2sound.models.dit import DiTConfig
from omni2sound.train.recipe import Recipe, Stage

__all__ = ["embedded"]


def embedded() -> Recipe:
    """Each stage changes one thing; its comment says why."""
    joint = {"T2A": 0.60, "V2A": 0.20, "VT2A": 0.20}
    return Recipe(
        name="embedded-v3",
        dit=DiTConfig(
            latent_dim=128,
            width=256,
            depth=6,
            num_heads=4,
            conditioner=ConditionerConfig(sentence=True),
        ),
        # Two cores take few steps: small batches make them many.
        batch_seconds=64.0,
        # Wordings are few beside steps (docs/decisions/0047).
        text_noise=0.15,
        text_drop=0.15,
        # The first component is worth sixty times the last to the ear; its root, not that.
        channel_weight_exponent=0.5,
        # Most frames of a scene are room tone; with equal weights the classes are not learnt.
        silence_weight=0.1,
        # What sounds at all is decided at high noise: more of it than the plain logit-normal.
        objective=Objective(time_mean=0.4, time_std=1.2),
        optimizer="muon",
        stages=(
            # What things sound like, before when they sound.
            Stage(
                name="1-pretraining",
                steps=1000,
                lr=2e-3,
                final_lr=1.6e-3,
                warmup_steps=50,
                task_weights={"T2A": 1.0},
            ),
            # One task per step; video brings the timing.
            Stage(
                name="2-interleaved",
                steps=2200,
                lr=1.6e-3,
                final_lr=4e-4,
                warmup_steps=10,
                task_weights=joint,
            ),
            # Harder from both sides: words go, unseen sounds come.
            Stage(
                name="3-robust",
                steps=500,
                lr=4e-4,
                final_lr=1e-5,
                warmup_steps=10,
                task_weights=joint,
                offscreen_prob=0.15,
                token_drop_sample_prob=0.15,
            ),
        ),
    )
