"""Thresholds that are measured: what they promise holds on the clips they were measured on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.annotate import HeardEvent, SourceClip, Thresholds, Work
from omni2sound.annotate.calibrate import Calibration, KnownClip, calibrate, known_clips
from omni2sound.annotate.records import Failure, Fit, Perception
from omni2sound.data.corpora.manifest import Clip, write_manifest
from omni2sound.errors import UserError


@dataclass
class Numbers:
    """Scores a pair by the noise of its clip, and by whether it is a true one."""

    noise: Sequence[float]
    gap: float
    name: str = "numbers"
    identity: Any = None
    lanes: None = None

    async def perceive(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Any]]:
        for index, work in enumerate(works):
            if work.clip.name == "broken":
                yield index, Failure(kind="media", reason="-")
                continue
            assert work.clip.video is not None
            own = work.clip.video.stem == work.clip.audio.stem
            similarity = round(self.noise[int(work.clip.audio.stem)] + self.gap * own, 4)
            yield index, Perception(duration_s=1, similarity=similarity, sound="")

    async def score(self, works: Sequence[Work]) -> AsyncIterator[tuple[int, Fit]]:
        for index, work in enumerate(works):
            assert work.caption is not None
            noise = self.noise[int(work.clip.audio.stem)]
            own = f" {work.clip.audio.stem}." in work.caption.text
            events = tuple(noise + self.gap * (e.what == "here") for e in work.caption.events)
            yield index, Fit(caption=round(noise + self.gap * own, 4), events=events)


def known(count: int) -> list[KnownClip]:
    return [
        KnownClip(
            clip=SourceClip(name=str(i), audio=Path(f"{i}.wav"), video=Path(f"{i}.mp4")),
            caption=f"Number {i}.",
            present=(HeardEvent(what="here"),),
            absent=(HeardEvent(what="elsewhere"),),
        )
        for i in range(count)
    ]


def measure(clips: list[KnownClip], scorer: Numbers, **options: Any) -> Calibration:
    return asyncio.run(calibrate(clips, scorer, source="numbers", **options))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=20, max_size=40),
    st.floats(0, 2),
    st.sampled_from([0, 0.05, 0.2]),
)
def test_what_is_promised_holds(noise: list[float], gap: float, share: float) -> None:
    found = measure(known(len(noise)), Numbers(noise, gap), lose=share, let_pass=share)
    pairs = {p.name: p for p in found.pairs}
    assert pairs["route_drop"].lost <= share
    assert all(pairs[name].passed <= share for name in ("drop", "drop_event"))
    numbers = found.thresholds
    assert numbers.route_drop <= numbers.route_audio_visual
    assert numbers.hand_off == numbers.drop == numbers.drop_music, "no music: no numbers of its own"
    for p in pairs.values():
        wins = (p.true_N[:, None] > p.wrong_N) + 0.5 * (p.true_N[:, None] == p.wrong_N)
        assert p.auc == pytest.approx(wins.mean())


def test_what_can_be_told_apart_is_told_apart(tmp_path: Path) -> None:
    found = measure(known(40), Numbers(list(np.linspace(0, 0.3, 40)), 0.5))
    assert all(p.auc == 1 for p in found.pairs)
    assert max(p.lost + p.passed for p in found.pairs if p.name != "route_drop") <= 0.05
    found.write(tmp_path / "t.toml")
    assert Thresholds.of("numbers", tmp_path / "t.toml") == found.thresholds
    assert "40 | 40" in (tmp_path / "t.toml").read_text(), "the table is in the file"


def test_few_clips_and_clips_without_a_partner_are_refused() -> None:
    with pytest.raises(UserError, match="at least 20"):
        measure(known(19), Numbers([0.0] * 19, 1))
    same = [KnownClip(clip=k.clip, caption="A dog barks.") for k in known(20)]
    with pytest.raises(UserError, match="every other clip has its caption"):
        measure(same, Numbers([0.0] * 20, 1))


def test_a_clip_that_cannot_be_read_is_counted() -> None:
    clips = known(30)
    broken = SourceClip(name="broken", audio=Path("3.wav"), video=Path("3.mp4"))
    clips[3] = KnownClip(clip=broken, caption="Number 3.")
    found = measure(clips, Numbers([0.5] * 30, 1))
    assert found.num_failed == 1
    assert str(found).endswith("1 clips could not be read")


def test_clips_without_captions_are_left_out(tmp_path: Path) -> None:
    rows = [
        Clip(clip_id=str(i), corpus="c", split="train", audio="a.wav", captions=("Hm.",) * (i % 2))
        for i in range(10)
    ]
    write_manifest(tmp_path / "m.jsonl", rows, media=tmp_path)
    found = known_clips(tmp_path / "m.jsonl")
    assert [k.clip.name for k in found] == [f"c/{i}" for i in range(1, 10, 2)]
    assert len(known_clips(tmp_path / "m.jsonl", limit=3)) == 3
