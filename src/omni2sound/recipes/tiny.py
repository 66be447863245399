"""Three stages in minutes on two cores, to test that everything works.

Run:  omni2sound train tiny --data FEATURES --out runs/tiny

The code path of `embedded` with smaller numbers. Every number is chosen.
"""

from __future__ import annotations

from omni2sound.models.dit import DiTConfig
from omni2sound.train.recipe import Recipe, Stage


def tiny() -> Recipe:
    """Build the recipe for tests."""
    joint = {"T2A": 0.10, "V2A": 0.55, "VT2A": 0.35}
    return Recipe(
        name="tiny",
        dit=DiTConfig(latent_dim=128, width=128, depth=4, num_heads=4),
        batch_seconds=32.0,
        ema_decay=0.99,
        optimizer="muon",  # docs/decisions/0031
        # Few steps: sounds and their levels before room tone (docs/decisions/0008).
        silence_weight=0.1,
        channel_weight_exponent=0.5,
        stages=(
            # What things sound like, before when they sound.
            Stage(
                name="1-pretraining",
                steps=60,
                lr=2e-3,
                final_lr=2e-3,
                warmup_steps=20,
                task_weights={"T2A": 1.0},
            ),
            # One task per step; a tenth of T2A is enough not to forget it.
            Stage(
                name="2-interleaved",
                steps=300,
                lr=2e-3,
                final_lr=5e-4,
                warmup_steps=0,
                task_weights=joint,
            ),
            # Harder samples: token dropout and off-screen sounds.
            Stage(
                name="3-robust",
                steps=60,
                lr=5e-4,
                final_lr=5e-5,
                warmup_steps=0,
                task_weights=joint,
                offscreen_prob=0.15,
                token_drop_sample_prob=0.15,
            ),
        ),
    )
