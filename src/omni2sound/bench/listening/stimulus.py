"""Stimuli and trials of a listening test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stimulus:
    """A sound, or a video with sound, under a label that names no system."""

    label: str
    media_type: str
    """Such as audio/flac."""
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trial:
    """One page of the test: versions of one clip."""

    name: str
    caption: str
    """Shown above the stimuli; empty for none."""
    questions: tuple[str, ...]
    """Names of the questions that are asked."""
    stimuli: Sequence[Stimulus]
    """In the order of the page."""
    reference: Stimulus | None = None
    """The open reference of a mushra trial."""
