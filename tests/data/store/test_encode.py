"""Features by the full-size model's encoders: the real classes, random and small."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel

from omni2sound.config import to_json
from omni2sound.data.store.encode import ClipEncoders, EncoderSource
from omni2sound.encoders.clip import ClipShape, ClipVision, build_clip
from omni2sound.encoders.registry import SynchformerPart, TextPart, VisionPart
from omni2sound.encoders.synchformer import MotionConfig, MotionTransformer, SynchformerVisual
from omni2sound.errors import MissingPartError, UserError
from omni2sound.models.oobleck import Oobleck, OobleckConfig
from omni2sound.weights import save_model
from tests.encoders.test_t5 import CONFIG, words

OOBLECK = OobleckConfig(channels=4, latent_dim=6)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> EncoderSource:
    folder = tmp_path_factory.mktemp("full-size")
    parts = {
        "autoencoder": OOBLECK,
        "sync": SynchformerPart(),
        "text": TextPart(encoder="flan-t5-base"),
        "vision": VisionPart(encoder="dfn5b-clip-vit-h-14-384"),
    }
    save_model(
        folder / "parts",
        name="parts",
        parts={name: to_json(part) for name, part in parts.items()},
        tensors={"autoencoder": Oobleck(OOBLECK).state_dict()},
        defaults={},
        training={},
        half=False,
    )
    t5 = folder / "published" / "flan-t5-base"
    t5.mkdir(parents=True)
    network = T5EncoderModel(T5Config(**CONFIG))
    save_file({k: v.clone() for k, v in network.state_dict().items()}, t5 / "model.safetensors")
    (t5 / "config.json").write_text(json.dumps(CONFIG))
    words().save(str(t5 / "tokenizer.json"))
    return EncoderSource(model=folder / "parts", published=folder / "published")


def test_rows_of_the_full_size_model(source: EncoderSource) -> None:
    encoders = ClipEncoders(source)
    (text,) = encoders.texts([("caption", "a dog")])
    assert text.token_ids_T is not None
    assert text.states_TE.shape == (6, CONFIG["d_model"])
    assert len(text.token_ids_T) == 6
    # The published files have one size only, so these two take the places of what `load` gives.
    shape = ClipShape(width=16, depth=1, num_heads=2, frame_px=42, dim=8)
    encoders._vision = ClipVision(build_clip(shape), shape=shape)
    motion = MotionConfig(width=24, depth=1, num_heads=2, frame_px=32)
    encoders._sync = SynchformerVisual(MotionTransformer(motion))
    assert encoders.vision_size_px is encoders.sync_size_px is None  # they resize themselves
    pictures = np.random.default_rng(0).integers(0, 256, (25, 40, 56, 3), dtype=np.uint8)
    vision_TV, sync_LS = encoders.pictures(pictures[:8], pictures, duration_s=1.0)
    assert vision_TV.shape == (8, 8)
    np.testing.assert_allclose(np.linalg.norm(vision_TV.astype(np.float32), axis=1), 1, atol=1e-3)
    # Two segments of eight features, 24 of which count as a second: the rest is not known.
    assert sync_LS.shape == (25, 24)
    assert sync_LS[:16].any(axis=1).all()
    assert not sync_LS[17:].any()
    with pytest.raises(UserError, match=r"needs 0\.64 s at least"):
        encoders.pictures(pictures[:4], pictures[:12], duration_s=0.5)


def test_latents_are_those_of_the_full_size_autoencoder(source: EncoderSource) -> None:
    encoders = ClipEncoders(source)
    sound_N = np.random.default_rng(0).standard_normal(6400).astype(np.float32)
    latents_LC = encoders.latents(sound_N)
    assert latents_LC.shape == (10, OOBLECK.latent_dim)
    assert np.isfinite(latents_LC).all()
    assert torch.equal(torch.from_numpy(encoders.latents(sound_N)), torch.from_numpy(latents_LC))


def test_a_store_says_which_encoders_it_was_made_with(source: EncoderSource) -> None:
    seen = source.describe(pictures=True, latents=True)
    assert (seen["text"], seen["sync"]) == ("flan-t5-base", "synchformer")
    assert seen["vision"] == "dfn5b-clip-vit-h-14-384"
    assert len(seen["autoencoder_sha256"]) == 64
    heard = source.describe(pictures=False, latents=False)
    assert heard["vision"] is heard["sync_sha256"] is heard["autoencoder_sha256"] is None


def test_missing_weights_are_named_with_their_folder(source: EncoderSource) -> None:
    encoders = ClipEncoders(source)
    pictures = np.zeros((25, 40, 56, 3), np.uint8)
    with pytest.raises(MissingPartError, match=r"DFN5B CLIP .*dfn5b-clip"):
        encoders.pictures(pictures[:8], pictures, duration_s=1.0)
