"""How far does a text path that was trained on some prompt templates understand others?

Run:  python benchmarks/quality/wordings.py

A small network, built like the transformer's way to text (projection, attention by learned
queries), learns to name the class of prompts from training templates and is asked about
held-out paraphrases; once for each way of showing it the text encoder's states. No sound is
involved, so this is what a model that makes every class perfectly would be limited to. Beside
it: the nearest class mean of whole sentences, which learns nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.data.batches.hard_samples import add_embedding_noise
from omni2sound.encoders.text import TextEncoder
from omni2sound.scenes.captions import class_prompt
from omni2sound.scenes.material.catalogue import Catalogue

TRAINING_PROMPTS, HELD_OUT_PROMPTS = 100, 24
STEPS, BATCH, WIDTH, QUERIES = 600, 128, 256, 8

States = list[NDArray[np.float16]]

WAYS: dict[str, tuple[bool, bool, float, float]] = {
    # name: (words, sentence, noise, drop)
    "words": (True, False, 0.0, 0.0),
    "words, half of them left out": (True, False, 0.0, 0.5),
    "words and sentence": (True, True, 0.0, 0.0),
    "words and sentence, noise 1, half left out": (True, True, 1.0, 0.5),
    "words and sentence, noise 1, .8 left out": (True, True, 1.0, 0.8),
    "sentence, noise 1.5": (False, True, 1.5, 0.0),
}


class Reader(nn.Module):
    """Token states (B, T, 384) to class scores (B, K)."""

    def __init__(self, num_classes: int, *, words: bool, sentence: bool) -> None:
        super().__init__()
        self.words, self.sentence = words, sentence
        self.norm = nn.LayerNorm(TextEncoder.dim, elementwise_affine=False)
        self.project = nn.Sequential(
            nn.Linear(TextEncoder.dim, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH)
        )
        self.queries = nn.Parameter(0.1 * torch.randn(QUERIES, WIDTH))
        self.kv = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.out = nn.Sequential(
            nn.Linear(QUERIES * WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, num_classes)
        )

    def forward(self, states_BTE: Tensor, mask_BT: Tensor) -> Tensor:
        mean_B1E = sentences(states_BTE, mask_BT)[:, None]
        if not self.words:
            states_BTE, mask_BT = mean_B1E, mask_BT[:, :1]
        elif self.sentence:
            states_BTE = torch.cat([mean_B1E, states_BTE], dim=1)
            mask_BT = torch.cat([mask_BT[:, :1], mask_BT], dim=1)
        k, v = self.kv(self.project(self.norm(states_BTE))).chunk(2, dim=-1)
        heard = F.scaled_dot_product_attention(
            self.queries.expand(len(k), -1, -1), k, v, attn_mask=mask_BT[:, None]
        )
        scores: Tensor = self.out(heard.flatten(1))
        return scores


def sentences(states_BTE: Tensor, mask_BT: Tensor) -> Tensor:
    weight = mask_BT[..., None].float()
    mean_BE: Tensor = (states_BTE * weight).sum(dim=1) / weight.sum(dim=1)
    return mean_BE


def padded(rows: Sequence[NDArray[np.float16]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    states = torch.zeros(len(rows), longest, TextEncoder.dim)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        states[i, : len(row)] = torch.from_numpy(row.astype(np.float32))
        mask[i, : len(row)] = True  # the first token is always there
    return states, mask


def encoded(encoder: TextEncoder, each: int, *, held_out: bool) -> tuple[States, Tensor]:
    rng = np.random.default_rng(int(held_out))
    classes = Catalogue.load().classes
    texts = [class_prompt(c, rng=rng, held_out=held_out) for c in classes for _ in range(each)]
    rows: States = []
    for first in range(0, len(texts), 64):
        tokens = encoder(texts[first : first + 64])
        rows += [
            s[m].half().numpy() for s, m in zip(tokens.states_BTD, tokens.mask_BT, strict=True)
        ]
    return rows, torch.arange(len(classes)).repeat_interleave(each)


def taught(way: tuple[bool, bool, float, float], train: States, labels: Tensor) -> Reader:
    words, sentence, noise, drop = way
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    reader = Reader(int(labels.max()) + 1, words=words, sentence=sentence)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=1e-3, weight_decay=0.05)
    for _ in range(STEPS):
        drawn = rng.integers(len(train), size=BATCH)
        rows = [add_embedding_noise(train[i], noise=noise, drop=drop, rng=rng) for i in drawn]
        loss = F.cross_entropy(reader(*padded(rows)), labels[torch.from_numpy(drawn)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return reader.eval()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    encoder = TextEncoder.load()
    train, train_labels = encoded(encoder, TRAINING_PROMPTS, held_out=False)
    asked, asked_labels = encoded(encoder, HELD_OUT_PROMPTS, held_out=True)
    print(f"{len(train)} prompts to learn from, {len(asked)} in held-out paraphrases; right class:")
    asked_batch = padded(asked)
    known_BE = F.normalize(sentences(*padded(train)), dim=-1)
    means = torch.stack([known_BE[train_labels == k].mean(0) for k in train_labels.unique()])
    nearest = (sentences(*asked_batch) @ F.normalize(means, dim=-1).T).argmax(dim=1)
    print(f"{'nearest class mean of sentences':44} {(nearest == asked_labels).float().mean():.3f}")
    for name, way in WAYS.items():
        reader = taught(way, train, train_labels)
        with torch.no_grad():
            guess = reader(*asked_batch).argmax(dim=1)
        print(f"{name:44} {(guess == asked_labels).float().mean():.3f}", flush=True)


if __name__ == "__main__":
    main()
