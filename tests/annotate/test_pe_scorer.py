"""PE-AV and PE-A-Frame as scorers: real classes at tiny sizes with random weights."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.annotate import Caption, HeardEvent, StepStore, Thresholds, annotate
from omni2sound.annotate.build import CrewSettings
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.filters import post_hoc
from omni2sound.annotate.local.pe_av import PeNetworks, PeScorer, PeSource, spans
from omni2sound.annotate.records import Failure, Fit, Perception
from omni2sound.annotate.roles import SourceClip
from omni2sound.data.workers import Workers
from omni2sound.encoders.metric.pe_av import FRAME_S
from omni2sound.errors import MissingPartError, UserError
from tests.annotate.crews import SCRIPT, clips, crew, open_once
from tests.encoders.metric.test_pe_av import pe_a_frame, pe_av
from tests.media.clips import write_video

LOOSE = Thresholds(
    scorer="pe-av",
    source="lets all through",
    **dict.fromkeys(
        (
            *("route_audio_visual", "route_drop", "hand_off", "hand_off_music", "hand_off_event"),
            *("drop", "drop_music", "drop_event"),
        ),
        -1.0,
    ),
)


def tiny(av: str, frames: str | None, device: str) -> PeNetworks:
    """Stand in for the published weights; importable by workers."""
    return PeNetworks(av=pe_av(), frames=None if frames is None else pe_a_frame())


def scorer(frames: str | None = "tiny", count: int = 1) -> PeScorer:
    source = PeSource(av="tiny", frames=frames, load=tiny)
    return PeScorer(source=source, executor=Executor(workers=Workers(count=count)))


def run(folder: Path, some: list[SourceClip], who: PeScorer) -> list[Any]:
    async def all_of_them(store: StepStore) -> list[Any]:
        team = crew(SCRIPT, scorer=who, thresholds=LOOSE)
        return [j async for j in annotate(some, team, store)]

    with StepStore.open(folder / "steps.sqlite") as store:
        return asyncio.run(all_of_them(store))


def test_clips_go_through_all_steps_and_events_are_scored(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", ticks=range(0, 600, 75))
    (clip,) = clips(tmp_path, 1, video=tmp_path / "v.mp4")
    silent = replace(clip, name="no picture", video=None)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    bad = SourceClip(name="bad", audio=tmp_path / "bad.wav", video=None)
    who = scorer()
    seen, unseen, broken = run(tmp_path, [clip, silent, bad], who)
    assert seen.end == unseen.end == "kept"
    perception = seen.found["perceive"]
    assert isinstance(perception, Perception) and perception.similarity is not None
    assert -1 <= perception.similarity <= 1 and perception.duration_s == 1.0
    assert unseen.found["perceive"].similarity is None
    assert perception.sound == unseen.found["perceive"].sound, "the picture changes no sound"
    last = seen.found["post-hoc"]
    assert set(last.scores) == {"caption_audio", "weakest_event"}
    assert 0 <= last.scores["weakest_event"] <= 1
    failure = broken.found["perceive"]
    assert isinstance(failure, Failure) and failure.kind == "media"
    assert who.executor.effort["score_pe"].jobs == 2, "an unchanged caption is scored once"


def test_without_frames_no_event_is_scored(tmp_path: Path) -> None:
    (only,) = run(tmp_path, clips(tmp_path, 1), scorer(frames=None))
    assert set(only.found["post-hoc"].scores) == {"caption_audio"}


@given(st.lists(st.booleans(), max_size=12))
def test_spans_cover_the_frames_that_are_heard(heard: list[bool]) -> None:
    found = spans(np.where(heard, 0.9, 0.1).astype(np.float32))
    covered = [
        any(start <= round(i * FRAME_S, 2) < end for start, end in found) for i in range(len(heard))
    ]
    assert covered == heard
    assert all(a[1] < b[0] for a, b in pairwise(found)), "apart"


def test_the_reason_says_where_a_sound_is_heard() -> None:
    caption = Caption(text="A dog barks.", events=(HeardEvent(what="a dog", start_s=0, end_s=1),))
    fit = Fit(caption=0.5, events=(0.1,), heard=(((3.0, 4.2),),))
    decision = post_hoc(caption, fit, replace(LOOSE, drop_event=0.3))
    assert decision.outcome == "drop"
    assert decision.reasons == ("'a dog' fits the sound at 0.100 < 0.3; it is heard at 3.0-4.2 s",)


def test_what_is_missing_is_said_in_one_line_before_a_run(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match=r"PE-AV: .* lacks model\.safetensors") as caught:
        asyncio.run(open_once(CrewSettings(scorer="pe-av", weights=tmp_path), tmp_path))
    assert "\n" not in str(caught.value)
    unpinned = CrewSettings(scorer="pe-av", weights=Path("facebook/pe-av-base@main"))
    with pytest.raises(UserError, match="40 hex digits"):
        asyncio.run(open_once(unpinned, tmp_path))
    with pytest.raises(UserError, match="annotate calibrate"):
        Thresholds.of("pe-av")
    with pytest.raises(UserError, match="goes with pe-av"):
        CrewSettings(event_weights=tmp_path)
