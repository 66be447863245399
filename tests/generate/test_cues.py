"""Texts that act in spans: shares, notation, and what the network predicts from them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.diffusion.objective import Objective
from omni2sound.errors import UserError
from omni2sound.generate.guided import GuidedNetwork
from omni2sound.generate.words.cues import Cue, Score, compose, parse_cue
from omni2sound.models.conditioning import ConditionerConfig, Conditions
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.timebase import TimeBase

RATE = Fraction(25)


def score(text: str | None, *cues: Cue, frames: int = 100, pictures: bool = False) -> Score:
    return compose(text, cues, num_frames=frames, frames_per_s=RATE, pictures=pictures)


def cue(start_s: float, end_s: float, text: str = "a dog barks") -> Cue:
    return Cue(start_s=start_s, end_s=end_s, text=text)


@st.composite
def cues(draw: st.DrawFn) -> list[Cue]:
    made = []
    for _ in range(draw(st.integers(0, 5))):
        start_s = draw(st.floats(0, 5))
        end_s = start_s + draw(st.floats(0.001, 5))
        made.append(cue(start_s, end_s, draw(st.sampled_from(["dog", "car", "rain"]))))
    return made


@given(cues(), st.integers(1, 120))
def test_shares_sum_to_one_where_something_always_acts(some: list[Cue], frames: int) -> None:
    """However short the passages are; with pictures as with a text of the whole clip."""
    for text, pictures in ((None, True), ("wind", False)):
        made = score(text, *some, frames=frames, pictures=pictures)
        np.testing.assert_allclose(made.shares_KL.sum(axis=0), 1, atol=1e-6)
        assert (made.shares_KL >= 0).all()
        assert len(set(made.texts)) == len(made.texts)


@given(cues(), st.integers(1, 120))
def test_shares_never_exceed_one_and_a_text_has_none_beyond_its_spans(
    some: list[Cue], frames: int
) -> None:
    made = score(None, *some, frames=frames)
    assert (made.shares_KL.sum(axis=0) <= 1 + 1e-6).all()
    middle_L = (np.arange(frames) + 0.5) / float(RATE)
    for text, share_L in zip(made.texts, made.shares_KL, strict=True):
        assert text is not None
        names = text.lower()
        acting_L = np.zeros(frames, bool)
        for one in some:
            if one.text in names:
                acting_L |= (middle_L > one.start_s - 0.081) & (middle_L < one.end_s + 0.081)
        assert not share_L[~acting_L].any()


def test_texts_that_act_together_are_one_text() -> None:
    made = score("Rain falls", cue(1, 3), cue(2, 4, "a bell rings"))
    assert made.texts == (
        "Rain falls",
        "Rain falls. A dog barks.",
        "Rain falls. A dog barks. A bell rings.",
        "Rain falls. A bell rings.",
    )
    assert made.shares_KL[:, 10].tolist() == [1, 0, 0, 0]
    assert made.shares_KL[:, 60].tolist() == [0, 0, 1, 0]
    assert made.shares_KL[:2, 25].tolist() == pytest.approx([0.375, 0.625])  # around 1 s


def test_a_text_that_has_the_whole_clip_is_plain() -> None:
    assert score("rain falls").is_plain
    assert score("rain falls").texts == ("rain falls",)
    assert score(None, cue(0, 9)).is_plain
    assert score(None, cue(0, 1), cue(1, 9)).is_plain  # one text, in two passages
    assert score(None, pictures=True).texts == (None,)
    assert not score(None, cue(1, 9)).is_plain
    assert score(None).texts == ()


@pytest.mark.parametrize(
    "line", ["", "a dog barks", "2-1: x", "1-1: x", "0-2:", "-1-2: x", "0-9999: x", "1.2.3-4: x"]
)
def test_what_is_no_cue_is_refused(line: str) -> None:
    with pytest.raises(UserError) as error:
        parse_cue(line)
    assert error.value.field == "cues"


def test_a_cue_is_read() -> None:
    assert parse_cue("0.5-2: a dog barks: twice") == cue(0.5, 2, "a dog barks: twice")


# --- the network over passages ---------------------------------------------------------------

TIME = TimeBase(sample_rate_hz=1000, hop_samples=40, vision_fps=8, sync_fps=25)


@pytest.fixture(scope="module")
def network() -> GuidedNetwork:
    torch.manual_seed(0)
    dit = DiT(
        DiTConfig(
            latent_dim=4, width=16, depth=2, num_heads=2,
            conditioner=ConditionerConfig(text_dim=6, vision_dim=5, sync_dim=3),
        )
    ).eval()  # fmt: skip
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return GuidedNetwork(
        dit=dit, dtype=torch.float32, objective=Objective(), timebase=TIME, window_s=10, scale=2.0
    )


def told(seed: int) -> Conditions:
    states = torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(seed))
    return Conditions(
        seconds_start_B=torch.zeros(1),
        seconds_total_B=torch.full((1,), 4.0),
        text_BTE=states,
        text_mask_BT=torch.ones(1, 3, dtype=torch.bool),
    )


@torch.inference_mode()
def predicted(network: GuidedNetwork, made: Score, *seeds: int) -> torch.Tensor:
    x = torch.randn(1, 100, 4, generator=torch.Generator().manual_seed(9))
    predict = network.over_passages(
        [told(seed) for seed in seeds],
        None,
        100,
        shares_KL=torch.from_numpy(made.shares_KL),
        silence_C=torch.full((4,), -1.5),
    )
    return predict(x, torch.tensor([0.7]))


def test_a_cue_has_no_influence_outside_its_span(network: GuidedNetwork) -> None:
    made = score("rain", cue(1, 2))
    one, other = predicted(network, made, 1, 2), predicted(network, made, 1, 3)
    same = (one == other).all(dim=-1)[0]
    assert same[:23].all()
    assert same[52:].all()
    assert not same[27:48].any()


def test_one_text_for_the_whole_clip_is_predicted_as_without_cues(network: GuidedNetwork) -> None:
    x = torch.randn(1, 100, 4, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        plain = network.over_clip(told(1), None, 100)(x, torch.tensor([0.7]))
    assert torch.equal(predicted(network, score("rain"), 1), plain)


def test_where_nothing_is_asked_for_the_prediction_leads_to_silence(network: GuidedNetwork) -> None:
    x = torch.randn(1, 100, 4, generator=torch.Generator().manual_seed(9))
    y = predicted(network, score(None, cue(1, 2)), 1)
    data = network.objective.to_data(x, y, torch.tensor([0.7]))
    torch.testing.assert_close(data[:, :22], torch.full((1, 22, 4), -1.5), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(data[:, 53:], torch.full((1, 47, 4), -1.5), atol=1e-4, rtol=1e-4)
    assert (data[:, 30:45] + 1.5).abs().min() > 1e-4


@pytest.mark.parametrize("kind", ["v", "rectified"])
def test_a_prediction_of_data_is_undone_by_to_data(kind: str) -> None:
    objective = Objective(kind=kind)  # type: ignore[arg-type]
    x, x0 = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    t = torch.tensor([0.2, 0.9])
    back = objective.to_data(x, objective.prediction_of(x, x0, t), t)
    torch.testing.assert_close(back, x0, atol=1e-4, rtol=1e-4)
