"""T5 from a folder, at a tiny size."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import T5Config, T5ForConditionalGeneration

from omni2sound.encoders.t5 import T5TextEncoder
from omni2sound.errors import ConfigError, MissingPartError, UserError

CONFIG: dict[str, Any] = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
    "vocab_size": 100,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}


def words() -> Tokenizer:
    alphabet = ["<pad>", "</s>", *map(chr, range(32, 127))]
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(alphabet)}, unk_token="</s>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole T5, decoder and all, as published."""
    path = tmp_path_factory.mktemp("t5")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = T5ForConditionalGeneration(T5Config(**CONFIG))
    save_file({k: v.clone() for k, v in network.state_dict().items()}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    words().save(str(path / "tokenizer.json"))
    return path


def test_every_text_has_128_tokens_and_zeros_behind_its_end(folder: Path) -> None:
    encoder = T5TextEncoder.load(folder)
    tokens = encoder(["a dog", ""])
    assert tokens.states_BTD.shape == (2, 128, CONFIG["d_model"])
    assert tokens.mask_BT.sum(dim=1).tolist() == [6, 1]  # letters and the end
    assert (tokens.states_BTD[~tokens.mask_BT] == 0).all()
    assert (tokens.states_BTD[tokens.mask_BT].abs().sum(dim=-1) > 0).all()


def test_company_in_a_batch_changes_nothing(folder: Path) -> None:
    encoder = T5TextEncoder.load(folder)
    together = encoder(["rain", "a long text about rain"]).states_BTD[0]
    torch.testing.assert_close(together, encoder(["rain"]).states_BTD[0], atol=1e-6, rtol=1e-5)


def test_what_is_left_of_a_text_is_encoded_as_if_it_were_the_text(folder: Path) -> None:
    encoder = T5TextEncoder.load(folder)
    dog, og = encoder.token_ids(["dog", "og"])
    assert {dog[-1]} == encoder.special_ids - {0}  # the end; 0 is padding
    left = encoder.encode_ids([[dog[1], dog[2], dog[3]]]).states_BTD[0]
    assert dog[1:] == og
    torch.testing.assert_close(left, encoder(["og"]).states_BTD[0, :3], atol=1e-5, rtol=1e-4)


def test_a_long_text_is_cut_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tokens = T5TextEncoder.load(folder)(["x" * 300])
    assert tokens.mask_BT.all()
    assert "cut to 128 tokens" in caplog.text


@pytest.mark.parametrize(
    "drop", ["shared.weight", "encoder.block.1.layer.0.SelfAttention.q.weight"]
)
def test_a_missing_tensor_is_named(folder: Path, tmp_path: Path, drop: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[drop]
    save_file(tensors, tmp_path / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ConfigError, match=f"missing {drop}"):
        T5TextEncoder.load(tmp_path)


def test_one_table_under_two_names_must_be_one(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"] + 1
    save_file(tensors, tmp_path / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ConfigError, match="differ"):
        T5TextEncoder.load(tmp_path)


@pytest.mark.parametrize("wrong", ["one string", []])
def test_texts_must_be_a_list(folder: Path, wrong: Any) -> None:
    with pytest.raises(UserError, match="non-empty list"):
        T5TextEncoder.load(folder)(wrong)


def test_an_empty_folder_says_where_to_get_the_files(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="google/flan-t5-base"):
        T5TextEncoder.load(tmp_path)
