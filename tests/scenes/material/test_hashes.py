"""Perceptual hashes, and that no near-duplicate lies on both sides of a split."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from PIL import Image

from benchmarks.checks.scene_hashes import (
    NEAR_BITS,
    audio_hash,
    distance_bits,
    distances_bits,
    load_hashes,
    mirrored_hash,
    picture_hash,
)
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue, Picture, Recording


@pytest.mark.parametrize("what", ["recordings", "pictures"])
def test_no_near_duplicate_is_on_both_sides_of_a_split(what: str) -> None:
    hashes = load_hashes("all")
    items: tuple[Recording | Picture, ...] = getattr(Catalogue.load_all(), what)
    ids = [getattr(i, "recording_id", None) or i.picture_id for i in items]  # type: ignore[union-attr]
    near = []
    for side, ways in product(("test", "val"), range(len(hashes[ids[0]]))):
        tested = [k for k, item in enumerate(items) if item.split == side]
        others = [k for k, item in enumerate(items) if item.split != side]
        distance = distances_bits(
            [hashes[ids[k]][0] for k in tested], [hashes[ids[k]][ways] for k in others]
        )
        for a, b in zip(*np.nonzero(distance <= NEAR_BITS), strict=True):
            near.append((items[tested[a]].family, items[others[b]].family))
    assert not near


def test_every_item_of_the_catalogue_has_its_hash() -> None:
    for kinds, catalogue in (("bench", Catalogue.load()), ("all", Catalogue.load_all())):
        ids = {r.recording_id for r in catalogue.recordings}
        ids |= {p.picture_id for p in catalogue.pictures}
        assert set(load_hashes(kinds)) == ids  # type: ignore[arg-type]


def test_copies_are_near_and_other_things_far(assets: SceneAssets) -> None:
    sound, other = assets.waveform("dog-0"), assets.waveform("bell-1")
    digest = audio_hash(sound)
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(sound))
    assert distance_bits(digest, audio_hash(0.3 * sound)) <= NEAR_BITS
    assert distance_bits(digest, audio_hash((sound + noise).astype(np.float32))) <= NEAR_BITS
    assert distance_bits(digest, audio_hash(sound[: SAMPLE_RATE_HZ // 2])) <= NEAR_BITS
    assert distance_bits(digest, audio_hash(other)) > 2 * NEAR_BITS

    picture, another = assets.rgba("dog-0"), assets.rgba("bell-1")
    small = np.asarray(Image.fromarray(picture).resize((80, 60)))
    assert distance_bits(picture_hash(picture), picture_hash(small)) <= 2 * NEAR_BITS
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    assert mirrored_hash(mirrored) == picture_hash(picture)
    assert distance_bits(picture_hash(picture), picture_hash(another)) > 2 * NEAR_BITS


def test_all_distances_at_once_are_those_of_pairs() -> None:
    digests = [hashes[0] for hashes in list(load_hashes().values())[:6]]
    expected = [[distance_bits(a, b) for b in digests[:4]] for a in digests]
    np.testing.assert_array_equal(distances_bits(digests, digests[:4]), expected)
    assert NEAR_BITS == 20
