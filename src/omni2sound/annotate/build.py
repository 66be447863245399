"""Annotation of a manifest by a crew that is chosen by name.

In:   `CrewSettings`: a model's name for each role, `local`, `scripted:FILE` (replies from a JSON
      file) or `NAME@URL` of an OpenAI-compatible endpoint; a manifest; a run folder.
Out:  a run folder (`runs.py`), resumed if it exists.

    settings = CrewSettings.of("paper")          # a preset, or CrewSettings(junior="NAME@URL", ...)
    ends = asyncio.run(annotate_manifest(Path("clips.jsonl"), Path("RUN"), settings))
    print(ends["kept"])
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from omni2sound.annotate.chat.agents import (
    ChatJunior,
    ChatSenior,
    ChatValidator,
    ChatViewer,
    Frames,
)
from omni2sound.annotate.chat.models import ROLES, ChatOptions, Targeted, chat_models
from omni2sound.annotate.chat.prompts import check_prompts
from omni2sound.annotate.chat.scripted import ScriptedScorer
from omni2sound.annotate.crews import CREW_ROLES, load_crew
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.filters import HandOffRules, Thresholds, hallucination_phrases
from omni2sound.annotate.local.pe_av import PeScorer, PeSource
from omni2sound.annotate.local.published import PublishedScorer
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
from omni2sound.annotate.pending import PendingClips
from omni2sound.annotate.records import Failure
from omni2sound.annotate.roles import Scorer, Validator, Viewer
from omni2sound.annotate.runs import CALLS_FILE, RunSettings
from omni2sound.annotate.steps import STEPS_FILE, StepStore
from omni2sound.annotate.workflow import Crew, Progress, annotate, stamps
from omni2sound.data.workers import Workers, kept_workers
from omni2sound.encoders.metric.pe_av import PeAFrame, PeAv
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import UserError
from omni2sound.files import file_sha256
from omni2sound.llm import CallStore, ChatModel
from omni2sound.readers import read_object, real_path
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.weights import resolve_model

_log = logging.getLogger(__name__)

Pictures = Literal["text", "none", "frames"]
Wording = Literal["template", "smollm2"]
ScorerName = Literal["joint", "imagebind+clap", "pe-av"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CrewSettings:
    """Models of all roles and how they work; see the example above."""

    junior: str = "local"
    senior: str = "local"
    vision: str = "local"
    """Model of the viewer."""
    validator: str | None = None
    """None takes the junior's."""
    pictures: Pictures = "text"
    """text: captioners read a description of the picture, as in the paper; none: they know
    nothing of it; frames: the junior sees it, for comparison."""
    wording: Wording = "template"
    """smollm2: a small language model rewords the local captions."""
    cap: Mapping[str, int] = field(default_factory=dict)
    """Limit of output tokens by role, hidden thoughts included; raised once on a cut reply."""
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """JSON data added to the bodies of calls, by role, for example a cap on reasoning."""
    frames_per_second: float | None = None
    """Frames that the viewer sees, up to 4; None for two a shot."""
    max_pictures: Targeted[int] = field(default_factory=Targeted)
    """Most pictures that an endpoint takes in a request."""
    prompts: Path | None = None
    """Folder with prompts of one's own: `junior.md` and so on."""
    phrases: Path | None = None
    """File of phrases that hand a clip to the senior; None takes the bundled list."""
    chat: ChatOptions = field(default_factory=ChatOptions)
    scorer: ScorerName = "joint"
    """imagebind+clap: the paper's; pe-av: PE-AV and PE-A-Frame; with weights of your own."""
    weights: Path | None = None
    """Folder of the published weights of `scorer`; PE-AV's may be a Hub id with its revision."""
    event_weights: Path | None = None
    """Folder or Hub id of PE-A-Frame, which scores single events beside PE-AV; None scores none."""
    device: str = "cpu"
    """Device of the published networks."""
    joint: str = "joint-v1"
    """Joint heads of the local scorer: a model's name or folder."""
    thresholds: Path | None = None
    """File in the form of `thresholds.toml`; None takes the bundled one."""

    def __post_init__(self) -> None:
        for name, kinds in (("pictures", Pictures), ("wording", Wording), ("scorer", ScorerName)):
            value, known = getattr(self, name), get_args(kinds)
            if value not in known:
                raise UserError(f"expected one of {', '.join(known)}, got {value!r}", field=name)
        for name in ("cap", "extra"):
            if unknown := sorted(set(getattr(self, name)) - set(ROLES)):
                raise UserError(
                    f"expected one of {', '.join(ROLES)} before =, got {unknown[0]!r}", field=name
                )
        if self.prompts is not None:
            check_prompts(self.prompts)
        if (self.scorer == "joint") != (self.weights is None):
            raise UserError(
                f"scorer {self.scorer!r}: expected "
                + ("no folder" if self.scorer == "joint" else "the folder of its published files"),
                field="weights",
            )
        if self.event_weights is not None and self.scorer != "pe-av":
            raise UserError(
                f"scorer {self.scorer!r}: expected none; PE-A-Frame goes with pe-av",
                field="event_weights",
            )
        Frames(per_second=self.frames_per_second)  # checks
        if self.wording != "template" and "local" not in (self.junior, self.senior):
            raise UserError(
                f"{self.wording} rewords local captions, but neither `junior` nor `senior` is "
                "local; leave it out",
                field="wording",
            )

    @classmethod
    def of(
        cls, crew: str = "local", *, at: Targeted[str] | None = None, **changes: Any
    ) -> CrewSettings:
        """Take a crew and change it.

        Args:
            crew: Name of a preset, or a file in the same form (`crews`).
            at: Servers of the roles whose models run on one's own.
            **changes: Fields of this class. A role with another model loses the crew's settings
                for it; values of `chat`, `cap`, `extra` and `max_pictures` precede the crew's.

        Raises:
            UserError: No such crew, or a server is missing.
        """
        file, at = load_crew(crew), at or Targeted()
        own = {role: file.role(role) for role in CREW_ROLES if changes.get(role) is None}
        names = {role: own[role].name_at(role, at.of(role, "")) for role in own}
        if changes.get("junior") is not None and file.validator is None:
            del names["validator"], own["validator"]
        chat: ChatOptions = changes.pop("chat", ChatOptions())
        structured = {r: c.structured for r, c in own.items() if c.structured is not None}
        audio = {r: c.audio_part for r, c in own.items() if c.audio_part is not None}
        chat = replace(
            chat,
            structured=chat.structured.before(structured),
            audio_part=chat.audio_part.before(audio),
            prices=(*chat.prices, *([Path(file.path)] if file.has_prices else [])),
        )
        cap = {r: c.cap for r, c in own.items() if c.cap is not None} | changes.pop("cap", {})
        extra = {r: c.extra for r, c in own.items() if c.extra} | changes.pop("extra", {})
        pictures = {r: c.max_pictures for r, c in own.items() if c.max_pictures is not None}
        given = {name: value for name, value in changes.items() if value is not None}
        most: Targeted[int] = given.pop("max_pictures", Targeted())
        given.setdefault("frames_per_second", file.frames_per_second)
        return cls(
            **{**names, **given},
            chat=chat,
            cap=cap,
            extra=extra,
            max_pictures=most.before(pictures),
        )

    @property
    def models(self) -> dict[str, str]:
        """Names of the models by role."""
        return {
            "vision": self.vision,
            "junior": self.junior,
            "senior": self.senior,
            "validator": self.validator or self.junior,
        }

    @property
    def scores_by(self) -> str:
        """A scripted junior's file also has the scores, unless another scorer is named."""
        if self.scorer != "joint":
            return self.scorer
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
        on_progress: Called after each clip.

    Returns:
        Clips by outcome: "kept", "dropped", "failed", and "waiting" for those whose model could not
        be reached; the next run asks again for these.

    Raises:
        UserError: The manifest, a model's name or the folder is wrong.
        MissingPartError: A network or package is not installed.
        BudgetExceeded: The next call could exceed the budget; earlier results are kept.
    """
    settings = settings or CrewSettings()
    with PendingClips.open(manifest, run, limit=limit) as clips:
        if settings.wording == "smollm2":
            SmolLM2.digest()  # a missing network is reported before the folder exists
        run.mkdir(parents=True, exist_ok=True)
        with (
            StepStore.open(run / STEPS_FILE) as steps,
            CallStore.open(run / CALLS_FILE, budget_usd=budget_usd) as calls,
            kept_workers(),  # each start imports torch and loads models
        ):
            executor = Executor(workers=workers, effort=steps.pending_effort)
            async with open_crew(settings, calls=calls, executor=executor) as crew:
                RunSettings(
                    manifest=str(real_path(manifest)),
                    junior=settings.junior,
                    senior=settings.senior,
                    vision=settings.vision,
                    scorer=settings.scores_by,
                    pictures=settings.pictures,
                    num_clips=clips.total,
                    wording=settings.wording,
                    thresholds=crew.thresholds,
                    validator=settings.models["validator"],
                    prompts=crew.prompts,
                ).write(run)
                ends = await _annotate(clips, crew, steps, on_progress)
            spend = calls.spend()
    if spend.at_most_usd:
        _log.info("spent %f USD, perhaps %f more", spend.known_usd, spend.uncertain_usd)
    return ends


async def _annotate(
    clips: PendingClips,
    crew: Crew,
    steps: StepStore,
    on_progress: Callable[[Progress], None] | None,
) -> dict[str, int]:
    """Annotate what is left; return the number of all clips by outcome."""
    ends = {"kept": 0, "dropped": 0, "failed": 0, "waiting": 0}
    now = Progress(done=0, total=clips.total, waiting=0)

    def report(latest: Progress) -> None:
        nonlocal now
        now = latest
        if on_progress is not None:
            on_progress(replace(now, done=now.done + sum(clips.ended.values())))

    left = clips.left(steps, *stamps(crew))
    async for journey in annotate(
        left, crew, steps, total=clips.total, on_progress=report, brief=True
    ):
        ends[journey.end or "waiting"] += 1
        for step, record in journey.found.items():
            if isinstance(record, Failure):
                _log.warning("%s: failed at %s: %s", journey.clip.name, step, record.reason)
    report(now)  # those that had ended before, if they are the last
    return {end: num + clips.ended.get(end, 0) for end, num in ends.items()}


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
        names = settings.models
        if settings.pictures != "text":  # nobody describes or checks
            names = {role: names[role] for role in ("junior", "senior")}
        models = chat_models(names, settings.chat, calls=calls, stack=stack)
        yield _crew(settings, models, executor)


def _crew(settings: CrewSettings, models: Mapping[str, ChatModel], executor: Executor) -> Crew:
    frames = settings.pictures == "frames"
    rewording = None
    if settings.wording == "smollm2":
        rewording = Rewording(executor=executor, sha256=SmolLM2.digest())
    scorer = _scorer(settings, executor)
    viewer: Viewer | None = None
    validator: Validator | None = None
    if settings.pictures == "text":
        viewer = (
            ChatViewer(models["vision"], _frames(settings, "vision"), **_asking(settings, "vision"))
            if "vision" in models
            else LocalViewer()
        )
        validator = (
            ChatValidator(models["validator"], **_asking(settings, "validator"))
            if "validator" in models
            else LocalValidator(_words())
        )
    return Crew(
        scorer=scorer,
        viewer=viewer,
        junior=(
            ChatJunior(
                models["junior"], frames, _frames(settings, "junior"), **_asking(settings, "junior")
            )
            if "junior" in models
            else LocalJunior(words=_words(), sees_for_itself=frames, rewording=rewording)
        ),
        senior=(
            ChatSenior(models["senior"], **_asking(settings, "senior"))
            if "senior" in models
            else LocalSenior(
                words=_words(),
                joint=resolve_model(settings.joint),
                executor=executor,
                rewording=rewording,
            )
        ),
        validator=validator,
        thresholds=Thresholds.of(scorer.name, settings.thresholds),
        rules=HandOffRules(phrases=hallucination_phrases(settings.phrases)),
    )


def _asking(settings: CrewSettings, role: str) -> dict[str, Any]:
    """Return how a role asks its model."""
    return {
        "concurrency": settings.chat.concurrency,
        "cap": settings.cap.get(role),
        "extra": settings.extra.get(role, {}),
        "prompts": settings.prompts,
    }


def _frames(settings: CrewSettings, role: str) -> Frames:
    url = settings.models[role].partition("@")[2]
    return Frames(per_second=settings.frames_per_second, most=settings.max_pictures.of(role, url))


@cache
def _words() -> Vocabulary:
    return vocabulary(YamNet.load().class_names)


def published_scorer(
    settings: CrewSettings, weights: Path, executor: Executor, *, tags: bool
) -> Scorer:
    """Build a scorer whose networks others publish.

    Args:
        settings: Name, weights and device of the scorer.
        weights: Its weights.
        executor: Runs its networks.
        tags: Whether local roles need the tags of the joint space.

    Raises:
        MissingPartError: A file or package is missing.
    """
    joint = resolve_model(settings.joint) if tags else None
    if settings.scorer == "imagebind+clap":
        PublishedScorer.check(weights)
        return PublishedScorer(
            folder=weights, executor=executor, joint=joint, device=settings.device
        )
    folders = [PeAv.check(weights)]
    if settings.event_weights is not None:
        folders.append(PeAFrame.check(settings.event_weights))
    return PeScorer(
        source=PeSource(
            av=str(folders[0]),
            frames=str(folders[1]) if len(folders) > 1 else None,
            device=settings.device,
        ),
        executor=executor,
        weights="+".join(file_sha256(folder / "model.safetensors") for folder in folders),
        joint=joint,
    )


def _scorer(settings: CrewSettings, executor: Executor) -> Scorer:
    if settings.weights is not None:
        has_local = "local" in (settings.junior, settings.senior, settings.vision)
        return published_scorer(settings, settings.weights, executor, tags=has_local)
    if settings.scores_by == "scripted":
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
