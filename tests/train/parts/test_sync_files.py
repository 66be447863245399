"""Further training of the sync encoder on what files show: the features keep their meaning."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.encoders.sync import SyncBatch, SyncConfig, SyncEncoder, onset_target
from omni2sound.scenes.export.sync_pairs import SyncPairs, draw_cuts
from omni2sound.train.parts.sync import train_sync
from omni2sound.train.parts.sync_files import imitate, imitation_losses

TINY = SyncConfig(frame_px=16, channels=(4, 8), feature_dim=6)


def pairs(seed: int, *, equal: bool = False) -> SyncPairs:
    """A white frame in a dark clip, and in a bright one that flickers."""
    rng = np.random.default_rng(seed)
    easy = rng.integers(0, 20, (8, 24, 16, 16, 3), dtype=np.uint8)
    hard = rng.integers(120, 180, (8, 24, 16, 16, 3), dtype=np.uint8)
    onsets = []
    for i in range(8):
        at = int(rng.integers(3, 20))
        easy[i, at], hard[i, at] = 255, 255
        onsets.append(onset_target([(at + 0.5) / 25], 24, 25))
    return SyncPairs(
        easy_BTHWK=torch.from_numpy(easy),
        hard_BTHWK=torch.from_numpy(easy if equal else hard),
        onset_BT=torch.from_numpy(np.stack(onsets)),
    )


def no_cuts() -> np.ndarray:
    return np.repeat(np.arange(8)[:, None], 24, axis=1)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> SyncEncoder:
    """An encoder that knows the easy views."""

    def batches() -> Iterator[SyncBatch]:
        for i in range(100):
            batch = pairs(1000 + i)
            yield SyncBatch(
                frames_BTHWK=batch.easy_BTHWK,
                onset_BT=batch.onset_BT,
                level_BT=0.5 * batch.onset_BT,
            )

    return train_sync(
        TINY,
        batches(),
        out=tmp_path_factory.mktemp("old"),
        num_steps=100,
        max_minutes=5,
        lr=1e-2,
        precision="float32",
    )


def test_an_encoder_imitates_itself_without_loss(old: SyncEncoder) -> None:
    features, _, level = imitation_losses(
        old, copy.deepcopy(old), pairs(0, equal=True), no_cuts(), precision="float32"
    )
    assert features.item() < 1e-9
    assert level.item() < 1e-9


@pytest.mark.slow
def test_features_of_hard_views_come_to_those_of_easy_ones(
    old: SyncEncoder, tmp_path: Path
) -> None:
    new = copy.deepcopy(old)
    before = copy.deepcopy(old.state_dict())
    first, *_ = imitation_losses(old, new, pairs(999), no_cuts(), precision="float32")

    def batches() -> Iterator[SyncPairs]:
        yield from (pairs(i) for i in range(120))

    saved: list[SyncEncoder] = []
    imitate(
        old,
        new,
        batches(),
        out=tmp_path,
        max_minutes=10,
        lr=5e-3,
        precision="float32",
        save=saved.append,
    )
    last, *_ = imitation_losses(old, new, pairs(999), no_cuts(), precision="float32")
    assert last.item() < 0.5 * first.item()
    assert not saved  # not three minutes yet
    assert (tmp_path / "log.jsonl").read_text().count("features") >= 1
    for name, tensor in old.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
        if "running" in name:  # batch statistics stay
            torch.testing.assert_close(new.state_dict()[name], tensor, rtol=0, atol=0)


def test_cuts_take_pictures_and_features_from_the_same_scene(old: SyncEncoder) -> None:
    """Behind a cut an encoder without memory has the features of the other scene."""
    batch = pairs(1, equal=True)
    cuts = no_cuts()
    cuts[:, 12:] = cuts[::-1, 12:]
    kept, *_ = imitation_losses(old, copy.deepcopy(old), batch, cuts, precision="float32")
    other = SyncPairs(
        easy_BTHWK=batch.easy_BTHWK.flip(0),
        hard_BTHWK=batch.hard_BTHWK,
        onset_BT=batch.onset_BT,
    )
    mixed, *_ = imitation_losses(old, copy.deepcopy(old), other, cuts, precision="float32")
    assert kept.item() < 0.5 * mixed.item()


@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_cut_clips_begin_with_their_own_scene(seed: int, share: float) -> None:
    cuts = draw_cuts(np.random.default_rng(seed), 8, 100, share=share)
    assert cuts.shape == (8, 100)
    assert (cuts[:, :8] == np.arange(8)[:, None]).all()
    assert cuts.min() >= 0
    assert cuts.max() < 8
    if share == 0:
        assert (cuts == np.arange(8)[:, None]).all()
