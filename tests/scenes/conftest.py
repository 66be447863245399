"""Stage material made in code: clicks, tones, noises and drawn shapes, as real `SceneAssets`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import (
    DISTRACTOR,
    SPLITS,
    Catalogue,
    Kind,
    Motion,
    Picture,
    Recording,
    SoundClass,
)

_KINDS: tuple[tuple[str, str, str, Kind, tuple[Motion, ...]], ...] = (
    ("bell", "a bell", "rings", "impulsive", ("strike", "shake")),
    ("drum", "a drum", "booms", "impulsive", ("strike", "bounce")),
    ("door", "a door", "slams", "impulsive", ("open", "strike")),
    ("dog", "a dog", "barks", "impulsive", ("speak", "pulse")),
    ("engine", "an engine", "hums", "sustained", ("shake", "pass_by")),
    ("water", "water", "splashes", "sustained", ("pulse", "shake")),
    ("wind", "the wind", "blows", "sustained", ()),
)


def _waveform(class_id: str, take: int) -> np.ndarray:
    rng = np.random.default_rng([len(class_id), ord(class_id[0]), take])
    time_s = np.arange(round(SAMPLE_RATE_HZ * rng.uniform(0.8, 2.0))) / SAMPLE_RATE_HZ
    if class_id in ("bell", "drum", "door", "dog"):
        tone = sum(np.sin(2 * np.pi * f * time_s) for f in rng.uniform(150, 3000, 4))
        sound = (tone + rng.standard_normal(len(time_s))) * np.exp(-time_s / rng.uniform(0.05, 0.4))
    else:
        swell = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time_s)
        sound = rng.standard_normal(len(time_s)) * swell
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def _picture(class_id: str, take: int) -> np.ndarray:
    rng = np.random.default_rng([len(class_id), ord(class_id[0]), take, 1])
    width, height = (int(v) for v in rng.integers(60, 140, 2))
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    colours = [tuple(int(c) for c in rng.integers(0, 255, 3)) for _ in range(4)]
    draw.ellipse((4, 4, width - 5, height - 5), fill=colours[0])
    draw.rectangle((width // 3, height // 4, width // 2, height // 2), fill=colours[1])
    draw.ellipse((width // 2, height // 2, width - 20, height - 15), fill=colours[2])
    draw.line((8, height // 2, width - 8, height // 3), fill=colours[3], width=4)
    return np.asarray(image)


@pytest.fixture(scope="session")
def assets() -> SceneAssets:
    """Seven classes, two families a split, and two silent pictures a split."""
    common = {"package": "made-in-code", "licence": "CC0-1.0", "attribution": "this test"}
    recordings, pictures = [], []
    waveforms, images = {}, {}
    for class_id, *_rest, motions in _KINDS:
        for k, split in enumerate(s for s in SPLITS for _ in range(2)):
            name = f"{class_id}-{k}"
            waveforms[name] = _waveform(class_id, k)
            recordings.append(
                Recording(
                    recording_id=name,
                    class_id=class_id,
                    family=name,
                    split=split,
                    path=f"{name}.wav",
                    start_s=0.0,
                    end_s=len(waveforms[name]) / SAMPLE_RATE_HZ,
                    **common,
                )
            )
            if motions:
                images[name] = _picture(class_id, k)
                pictures.append(
                    Picture(
                        picture_id=name,
                        class_id=class_id,
                        family=f"p-{name}",
                        split=split,
                        path=f"{name}.png",
                        label=f"a {class_id}",
                        **common,
                    )
                )
    for k, split in enumerate(s for s in SPLITS for _ in range(2)):
        name = f"apple-{k}"
        images[name] = _picture("apple", k)
        pictures.append(
            Picture(
                picture_id=name,
                class_id=DISTRACTOR,
                family=f"p-{name}",
                split=split,
                path=f"{name}.png",
                label="an apple",
                **common,
            )
        )
    classes = tuple(
        SoundClass(
            class_id=class_id,
            names=(name, f"one {class_id}"),
            held_out_names=(f"some {class_id}",),
            verbs=(verb, "sounds"),
            held_out_verbs=("is heard",),
            kind=kind,
            motions=motions,
            yamnet_classes=(class_id.title(),),
            pictures=bool(motions),
        )
        for class_id, name, verb, kind, motions in _KINDS
    )
    catalogue = Catalogue(
        version="made-in-code",
        classes=classes,
        recordings=tuple(recordings),
        pictures=tuple(pictures),
    )
    return SceneAssets.from_arrays(catalogue, waveforms, images)
