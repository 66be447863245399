"""Encoders of the full-size model in their places: in one folder, or named as missing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from omni2sound.encoders.clip import ClipShape, ClipVision, build_clip
from omni2sound.encoders.synchformer import MotionConfig, MotionTransformer, SynchformerVisual
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import MissingPartError
from omni2sound.generate.conditions import ConditionEncoder
from omni2sound.generate.words.encoder import warn_of_syntax
from tests.convert.checkpoints import TINY
from tests.media.clips import write_video


def encoder(folder: Path, **loaders: Any) -> ConditionEncoder:
    device = torch.device("cpu")
    return ConditionEncoder(TINY, None, device, published=folder, loaders=loaders)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    ticks, rate = range(50), Fraction(25)
    return write_video(tmp_path / "v.mp4", ticks=ticks, time_base=1 / rate, rate=rate)


def test_a_missing_encoder_is_named_with_its_folder(tmp_path: Path, video: Path) -> None:
    with pytest.raises(MissingPartError, match=r"Flan-T5 base: .*flan-t5-base"):
        encoder(tmp_path).encode(None, "rain", 2)
    with pytest.raises(MissingPartError, match=r"DFN5B CLIP .*dfn5b-clip"):
        encoder(tmp_path).encode(video, None, 2)


def test_a_missing_sync_encoder_is_named_too(tmp_path: Path, video: Path) -> None:
    shape = ClipShape(width=16, depth=1, num_heads=2, frame_px=42, dim=1024)
    clip = ClipVision(build_clip(shape), shape=shape)
    with pytest.raises(MissingPartError, match=r"Synchformer: .*synchformer"):
        encoder(tmp_path, vision=lambda: clip).encode(video, None, 2)


def test_a_prompt_that_cannot_be_read_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = encoder(tmp_path, text=TextEncoder.load)
    assert len(made.nearest_kinds("дождь")) in (0, 3)
    assert not made.names("дождь", "a dog barks")
    made.encode(None, "дождь", 2)
    assert [r.message.count("no word") for r in caplog.records] == [1]


def test_two_seconds_give_sixteen_pictures_and_a_sync_feature_per_latent_frame(
    tmp_path: Path, video: Path
) -> None:
    shape = ClipShape(width=16, depth=1, num_heads=2, frame_px=42, dim=1024)
    clip = ClipVision(build_clip(shape), shape=shape)
    motion = SynchformerVisual(
        MotionTransformer(MotionConfig(width=768, depth=1, num_heads=2, frame_px=32))
    )
    seen = encoder(tmp_path, vision=lambda: clip, sync=lambda: motion).encode(video, None, 2)
    assert seen.vision_BTV is not None
    assert seen.vision_BTV.shape == (1, 16, 1024)
    assert seen.sync_BLS is not None
    assert seen.sync_BLS.shape == (1, TINY.timebase.num_latent_frames(2), 768)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("(dog barking:1.4), masterpiece", "'(dog barking:1.4)' is read as words: a weight"),
        ("rain, (wind: .5)", "'(wind: .5)' is read as words: a weight"),
        ("0-2s: rain falls; 2-5s: a dog barks", "'0-2s' is read as words: a time"),
        ("rain from 0.5 to 2 seconds", "'0.5 to 2 seconds' is read as words: a time"),
        ("a bell rings, 3 - 4.5 sec", "'3 - 4.5 sec' is read as words: a time"),
        ("a dog barks (twice), then 3 birds sing", None),
        ("a 5-2 formation of planes (type: jet)", None),
        ("rain at 16:30", None),
    ],
)
def test_notations_of_other_programs_are_named(
    prompt: str, found: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    # Prompts as users of ComfyUI and of prompts with times write them.
    warn_of_syntax(prompt)
    messages = [r.getMessage() for r in caplog.records]
    assert messages == ([] if found is None else [f"{found} has no effect in a prompt"])
