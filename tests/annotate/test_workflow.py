from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omni2sound.annotate import Crew, HandOffRules, Journey, SourceClip, StepStore, annotate
from omni2sound.annotate.chat.scripted import ScriptedModel
from omni2sound.annotate.records import Caption, Decision, Failure, SeniorCaption
from omni2sound.annotate.steps import Found
from omni2sound.errors import Unavailable
from omni2sound.llm import AudioPart, ChatReply, ChatRequest, ImagePart
from tests.annotate.crews import DOG, SCRIPT, clips, crew
from tests.media.clips import write_video


def run(
    some: Sequence[SourceClip],
    who: Crew,
    folder: Path,
    *,
    chunk: int = 4096,
    brief: bool = False,
) -> list[Journey]:
    async def all_of_them(store: StepStore) -> list[Journey]:
        return [j async for j in annotate(some, who, store, chunk=chunk, brief=brief)]

    with StepStore.open(folder / "steps.sqlite") as store:
        return asyncio.run(all_of_them(store))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    write_video(path, ticks=range(0, 600, 75))
    return path


def changed(role: str, reply: Any, clip: str = "*") -> dict[str, Any]:
    script = deepcopy(SCRIPT)
    if clip == "*":
        script[role] = {"*": reply} if role in ("scorer", "junior", "validator") else reply
    else:
        script[role] = {**script[role], clip: reply}
    return script


def parts_of(request: ChatRequest) -> list[Any]:
    return [part for message in request.messages for part in message.parts]


def test_an_easy_clip_never_meets_the_senior(tmp_path: Path, video: Path) -> None:
    model = ScriptedModel(SCRIPT)
    (journey,) = run(clips(tmp_path, 1, video=video), crew(SCRIPT, model), tmp_path)
    assert journey.end == "kept"
    assert journey.caption is not None
    assert journey.caption.text == "A dog barks."
    assert [r.prompt_version for r in model.asked] == ["viewer/1", "junior/1", "validator/1"]


def test_captioners_hear_and_never_see_the_viewer_sees_and_never_hears(
    tmp_path: Path, video: Path
) -> None:
    model = ScriptedModel(SCRIPT)
    strict = HandOffRules(max_events=0)
    run(clips(tmp_path, 1, video=video), crew(SCRIPT, model, rules=strict), tmp_path)
    asked = {r.prompt_version.partition("/")[0]: parts_of(r) for r in model.asked}
    for role in ("junior", "senior"):
        assert any(isinstance(p, AudioPart) for p in asked[role])
        assert not any(isinstance(p, ImagePart) for p in asked[role])
        assert any("A dog." in getattr(p, "text", "") for p in asked[role])
    assert any(isinstance(p, ImagePart) for p in asked["viewer"])
    assert not any(isinstance(p, AudioPart) for p in asked["viewer"] + asked["validator"])


def test_without_similarity_the_picture_is_never_described(tmp_path: Path, video: Path) -> None:
    script = changed("scorer", {"similarity": 0.25, "score": 0.5})
    model = ScriptedModel(script)
    (journey,) = run(clips(tmp_path, 1, video=video), crew(script, model), tmp_path)
    assert journey.end == "kept"
    assert [r.prompt_version for r in model.asked] == ["junior/1"]


def test_the_senior_gets_caption_and_reasons_and_the_span_it_asks_for(tmp_path: Path) -> None:
    wish = {"reasoning": "?", "listen_again": {"start_s": 0.5, "end_s": 9.0}, "answer": None}
    script = changed("scorer", {"similarity": 0.4, "score": 0.2})
    script["senior"] = [wish, SCRIPT["senior"]]
    script["scorer"]["*"] = {"similarity": 0.4, "score": 0.34}
    model = ScriptedModel(script)
    (journey,) = run(clips(tmp_path, 1), crew(script, model), tmp_path)
    record = journey.found["senior"]
    assert isinstance(record, SeniorCaption)
    assert record.turns[0].listened_s == (0.5, 1.0)  # cut to the clip
    last = parts_of(model.asked[-1])
    assert any("A dog barks." in getattr(p, "text", "") for p in last)
    assert any("score 0.340 < 0.35" in getattr(p, "text", "") for p in last)
    sounds = [p for p in last if isinstance(p, AudioPart)]
    assert [round(s.duration_s, 3) for s in sounds] == [1.0, 0.5]


def test_a_senior_that_never_answers_ends_the_clip(tmp_path: Path) -> None:
    script = changed("scorer", {"similarity": 0.4, "score": 0.2})
    script["senior"] = {
        "reasoning": "?",
        "listen_again": {"start_s": 0, "end_s": 1},
        "answer": None,
    }
    model = ScriptedModel(script)
    (journey,) = run(clips(tmp_path, 1), crew(script, model), tmp_path)
    assert journey.end == "failed"
    assert sum(r.prompt_version == "senior/1" for r in model.asked) == 3


@pytest.mark.parametrize(
    ("role", "reply", "end", "step"),
    [
        ("scorer", {"similarity": 0.1, "score": 0.9}, "dropped", "route"),
        ("scorer", {"similarity": 0.4, "score": 0.1}, "dropped", "post-hoc"),
        ("validator", {"plausible": False, "reason": "no dog"}, "dropped", "validate"),
        ("junior", "refuse", "failed", "junior"),
    ],
)
def test_every_clip_ends_and_the_last_step_says_why(
    tmp_path: Path, video: Path, role: str, reply: Any, end: str, step: str
) -> None:
    script = changed(role, reply, clip="c1")
    first, second = run(clips(tmp_path, 2, video=video), crew(script), tmp_path)
    assert (first.end, second.end) == ("kept", end)
    assert list(second.found)[-1] == step


def test_a_second_run_asks_nothing_and_finds_the_same(tmp_path: Path, video: Path) -> None:
    some = clips(tmp_path, 5, video=video)
    before = run(some, crew(SCRIPT), tmp_path)
    model = ScriptedModel(SCRIPT)
    after = run(some, crew(SCRIPT, model), tmp_path, chunk=2)
    assert model.asked == []
    assert [j.found for j in after] == [j.found for j in before]


def test_other_rules_ask_nobody_again_but_the_senior(tmp_path: Path) -> None:
    some = clips(tmp_path, 3)
    run(some, crew(SCRIPT), tmp_path)
    model = ScriptedModel(SCRIPT)
    run(some, crew(SCRIPT, model, rules=HandOffRules(max_events=0)), tmp_path)
    assert {r.prompt_version for r in model.asked} == {"senior/1"}
    assert len(model.asked) == 3


def test_a_changed_file_is_annotated_anew(tmp_path: Path) -> None:
    (clip,) = clips(tmp_path, 1)
    run([clip], crew(SCRIPT), tmp_path)
    model = ScriptedModel(SCRIPT)
    run([replace(clip, fingerprint="other")], crew(SCRIPT, model), tmp_path)
    assert len(model.asked) == 1


class Dying(ScriptedModel):
    """Dies, or is gone, at its n-th question."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__(SCRIPT)
        self.at, self.error = at, error

    async def ask(self, request: ChatRequest) -> ChatReply:
        reply = await super().ask(request)
        if len(self.asked) == self.at:
            raise self.error
        return reply


@pytest.mark.parametrize("at", range(1, 10))
def test_what_was_found_before_a_crash_is_found_again(tmp_path: Path, video: Path, at: int) -> None:
    some = clips(tmp_path, 3, video=video)
    whole = run(some, crew(SCRIPT), _folder(tmp_path, "whole"))
    folder = _folder(tmp_path, "broken")
    with pytest.raises(RuntimeError):
        run(some, crew(SCRIPT, Dying(at, RuntimeError("power cut"))), folder)
    model = ScriptedModel(SCRIPT)
    after = run(some, crew(SCRIPT, model), folder)
    assert [j.found for j in after] == [j.found for j in whole]
    # Of the step that was under way some answers may be lost here; earlier steps are not asked.
    assert len(model.asked) <= 9 - (at - 1) // 3 * 3


def _folder(base: Path, name: str) -> Path:
    (base / name).mkdir()
    return base / name


def test_an_endpoint_that_is_gone_leaves_the_clip_for_next_time(tmp_path: Path) -> None:
    some = clips(tmp_path, 3)
    first = run(some, crew(SCRIPT, Dying(2, Unavailable("503"))), tmp_path)
    assert sum(bool(j.waiting) for j in first) == 1
    model = ScriptedModel(SCRIPT)
    second = run(some, crew(SCRIPT, model), tmp_path)
    assert len(model.asked) == 1
    assert all(j.end == "kept" for j in second)


def test_a_file_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    good = clips(tmp_path, 1)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    clip = SourceClip(name="bad", audio=bad, video=None)
    first, second = run([*good, clip], crew(SCRIPT), tmp_path)
    assert first.end == "kept"
    assert second.end == "failed"
    failure = second.found["junior"]
    assert isinstance(failure, Failure)
    assert failure.kind == "media"


def test_every_decision_has_a_reason(tmp_path: Path, video: Path) -> None:
    (journey,) = run(clips(tmp_path, 1, video=video), crew(SCRIPT), tmp_path)
    decisions = [r for r in journey.found.values() if isinstance(r, Decision)]
    assert len(decisions) == 3
    assert all(d.reasons for d in decisions)
    assert DOG["caption"] == journey.caption.text  # type: ignore[union-attr]


def test_a_brief_run_leaves_on_disk_what_the_same_crew_has_ended(tmp_path: Path) -> None:
    some = clips(tmp_path, 3)
    first = crew(changed("scorer", {"similarity": None, "score": 0.1}, "c1"))
    whole = run(some, first, tmp_path)
    assert [j.end for j in whole] == ["kept", "dropped", "kept"]
    model = ScriptedModel(SCRIPT)
    parts = {name: getattr(first, name) for name in ("scorer", "thresholds", "rules")}
    again = run(some, crew(SCRIPT, model, **parts), tmp_path, brief=True)
    assert [j.end for j in again] == [j.end for j in whole]
    assert not any(j.found for j in again) and not model.asked


def test_a_brief_run_does_again_what_another_crew_has_begun(tmp_path: Path) -> None:
    """The other crew has replaced a step of c1 and was stopped; the end beside it is not of it."""
    some, who = clips(tmp_path, 2), crew(SCRIPT)
    run(some, who, tmp_path)
    with StepStore.open(tmp_path / "steps.sqlite") as store:
        before = {clip.name: store.of_clip(clip.name) for clip in some}
        other = Caption(text="Of another crew.")
        store.put("junior", [Found(clip="c1", key="other", record=other)])
    untouched, redone = run(some, who, tmp_path, brief=True)
    assert (untouched.earlier, redone.earlier) == ("kept", None)
    assert redone.caption is not None and redone.caption.text == DOG["caption"]
    with StepStore.open(tmp_path / "steps.sqlite") as store:
        assert {clip.name: store.of_clip(clip.name) for clip in some} == before
        assert len({stamp for _, stamp in store.ended(["c0", "c1"]).values()}) == 2, "both stamped"


def test_a_brief_run_of_a_changed_crew_or_file_leaves_nothing_out(tmp_path: Path) -> None:
    some = clips(tmp_path, 1)
    run(some, crew(SCRIPT), tmp_path)
    strict = crew(SCRIPT, rules=HandOffRules(max_events=0))
    assert run(some, strict, tmp_path, brief=True)[0].earlier is None
    assert run(some, strict, tmp_path, brief=True)[0].earlier == "kept"
    grown = [replace(some[0], fingerprint="grown")]
    assert run(grown, strict, tmp_path, brief=True)[0].earlier is None


def test_a_failed_clip_is_told_by_each_brief_run(tmp_path: Path) -> None:
    some, who = clips(tmp_path, 1), crew(changed("junior", "refuse"))
    for _ in range(2):
        (journey,) = run(some, who, tmp_path, brief=True)
        assert journey.end == "failed"
        assert isinstance(journey.found["junior"], Failure)
