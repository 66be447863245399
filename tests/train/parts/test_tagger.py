"""The second judge learns what it is told, draws what its truth says, and is the judge it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from omni2sound.config import to_json
from omni2sound.encoders.metric.tagger import Tagger, TaggerConfig, TaggerNetwork
from omni2sound.errors import ConfigError, ShapeError, UserError
from omni2sound.train.parts.tagger import TaggerRecipe, draw_patches, train_tagger
from omni2sound.weights import save_model

pytestmark = pytest.mark.slow

RATE = 16_000
SMALL = TaggerRecipe(num_steps=60, batch_size=16, average_decay=0.9)


def tones(count: int) -> list[NDArray[np.float32]]:
    time_s = np.arange(RATE) / RATE
    return [
        (0.3 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)
        for hz in np.geomspace(300, 2000, count)
    ]


def noises(count: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    return [(0.1 * rng.normal(size=RATE)).astype(np.float32) for _ in range(count)]


def clicks(count: int) -> list[NDArray[np.float32]]:
    made = []
    for i in range(count):
        x_N = np.zeros(RATE, np.float32)
        x_N[200 + 100 * i :: 2400] = 0.8
        made.append(x_N)
    return made


POOL = {"tone": tones(6), "noise": noises(6), "click": clicks(6)}
CONFIG = TaggerConfig(class_names=tuple(POOL))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TaggerNetwork:
    out = tmp_path_factory.mktemp("tagger")
    return train_tagger(POOL, {}, recipe=SMALL, out=out, max_minutes=5)


def test_it_names_sounds_that_it_has_not_heard(network: TaggerNetwork) -> None:
    judge = Tagger(network)
    rng = np.random.default_rng(77)
    unheard = {
        "tone": 0.2 * np.sin(2 * np.pi * 777 * np.arange(2 * RATE) / RATE),
        "noise": 0.1 * rng.normal(size=2 * RATE),
    }
    for name, sound_N in unheard.items():
        scores_PK, _ = judge.scores_and_embeddings(sound_N.astype(np.float32))
        assert {judge.class_names[k] for k in scores_PK.argmax(axis=1)} == {name}


def test_draws_follow_from_seed_and_step() -> None:
    def draw(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        return draw_patches(POOL, {}, CONFIG, recipe=SMALL, step=step)

    for first, again in zip(draw(3), draw(3), strict=True):
        assert torch.equal(first, again)
    assert not torch.equal(draw(3)[0], draw(4)[0])


def test_every_patch_of_one_recording_has_its_class_and_an_empty_one_has_none() -> None:
    alone = TaggerRecipe(batch_size=64, mixed_share=0, empty_share=0)
    steady = {"tone": POOL["tone"], "noise": POOL["noise"]}
    config = TaggerConfig(class_names=tuple(steady))
    sound_BN, truth_BK = draw_patches(steady, {}, config, recipe=alone, step=0)
    assert truth_BK.sum(dim=1).max() == 1
    # A cut may lie almost wholly before the sound; nothing is to be heard there.
    assert truth_BK.sum(dim=1).mean() > 0.9
    assert sound_BN.shape == (64, config.patch_samples)
    empty = TaggerRecipe(batch_size=16, mixed_share=0, empty_share=1)
    sound_BN, truth_BK = draw_patches(steady, {}, config, recipe=empty, step=0)
    assert not truth_BK.any()
    assert (sound_BN.abs().amax(dim=1) > 0).all()


def test_what_the_autoencoder_gives_back_is_drawn_as_often_as_asked() -> None:
    marked = {name: [np.zeros(RATE, np.float32)] for name in POOL}
    only = TaggerRecipe(batch_size=32, mixed_share=0, empty_share=0, decoded_share=1)
    _, truth_BK = draw_patches(POOL, marked, CONFIG, recipe=only, step=0)
    assert not truth_BK.any()  # all were silent, so all were the decoded ones


def test_classes_are_drawn_alike_however_many_recordings_they_have() -> None:
    uneven = {"tone": tones(40), "noise": noises(1)}
    config = TaggerConfig(class_names=tuple(uneven))
    recipe = TaggerRecipe(batch_size=400, mixed_share=0, empty_share=0)
    _, truth_BK = draw_patches(uneven, {}, config, recipe=recipe, step=0)
    assert truth_BK.mean(dim=0).numpy() == pytest.approx([0.5, 0.5], abs=0.1)


def test_a_class_without_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="noise"):
        train_tagger({"noise": []}, {}, recipe=SMALL, out=tmp_path, max_minutes=1)


def test_a_saved_judge_is_the_same_judge(network: TaggerNetwork, tmp_path: Path) -> None:
    save_model(
        tmp_path / "judge",
        name="tagger",
        parts={"tagger": to_json(network.config)},
        tensors={"tagger": network.state_dict()},
        defaults={},
        training={},
    )
    loaded, sound_N = Tagger.load(tmp_path / "judge"), POOL["noise"][0]
    before, _ = Tagger(network).scores_and_embeddings(sound_N)
    after, embeddings_PD = loaded.scores_and_embeddings(sound_N)
    assert after == pytest.approx(before, abs=0.01)  # stored in half precision
    assert embeddings_PD.shape == (len(after), network.config.channels[-1])
    assert loaded.class_names == tuple(POOL)


@pytest.mark.parametrize(
    ("num_samples", "patches"), [(1, 1), (15_360, 1), (15_361, 2), (23_040, 2), (23_041, 3)]
)
def test_zeros_fill_up_the_last_patch(
    network: TaggerNetwork, num_samples: int, patches: int
) -> None:
    scores_PK, _ = Tagger(network).scores_and_embeddings(np.ones(num_samples, np.float32))
    assert scores_PK.shape == (patches, 3)
    assert ((scores_PK >= 0) & (scores_PK <= 1)).all()


def test_what_is_no_sound_is_refused(network: TaggerNetwork) -> None:
    judge = Tagger(network)
    with pytest.raises(ShapeError):
        judge.scores_and_embeddings(np.zeros((2, 100), np.float32))
    with pytest.raises(UserError, match="NaN"):
        judge.scores_and_embeddings(np.array([np.nan], np.float32))
    with pytest.raises(ConfigError):
        TaggerConfig(class_names=("a", "a"))
