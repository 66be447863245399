"""What happens to the level of generated sounds: as made, scaled down whole, limited, at a target.

Run:  python benchmarks/quality/loudness.py

One sentence for each class of the default model, 4 s. "Scaled down whole" is what was done before
there was a limiter: the file divided by its largest value, if that is over full scale.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.quick.model import PipelineSounds
from omni2sound.bench.quick.score import QUICK_CLASSES
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.media.loudness.level import level
from omni2sound.media.loudness.meter import measure
from omni2sound.media.samples import Audio
from omni2sound.scenes.captions import class_prompt
from omni2sound.scenes.material.catalogue import Catalogue

TARGET_LUFS = -23.0
BATCH = 4


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    catalogue, rng = Catalogue.load(), np.random.default_rng(0)
    prompts = [
        class_prompt(catalogue.sound_class(c), rng=rng, held_out=False) for c in QUICK_CLASSES
    ]
    model = TorchPipeline.load("embedded", device="cpu")
    sounds = PipelineSounds(pipeline=model, seed=0, duration_s=4.0)
    print(
        f"{'prompt':40}{'peak':>7}{'made':>9}{'scaled':>8}{'limited':>9}{'target':>8}{'share':>8}"
    )
    for first in range(0, len(prompts), BATCH):
        group = prompts[first : first + BATCH]
        for prompt, samples_N in zip(group, sounds.for_prompts(group, first), strict=True):
            print(f"{prompt[:39]:40}{_row(samples_N)}", flush=True)


def _row(samples_N: NDArray[np.float32]) -> str:
    audio = _audio(samples_N)
    peak = float(np.abs(samples_N).max())
    scaled = _audio(samples_N / np.float32(max(peak, 1)))
    limited, done = level(audio)
    at_target, _ = level(audio, target_lufs=TARGET_LUFS)
    found = [measure(sound).integrated_lufs for sound in (audio, scaled, limited, at_target)]
    made, old, new, target = (np.nan if lufs is None else lufs for lufs in found)
    return f"{peak:7.2f}{made:9.1f}{old:8.1f}{new:9.1f}{target:8.1f}{done.limited_share:8.4f}"


def _audio(samples_N: NDArray[np.float32]) -> Audio:
    return Audio(samples_CN=samples_N[None].astype(np.float32), sample_rate_hz=16_000)


if __name__ == "__main__":
    main()
