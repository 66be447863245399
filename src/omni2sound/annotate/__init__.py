"""Annotation: captions for training at a known cost, by the SoundAtlas pipeline.

    clip -> perceive -> route -> compress -> junior -> hand-off -> senior -> post-hoc -> validate

In:   clips (`SourceClip`), a `Crew`: a model for each role, thresholds, rules.
Out:  `Journey`s: the result of each step and the outcome of the clip.

Roles are played by chat models (`chat`) or local networks (`local`); `build` makes a crew from
names of models and annotates a manifest; `report` shows and exports a run.
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
