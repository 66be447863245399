"""Encoders of the full-size model in their places: in one folder, or named as missing."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omni2sound.config import from_json
from omni2sound.encoders.clip import ClipShape, ClipVision, build_clip
from omni2sound.encoders.metric import yamnet
from omni2sound.encoders.synchformer import MotionConfig, MotionTransformer, SynchformerVisual
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import MissingPartError
from omni2sound.generate.conditions import ConditionEncoder
from omni2sound.generate.model import PipelineConfig
from omni2sound.generate.request import Defaults, GenerationRequest, ModelFacts
from omni2sound.generate.words.encoder import warn_of_syntax
from omni2sound.generate.words.plan import make_plan
from omni2sound.media.video import Kept, iter_frames
from omni2sound.recognise.observe import Seen
from omni2sound.weights import load_card, resolve_model
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


class _Watcher:
    """Reads a film at one picture a second, as the recogniser reads it."""

    def observe(self, video: Path, duration_s: float, *, keep: Kept) -> Seen:
        pictures = iter_frames(video, fps=1, size_px=(8, 8), duration_s=duration_s, keep=keep)
        return Seen(things=(), looked_s=tuple(float(i) for i, _ in enumerate(pictures)))


def test_a_film_that_was_just_recognised_is_not_decoded_again(tmp_path: Path, video: Path) -> None:
    card = load_card(resolve_model("embedded"))
    config = from_json(PipelineConfig, card.parts, where="card.parts")
    made = ConditionEncoder(config, None, torch.device("cpu"), loaders={"recogniser": _Watcher})
    wanted = made.samplings(video)
    assert len(wanted) == 2
    alone = [list(iter_frames(video, fps=x, size_px=y, duration_s=2)) for x, y in wanted]
    next(made.frames(video, wanted[0], 2))  # left before its end: nothing whole is kept
    assert not getattr(made._read, "kept", {})
    read = [list(made.frames(video, sampling, 2)) for sampling in wanted]  # the second is kept
    assert all(np.array_equal(x, y) for x, y in zip(read, alone, strict=True))

    made.recognise(video, 2, then_encode=True)
    kept = [made.frames(video, sampling, 2) for sampling in wanted]
    assert [len(made._read.kept), *map(type, kept)] == [0, *[type(iter([]))] * 2]
    assert all(np.array_equal(list(x), y) for x, y in zip(kept, alone, strict=True))

    made.recognise(video, 2, then_encode=True)
    shutil.copyfile(video, tmp_path / "other.mp4")
    (tmp_path / "other.mp4").replace(video)
    assert not isinstance(made.frames(video, wanted[0], 2), type(iter([])))
    made.recognise(video, 2)
    assert not made._read.kept


def test_a_missing_tagger_is_told_before_the_film_is_looked_at(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yamnet, "_PACKAGE", "not_there")
    card = load_card(resolve_model("embedded"))
    config = from_json(PipelineConfig, card.parts, where="card.parts")
    facts = ModelFacts(
        name=card.name,
        defaults=from_json(Defaults, card.defaults, where="card.defaults"),
        timebase=config.timebase,
        sample_rate_hz=44_100,
    )
    assert facts.defaults.recognise
    with pytest.raises(MissingPartError, match="not_there"):
        make_plan(GenerationRequest(video=video), Fraction(2), facts, encoder(tmp_path))
