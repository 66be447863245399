"""The default model, sized for two CPU cores: about 9 M parameters.

Run:  omni2sound train embedded --data FEATURES --out runs/embedded --max-minutes 60

Task shares, the two robustness probabilities and the guidance dropout are the paper's (read
off its released checkpoint's name and its code, see docs/decisions); sizes, steps and
learning rates are chosen for the time that two cores have.
"""

from __future__ import annotations

from omni2sound.models.dit import DiTConfig
from omni2sound.train.recipe import Recipe, Stage

__all__ = ["embedded"]


def embedded() -> Recipe:
    """Each stage changes one thing; its comment says why."""
    joint = {"T2A": 0.10, "V2A": 0.55, "VT2A": 0.35}
    return Recipe(
        name="embedded-v1",
        dit=DiTConfig(width=256, depth=6, num_heads=4),
        batch_seconds=96.0,
        # The first component is worth sixty times the last to the ear; its root, not that.
        channel_weight_exponent=0.5,
        stages=(
            # What things sound like, before when they sound.
            Stage(
                name="1-pretraining",
                steps=1200,
                lr=1e-3,
                final_lr=8e-4,
                warmup_steps=100,
                task_weights={"T2A": 1.0},
            ),
            # One task per step; a tenth of T2A is enough not to forget it.
            Stage(
                name="2-interleaved",
                steps=1800,
                lr=8e-4,
                final_lr=3e-4,
                warmup_steps=50,
                task_weights=joint,
            ),
            # Harder from both sides: words go, unseen sounds come.
            Stage(
                name="3-robust",
                steps=400,
                lr=3e-4,
                final_lr=2e-5,
                warmup_steps=10,
                task_weights=joint,
                offscreen_prob=0.15,
                token_drop_sample_prob=0.15,
            ),
        ),
    )
