"""ImageBind and LAION-CLAP as scorers: real classes at tiny sizes with random weights."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from omni2sound.annotate import StepStore, Thresholds, annotate
from omni2sound.annotate.build import CrewSettings
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.published import PublishedScorer, ScoringNetworks
from omni2sound.annotate.records import Decision, Failure, Perception
from omni2sound.annotate.roles import SourceClip
from omni2sound.data.workers import Workers, kept_workers
from omni2sound.errors import MissingPartError, UserError
from tests.annotate.crews import SCRIPT, clips, crew, open_once
from tests.encoders.metric.test_published_judges import clap, image_bind
from tests.media.clips import write_video


def tiny(folder: Path, device: str) -> ScoringNetworks:
    """Stand in for the published weights; importable by workers."""
    return ScoringNetworks(imagebind=image_bind(), clap=clap())


def scorer(folder: Path, count: int = 1, **changes: Any) -> PublishedScorer:
    executor = Executor(workers=Workers(count=count))
    return PublishedScorer(folder=folder, executor=executor, load=tiny, **changes)


def run(folder: Path, some: list[SourceClip], who: PublishedScorer, name: str) -> list[Any]:
    thresholds = Thresholds.of("paper")
    loose = dict.fromkeys(("route_audio_visual", "route_drop", "hand_off", "drop"), -1.0)
    from dataclasses import replace

    async def all_of_them(store: StepStore) -> list[Any]:
        team = crew(SCRIPT, scorer=who, thresholds=replace(thresholds, **loose))
        return [j async for j in annotate(some, team, store)]

    with StepStore.open(folder / f"{name}.sqlite") as store:
        return asyncio.run(all_of_them(store))


def test_clips_go_through_all_steps(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", ticks=range(0, 600, 75))
    some = clips(tmp_path, 2, video=tmp_path / "v.mp4")
    alone = run(tmp_path, some, scorer(tmp_path), "alone")
    assert [j.end for j in alone] == ["kept"] * 2
    perception, routed = alone[0].found["perceive"], alone[0].found["route"]
    assert isinstance(perception, Perception) and isinstance(routed, Decision)
    assert perception.similarity is not None and -1 <= perception.similarity <= 1
    assert routed.scores["similarity"] == perception.similarity
    last = alone[0].found["post-hoc"]
    assert set(last.scores) == {"caption_audio"}, "no event is scored"


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", ticks=range(0, 600, 75))
    some = clips(tmp_path, 3, video=tmp_path / "v.mp4")
    alone = run(tmp_path, some, scorer(tmp_path), "alone")
    with kept_workers():
        together = run(tmp_path, some, scorer(tmp_path, 2), "together")
    assert [j.found for j in alone] == [j.found for j in together]


def test_the_papers_thresholds_are_theirs() -> None:
    row = Thresholds.of("paper")
    assert PublishedScorer.name == "paper"
    assert (row.route_audio_visual, row.route_drop) == (0.30, 0.20)
    assert (row.hand_off, row.hand_off_music) == (0.35, 0.15)


def test_a_clip_without_a_picture_has_no_similarity_and_a_broken_one_fails(
    tmp_path: Path,
) -> None:
    (good,) = clips(tmp_path, 1)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    bad = SourceClip(name="bad", audio=tmp_path / "bad.wav", video=None)
    first, second = run(tmp_path, [good, bad], scorer(tmp_path), "some")
    assert first.found["perceive"].similarity is None and first.end == "kept"
    failure = second.found["perceive"]
    assert isinstance(failure, Failure) and failure.kind == "media"


def test_missing_weights_are_said_in_one_line_before_a_run(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match=r"lacks imagebind_huge\.pth; get it from") as caught:
        asyncio.run(open_once(CrewSettings(scorer="imagebind+clap", weights=tmp_path), tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="folder of its published files"):
        CrewSettings(scorer="imagebind+clap")
    with pytest.raises(UserError, match="expected no folder"):
        CrewSettings(weights=tmp_path)
