"""PE-AV and PE-A-Frame: transformers' own classes at tiny sizes with random weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from omni2sound.encoders.metric.pe_av import FRAME_S, RATE_HZ, PeAFrame, PeAv, PictureInput
from omni2sound.errors import ConfigError, MissingPartError, ShapeError, UserError
from tests.encoders.metric.test_published_judges import listening

WORDS = ("[PAD]", "[CLS]", "a", "dog", "barks", "bird", "sings", "rain", "falls", "loud")
_ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 16,
}


def configs(vision: Any = None) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Tiny configurations of text, sound and video."""
    text = {
        "model_type": "modernbert",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": len(WORDS),
        "pad_token_id": 0,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1),
    }
    codec = {
        "model_type": "dac",
        "encoder_hidden_size": 2,
        "decoder_hidden_size": 16,
        "hidden_size": 32,
        "codebook_dim": 8,
        "downsampling_ratios": [2, 8, 10, 12],
    }
    audio = {"model_type": "pe_audio_encoder", **_ENCODER, "dac_config": codec}
    video = {"model_type": "pe_video_encoder", **_ENCODER, "vision_config": vision}
    return text, audio, video


def tokenizer() -> Tokenizer:
    found = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[CLS]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return found


def scaled(network: Any) -> Any:
    """Random weights; logits as those of trained networks, neither all 0 nor all huge."""
    listening(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "logit_scale" in name:
                parameter.fill_(0.1)
    return network


def pe_av(count: int | None = 16) -> PeAv:
    """Random PE-AV; a small ViT stands in for timm's picture tower."""
    from transformers import (
        PeAudioVideoConfig,
        PeAudioVideoModel,
        PeVideoEncoderConfig,
        ViTConfig,
    )

    vision = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        num_labels=12,
    )
    text, audio, _ = configs()
    video = PeVideoEncoderConfig(**_ENCODER, vision_config=vision)
    joined = {**_ENCODER, "audio_config": audio, "video_config": video}
    network = PeAudioVideoModel(PeAudioVideoConfig(text_config=text, audio_video_config=joined))
    return PeAv(scaled(network), tokenizer(), PictureInput(side_px=32, count=count))


def frame_network() -> Any:
    from transformers import PeAudioConfig, PeAudioFrameLevelModel

    text, audio, _ = configs()
    return scaled(PeAudioFrameLevelModel(PeAudioConfig(text_config=text, audio_config=audio)))


def pe_a_frame() -> PeAFrame:
    return PeAFrame(frame_network(), tokenizer())


def noise(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)


def test_all_embeddings_are_unit_vectors_of_one_space() -> None:
    network = pe_av()
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 40, 3), dtype=np.uint8)
    texts = network.embed_text(["a dog barks", "rain falls loud loud loud"])
    every = [network.embed_audio(noise(30_001)), network.embed_pictures(frames), *texts]
    for vector in every:
        assert vector.shape == (32,)
        assert float(vector.norm()) == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(texts[0], texts[1], atol=1e-3)


def test_sentences_do_not_depend_on_others_in_the_batch() -> None:
    network = pe_av()
    alone = network.embed_text(["a dog barks"])[0]
    together = network.embed_text(["rain falls loud loud loud loud", "a dog barks"])[1]
    assert torch.allclose(alone, together, atol=1e-5)


def test_scores_are_those_of_transformers_forward() -> None:
    network, sound = pe_av(), noise(48_000)
    ids = torch.tensor([[2, 3, 4]])
    with torch.no_grad():
        both = network._network(input_ids=ids, **network._sound(sound))
    expected = torch.cosine_similarity(both.audio_embeds, both.text_audio_embeds)
    found = network.embed_audio(sound) @ network.embed_text(["a dog barks"])[0]
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_probabilities_are_those_of_transformers_forward() -> None:
    network, sound = pe_a_frame(), noise(47_000)
    with torch.no_grad():
        both = network._network(input_ids=torch.tensor([[2, 3, 4]]), **network._sound(sound))
    (heard,) = network.heard(sound, ["a dog barks"])
    assert len(heard) == int(np.ceil(47_000 / RATE_HZ / FRAME_S))
    expected = both.logits_audio_text.sigmoid().flatten().numpy()
    np.testing.assert_allclose(heard, expected, atol=1e-5)
    assert heard.std() > 1e-4, "frames differ, or nothing is tested"


def test_pictures_are_spread_over_the_clip() -> None:
    assert PictureInput(count=16).places(31) == list(range(0, 31, 2))
    assert PictureInput(count=4).places(2) == [0, 0, 0, 1]
    assert PictureInput(count=None).places(3) == [0, 1, 2]


def test_what_is_no_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="48 kHz"):
        pe_av().embed_audio(noise(0))
    with pytest.raises(UserError, match="non-empty"):
        pe_a_frame().heard(noise(2_000), [])


def write_frame_folder(folder: Path) -> Path:
    frame_network().save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def test_a_folder_gives_the_network_that_was_stored(tmp_path: Path) -> None:
    loaded = PeAFrame.load(write_frame_folder(tmp_path))
    sound = noise(9_600)
    np.testing.assert_allclose(
        loaded.heard(sound, ["a bird sings"]),
        pe_a_frame().heard(sound, ["a bird sings"]),
        atol=1e-6,
    )


def test_another_network_or_half_a_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match=r"PE-A-Frame: .* lacks model\.safetensors"):
        PeAFrame.load(tmp_path)
    write_frame_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["audio_config"]["num_hidden_layers"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"not this network: .*audio_encoder\.layers\.1") as said:
        PeAFrame.load(tmp_path)
    assert "\n" not in str(said.value)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        PeAFrame.load(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_the_package_of_the_picture_tower_is_asked_for(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "processor_config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(MissingPartError, match="pip install timm"):
        PeAv.load(tmp_path)


def test_settings_of_pictures_are_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "processor_config.json"
    video: dict[str, Any] = {"size": {"height": 336, "width": 336}, "do_sample_frames": False}
    file.write_text(json.dumps({"video_processor": video}))
    assert PictureInput.read(file) == PictureInput(side_px=336, count=None)
    file.write_text(
        json.dumps({"video_processor": {**video, "do_sample_frames": True} | {"num_frames": 16}})
    )
    assert PictureInput.read(file) == PictureInput()
    for wrong in ({}, {"video_processor": {"size": {"height": "big"}}}):
        file.write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match="no size of pictures"):
            PictureInput.read(file)
