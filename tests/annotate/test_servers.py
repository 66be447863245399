"""Crews, keys, probes and servers as they are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from benchmarks.robustness.check_servers import problems
from benchmarks.robustness.server_doubles import KINDS, Kind, Said, ServerDouble
from benchmarks.speed.two_servers import measure
from omni2sound.annotate import StepStore, annotate
from omni2sound.annotate.build import CrewSettings
from omni2sound.annotate.chat.agents import ChatJunior, ChatViewer, Frames
from omni2sound.annotate.chat.models import ROLES, ChatOptions, Targeted
from omni2sound.annotate.chat.prompts import load_prompt
from omni2sound.annotate.chat.scripted import ScriptedModel
from omni2sound.annotate.crews import CREW_ROLES, CREWS, load_crew
from omni2sound.annotate.filters import hallucination_phrases
from omni2sound.annotate.records import Failure
from omni2sound.annotate.runs import RunSettings, failures, retry_failures
from omni2sound.annotate.steps import STEPS_FILE
from omni2sound.errors import CutOff, Malformed, Rejected, UserError
from omni2sound.llm import CachedChat, CallStore, ChatReply, ChatRequest, ImagePart, Limits, Prices
from omni2sound.llm.client import OpenAIEndpoint
from tests.annotate.crews import SCRIPT, clips, crew
from tests.media.clips import write_video

GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_finds_out_what_a_server_takes_in_five_calls(kind: Kind) -> None:
    assert problems(kind) == []


def test_two_servers_work_at_the_same_time_and_nothing_is_bought_twice(tmp_path: Path) -> None:
    found = asyncio.run(measure(tmp_path, 24, 0.1, 4))
    assert found.bought_twice == 0
    assert sum(found.ends.values()) == 24 and "None" not in found.ends
    assert found.overlap > 0.3, "with a barrier between steps it is 0"


@pytest.mark.parametrize("name", CREWS)
def test_bundled_crews_can_be_read_and_name_every_role(name: str) -> None:
    at = Targeted("http://127.0.0.1:9/v1")
    settings = CrewSettings.of(name, at=at)
    assert set(settings.models) == set(CREW_ROLES)
    assert load_crew(name).about
    assert set(settings.cap) | set(settings.extra) <= set(ROLES)
    assert all("@" in model or model == "local" for model in settings.models.values())


def test_a_role_with_another_model_loses_the_crews_settings_for_it() -> None:
    paper = CrewSettings.of("paper")
    mixed = CrewSettings.of("paper", junior="mine@http://127.0.0.1:9/v1")
    assert paper.models["validator"] == paper.junior == f"gemini-2.5-flash@{GEMINI}"
    assert mixed.models["validator"] == mixed.junior == "mine@http://127.0.0.1:9/v1"
    assert set(paper.cap) == {"vision", "junior", "senior", "validator"}
    assert set(mixed.cap) == {"vision", "senior"}
    assert CrewSettings.of("paper", cap={"junior": 9}).cap["junior"] == 9


def test_a_crew_of_ones_own_has_its_prices_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'about = "mine"\n'
        + "".join(
            f'[{role}]\nmodel = "m"\nurl = "http://h:1/v1"\nstructured = "text"\n'
            for role in ("vision", "junior", "senior")
        )
        + '[[price]]\nendpoint = "h"\nmodel = "m"\nread_on = 2026-11-30\n'
        'source = "https://example.org"\ninput = "1"\noutput = "2"\n'
    )
    settings = CrewSettings.of(str(tmp_path / "mine.toml"))
    assert settings.chat.structured.of("junior", "http://h:1/v1") == "text"
    assert len(Prices.load(*settings.chat.prices).rows) == len(Prices.load().rows) + 1
    (tmp_path / "mine.toml").write_text('about = "mine"\n[boss]\nmodel = "m"\n')
    with pytest.raises(UserError, match="roles are vision"):
        load_crew(str(tmp_path / "mine.toml"))


def test_a_key_goes_to_its_host_and_to_no_other() -> None:
    options = ChatOptions(key_variable=Targeted(None, {"senior": "B", "a:1": "A"}))
    assert options.key_of("junior", "http://a:1/v1") == "A"
    assert options.key_of("senior", "http://a:1/v1") == "B"
    assert options.key_of("junior", "http://b/v1") is None
    assert options.key_of("junior", GEMINI) == "GEMINI_API_KEY"
    assert options.key_of("junior", "https://api.openai.com/v1") == "OPENAI_API_KEY"
    names = {"vision": "v@http://a:1/v1", "junior": "j@http://b/v1"}
    with pytest.raises(UserError, match="KEY would go to a:1 and b"):
        ChatOptions(key_variable=Targeted("KEY")).check_keys(names)
    ChatOptions(key_variable=Targeted("none")).check_keys(names)
    ChatOptions(key_variable=Targeted("KEY", {"b": "OTHER"})).check_keys(names)


def test_caps_extras_and_prompts_of_a_role_are_sent(tmp_path: Path) -> None:
    (tmp_path / "junior.md").write_text("Say what you hear.")
    model = ScriptedModel(SCRIPT)
    junior = ChatJunior(model, cap=77, extra={"effort": "none"}, prompts=tmp_path)
    with StepStore.open(tmp_path / "steps.sqlite") as store:
        asyncio.run(_ends(tmp_path, store, crew(SCRIPT, junior=junior)))
    (asked,) = model.asked
    assert (asked.max_output_tokens, asked.extra) == (77, {"effort": "none"})
    assert asked.messages[0].parts[0].text == "Say what you hear."  # type: ignore[union-attr]
    assert asked.prompt_version == load_prompt("junior", folder=tmp_path).version != "junior/1"
    (tmp_path / "captain.md").write_text("?")
    with pytest.raises(UserError, match=r"expected some of viewer.md"):
        CrewSettings(prompts=tmp_path)


async def _ends(folder: Path, store: StepStore, who: Any, count: int = 1) -> list[Any]:
    return [j.end async for j in annotate(clips(folder, count), who, store)]


def test_phrases_can_be_replaced_and_turned_off(tmp_path: Path) -> None:
    (tmp_path / "phrases.txt").write_text("Eerie Silence  # always\n\n")
    assert hallucination_phrases(tmp_path / "phrases.txt") == ("eerie silence",)
    (tmp_path / "phrases.txt").write_text("")
    assert hallucination_phrases(tmp_path / "phrases.txt") == ()


@pytest.mark.parametrize(
    ("frames", "count"),
    [
        (Frames(), 2),
        (Frames(per_second=2.0), 6),
        (Frames(per_second=2.0, most=4), 4),
        (Frames(most=1), 1),
    ],
)
def test_frames_of_a_shot_by_its_length_and_by_what_a_server_takes(
    tmp_path: Path, frames: Frames, count: int
) -> None:
    write_video(tmp_path / "v.mp4", ticks=range(0, 1800, 75))  # 3 s, one shot
    model = ScriptedModel(SCRIPT)
    who = crew(SCRIPT, model, viewer=ChatViewer(model, frames))

    async def run(store: StepStore) -> None:
        some = clips(tmp_path, 1, video=tmp_path / "v.mp4")
        [j async for j in annotate([_long(some[0])], who, store)]

    with StepStore.open(tmp_path / "steps.sqlite") as store:
        asyncio.run(run(store))
    parts = [p for m in model.asked[0].messages for p in m.parts]
    assert sum(isinstance(p, ImagePart) for p in parts) == count


def _long(clip: Any) -> Any:
    from dataclasses import replace

    return replace(clip, duration_s=3.0)


class Failing(ScriptedModel):
    """Fails for one clip, in the way it is told."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(SCRIPT)
        self.error = error

    async def ask(self, request: ChatRequest) -> ChatReply:
        reply = await super().ask(request)
        if self.error is not None and request.label == "c1":
            raise self.error
        return reply


@pytest.mark.parametrize(
    ("error", "kind"),
    [(Malformed("no JSON"), "malformed"), (CutOff("cut"), "cut"), (Rejected("400"), "rejected")],
)
def test_a_failed_clip_has_a_name_and_is_asked_again_on_request(
    tmp_path: Path, error: Exception, kind: str
) -> None:
    RunSettings(
        manifest="m", junior="", senior="", vision="", scorer="", pictures="text", num_clips=3
    ).write(tmp_path)

    def run(model: ScriptedModel) -> list[Any]:
        with StepStore.open(tmp_path / STEPS_FILE) as store:
            return asyncio.run(_ends(tmp_path, store, crew(SCRIPT, model), 3))

    assert run(Failing(error)) == ["kept", "failed", "kept"]
    (failed,) = failures(tmp_path)
    assert (failed.clip, failed.step, failed.kind) == ("c1", "junior", kind)
    again = Failing(None)
    assert run(again) == ["kept", "failed", "kept"] and again.asked == []
    with pytest.raises(UserError, match=f"failures there are: {kind}"):
        retry_failures(tmp_path, "media")
    assert [f.clip for f in retry_failures(tmp_path, kind)] == ["c1"]
    assert run(again) == ["kept"] * 3 and [r.label for r in again.asked] == ["c1"]


def test_a_retry_forgives_earlier_replies(tmp_path: Path) -> None:
    """Three malformed replies are final until a retry; answered requests are left alone."""
    texts = iter(["no", "no", "no", '{"word": "bell"}'])

    def say(body: dict[str, Any]) -> Said:
        return Said(text=next(texts))

    async def main() -> list[str]:
        from omni2sound.annotate.chat.probe import WordAnswer
        from omni2sound.llm import user

        request = ChatRequest(
            messages=(user("?"),),
            prompt_version="a/1",
            max_output_tokens=50,
            answer=WordAnswer,
            label="made/c1",
        )
        told = []
        async with ServerDouble("ollama", say) as server:
            endpoint = OpenAIEndpoint("m", base_url=server.url, key_variable=None)
            with CallStore.open(tmp_path / "c.sqlite") as store:
                for forgiven in ([], ["made/c0"], ["made/c1"]):
                    store.forgive(forgiven).result()
                    model = CachedChat(
                        endpoint, store=store, prices=Prices({}), limits=Limits(concurrency=1)
                    )
                    try:
                        told.append((await model.ask(request)).parsed(WordAnswer).word)
                    except Malformed:
                        told.append("malformed")
            await endpoint.aclose()
        return told

    assert asyncio.run(main()) == ["malformed", "malformed", "bell"]


def test_a_run_that_stops_leaves_no_clip_marked(tmp_path: Path) -> None:
    """Rejections before any answer are the endpoint's, once the run has stopped for them."""

    class Rejecting(ScriptedModel):
        async def ask(self, request: ChatRequest) -> ChatReply:
            self.asked.append(request)
            if len(self.asked) < 4:
                raise Rejected("status 400")
            raise UserError("the first 4 calls were all rejected")

    with StepStore.open(tmp_path / STEPS_FILE) as store:
        with pytest.raises(UserError, match="first 4"):
            asyncio.run(_ends(tmp_path, store, crew(SCRIPT, Rejecting(SCRIPT)), 5))
        assert not [r for r in store.records("junior") if isinstance(r, Failure)]
        assert not list(store.records("end"))
