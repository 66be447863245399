"""Rules between tagger scores and captions; the networks themselves are tested elsewhere."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.annotate.local.agreement import agreed_scores, things_heard
from omni2sound.annotate.local.events import EventRules, caption_of, events_of
from omni2sound.annotate.local.perceive import ScoreJob, best_look, score_captions
from omni2sound.annotate.local.roles import (
    MIGHT_BE_SEEN,
    SEEN_SCORE,
    LocalJunior,
    LocalValidator,
    LocalViewer,
)
from omni2sound.annotate.local.words import vocabulary
from omni2sound.annotate.media import SAMPLE_RATE_HZ, cuts_of, sound_part
from omni2sound.annotate.records import Caption, HeardEvent, Look, Patch, Perception, VisualContext
from omni2sound.annotate.roles import SourceClip, Work
from omni2sound.encoders.joint import JointConfig, JointHeads, pooled_similarity

WORDS = vocabulary(("Speech", "Dog", "Bark", "Bell", "Vacuum cleaner", "Animal", "Music"))
RULES = EventRules()
CLASSES = ("Bark", "Bell", "Vacuum cleaner")


def patches(*scores: dict[str, float]) -> list[Patch]:
    return [
        Patch(start_s=0.48 * i, end_s=0.48 * i + 0.975, heard=WORDS.heard(heard))
        for i, heard in enumerate(scores)
    ]


def test_many_classes_are_one_thing_and_umbrellas_are_none() -> None:
    heard = WORDS.heard(
        {"Dog": 0.5, "Bark": 0.8, "Animal": 0.9, "Music": 0.9, "Vacuum cleaner": 0.1}
    )
    assert heard == {"a dog": 0.8, "vacuum cleaner": 0.1}


def test_neighbours_are_one_event_and_a_pause_parts_two() -> None:
    dog, nothing = {"Bark": 0.9}, {}
    events = events_of(patches(dog, dog, nothing, nothing, nothing, dog), rules=RULES)
    assert [e.what for e in events] == ["a dog", "a dog"]
    assert all(e.on_screen is None for e in events)
    assert events[0].end_s < events[1].start_s  # type: ignore[operator]


def test_the_picture_lowers_the_threshold_and_never_makes_a_sound() -> None:
    faint = patches({"Bark": 0.2})
    assert events_of(faint, rules=RULES) == ()
    (seen,) = events_of(faint, seen={"a dog"}, rules=RULES)
    assert seen.on_screen is True
    assert events_of(patches({}), seen={"a dog"}, rules=RULES) == ()


def test_captions_tell_order_counts_and_what_is_unseen() -> None:
    dog, bell, nothing = {"Bark": 0.9}, {"Bell": 0.9}, {}
    heard = patches(dog, nothing, nothing, nothing, dog, nothing, nothing, nothing, bell)
    events = events_of(heard, seen={"a dog"}, unseen={"a bell"}, rules=RULES)
    text = caption_of(events, WORDS, is_music=False).text
    assert text == "A dog barks twice, then a bell rings out of view."
    # What nobody looked for, or could not find, is not out of view.
    events = events_of(heard, seen={"a dog"}, rules=RULES)
    assert [e.on_screen for e in events] == [True, True, None]
    assert caption_of(events, WORDS, is_music=False).text.endswith("then a bell rings.")


@pytest.mark.parametrize(
    ("score", "on_screen"), [(SEEN_SCORE, True), (MIGHT_BE_SEEN, None), (0.03, False)]
)
def test_only_what_would_be_recognised_is_out_of_view(score: float, on_screen: bool | None) -> None:
    (dog,) = (thing for thing in WORDS.visible if thing.name == "a dog")
    assert "vacuum cleaner" not in {thing.name for thing in WORDS.visible}
    perception = Perception(
        duration_s=1.0,
        similarity=0.5,
        sound="",
        patches=(Patch(start_s=0, end_s=0.975, heard={"Bark": 0.9, "Vacuum cleaner": 0.8}),),
        looks=(Look(start_s=0, end_s=1, seen={dog.name: score}),),
    )
    clip = SourceClip(name="c", audio=Path("never-read.wav"), video=None)
    work = Work(clip=clip, perception=perception, context=described(perception))
    caption = said_by_junior(work)
    assert {e.what: e.on_screen for e in caption.events} == {
        "a dog": on_screen,
        "vacuum cleaner": None,  # no class of ImageNet means it: it could not be recognised
    }
    unknown = said_by_junior(replace(work, context=None))
    assert {e.on_screen for e in unknown.events} == {None}


@pytest.mark.parametrize(
    ("looks", "plausible"),
    [
        ((), True),  # without a look nothing speaks against the caption
        ((Look(start_s=0, end_s=1, seen={"a dog": MIGHT_BE_SEEN}),), True),
        ((Look(start_s=0, end_s=1, seen={"a dog": 0.03}),), False),
    ],
)
def test_the_validator_needs_a_look_to_object(looks: tuple[Look, ...], plausible: bool) -> None:
    work = Work(
        clip=SourceClip(name="c", audio=Path("never-read.wav"), video=None),
        perception=Perception(duration_s=1.0, similarity=0.5, sound="", looks=looks),
        caption=Caption(text="A dog barks.", events=(HeardEvent(what="a dog"),)),
    )
    (verdict,) = results(LocalValidator(WORDS).validate([work]))
    assert verdict.plausible is plausible


def described(perception: Perception) -> VisualContext:
    work = Work(
        clip=SourceClip(name="c", audio=Path("never-read.wav"), video=None), perception=perception
    )
    (context,) = results(LocalViewer().describe([work]))
    assert isinstance(context, VisualContext)
    return context


def said_by_junior(work: Work) -> Caption:
    (caption,) = results(LocalJunior(words=WORDS).caption([work]))
    assert isinstance(caption, Caption)
    return caption


def results(some: AsyncIterator[tuple[int, Any]]) -> list[Any]:
    async def all_of_them() -> list[Any]:
        return [result async for _, result in some]

    return asyncio.run(all_of_them())


def test_what_was_not_kept_of_a_shot_may_be_as_good_as_the_worst_that_was() -> None:
    full = Look(start_s=0, end_s=1, seen={f"thing {i}": 0.2 + i / 100 for i in range(12)})
    assert best_look([full], "a dog") == pytest.approx(0.2)
    assert best_look([replace(full, seen={"a cat": 0.9})], "a dog") < MIGHT_BE_SEEN


def test_things_of_no_class_of_the_corpus_are_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    class Space:
        def sentences(self, texts: list[str]) -> torch.Tensor:
            return torch.tensor([[0.0, 1.0] if "dog" in text else [1.0, 0.0] for text in texts])

    monkeypatch.setattr("omni2sound.annotate.local.perceive._joint", lambda folder: Space())
    sound = base64.b64encode(np.array([[0, 1]], "<f2").tobytes()).decode()
    perception = Perception(
        duration_s=1.0, similarity=None, sound=sound, patches=(Patch(start_s=0, end_s=1),)
    )
    whats = ("a large hound", "a theremin", "a dog", "a bell")
    caption = Caption(text="A dog.", events=tuple(HeardEvent(what=what) for what in whats))
    (fit,) = score_captions(
        ScoreJob(joint=Path("x"), perceptions=(perception,), captions=(caption,))
    )
    assert fit.events == (0.0, None, 1.0, 0.0)


def test_two_judges_must_mean_the_same_thing() -> None:
    words = vocabulary(("Bark", "Bell", "Vacuum cleaner"))
    names = [thing.name for thing in words.things]
    dog, bell, vacuum = (names.index(n) for n in ("a dog", "a bell", "vacuum cleaner"))
    heard_PT = things_heard(np.array([[0.81, 0.9, 0.9]] * 2, np.float32), CLASSES, words)
    likeness_TK = np.zeros((len(names), 1), np.float32)  # the second judge knows dogs only
    likeness_TK[dog] = 1
    agreed_PT = agreed_scores(heard_PT, np.array([[1.0], [0.0]], np.float32), likeness_TK)
    # The first patch is a dog to both: it explains what the first judge takes for a bell.
    assert agreed_PT[0, dog] == pytest.approx(0.9)
    assert agreed_PT[0, [bell, vacuum]] == pytest.approx([0, 0])
    # Of the second one the other judge knows nothing, and can't deny what it never learnt.
    assert agreed_PT[1, vacuum] == pytest.approx(0.18)
    assert agreed_PT[1].max() < agreed_PT[0].max()


def test_cuts_are_found_and_slow_motion_is_none() -> None:
    dark, bright = np.full((24, 32, 3), 20, np.uint8), np.full((24, 32, 3), 200, np.uint8)
    assert cuts_of(np.stack([dark] * 5 + [bright] * 4)) == [0, 5]
    slow = np.stack([np.full((24, 32, 3), 10 * i, np.uint8) for i in range(12)])
    assert cuts_of(slow) == [0]


@given(st.floats(-5, 10), st.floats(-5, 10))
def test_any_span_gives_a_piece_inside_the_clip(a: float, b: float) -> None:
    samples_N = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    part, (start_s, end_s) = sound_part(samples_N, (a, b))
    assert 0 <= start_s < end_s <= 2
    assert part.duration_s == pytest.approx(end_s - start_s, abs=2e-4)


def test_a_picture_is_as_similar_as_about_its_best_view() -> None:
    views = torch.nn.functional.normalize(torch.randn(3, 5, 8, dtype=torch.float64), dim=-1)
    targets = torch.nn.functional.normalize(torch.randn(4, 8, dtype=torch.float64), dim=-1)
    best = (views @ targets.T).amax(dim=1)
    similar = pooled_similarity(views, targets)
    assert similar.shape == (3, 4)
    assert bool((similar <= best + 1e-9).all())
    assert bool((similar > best - 0.2).all())


def test_heads_give_unit_vectors_of_every_kind() -> None:
    heads = JointHeads(JointConfig(dim=4, audio_dim=6, text_dim=5, vision_dim=7))
    for vectors in (
        heads.sounds(torch.rand(3, 6)),
        heads.sentences(torch.randn(3, 5)),
        heads.views(torch.rand(3, 7)),
    ):
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(3))


def test_every_umbrella_is_a_class_that_can_be_heard() -> None:
    """One with a blank too many would never match, and "mechanisms is heard" would be told."""
    from omni2sound.annotate.local.words import _UMBRELLAS

    known = {"Mechanisms", "Drum kit", "Pink noise", "Wind instrument, woodwind instrument"}
    assert known <= _UMBRELLAS
    assert all(name == " ".join(name.split()) and name for name in _UMBRELLAS)
