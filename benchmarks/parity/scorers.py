"""Scorers of captions and sounds beside their authors' code, on random weights.

PE-AV and PE-A-Frame beside transformers' own processors and `forward`, Audiobox-Aesthetics beside
its authors' predictor.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch

from benchmarks.parity._table import Row, relative
from benchmarks.parity._upstream import heard, make_listen, sound

WORDS = ("[PAD]", "[CLS]", "a", "dog", "barks", "bird", "sings", "rain", "falls", "loud")
TEXTS = ("a dog barks", "rain falls loud loud a bird sings")
ENCODER = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "head_dim": 32,
}
AUDIO = {
    "model_type": "pe_audio_encoder",
    **ENCODER,
    "dac_config": {
        "model_type": "dac",
        "encoder_hidden_size": 4,
        "decoder_hidden_size": 16,
        "hidden_size": 64,
        "codebook_dim": 16,
        "downsampling_ratios": [2, 8, 10, 12],
    },
}
TEXT = {
    "model_type": "modernbert",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "vocab_size": len(WORDS),
    "pad_token_id": 0,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1),
}


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[CLS]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _sentences() -> dict[str, torch.Tensor]:
    """Token numbers, padded by hand."""
    rows = [[WORDS.index(word) for word in text.split()] for text in TEXTS]
    most = max(map(len, rows))
    ids = torch.tensor([row + [0] * (most - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def _sounds() -> tuple[list[Any], list[dict[str, torch.Tensor]]]:
    """Two sounds of different lengths, one of broken frames, and transformers' inputs for them.

    Each by itself: in a padded batch the last frames of a shorter sound hear the padding.
    """
    from transformers import PeAudioFeatureExtractor

    waves = [sound(samples)[0].numpy() for samples in (96_000, 47_001)]
    extract = PeAudioFeatureExtractor()
    return waves, [
        dict(extract([wave], sampling_rate=48_000, return_tensors="pt")) for wave in waves
    ]


def _scale(network: Any) -> Any:
    make_listen(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "logit_scale" in name:
                parameter.fill_(0.05)
    return network.eval()


def _pe_av() -> float:
    import timm
    import torchvision
    from transformers import PeAudioVideoConfig, PeAudioVideoModel, PeVideoVideoProcessor

    from omni2sound.encoders.metric.pe_av import PeAv, PictureInput

    assert timm
    assert torchvision
    vision = {
        "architecture": "vit_pe_core_tiny_patch16_384",
        "num_classes": 64,
        "model_args": {"img_size": 64},
    }
    video = {"model_type": "pe_video_encoder", **ENCODER, "vision_config": vision}
    joined = {**ENCODER, "audio_config": AUDIO, "video_config": video}
    config = PeAudioVideoConfig(text_config=TEXT, audio_video_config=joined)
    network = _scale(PeAudioVideoModel(config))
    ours = PeAv(network, _tokenizer(), PictureInput(side_px=64, count=16))
    generator = torch.Generator().manual_seed(0)
    videos = [
        torch.randint(0, 256, (count, 90, 160, 3), generator=generator).to(torch.uint8)
        for count in (31, 20)
    ]
    processor = PeVideoVideoProcessor(
        size={"height": 64, "width": 64},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        do_sample_frames=False,
        **dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"), True),
    )
    seen = [v[ours.pictures.places(len(v))] for v in videos]
    pixels = processor(videos=[v.permute(0, 3, 1, 2) for v in seen], return_tensors="pt")
    waves, inputs = _sounds()
    texts = [{name: rows[[n]] for name, rows in _sentences().items()} for n in range(len(TEXTS))]
    with torch.no_grad():
        theirs = [
            network(**one, **text, pixel_values_videos=clip[None])
            for one, text, clip in zip(inputs, texts, pixels["pixel_values_videos"], strict=True)
        ]

    def unit(name: str) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.cat([out[name] for out in theirs]), dim=-1)

    return max(
        relative(torch.stack([ours.embed_audio(w) for w in waves]), heard(unit("audio_embeds"))),
        relative(
            torch.stack([ours.embed_pictures(v.numpy()) for v in seen]),
            heard(unit("video_embeds")),
        ),
        relative(ours.embed_text(TEXTS), heard(unit("text_audio_embeds"))),
    )


def _pe_a_frame() -> float:
    from transformers import PeAudioConfig, PeAudioFrameLevelModel

    from omni2sound.encoders.metric.pe_av import PeAFrame

    config = PeAudioConfig(text_config=TEXT, audio_config=AUDIO)
    network = _scale(PeAudioFrameLevelModel(config))
    ours = PeAFrame(network, _tokenizer())
    waves, inputs = _sounds()
    worst = 0.0
    for wave, one in zip(waves, inputs, strict=True):
        with torch.no_grad():
            (expected_LF,) = network(**one, **_sentences()).logits_audio_text.sigmoid()
        worst = max(worst, relative(torch.from_numpy(ours.heard(wave, TEXTS)), heard(expected_LF)))
    return worst


def _aesthetics() -> float:
    from audiobox_aesthetics.infer import AesPredictor, Normalize
    from audiobox_aesthetics.model import aes

    from omni2sound.encoders.metric.aesthetics import AXES, Aesthetics

    small = {
        "encoder_layers": 2,
        "encoder_embed_dim": 64,
        "encoder_ffn_embed_dim": 96,
        "encoder_attention_heads": 2,
        "conv_feature_layers": "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2",
    }
    config = aes.WavLMConfig({**vars(aes.DEFAULT_AUDIO_CFG), **small})
    scales = {axis: {"mean": 0.1 * number, "std": 1.5} for number, axis in enumerate(AXES)}
    with mock.patch.object(aes, "DEFAULT_AUDIO_CFG", config):
        network = aes.AesMultiOutput(nth_layer=3, target_transform=scales)
    make_listen(network)
    theirs = object.__new__(AesPredictor)  # its __init__ fetches the weights
    theirs.model, theirs.device = network.eval(), torch.device("cpu")
    theirs.data_col, theirs.sample_rate = "path", 16_000
    theirs.target_transform = {axis: Normalize(**scale) for axis, scale in scales.items()}
    waves = [sound(samples)[0] for samples in (208_000, 64_001)]
    rows = theirs.forward([{"path": wave[None], "sample_rate": 16_000} for wave in waves])
    ours = Aesthetics(network)
    found = torch.tensor([[ours.scores(w.numpy())[axis] for axis in AXES] for w in waves])
    return relative(found, heard(torch.tensor([[row[axis] for axis in AXES] for row in rows])))


ROWS = (
    Row(
        part="PE-AV",
        against="transformers, timm 1.0.31, torchvision 0.28.0",
        what="width 64, tiny PE-Core tower: unit vectors of 2 sounds, 2 x 16 pictures, 2 texts",
        limit=1e-4,
        measure=_pe_av,
    ),
    Row(
        part="PE-A-Frame",
        against="transformers",
        what="width 64: probabilities of 2 texts by frame, of 2 s and 0.98 s of sound",
        limit=1e-4,
        measure=_pe_a_frame,
    ),
    Row(
        part="Audiobox-Aesthetics",
        against="audiobox_aesthetics 0.0.4",
        what="width 64, 2 layers: four numbers of 13 s (two windows) and of 4 s",
        limit=1e-4,
        measure=_aesthetics,
    ),
)
