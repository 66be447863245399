"""Whether a prompt is in English, the language that the bundled text encoders read.

In:   a prompt in Latin letters; whether the encoder's vocabulary has a word.
Out:  yes or no.

Vocabularies have pieces for any word, so that a sentence in another language gets tokens that mean
little. Such a text has one of two signs: none of its words is in the vocabulary as a whole; or it
has small words of another language or accents, none of the small words of English, and less than
half of its words are known. AudioSet's names of sounds ("meow", "clang") count as known. Measured
on the prompts in `tests/generate/test_english.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from omni2sound.generate.words.kinds import stem

_ENGLISH_WORDS = """
a an and are as at away be been being but by far for from has have in into is it its near nobody not
of off on onto or out over some somebody someone that the their then there to two under up very was
were when while with without
"""
_FOREIGN_WORDS = """
am aus auf bei das dem den der des ein eine einem einen einer eines ist mit nicht ohne sich und vom
von wird zum zur zwei een het naar niet op uit voor wordt zijn
au aux avec dans du elle est et il ils le les leur pas qui sans ses sur une un con del el ella es la
las lo los muy por que se sin su sus una y ao com da do dos em uma che della gli nel nella per si
sono uno din este cu
av det ett fra igjen ikke inte med och og ombord pa som til ut
bir ile na nad nie od pod przez ve w yang z za dan di dengan ja az egy
"""
"""German, Dutch; French, Spanish, Portuguese, Italian, Romanian; Swedish, Danish, Norwegian;
Turkish, Polish, Czech, Indonesian, Finnish, Hungarian."""
_ENGLISH, _FOREIGN = (frozenset(words.split()) for words in (_ENGLISH_WORDS, _FOREIGN_WORDS))


def is_english(text: str, knows: Callable[[str], bool], sounds: Collection[str]) -> bool:
    """Whether a text is likely English; True for one without words in Latin letters, too.

    Args:
        text: The prompt.
        knows: Whether a word, of `a` to `z`, is in the vocabulary as a whole.
        sounds: Stems of AudioSet's names of sounds; see `stems_of`.
    """
    words = set(re.findall(r"[^\W\d_]+", text.casefold()))
    if any(word in _ENGLISH for word in words):
        return True
    foreign = {w for w in words if w in _FOREIGN or not w.isascii()}
    words = {w for w in words if w in foreign or len(w) > 2}
    if not any("a" <= c <= "z" for word in words for c in word):
        return True
    num_known = sum(stem(w) in sounds or knows(w) for w in words - foreign)
    return num_known > 0 and not (foreign and 2 * num_known < len(words))


def stems_of(names: Iterable[str]) -> frozenset[str]:
    """Stems of the words of names."""
    return frozenset(map(stem, re.findall("[a-z]+", " ".join(names).casefold())))
