from __future__ import annotations

from dataclasses import replace

import pytest

from omni2sound.annotate.local.words import ClassNames
from omni2sound.annotate.records import Caption, Decision, Ending, HeardEvent, SeniorCaption
from omni2sound.annotate.report.against_scenes import arms_of, score_caption, yield_of
from omni2sound.annotate.runs import Story
from omni2sound.data.corpora.manifest import Clip
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.scene import Background, Look, Scene, SceneEvent

NAMES = ClassNames(Catalogue.load())


def heard(class_id: str, onset_s: float, *, on_screen: bool = True) -> SceneEvent:
    return SceneEvent(
        class_id=class_id,
        recording_id="r",
        picture_id=None,
        onset_s=onset_s,
        offset_s=onset_s + 1,
        gain_db=0.0,
        on_screen=on_screen,
        motion=None,
        source=0,
    )


def scene(*events: SceneEvent) -> Scene:
    background = Background(
        kind="flat", picture_id=None, colours=(), detail=0, num_clutter=0, seed=0
    )
    look = Look(noise=0, blur=0, exposure=1, flicker=0, blockiness=0, seed=0)
    return Scene(
        scene_id="s", split="test", seed=0, index=0, kind="main", duration_s=5.0, aspect=1.0,
        fps="25", events=events, objects=(), shots=(), background=background, look=look,
        ambience=None,
    )  # fmt: skip


TRUE = scene(heard("dog", 1.0), heard("bell", 3.0, on_screen=False))


def told(*events: tuple[str, float, bool | None]) -> Caption:
    return Caption(
        text="...",
        events=tuple(HeardEvent(what=w, start_s=s, on_screen=o) for w, s, o in events),
    )


def test_a_perfect_caption() -> None:
    score = score_caption(told(("A hound", 1.1, True), ("church bell", 3, False)), TRUE, NAMES)
    assert (score.recalled, score.invented, score.pairs_right, score.screen_right) == (2, 0, 1, 2)


def test_inventions_repeats_order_and_screen_are_counted() -> None:
    caption = told(
        ("a dog", 4.0, None), ("a dog", 4.5, None), ("a bell", 3.0, True), ("rain", 0, None)
    )
    score = score_caption(caption, TRUE, NAMES)
    assert (score.recalled, score.named, score.invented) == (2, 3, 1)
    assert (score.pairs, score.pairs_right, score.screen_right) == (1, 0, 0)
    # "On screen", said of everything, would have been right of the dog.
    assert (score.screen_stated, score.screen_true) == (1, 1)


@pytest.mark.parametrize("class_id", Catalogue.load().class_ids)
def test_every_class_is_known_by_each_of_its_names(class_id: str) -> None:
    known = Catalogue.load().sound_class(class_id)
    for name in (*known.names, *known.held_out_names):
        assert class_id in NAMES.classes(name)


def test_the_filter_is_compared_with_chance_at_equal_loss() -> None:
    good, bad = told(("a dog", 1, True), ("a bell", 3, False)), told(("rain", 0, None))
    clip = Clip(clip_id="s", corpus="stage", split="test", audio="a.wav")
    story = Story(clip=clip, ending=Ending(end="kept", steps=("junior",)), steps={"junior": good})
    dropped = replace(story, ending=Ending(end="dropped", steps=("junior",)), steps={"junior": bad})
    junior, handed, kept, shortest = arms_of([(story, TRUE)] * 10 + [(dropped, TRUE)] * 10, NAMES)
    assert junior.invented_per_caption == handed.invented_per_caption == 0.5
    assert kept.invented_per_caption == 0.0
    assert kept.clips == 10
    assert kept.at_random is not None
    low, high = kept.at_random.invented_per_caption
    assert 0 < low < 0.5 < high < 1
    low, high = kept.at_random.recall
    assert 0 < low < 0.5 < high < 1
    # Here the rival is the worst choice: the captions that name one thing each invent it.
    assert (shortest.clips, shortest.recall, shortest.invented_of_named) == (10, 0.0, 1.0)
    assert (kept.recall, kept.invented_of_named) == (1.0, 0.0)
    assert len(arms_of([(story, TRUE)] * 3, NAMES)) == 3  # nothing was dropped: no rival


def test_what_is_left_of_what_went_in() -> None:
    clip = Clip(clip_id="s", corpus="stage", split="test", audio="a.wav")
    caption = told(("a dog", 1, True))

    def story(end: str, *, asked: bool) -> Story:
        outcome = "escalate" if asked else "keep"
        steps = {"junior": caption, "hand-off": Decision(outcome=outcome, reasons=("...",))}  # type: ignore[arg-type]
        if asked:
            steps["senior"] = SeniorCaption(caption=told(("a bell", 3, False)), turns=())
        return Story(clip=clip, ending=Ending(end=end, steps=tuple(steps)), steps=steps)  # type: ignore[arg-type]

    by_route = Story(clip=clip, ending=Ending(end="dropped", steps=()), steps={})
    ended = [
        *[story("kept", asked=False)] * 3,
        *[story("dropped", asked=True)] * 2,
        *[story("dropped", asked=False)] * 4,
        by_route,
    ]
    found = yield_of([(s, TRUE) for s in ended], NAMES)
    assert (found.clips, found.captioned, found.kept) == (10, 9, 3)
    assert (found.sources, found.recalled) == (20, 3)
    assert (found.escalated, found.dropped, found.dropped_by_junior) == (2, 6, 4)
    assert "4 of 6 (0.667) dropped captions never escalated" in str(found)
