"""Captions good enough to train on, at a known cost: the SoundAtlas pipeline.

    clip -> perceive -> route -> compress -> junior -> hand-off -> senior -> post-hoc -> validate

In:   clips (`SourceClip`), a `Crew`: a model for each role, thresholds, rules.
Out:  `Journey`s: what each step found out, and how the clip ended.

Who plays a role is chosen by whoever builds the crew: chat models (`chat_agents`), local
networks (`local`), a script (`scripted`). The order of steps, the keys under which results
are kept and the rules are here and nowhere else.
"""

from __future__ import annotations

from omni2sound.annotate.filters import HandOffRules, Thresholds, hallucination_phrases
from omni2sound.annotate.records import Caption, Decision, HeardEvent, VisualContext
from omni2sound.annotate.roles import SourceClip, Work
from omni2sound.annotate.steps import STEPS_FILE, StepStore
from omni2sound.annotate.workflow import STEPS, Crew, Journey, Progress, annotate

__all__ = [
    "STEPS",
    "STEPS_FILE",
    "Caption",
    "Crew",
    "Decision",
    "HandOffRules",
    "HeardEvent",
    "Journey",
    "Progress",
    "SourceClip",
    "StepStore",
    "Thresholds",
    "VisualContext",
    "Work",
    "annotate",
    "hallucination_phrases",
]
