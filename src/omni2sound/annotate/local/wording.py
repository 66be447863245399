"""Rewording of template sentences by a small language model, with a strict check.

In:   template captions; their content as `Clause`s.
Out:  the same captions, reworded if `complaint` accepts the new sentence, else unchanged; each
      caption records which, and why.

A small network omits, repeats and invents sounds. So its sentence is accepted only if it parses
word by word: the given names, each once and in order; after each name its verb, count and "out of
view", once each; between two names a word for "then" or "meanwhile", as given; and otherwise only
the words listed here, which name nothing. An invented sound is therefore always rejected. Grammar
is not checked.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.events import Clause, clauses_of, sentence_of
from omni2sound.annotate.local.smollm2 import SmolLM2
from omni2sound.annotate.local.words import Vocabulary
from omni2sound.annotate.records import Caption

_VERSION = 1
"""Incremented when prompt or check may give another sentence."""
_SENTENCES_A_JOB = 8

_TASK = "You reword sentences about sounds. Keep every sound, its order and its count. Add nothing."
_EXAMPLES = (
    (
        "A dog barks twice, then a car engine idles out of view.",
        "First a dog is barking twice, followed by a car engine idling out of view.",
    ),
    (
        "Rain falls while a church bell rings three times, then somebody speaks.",
        "As rain is falling, a church bell is ringing three times, and then somebody is speaking.",
    ),
)

_FREE = frozenset({"a", "an", "the", "is", "are", "be", "being", "and", "of", "sound", "by"})
"""Words that name no sound, number or order and negate nothing."""
_THEN = frozenset({"then", "next", "later", "afterwards", "finally", "followed", "before"})
_WHILE = frozenset({"while", "as", "meanwhile"})
_UNSEEN = ("out", "of", "view")


def complaint(text: str, clauses: Sequence[Clause]) -> str | None:
    """Find the first difference in content between a sentence and clauses.

    Args:
        text: One sentence.
        clauses: Expected content in order, at least one clause.

    Returns:
        A reason that starts with its kind ("form", "names", "new word", "verb", "count",
        "view", "order"); None if the content is the same.
    """
    if not re.fullmatch(r"[A-Z][^.]*\.", text):
        return "form: not one sentence"
    words = tuple(re.findall(r"[^\s,]+", text[:-1].lower().replace("can be ", "is ")))
    opening, parts = _parts(words, [_core(c.name) for c in clauses])
    found = [name for name, _ in parts]
    given = [_core(c.name) for c in clauses]
    if found != given:
        lost = [" ".join(name) for name in given if name not in found]
        return "names: " + (f"{lost[0]} is lost" if lost else "repeated, or in another order")
    for place, (clause, (_, after)) in enumerate(zip(clauses, parts, strict=True)):
        rest, reason = _without_facts(after, clause)
        if reason:
            return reason
        ahead = [w for w in opening if w in _WHILE] if place == 0 else []
        order = {_kind(w) for w in (*rest, *ahead)} - {None}
        following = clauses[place + 1].joined if place + 1 < len(clauses) else None
        if order != ({following} - {None}):
            return f"order: {sorted(map(str, order))} after {clause.name}, not {following}"
        new = [w for w in rest if w not in _FREE and _kind(w) is None]
        if new:
            return f"new word: {new[0]}"
    may_open = _FREE | _WHILE | ({"first"} if len(clauses) > 1 else frozenset())
    new = [w for w in opening if w not in may_open]
    return f"new word: {new[0]}" if new else None


_Words = tuple[str, ...]


def _parts(words: _Words, names: Sequence[_Words]) -> tuple[_Words, list[tuple[_Words, _Words]]]:
    """Split into the words before the first name and each name with the words after it."""
    longest_first = sorted(set(names), key=len, reverse=True)
    opening: list[str] = []
    parts: list[tuple[_Words, list[str]]] = []
    place = 0
    while place < len(words):
        name = next((n for n in longest_first if words[place : place + len(n)] == n), None)
        if name is not None:
            parts.append((name, []))
            place += len(name)
            continue
        (parts[-1][1] if parts else opening).append(words[place])
        place += 1
    return tuple(opening), [(name, tuple(after)) for name, after in parts]


def _without_facts(words: _Words, clause: Clause) -> tuple[list[str], str | None]:
    """Remove verb, count and view from the words after a name; also return what is wrong."""
    rest = list(words)
    for phrase, is_due, kind in (
        (_UNSEEN, clause.is_unseen, "view"),
        (tuple(clause.count.split()), bool(clause.count), "count"),
    ):
        if is_due and not _take(rest, phrase):
            return rest, f"{kind}: {clause.name} lost {' '.join(phrase)!r}"
    for due in clause.verb.split():
        if due in _FREE:
            continue
        places = [i for i, w in enumerate(rest) if w in _forms(due)]
        if len(places) != 1:
            return rest, f"verb: {due!r} of {clause.name} is said {len(places)} times"
        del rest[places[0]]
    return rest, None


def _take(words: list[str], phrase: _Words) -> bool:
    """Remove the first occurrence of a phrase."""
    for place in range(len(words) - len(phrase) + 1):
        if tuple(words[place : place + len(phrase)]) == phrase:
            del words[place : place + len(phrase)]
            return True
    return False


def _core(name: str) -> _Words:
    """Return a name without its article."""
    words = tuple(re.findall(r"[^\s,]+", name.lower()))
    return words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words


@cache
def _forms(word: str) -> frozenset[str]:
    """Return accepted forms of a verb's third person; other words have one form."""
    forms = {word}
    if word.endswith("s"):
        bases = {word[:-1], word.removesuffix("es")}
        forms |= bases | {f"{b}ing" for b in bases} | {f"{b.removesuffix('e')}ing" for b in bases}
    return frozenset(forms)


def _kind(word: str) -> Literal["then", "while"] | None:
    return "then" if word in _THEN else "while" if word in _WHILE else None


@cache
def _network() -> SmolLM2:
    return SmolLM2.load()


def reword(sentences: tuple[str, ...]) -> tuple[str, ...]:
    """Reword sentences without the check: one job of the executor."""
    return tuple(_reworded(sentence) for sentence in sentences)


def _reworded(sentence: str) -> str:
    turns = [("system", _TASK)]
    for given, answer in _EXAMPLES:
        turns += [("user", f"Reword: {given}"), ("assistant", answer)]
    turns.append(("user", f"Reword: {sentence}"))
    # A faithful answer is hardly longer than the question; a token has about three characters.
    return _network().answer(turns, max_tokens=len(sentence) // 3 + 16)


@dataclass(frozen=True, kw_only=True)
class Rewording:
    """SmolLM2 in the executor, and the check."""

    executor: Executor
    sha256: str
    """Digest of the network's file, `SmolLM2.digest`."""

    @property
    def identity(self) -> Any:
        """Version and digest of the network."""
        return ["smollm2", _VERSION, self.sha256]

    async def of(
        self, captions: Mapping[int, Caption], words: Vocabulary
    ) -> AsyncIterator[tuple[int, Caption]]:
        """Yield each caption, reworded or unchanged; equal sentences are computed once."""
        content = {place: clauses_of(caption.events, words) for place, caption in captions.items()}
        places: dict[str, list[int]] = {}
        for place, clauses in content.items():
            if clauses:
                places.setdefault(sentence_of(clauses), []).append(place)
            else:
                yield place, captions[place]  # nothing is heard, nothing to reword
        sentences = list(places)
        jobs = [
            tuple(sentences[first : first + _SENTENCES_A_JOB])
            for first in range(0, len(sentences), _SENTENCES_A_JOB)
        ]
        async for number, answers in self.executor.map(reword, jobs):
            for sentence, answer in zip(jobs[number], answers, strict=True):
                for place in places[sentence]:
                    yield place, _checked(captions[place], answer, content[place])


def _checked(caption: Caption, answer: str, clauses: Sequence[Clause]) -> Caption:
    reason = complaint(answer, clauses)
    if reason is not None:
        return replace(caption, wording=f"refused: {reason}")
    if answer == caption.text:
        return replace(caption, wording="unchanged")
    return replace(caption, text=answer, wording="reworded")
