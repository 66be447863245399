"""Annotation of a manifest by a crew that is chosen by name.

In:   `CrewSettings`: a model's name for each role, `local`, `scripted:FILE` (replies from a JSON
      file) or `NAME@URL` of an OpenAI-compatible endpoint; a manifest; a run folder.
Out:  a run folder (`runs.py`), resumed if it exists.

    settings = CrewSettings(
        junior="gemini-2.5-flash@https://generativelanguage.googleapis.com/v1beta/openai",
        chat=ChatOptions(key_variable="GEMINI_API_KEY"),
    )
    ends = asyncio.run(annotate_manifest(Path("clips.jsonl"), Path("RUN"), settings))
    print(ends["kept"])
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from omni2sound.annotate.chat.agents import ChatJunior, ChatSenior, ChatValidator, ChatViewer
from omni2sound.annotate.chat.models import ChatOptions, chat_model
from omni2sound.annotate.chat.scripted import ScriptedScorer
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.filters import HandOffRules, Thresholds, hallucination_phrases
from omni2sound.annotate.local.roles import (
    LocalJunior,
    LocalScorer,
    LocalSenior,
    LocalValidator,
    LocalViewer,
)
from omni2sound.annotate.local.smollm2 import SmolLM2
from omni2sound.annotate.local.wording import Rewording
from omni2sound.annotate.local.words import Vocabulary, vocabulary
from omni2sound.annotate.records import Failure
from omni2sound.annotate.roles import Scorer, Validator, Viewer
from omni2sound.annotate.runs import CALLS_FILE, RunSettings, source_clips
from omni2sound.annotate.steps import STEPS_FILE, StepStore
from omni2sound.annotate.workflow import Crew, Progress, annotate
from omni2sound.data.corpora.manifest import read_manifest
from omni2sound.data.workers import Workers
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import UserError
from omni2sound.llm import CallStore, ChatModel
from omni2sound.readers import read_object
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.weights import resolve_model

_log = logging.getLogger(__name__)

Pictures = Literal["text", "none", "frames"]
Wording = Literal["template", "smollm2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CrewSettings:
    """Models of all roles and how they work; see the example above."""

    junior: str = "local"
    """Model of junior and validator."""
    senior: str = "local"
    vision: str = "local"
    """Model of the viewer."""
    pictures: Pictures = "text"
    """text: captioners read a description of the picture, as in the paper; none: they know
    nothing of it; frames: the junior sees it, for comparison."""
    wording: Wording = "template"
    """smollm2: a small language model rewords the local captions."""
    senior_extra: Mapping[str, Any] = field(default_factory=dict)
    """JSON data added to the body of the senior's calls, for example a cap on reasoning."""
    chat: ChatOptions = field(default_factory=ChatOptions)
    joint: str = "joint-v1"
    """Joint heads of the local scorer: a model's name or folder."""
    thresholds: Path | None = None
    """File in the form of `thresholds.toml`; None takes the bundled one."""

    def __post_init__(self) -> None:
        for name, kinds in (("pictures", Pictures), ("wording", Wording)):
            value, known = getattr(self, name), get_args(kinds)
            if value not in known:
                raise UserError(f"expected one of {', '.join(known)}, got {value!r}", field=name)
        if self.wording != "template" and "local" not in (self.junior, self.senior):
            raise UserError(
                f"{self.wording} rewords local captions, but neither `junior` nor `senior` is "
                "local; leave it out",
                field="wording",
            )

    @property
    def scorer(self) -> Literal["scripted", "local"]:
        """A scripted junior's file also has the scores."""
        return "scripted" if self.junior.startswith("scripted:") else "local"


async def annotate_manifest(
    manifest: Path,
    run: Path,
    settings: CrewSettings | None = None,
    *,
    budget_usd: Decimal | None = None,
    workers: Workers = Workers(),
    limit: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, int]:
    """Annotate the clips of a manifest; finished clips of an earlier run are not done again.

    Args:
        manifest: Clips, as `omni2sound data import` writes them.
        run: Folder of the run, created if missing.
        settings: Models and rules; None takes the local networks.
        budget_usd: Most that the calls of this folder may cost, earlier ones included.
        workers: Run the local networks.
        limit: Number of clips, the first of the manifest; None takes all.
        on_progress: Called after each chunk of clips.

    Returns:
        Clips by outcome: "kept", "dropped", "failed", and "waiting" for those whose model could not
        be reached; the next run asks again for these.

    Raises:
        UserError: The manifest, a model's name or the folder is wrong.
        MissingPartError: A network or package is not installed.
        BudgetExceeded: The next call could exceed the budget; earlier results are kept.
    """
    settings = settings or CrewSettings()
    clips = source_clips(read_manifest(manifest))[:limit]
    if settings.wording == "smollm2":
        SmolLM2.digest()  # a missing network is reported before the folder exists
    run.mkdir(parents=True, exist_ok=True)
    RunSettings(
        manifest=str(manifest.resolve()),
        junior=settings.junior,
        senior=settings.senior,
        vision=settings.vision,
        scorer=settings.scorer,
        pictures=settings.pictures,
        num_clips=len(clips),
        wording=settings.wording,
    ).write(run)
    ends = {"kept": 0, "dropped": 0, "failed": 0, "waiting": 0}
    with (
        StepStore.open(run / STEPS_FILE) as steps,
        CallStore.open(run / CALLS_FILE, budget_usd=budget_usd) as calls,
    ):
        executor = Executor(workers=workers, effort=steps.pending_effort)
        async with open_crew(settings, calls=calls, executor=executor) as crew:
            async for journey in annotate(clips, crew, steps, on_progress=on_progress):
                ends[journey.end or "waiting"] += 1
                for step, record in journey.found.items():
                    if isinstance(record, Failure):
                        _log.warning("%s: failed at %s: %s", journey.clip.name, step, record.reason)
        spend = calls.spend()
    if spend.at_most_usd:
        _log.info("spent %f USD, perhaps %f more", spend.known_usd, spend.uncertain_usd)
    return ends


@asynccontextmanager
async def open_crew(
    settings: CrewSettings, *, calls: CallStore, executor: Executor
) -> AsyncIterator[Crew]:
    """Build the crew; connections to its endpoints are closed when the block ends.

    Raises:
        UserError: A model's name or the thresholds are wrong.
        MissingPartError: A network or package is not installed.
    """
    async with AsyncExitStack() as stack:
        models: dict[str, ChatModel] = {
            name: chat_model(name, settings.chat, calls=calls, stack=stack)
            for name in (settings.junior, settings.senior, settings.vision)
            if name != "local"
        }
        yield _crew(settings, models, executor)


def _crew(settings: CrewSettings, models: Mapping[str, ChatModel], executor: Executor) -> Crew:
    junior, senior, vision = (
        models.get(name) for name in (settings.junior, settings.senior, settings.vision)
    )
    limit, frames = settings.chat.concurrency, settings.pictures == "frames"
    rewording = None
    if settings.wording == "smollm2":
        rewording = Rewording(executor=executor, sha256=SmolLM2.digest())
    scorer = _scorer(settings, executor)
    viewer: Viewer | None = None
    validator: Validator | None = None
    if settings.pictures == "text":
        viewer = ChatViewer(vision, concurrency=limit) if vision else LocalViewer()
        validator = ChatValidator(junior, concurrency=limit) if junior else LocalValidator(_words())
    return Crew(
        scorer=scorer,
        viewer=viewer,
        junior=(
            ChatJunior(junior, shows_frames=frames, concurrency=limit)
            if junior
            else LocalJunior(words=_words(), sees_for_itself=frames, rewording=rewording)
        ),
        senior=(
            ChatSenior(senior, extra=settings.senior_extra, concurrency=limit)
            if senior
            else LocalSenior(
                words=_words(),
                joint=resolve_model(settings.joint),
                executor=executor,
                rewording=rewording,
            )
        ),
        validator=validator,
        thresholds=Thresholds.of(scorer.name, settings.thresholds),
        rules=HandOffRules(phrases=hallucination_phrases()),
    )


@cache
def _words() -> Vocabulary:
    return vocabulary(YamNet.load().class_names)


def _scorer(settings: CrewSettings, executor: Executor) -> Scorer:
    if settings.scorer == "scripted":
        script = Path(settings.junior.removeprefix("scripted:"))
        return ScriptedScorer(read_object(script))
    joint = resolve_model(settings.joint)
    if settings.junior != "local":
        _log.warning(
            "%s knows %d classes: other things that %s names are not scored one by one, and its "
            "sentences are compared with thresholds for synthetic scenes; set your own thresholds",
            *(joint.name, len(Catalogue.load().class_ids), settings.junior),
        )
    return LocalScorer(joint=joint, executor=executor)
