"""Your own text encoder: a fixed random vector for each letter, 64 numbers.

A model uses it if its card says `"text": {"encoder": "letters"}`; then
`omni2sound --plugin examples/plugins/text_encoder.py generate -p rain --model MY_MODEL`.
"""

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

from omni2sound.encoders.base import TextEncoderBase
from omni2sound.encoders.registry import TEXT_ENCODERS, TextEncoderSpec

TOKENS = ["[PAD]", "[START]", *"abcdefghijklmnopqrstuvwxyz "]


class Letters(TextEncoderBase):
    """The base class needs a tokenizer, a network, a device and `_states`."""

    max_tokens, chunk_texts = 64, 64

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        ids = {token: i for i, token in enumerate(TOKENS)}
        self._tokenizer = Tokenizer(models.WordLevel(ids, unk_token=" "))
        self._tokenizer.normalizer = normalizers.Lowercase()
        self._tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        start = processors.TemplateProcessing("[START] $A", None, [("[START]", ids["[START]"])])
        self._tokenizer.post_processor = start  # so that an empty text has a token, too
        self._tokenizer.enable_truncation(self.max_tokens)
        self._tokenizer.enable_padding()
        table_VD = torch.randn(len(TOKENS), 64, generator=torch.Generator().manual_seed(0))
        self._network = nn.Embedding.from_pretrained(table_VD).to(self.device)

    def _states(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return self._network(ids_BT) * mask_BT[..., None]  # zero at padding


TEXT_ENCODERS.register("letters", TextEncoderSpec(dim=64, load=lambda device, **_: Letters(device)))
