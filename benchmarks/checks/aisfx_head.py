"""Fit the head of the tagger `aisfx`, and print the table of its limits.

    python benchmarks/checks/aisfx_head.py --corpus CORPUS [--out FOLDER]

The network is frozen; the head is a logistic regression from the mean embedding of a recording to
the 43 classes of the benchmark scenes, on their training recordings at their own rate and at
16 kHz, since systems of both rates are scored. Classes weigh the same. The fit is a convex problem,
solved by L-BFGS from zero. Choices are made on the validation split: weight decay, and the fewest
best classes that recognise .8 (docs/decisions/0072). `--out` writes the model folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.bench.metrics.tagging import at_rate, patch_scores
from omni2sound.config import to_json
from omni2sound.encoders.metric.aisfx import AiSfx, Head, HeadConfig, load_network
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Recording, Split
from omni2sound.scenes.material.licences import attribution_tsv
from omni2sound.weights import save_model

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
BEST = (1, 2, 3, 4)
_PEAK = 0.5


def sounds_of(assets: SceneAssets, recording: Recording) -> list[NDArray[np.float32]]:
    """A recording at 44.1 kHz, from its own rate and from 16 kHz."""
    own_N, rate_hz = assets.full_band(recording.recording_id)
    low_N = assets.waveform(recording.recording_id)
    both = [at_rate(own_N, rate_hz, AiSfx.sample_rate_hz)]
    both.append(at_rate(low_N, SAMPLE_RATE_HZ, AiSfx.sample_rate_hz))
    return [
        (x_N * (_PEAK / max(float(np.abs(x_N).max()), 1e-9))).astype(np.float32) for x_N in both
    ]


def fit(embeddings_ND: Tensor, labels_N: Tensor, config: HeadConfig, decay: float) -> Head:
    """Fit the head; every class has the same weight."""
    head = Head(config)
    head.mean_D.copy_(embeddings_ND.mean(dim=0))
    head.deviation_D.copy_(embeddings_ND.std(dim=0).clamp_min(1e-3))
    torch.nn.init.zeros_(head.out.weight)
    torch.nn.init.zeros_(head.out.bias)
    counts_K = torch.bincount(labels_N, minlength=len(config.class_names)).float()
    weight_K = counts_K.sum() / (len(counts_K) * counts_K)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(embeddings_ND), labels_N, weight=weight_K)
        loss = loss + decay * head.out.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return head.requires_grad_(False)


class _EmbeddingsAsScores:
    """The network as a patch tagger whose scores are its embeddings, to keep those that count."""

    sample_rate_hz = AiSfx.sample_rate_hz
    patch_samples = AiSfx.patch_samples
    patch_hop_samples = AiSfx.patch_hop_samples

    def __init__(self, bare: AiSfx) -> None:
        self._bare = bare

    def scores_and_embeddings(
        self, waveform_N: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        _, embeddings_PD = self._bare.scores_and_embeddings(waveform_N)
        return embeddings_PD, embeddings_PD


Embedded = list[tuple[int, tuple[Tensor, ...]]]
"""Class and loud patches' embeddings of each recording: at its own rate, and at 16 kHz."""


def embed(assets: SceneAssets, bare: AiSfx, split: Split) -> Embedded:
    """Embed every recording of a split."""
    names, tagger = list(bare.class_names), _EmbeddingsAsScores(bare)
    found: Embedded = []
    for recording in assets.catalogue.recordings:
        if recording.split == split:
            patches = [
                patch_scores(x_N, tagger.sample_rate_hz, tagger)
                for x_N in sounds_of(assets, recording)
            ]
            kept = tuple(torch.from_numpy(p) for p in patches if p is not None)
            found.append((names.index(recording.class_id), kept))
    return found


def recall(head: Head, embedded: Embedded, which: int) -> list[float]:
    """Share of recordings whose class is among the k best, mean over classes, for each k."""
    places: dict[int, list[int]] = {}
    for label, patches in embedded:
        scores_K = head(patches[which]).softmax(dim=-1).amax(dim=0)
        order_K = scores_K.argsort(descending=True, stable=True).tolist()
        places.setdefault(label, []).append(order_K.index(label))
    return [
        float(np.mean([np.mean([p < k for p in found]) for found in places.values()])) for k in BEST
    ]


def _table(head: Head, embedded: Embedded) -> tuple[float, str]:
    """Recall of the two best at both rates together, and a line with all."""
    own, low = (recall(head, embedded, which) for which in (0, 1))
    text = "  ".join(f"{a:.3f} / {b:.3f}" for a, b in zip(own, low, strict=True))
    return own[1] + low[1], f"by best 1 to 4, own rate / 16 kHz: {text}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    assets, network = SceneAssets.open(given.corpus), load_network()
    config = HeadConfig(class_names=assets.catalogue.class_ids)
    bare = AiSfx(network, Head(config))
    train, val, test = (embed(assets, bare, split) for split in ("train", "val", "test"))
    pairs = [(patches.mean(dim=0), label) for label, both in train for patches in both]
    embeddings_ND, labels_N = (
        torch.stack([e for e, _ in pairs]),
        torch.tensor([k for _, k in pairs]),
    )
    heads = {decay: fit(embeddings_ND, labels_N, config, decay) for decay in DECAYS}
    for decay, head in heads.items():
        print(f"weight decay {decay:g}: validation, {_table(head, val)[1]}")
    decay, head = max(heads.items(), key=lambda item: _table(item[1], val)[0])
    print(f"weight decay {decay:g}: test, {_table(head, test)[1]}")
    if given.out is not None:
        save_model(
            given.out,
            name="aisfx",
            parts={"aisfx_head": to_json(config)},
            tensors={"aisfx_head": head.state_dict()},
            defaults={},
            training={
                "catalogue_sha256": assets.catalogue.digest,
                "network": "aisfx 0.1.2",
                "weight_decay": decay,
            },
            attribution=attribution_tsv(
                (r for r in assets.catalogue.recordings if r.split == "train"), ()
            ),
        )
        print(given.out)


if __name__ == "__main__":
    main()
