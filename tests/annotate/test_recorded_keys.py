"""Recorded keys: answers and step results are kept under them, so no refactoring may change one.

A docstring of an answer's form is part of its schema, and so of the key.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omni2sound.annotate import HandOffRules, StepStore, Thresholds, annotate, hallucination_phrases
from omni2sound.annotate.chat.answers import (
    CaptionAnswer,
    ContextAnswer,
    JudgeAnswer,
    SeniorAnswer,
    ValidatorAnswer,
)
from omni2sound.annotate.chat.prompts import load_prompt
from omni2sound.annotate.chat.scripted import ScriptedModel
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.filters import RULES_VERSION
from omni2sound.annotate.local.roles import (
    LocalJunior,
    LocalScorer,
    LocalSenior,
    LocalValidator,
    LocalViewer,
)
from omni2sound.annotate.local.words import vocabulary
from omni2sound.bench.tracks.caption_check import PROMPT_VERSION, ModalityCheck
from omni2sound.config import to_json
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.llm import content_key
from omni2sound.llm.answers import strict_schema
from omni2sound.weights import resolve_model
from tests.annotate.crews import SCRIPT, clips, crew

ANSWERS = (CaptionAnswer, ContextAnswer, SeniorAnswer, ValidatorAnswer, JudgeAnswer)
ROLES = ("viewer", "junior", "senior", "validator", "judge")


def _short(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def _forms() -> Any:
    return [[a.__name__, strict_schema(a)] for a in ANSWERS]


def _caption_check() -> Any:
    return [PROMPT_VERSION, strict_schema(ModalityCheck)]


def _prompts() -> Any:
    return [[p.version, p.text] for p in map(load_prompt, ROLES)]


def _rules() -> Any:
    rules = HandOffRules(phrases=hallucination_phrases())
    rows = [to_json(Thresholds.of(scorer)) for scorer in ("paper", "embedded")]
    return [RULES_VERSION, to_json(rules), rows]


def _local() -> Any:
    joint, executor = resolve_model("joint-v1"), Executor()
    words = vocabulary(YamNet.load().class_names)
    things = [[t.name, t.verb, t.heard_as, t.seen_as, t.is_impulsive] for t in words.things]
    roles = (
        LocalScorer(joint=joint, executor=executor),
        LocalViewer(),
        LocalJunior(words=words),
        LocalJunior(words=words, sees_for_itself=True),
        LocalSenior(words=words, joint=joint, executor=executor),
        LocalValidator(words),
    )
    return [things, [role.identity for role in roles]]


@pytest.mark.parametrize(
    ("of", "recorded"),
    [
        (_forms, "4e4f3683c71f80e8"),
        (_caption_check, "d27868973e93ada9"),
        (_prompts, "f319bb4d782293dc"),
        (_rules, "5bddcfdb137e94b1"),
        (_local, "93e6dd5d2c454d67"),
    ],
)
def test_what_goes_into_keys(of: Callable[[], Any], recorded: str) -> None:
    assert _short(of()) == recorded


def test_keys_of_questions_and_steps(tmp_path: Path) -> None:
    """One clip that the senior gets, one that it does not."""
    hard = {**SCRIPT, "scorer": {"c0": {"similarity": 0.4, "score": 0.3}, **SCRIPT["scorer"]}}
    model = ScriptedModel(hard)
    sources = clips(tmp_path, 2)

    async def run(store: StepStore) -> list[str | None]:
        return [j.end async for j in annotate(sources, crew(hard, model), store)]

    with StepStore.open(tmp_path / "steps.sqlite") as store:
        assert asyncio.run(run(store)) == ["dropped", "kept"]
        steps = [sorted((s, k) for s, (k, _) in store.of_clip(c.name).items()) for c in sources]
    asked = [[r.label, r.prompt_version, content_key(model.id, r)] for r in model.asked]
    assert _short(sorted(asked)) == "baca1f909ae38e5e"
    assert _short(steps) == "4d7fb1711e6edb28"
