"""How far sounds exceed full scale before the limiter, and what a limit on frames does to that.

    python benchmarks/quality/peaks.py [--model embedded] [--loudest none -2.1 -2.3] [--per-class 2]
        [--seed 0] [--corpus CORPUS]

In:   a model with a mel-pca autoencoder, limits on the loudness of decoded frames
      (`MelPcaConfig.loudest`; "card" is the model's own).
Out:  on stdout for each limit, over plain prompts of every class: the share of sounds with a sample
      over full scale, the largest sample, and the share that YAMNet and the in-domain tagger hear
      as their class, once a sound over full scale is scaled down to it. All limits get the same
      latents. With `--corpus` also the test recordings through the autoencoder.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import CatalogueTagger, load_tagger
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.models.autoencoder import MelPcaAutoencoder
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue

DURATION_S = 4
BATCH = 8
EVERY = 3
"""Of the test recordings every third is decoded."""


def main() -> None:
    options = _parse()
    torch.set_num_threads(1)
    pipeline = TorchPipeline.load(options.model, device="cpu")
    autoencoder = pipeline.model.autoencoder
    if not isinstance(autoencoder, MelPcaAutoencoder):
        raise SystemExit(f"{options.model} has no mel-pca autoencoder")
    catalogue = Catalogue.load()
    taggers = {n: CatalogueTagger(load_tagger(n), catalogue) for n in ("yamnet", "tagger")}
    prompts = [
        (c.class_id, f"{c.names[k % len(c.names)]} {c.verbs[k % len(c.verbs)]}")
        for c in catalogue.classes
        for k in range(options.per_class)
    ]
    latents = _latents(pipeline, [text for _, text in prompts], options.seed)
    own = autoencoder.config
    for name in options.loudest:
        limit = own.loudest if name == "card" else None if name == "none" else float(name)
        autoencoder.config = replace(own, loudest=limit)
        sounds = _decoded(autoencoder, latents)
        peaks = np.abs(sounds).max(axis=1)
        words = [f"over full scale {np.mean(peaks > 1):.3f}, largest sample {peaks.max():.2f}"]
        for tagger, ears in taggers.items():
            hits = [
                class_id in ears.tag(sound / max(1.0, peak)).classes
                for (class_id, _), sound, peak in zip(prompts, sounds, peaks, strict=True)
            ]
            words.append(f"{tagger} {np.mean(hits):.3f}")
        print(f"{len(prompts)} prompts, limit {limit}: {', '.join(words)}", flush=True)
        if options.corpus is not None:
            _recordings(SceneAssets.open(options.corpus), autoencoder, taggers["yamnet"])


@torch.inference_mode()
def _latents(pipeline: TorchPipeline, prompts: list[str], seed: int) -> torch.Tensor:
    """Latents of each prompt, as the pipeline samples them, with seeds that count up."""
    kept: list[torch.Tensor] = []
    autoencoder = pipeline.model.autoencoder
    plain = autoencoder.decode

    def keep(latents_BLC: torch.Tensor) -> torch.Tensor:
        kept.append(latents_BLC.clone())
        return latents_BLC.new_zeros(len(latents_BLC), latents_BLC.shape[1] * 640)

    autoencoder.decode = keep  # type: ignore[method-assign]
    for first in range(0, len(prompts), BATCH):
        texts = prompts[first : first + BATCH]
        conditions = pipeline.encoder.encode_arrays(None, None, texts, duration_s=DURATION_S)
        seeds = [seed + first + i for i in range(len(texts))]
        pipeline.generate_batch(conditions, duration_s=Fraction(DURATION_S), seeds=seeds)
    autoencoder.decode = plain  # type: ignore[method-assign]
    return torch.cat(kept)


@torch.inference_mode()
def _decoded(autoencoder: MelPcaAutoencoder, latents_BLC: torch.Tensor) -> NDArray[np.float32]:
    parts = [autoencoder.decode(part).numpy() for part in latents_BLC.split(BATCH)]
    return np.concatenate(parts)


@torch.inference_mode()
def _recordings(assets: SceneAssets, autoencoder: MelPcaAutoencoder, ears: CatalogueTagger) -> None:
    hits, peaks = [], []
    for recording in [r for r in assets.catalogue.recordings if r.split == "test"][::EVERY]:
        real_1N = torch.from_numpy(np.array(assets.waveform(recording.recording_id)))[None]
        sound_N = autoencoder.decode(autoencoder.encode(real_1N))[0].numpy()
        hits.append(recording.class_id in ears.tag(sound_N).classes)
        peaks.append(float(np.abs(sound_N).max()))
    print(
        f"    {len(hits)} recordings through the autoencoder: yamnet {np.mean(hits):.3f}, "
        f"over full scale {np.mean(np.array(peaks) > 1):.3f}",
        flush=True,
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--loudest", nargs="+", default=["none", "card"])
    parser.add_argument("--per-class", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
