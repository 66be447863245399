"""Contrastive training of the joint heads on sounds, sentences and pictures of scenes.

In:   features of the frozen encoders (`JointExamples`), several sentences per scene.
Out:  trained `JointHeads` and their retrieval rates.

Contrastive in both directions for sound-text, sound-picture and picture-text. Each step draws
one of a scene's sentences, so that paraphrases are learnt. Scenes that share a class are not
negatives of each other: with 43 classes they fill a batch, and separating them is noise.

Shape suffixes: B scenes, P patches, V views, K sentences, D features, E joint dimensions,
C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from omni2sound.config import to_json
from omni2sound.encoders.joint import JointConfig, JointHeads, pooled_similarity
from omni2sound.scenes.export.joint_examples import JointExamples, JointPlan, joint_examples
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.train.parts.material import training_attribution
from omni2sound.weights import save_model

_PLANS = (
    JointPlan(split="train", num_pictured=500, num_unseen=500),
    JointPlan(split="val", num_pictured=100, num_unseen=60),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class JointRecipe:
    """Hyperparameters of the training."""

    steps: int = 300
    batch: int = 96
    lr: float = 2e-3
    weight_decay: float = 0.1
    seed: int = 0


def train_joint_model(
    corpus: Path, out: Path, *, on_scene: Callable[[int, int], None] | None = None
) -> Path:
    """Train the joint heads on features of rendered scenes; a fixed number of steps.

    Args:
        corpus: Folder of the scenes' material.
        out: Folder of the cached features and of `model/`.
        on_scene: Called with (scenes encoded, scenes in all) of the split being encoded.

    Returns:
        The model folder, with the heads alone.

    Raises:
        UserError: If the material can't be read.
    """
    assets, recipe = SceneAssets.open(corpus), JointRecipe()
    out.mkdir(parents=True, exist_ok=True)
    train, val = (
        joint_examples(
            corpus, plan, cache=out / f"examples-{plan.split}.safetensors", on_scene=on_scene
        )
        for plan in _PLANS
    )
    heads = train_joint(JointConfig(), train, recipe=recipe)
    rates = retrieval_rates(heads, val)
    training = {
        "catalogue_sha256": assets.catalogue.digest,
        "scenes": len(train),
        "recipe": to_json(recipe),
        "validation_retrieval": {name: round(rate, 4) for name, rate in rates.items()},
    }
    save_model(
        out / "model",
        name="joint",
        parts={"joint": to_json(heads.config)},
        tensors={"joint": heads.state_dict()},
        defaults={},
        training={"joint": training},
        attribution=training_attribution(assets.catalogue),
    )
    return out / "model"


def train_joint(
    config: JointConfig,
    examples: JointExamples,
    *,
    recipe: JointRecipe,
) -> JointHeads:
    """Train the heads on the CPU; the same arguments give the same heads."""
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        heads = JointHeads(config)
    optimizer = torch.optim.AdamW(
        heads.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    for _ in range(recipe.steps):
        places = torch.randperm(len(examples), generator=generator)[: recipe.batch]
        loss = _loss(heads, examples.at(places), generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return heads.eval()


def _loss(heads: JointHeads, batch: JointExamples, generator: torch.Generator) -> Tensor:
    sounds_BE = _pool_sound(heads, batch.sounds_BPD, batch.heard_BP)
    chosen = torch.randint(batch.sentences_BKD.shape[1], (len(batch),), generator=generator)
    text = batch.sentences_BKD[torch.arange(len(batch)), chosen]
    text_BE = heads.sentences(text)
    scale = heads.log_scale.exp().clamp(max=50)
    shared_BB = (batch.classes_BC.float() @ batch.classes_BC.float().T) > 0
    loss = _contrast(scale * sounds_BE @ text_BE.T, shared_BB)
    seen = batch.pictured_B.nonzero().squeeze(1)
    if len(seen) > 1:
        views_BVE = heads.views(batch.views_BVD[seen])
        shared = shared_BB[seen][:, seen]
        for others_BE in (sounds_BE[seen], text_BE[seen]):
            similar_BB = pooled_similarity(views_BVE, others_BE)
            loss = loss + _contrast(scale * similar_BB, shared)
    return loss


def _pool_sound(heads: JointHeads, sounds_BPD: Tensor, heard_BP: Tensor) -> Tensor:
    patches_BPE = heads.sounds(sounds_BPD) * heard_BP[..., None]
    return F.normalize(patches_BPE.sum(dim=1), dim=-1)


def _contrast(logits_BB: Tensor, shared_BB: Tensor) -> Tensor:
    """Cross-entropy in both directions, without negatives of the same class."""
    own = torch.eye(len(logits_BB), dtype=torch.bool)
    logits = logits_BB.masked_fill((shared_BB | shared_BB.T) & ~own, float("-inf"))
    target = torch.arange(len(logits_BB))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def retrieval_rates(heads: JointHeads, examples: JointExamples) -> dict[str, float]:
    """Rate at which the most similar scene shares a class with the true one.

    "sound-text" over all scenes, "sound-picture" and "picture-text" over those with pictures;
    "chance" is the rate of a random scene.
    """
    sounds_BE = _pool_sound(heads, examples.sounds_BPD, examples.heard_BP)
    text_BE = heads.sentences(examples.sentences_BKD[:, 0])
    shared_BB = (examples.classes_BC.float() @ examples.classes_BC.float().T) > 0
    seen = examples.pictured_B.nonzero().squeeze(1)
    views_BVE = heads.views(examples.views_BVD[seen])
    shared = shared_BB[seen][:, seen]

    def rate(similar: Tensor, same: Tensor) -> float:
        best = similar.argmax(dim=1)
        return float(same[torch.arange(len(best)), best].float().mean())

    return {
        "sound-text": rate(sounds_BE @ text_BE.T, shared_BB),
        "sound-picture": rate(pooled_similarity(views_BVE, sounds_BE[seen]).T, shared),
        "picture-text": rate(pooled_similarity(views_BVE, text_BE[seen]), shared),
        "chance": float(shared_BB.float().mean()),
    }
