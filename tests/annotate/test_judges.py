from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.annotate.chat.agents import ChatJudge
from omni2sound.annotate.chat.scripted import ScriptedModel
from omni2sound.annotate.local.judge import naming_score, other_things
from omni2sound.annotate.local.words import ClassNames
from omni2sound.annotate.records import Failure
from omni2sound.annotate.report.judge_run import Contest, contest
from omni2sound.annotate.roles import Pair, Preference, SourceClip
from omni2sound.llm import AudioPart
from omni2sound.scenes.material.catalogue import Catalogue
from tests.annotate.crews import clips


class Judge:
    def __init__(self, rule: Callable[[Pair], Preference | Failure]) -> None:
        self.rule = rule

    async def compare(
        self, pairs: Sequence[Pair]
    ) -> AsyncIterator[tuple[int, Preference | Failure]]:
        for place in reversed(range(len(pairs))):  # results come in any order
            yield place, self.rule(pairs[place])


def longer(pair: Pair) -> Preference:
    one, other = len(pair.first), len(pair.second)
    return "tie" if one == other else "first" if one > other else "second"


def held(rule: Callable[[Pair], Preference | Failure], *texts: tuple[str, str]) -> Contest:
    clip = SourceClip(name="c", audio=Path("never-read.wav"), video=None)
    pairs = [Pair(clip=clip, first=a, second=b) for a, b in texts]
    return asyncio.run(contest(Judge(rule), pairs))


@given(st.lists(st.tuples(st.text("a", max_size=3), st.text("a", max_size=3)), min_size=1))
def test_a_steady_judge_gives_each_side_what_it_earned(texts: list[tuple[str, str]]) -> None:
    found = held(longer, *texts)
    assert found.wins == sum(len(a) > len(b) for a, b in texts)
    assert found.losses == sum(len(a) < len(b) for a, b in texts)
    assert (found.unsteady, found.failed) == (0, 0)
    other = held(longer, *((b, a) for a, b in texts))
    assert found.rate is not None and other.rate is not None
    assert found.rate + other.rate == pytest.approx(1)


def test_who_likes_what_stands_first_decides_nothing() -> None:
    found = held(lambda pair: "first", *[("a", "b")] * 4)
    assert (found.wins, found.losses, found.ties, found.unsteady) == (0, 0, 4, 4)
    assert found.rate == 0.5


def test_pairs_without_both_answers_are_not_counted() -> None:
    refused = Failure(kind="refused", reason="no")
    found = held(
        lambda pair: refused if pair.first == "b" else longer(pair), ("aa", "b"), ("a", "")
    )
    assert (found.wins, found.failed, found.rate) == (1, 1, 1.0)
    assert held(lambda pair: refused, ("a", "b")).rate is None


def test_a_chat_judge_hears_the_sound_and_reads_both_captions(tmp_path: Path) -> None:
    model = ScriptedModel({"judge": {"better": "first", "reason": "more of it"}})
    pairs = [Pair(clip=clip, first="A dog.", second="A bell.") for clip in clips(tmp_path, 2)]
    found = asyncio.run(contest(ChatJudge(model), pairs))
    assert (found.ties, found.unsteady) == (2, 2)
    said = [" ".join(getattr(p, "text", "") for p in r.messages[1].parts) for r in model.asked]
    assert sorted(said) == sorted(
        [" First: A dog. Second: A bell.", " First: A bell. Second: A dog."] * 2
    )
    assert all(isinstance(r.messages[1].parts[0], AudioPart) for r in model.asked)


def test_the_local_judge_wants_all_that_is_heard_and_nothing_else() -> None:
    names, classes = ClassNames(Catalogue.load()), ("dog", "bell", "rain")
    others = other_things(names, ("Bark", "Theremin", "Cat", "Cattle, bovinae", "Outside"))
    heard_K = np.array([0.9, 0.8, 0.0])

    def score(caption: str) -> float:
        return naming_score(caption, heard_K, classes, names, others)

    assert score("A dog barks, then a bell rings.") > score("A dog barks.") > score("Rain falls.")
    assert score("A dog barks.") > score("A dog barks while rain falls.")
    assert score("Next to nothing is heard.") == 0
    # What it can't confirm counts as invented; what is no thing, or part of a class' name, doesn't.
    assert score("A dog barks while theremin is heard.") < score("A dog barks.")
    assert score("A dog barks, then cat is heard while cattle is heard.") < score(
        "A dog barks, then cat is heard."
    )
    assert score("A dog barks outside.") == score("A dog barks.")
    assert "big cat" not in names.rest("A big cat roars.")
