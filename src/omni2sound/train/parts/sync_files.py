"""Further training of a sync encoder: the same features from pictures as files show them.

In:   pairs of an easy and a hard view of the same onsets (`sync_pairs`), a trained encoder.
Out:  a `SyncEncoder` whose features of the hard view are those that the old one has of the easy.

So a transformer that was trained with the old features keeps its meaning of them. Beside the
features, onsets are learned from the truth, for the old encoder errs on some easy views, too.
Batch statistics stay as they are: the two encoders compute the same function of the same pictures
at first. Cuts to other scenes are made here, in pictures and features alike.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.encoders.sync import SyncEncoder
from omni2sound.scenes.export.sync_pairs import SyncPairs, draw_cuts, sync_pairs
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.licences import merge_attribution
from omni2sound.train.parts.material import training_attribution
from omni2sound.train.parts.sync import fit, load_sync, onset_loss, save_sync_model
from omni2sound.weights import (
    load_card,
    load_part,
    part_sha256,
    resolve_model,
)

_NUM_STEPS = 6000
_LR = 6e-4
_FEATURE_WEIGHT = 4.0
_NEAR_WEIGHT = 4.0
"""Added to the weight of a frame's features at an onset."""
_CUT_SHARE = 0.5


def train_sync_files_model(
    corpus: Path,
    out: Path,
    *,
    parts: str | None = None,
    init_from: str | None = None,
    max_minutes: float = 20.0,
) -> Path:
    """Train a model's sync encoder further, for pictures as files show them.

    Args:
        corpus: Folder of the scenes' material.
        out: Folder of the log and of `model/`.
        parts: Model whose sync features are kept, and its autoencoder; None: "embedded".
        init_from: Model that an earlier run of this command wrote, to go on from on other scenes.
        max_minutes: Time limit; the learning rate falls to zero within it.

    Returns:
        The model folder, with autoencoder and sync encoder.

    Raises:
        UserError: If the material or a model can't be read, or has no sync encoder.
    """
    card, assets = load_card(resolve_model(parts or "embedded")), SceneAssets.open(corpus)
    old = load_sync(card)
    new = copy.deepcopy(old)
    training: dict[str, Any] = {
        "catalogue_sha256": assets.catalogue.digest,
        "files": True,
        "max_minutes": max_minutes,
        "parent": card.training.get("sync", {}),
        "parent_sha256": part_sha256(card, "sync"),
        "seed": 0,
    }
    if init_from is not None:
        before = load_card(resolve_model(init_from))
        load_part(before, "sync", new)
        training["seed"] = before.training.get("sync", {}).get("seed", 0) + 1
        training["before_sha256"] = part_sha256(before, "sync")

    attribution = merge_attribution([card.attribution, training_attribution(assets.catalogue)])

    def save(network: SyncEncoder) -> Path:
        return save_sync_model(out, card, network, training=training, attribution=attribution)

    pairs = sync_pairs(
        corpus, old.config, split="train", seed=100 + training["seed"], num_batches=_NUM_STEPS
    )
    imitate(old, new, pairs, out=out, max_minutes=max_minutes, seed=training["seed"], save=save)
    return save(new)


def imitate(
    old: SyncEncoder,
    new: SyncEncoder,
    batches: Iterable[SyncPairs],
    *,
    out: Path,
    max_minutes: float,
    seed: int = 0,
    lr: float = _LR,
    precision: str = "bfloat16",
    save: Callable[[SyncEncoder], object] | None = None,
) -> None:
    """Train `new`, in place, to have the features of hard views that `old` has of easy ones.

    Args:
        old: Encoder whose features are kept.
        new: Encoder to train; its batch statistics stay.
        batches: Pairs.
        out: Folder of the log.
        max_minutes: Time limit; the learning rate falls to zero within it.
        seed: Random seed of the cuts.
        lr: Peak learning rate.
        precision: "bfloat16" or "float32" for the forward pass.
        save: Called with the encoder every three minutes.
    """
    old.eval().requires_grad_(False)
    new.eval().requires_grad_(True)  # eval: batch statistics stay
    optimizer = torch.optim.AdamW(new.parameters(), lr=lr, weight_decay=0.0)
    rng = np.random.default_rng([seed, 68])

    def losses_of(batch: SyncPairs) -> Mapping[str, Tensor]:
        cuts_BT = draw_cuts(rng, *batch.onset_BT.shape, share=_CUT_SHARE)
        features, onset, level = imitation_losses(old, new, batch, cuts_BT, precision=precision)
        return {"features": features, "onset": onset, "level": level}

    fit(
        new,
        batches,
        losses_of,
        optimizer=optimizer,
        out=out,
        lr=lr,
        max_minutes=max_minutes,
        save=None if save is None else lambda: save(new),
    )
    new.requires_grad_(False)


def imitation_losses(
    old: SyncEncoder,
    new: SyncEncoder,
    batch: SyncPairs,
    cuts_BT: NDArray[np.intp],
    *,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of features, onsets and levels.

    Args:
        old: Encoder that sees the easy views, without cuts.
        new: Encoder that sees the hard ones, cut.
        batch: Pairs.
        cuts_BT: Scene of the batch that each one shows at each frame.
        precision: "bfloat16" or "float32" for the forward pass.
    """
    rows, frames = torch.from_numpy(cuts_BT), torch.arange(cuts_BT.shape[1])[None]
    onset_BT = batch.onset_BT[rows, frames]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        with torch.no_grad():
            wanted_BTS, _ = old(batch.easy_BTHWK)
        features_BTS, answers_BT2 = new(batch.hard_BTHWK[rows, frames])
    wanted_BTS, features_BTS = wanted_BTS.float()[rows, frames], features_BTS.float()
    weight_BT = 1 + _NEAR_WEIGHT * onset_BT
    error_BT = (features_BTS - wanted_BTS)[..., :-2].square().mean(dim=-1)
    feature_loss = _FEATURE_WEIGHT * (weight_BT * error_BT).mean()
    answers_BT2 = answers_BT2.float()
    level_loss = 4 * (answers_BT2[..., 1] - wanted_BTS[..., -1]).square().mean()
    return feature_loss, onset_loss(answers_BT2, onset_BT), level_loss
