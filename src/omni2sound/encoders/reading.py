"""Reading of texts: from sentences to the token ids of an encoder of English, without torch.

In:   a tokenizer's file, texts.
Out:  ids and masks; warnings of what is cut or has no meaning to the encoder.

Shape suffixes: B batch, T tokens.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.errors import ConfigError, UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_log = logging.getLogger(__name__)

_UNKNOWN = ("[UNK]", "<unk>")
_MAX_SHOWN = 60


def _warn_of_unknown(text: str, encoding: Any) -> None:
    """Report what an encoder of English can't read: other scripts, emoji.

    Vocabularies hold the letters of other scripts, so that their words do get tokens, which mean
    nothing.
    """
    unknown: list[tuple[int, int]] = []
    is_read = False
    pieces = zip(encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    for token, (begin, end), is_special in pieces:
        if is_special or begin == end:
            continue
        letters = [c for c in text[begin:end] if c.isalpha()]
        if token in _UNKNOWN or any("LATIN" not in unicodedata.name(c, "") for c in letters):
            if unknown and not text[unknown[-1][1] : begin].strip():
                begin = unknown.pop()[0]
            unknown.append((begin, end))
        elif letters or any(c.isdigit() for c in text[begin:end]):
            is_read = True
    if not unknown:
        return
    words = ", ".join(repr(text[begin:end]) for begin, end in unknown)[:_MAX_SHOWN]
    if is_read:
        _log.warning("the text encoder does not know %s, which has no meaning to it", words)
    else:
        _log.warning(
            "the text encoder knows no word of %.60r, which has no meaning to it; "
            "it reads English: write the text in English",
            text,
        )


def read_texts(tokenizer: Any, texts: Sequence[str], *, max_tokens: int) -> list[Any]:
    """Encodings of texts, all of one length; empty texts are allowed.

    Args:
        tokenizer: A tokenizer that pads to the longest of the batch.
        texts: One or more texts.
        max_tokens: Length that longer texts are cut to, for the warning.

    Raises:
        UserError: If `texts` is empty or a single string.
    """
    if isinstance(texts, str) or len(texts) == 0:
        raise UserError(f"texts must be a non-empty list of strings, got {texts!r}")
    encodings: list[Any] = tokenizer.encode_batch(list(texts))
    for text, encoding in zip(texts, encodings, strict=True):
        if encoding.overflowing:
            _log.warning("text cut to %d tokens: %.60s...", max_tokens, text)
        _warn_of_unknown(text, encoding)
    return encodings


def load_tokenizer(path: Path, *, max_tokens: int) -> Tokenizer:
    """Load a BERT tokenizer that cuts and pads.

    Raises:
        ConfigError: The file holds none.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no other class
        raise ConfigError(f"{path} is no tokenizer: {str(error)[:200]}") from error
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")  # to the longest of the batch
    return tokenizer
