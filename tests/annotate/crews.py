"""A crew by script, and clips that are made in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from omni2sound.annotate import Crew, HandOffRules, SourceClip, Thresholds
from omni2sound.annotate.build import CrewSettings, open_crew
from omni2sound.annotate.chat.agents import ChatJunior, ChatSenior, ChatValidator, ChatViewer
from omni2sound.annotate.chat.scripted import ScriptedModel, ScriptedScorer
from omni2sound.annotate.executor import Executor
from omni2sound.llm import CallStore

DOG: dict[str, Any] = {
    "caption": "A dog barks.",
    "events": [
        {"what": "a dog", "start_s": 0.2, "end_s": 0.5, "on_screen": True, "confidence": 0.9}
    ],
    "is_music": False,
}
HOUND = {**DOG, "caption": "A large dog barks once."}
SCRIPT: dict[str, Any] = {
    "scorer": {"*": {"similarity": 0.4, "score": 0.5}},
    "viewer": {"shots": [{"start_s": 0, "end_s": 1, "description": "A dog.", "things": ["a dog"]}]},
    "junior": {"*": DOG},
    "senior": {"reasoning": "clear", "listen_again": None, "answer": HOUND},
    "validator": {"*": {"plausible": True, "reason": "a dog is there"}},
}


def crew(script: dict[str, Any], model: ScriptedModel | None = None, **changes: Any) -> Crew:
    model = model or ScriptedModel(script)
    parts: dict[str, Any] = {
        "scorer": ScriptedScorer(script),
        "viewer": ChatViewer(model),
        "junior": ChatJunior(model),
        "senior": ChatSenior(model),
        "validator": ChatValidator(model),
        "thresholds": Thresholds.of("paper"),
        "rules": HandOffRules(phrases=("birds chirping in the distance",)),
    }
    return Crew(**{**parts, **changes})


def sound_file(path: Path, *, duration_s: float = 1.0) -> Path:
    times = np.arange(round(duration_s * 16_000)) / 16_000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * times), 16_000)
    return path


def clips(folder: Path, count: int, *, video: Path | None = None) -> list[SourceClip]:
    audio = sound_file(folder / "tone.wav")
    return [
        SourceClip(name=f"c{i}", audio=audio, video=video, duration_s=1.0) for i in range(count)
    ]


async def open_once(settings: CrewSettings, folder: Path) -> None:
    """Open a crew, which refuses what is missing, and close it again."""
    with CallStore.open(folder / "calls.sqlite") as calls:
        async with open_crew(settings, calls=calls, executor=Executor()):
            pass
