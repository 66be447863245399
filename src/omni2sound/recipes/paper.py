"""The full-size model on the paper's data: 1.17 B parameters, 1.2 million steps.

Run:  torchrun --no-python --nproc_per_node 8 omni2sound train paper --data FEATURES ...

Sources: [paper] what is reported of arXiv:2601.02731; [name] the released checkpoint's name,
vt2a-24-v55vt35-oa15-mq-td15 (docs/decisions/0006); [sibling] the configuration of CineDub,
which builds on that model; [others] settings with which third parties run the released model;
"chosen" is ours. Cost: `omni2sound cost paper`.
"""

from __future__ import annotations

from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.models.dit import RELEASED
from omni2sound.train.recipe import Recipe, Sampling, Stage


def paper() -> Recipe:
    """Build the recipe of the full-size model."""
    joint = {"T2A": 0.10, "V2A": 0.55, "VT2A": 0.35}  # [name]; T2A also [paper]
    return Recipe(
        name="paper",
        dit=RELEASED,  # 24 x 1536, 24 heads, Flan-T5 + CLIP + Synchformer: [sibling]
        # v on the cosine path: the released code, according to [others]. Uniform times: chosen, the
        # default of stable-audio-tools, on which [sibling] builds; 27 of the 100 levels below lie
        # where a logit-normal law would train next to nothing.
        objective=Objective(kind="v", time_law="uniform"),
        sampling=Sampling(
            # Solver and levels: [sibling]; sigma evenly spaced in its logarithm (rho 1 there).
            sampler=SamplerConfig(kind="dpmpp-2m-sde", sigma_min=0.03, sigma_max=1000.0),
            steps=100,  # [others]; [sibling] has 200, and 100 in its demo
            guidance=2.5,  # [sibling], [others]
            duration_s=10.0,  # [paper]: the clips' length
        ),
        batch_seconds=2560.0,  # chosen: 256 clips of 10 s; the clips' length is [paper]
        text_tokens=128,  # [sibling]
        augment=False,  # chosen: none is reported; latents come from the features
        null_prob=0.1,  # joint dropout: [paper]; how often: chosen
        ema_decay=0.9999,  # chosen
        weight_decay=1e-3,  # [sibling]
        adam_betas=(0.9, 0.999),  # [sibling]
        clip_norm=1.0,  # chosen
        precision="bfloat16",  # chosen
        activation_checkpointing=True,  # [sibling]
        validate_every=5000,  # chosen
        sample_every=10_000,  # chosen
        # All stages together: 1.2 million steps [paper]; their shares: chosen.
        stages=(
            # What things sound like, from broad unfiltered text-audio data [paper].
            Stage(
                name="1-pretraining",
                steps=600_000,
                lr=1e-4,  # chosen
                final_lr=3e-5,  # chosen
                warmup_steps=1000,  # [sibling]
                task_weights={"T2A": 1.0},  # [paper]
            ),
            # One task per step; audio-visual captions are the bridge [paper].
            Stage(
                name="2-interleaved",
                steps=500_000,
                lr=3e-5,  # [sibling]
                final_lr=1e-5,  # [sibling]
                warmup_steps=1000,  # [sibling]
                task_weights=joint,
                t2a_best_share=0.5,  # a quality-scored subset: [paper]; how much: chosen
                extend_steps=100_000,  # chosen: stage 3 waits until this one has converged
            ),
            # Harder samples, once stage 2 has converged [paper].
            Stage(
                name="3-robust",
                steps=100_000,
                lr=1e-5,  # [sibling]
                final_lr=1e-6,  # [sibling]
                warmup_steps=0,  # chosen
                task_weights=joint,
                t2a_best_share=0.5,
                offscreen_prob=0.15,  # [name]
                offscreen_snr_db=(-6.0, 9.0),  # chosen
                token_drop_sample_prob=0.15,  # [name]
                token_drop_prob=0.5,  # chosen
            ),
        ),
    )
