"""The networks of others that judge sounds, at tiny sizes; `make parity` compares with theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

from omni2sound.encoders.metric.clap import (
    Clap,
    ClapShape,
    build_clap,
    clap_log_mel,
    from_laion,
    with_constants,
)
from omni2sound.encoders.metric.imagebind import (
    NOT_NEEDED,
    ImageBind,
    ImageBindNetwork,
    ImageBindShape,
    imagebind_log_mel,
    picture_cuts,
)
from omni2sound.encoders.metric.panns import Cnn14, Panns, fourier_kernels
from omni2sound.encoders.metric.passt import Passt, PasstConfig, PasstNetwork, passt_log_mel
from omni2sound.encoders.metric.synchformer import (
    OFFSETS_S,
    Synchformer,
    SynchformerConfig,
    SynchformerNetwork,
    log_mel_segments,
)
from omni2sound.encoders.metric.vggish import Vggish, VggishNetwork, vggish_log_mel
from omni2sound.encoders.published import PANNS, fill
from omni2sound.encoders.synchformer import MotionConfig
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, ShapeError, UserError


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def listening(network: Any) -> Any:
    """Weights under which outputs depend on inputs, and start tokens are not zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(1.4 * parameter[0].numel() ** -0.5 * draw)
            else:  # gains of norms stay near one, so that no layer falls silent
                parameter.copy_(0.2 * draw + name.endswith("weight"))
    return network


def panns() -> Panns:
    return Panns(listening(Cnn14(channels=(4, 6, 8, 12, 16, 24), num_classes=7)))


def passt() -> Passt:
    return Passt(
        listening(PasstNetwork(PasstConfig(width=16, depth=2, num_heads=2, num_classes=7)))
    )


def vggish() -> Vggish:
    return Vggish(listening(VggishNetwork(channels=(2, 3, 4, 4), hidden=8)))


def sync_judge() -> Synchformer:
    visual = MotionConfig(width=16, depth=1, num_heads=2, frame_px=32)
    config = SynchformerConfig(visual=visual, depth=1, head_depth=1, head_heads=2)
    return Synchformer(listening(SynchformerNetwork(config)))


def image_bind() -> ImageBind:
    shape = ImageBindShape(
        vision_width=16,
        vision_depth=1,
        vision_heads=2,
        audio_width=16,
        audio_depth=1,
        audio_heads=2,
        dim=12,
    )
    return ImageBind(listening(ImageBindNetwork(shape)))


TINY_CLAP = ClapShape(
    audio_width=8,
    audio_depths=(1, 1, 2, 1),
    audio_heads=(1, 1, 2, 2),
    text_width=16,
    text_depth=1,
    text_heads=2,
    vocabulary=100,
    joint_dim=8,
)


def words() -> Tokenizer:
    alphabet = ["<s>", "<pad>", "</s>", *map(chr, range(32, 127))]
    made = Tokenizer(models.WordLevel({c: i for i, c in enumerate(alphabet)}, unk_token="</s>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def clap() -> Clap:
    return Clap(listening(build_clap(TINY_CLAP)), words())


TAGGERS = [(panns, 16_000), (passt, 32_000)]


@pytest.mark.parametrize(("make", "rate"), TAGGERS)
def test_a_tagger_judges_each_clip_by_itself(make: Any, rate: int) -> None:
    tagger = make()
    # Three levels of noise: as different as sounds are to an untrained network.
    clips = noise(3, rate) * torch.tensor([[0.01], [1.0], [5.0]])
    logits, embeddings = tagger.logits_and_embeddings(clips)
    assert logits.shape == (3, 7)
    assert len(embeddings) == 3
    alone = [tagger.logits_and_embeddings(clip[None]) for clip in clips]
    torch.testing.assert_close(logits, torch.cat([a for a, _ in alone]), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(embeddings, torch.cat([b for _, b in alone]), atol=1e-4, rtol=1e-3)
    assert float((logits[0] - logits[1]).abs().max()) > 1e-3


def test_cnn14_embeddings_are_not_negative() -> None:
    _, embeddings = panns().logits_and_embeddings(noise(2, 16_000))
    assert embeddings.min() >= 0


def test_cnn14_hears_level_in_decibels() -> None:
    network = Cnn14(channels=(1,))
    quiet, loud = (network.log_mel(level * noise(1, 8000)) for level in (1.0, 10.0))
    torch.testing.assert_close(loud - quiet, torch.full_like(quiet, 20.0), atol=0.01, rtol=0)


@pytest.mark.slow
def test_a_published_cnn14_is_used_up_and_its_kernels_are_checked(tmp_path: Path) -> None:
    """The published size: its file has the two Fourier kernels and counters of training."""
    network = Cnn14()
    state = {k: v.clone() for k, v in network.state_dict().items()}
    stft = "spectrogram_extractor.stft.conv_{}.weight"
    for part, kernel in zip(("real", "imag"), fourier_kernels(), strict=True):
        state[stft.format(part)] = kernel[:, None].clone()
    path = tmp_path / PANNS.files[0].name
    torch.save({"model": state, "iteration": 1}, path)
    assert Panns.load(tmp_path).dim == 2048
    state[stft.format("real")] += 0.01
    torch.save({"model": state}, path)
    with pytest.raises(IntegrityError, match="Hann window"):
        Panns.load(tmp_path)
    del state[stft.format("real")], state["fc1.bias"]
    torch.save({"model": state}, path)
    with pytest.raises(ConfigError, match=r"missing fc1\.bias"):
        Panns.load(tmp_path)


def test_passt_pads_with_zeros_and_cuts_at_ten_seconds() -> None:
    tagger = passt()
    short = noise(1, 64_000)
    padded = torch.nn.functional.pad(short, (0, 256_000))
    longer = torch.cat([padded, noise(1, 9000)], dim=1)
    expected, _ = tagger.logits_and_embeddings(padded)
    for clip in (short, longer):
        assert torch.equal(tagger.logits_and_embeddings(clip)[0], expected)


def test_passt_hears_silence_at_its_floor() -> None:
    quiet = passt_log_mel(torch.zeros(1, 32_000))
    torch.testing.assert_close(quiet, torch.full_like(quiet, (-11.5129 + 4.5) / 5))


@pytest.mark.parametrize(("samples", "examples"), [(15_600, 1), (128_000, 8), (31_000, 2)])
def test_vggish_gives_one_row_per_whole_stretch(samples: int, examples: int) -> None:
    assert vggish_log_mel(noise(samples)).shape == (examples, 96, 64)
    assert vggish().embed(noise(2, samples)).shape == (2, examples, 128)


def test_vggish_embeddings_may_be_negative() -> None:
    """The published last ReLU is left out."""
    assert vggish().embed(noise(1, 16_000)).min() < 0


def test_synchformer_pads_the_log_spectrum_with_zero() -> None:
    cuts = log_mel_segments(noise(15_360))
    assert cuts.shape == (2, 128, 66)
    last = torch.full((2, 128), 4.2677393 / (2 * 4.5689974))
    torch.testing.assert_close(cuts[:, :, -1], last)


def test_synchformer_decides_from_fourteen_segments_of_both() -> None:
    judge = sync_judge()
    audio = judge.audio_features(noise(16_000 * 8))
    assert audio.shape == (24, 6, 16)
    frames = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8)
    visual = judge.visual_features(frames)
    assert visual.shape == (4, 8, 16)
    seen = visual[:1].expand(14, -1, -1)[None]
    logits = judge.offset_logits(seen, audio[None, :14])
    assert logits.shape == (1, 21)
    assert not torch.allclose(logits, judge.offset_logits(seen, audio[None, -14:]))
    with pytest.raises(ShapeError, match="14 segments"):
        judge.offset_logits(seen, audio[None])


def test_offsets_are_a_fifth_of_a_second_apart() -> None:
    assert OFFSETS_S[0] == -2
    assert OFFSETS_S[10] == 0
    assert OFFSETS_S[-1] == 2
    steps = torch.diff(torch.tensor(OFFSETS_S))
    torch.testing.assert_close(steps, torch.full_like(steps, 0.2))


@given(st.integers(1, 480_000))
@settings(max_examples=8)
def test_clap_repeats_whole_clips_and_pads_the_rest(samples: int) -> None:
    short = noise(1, samples)
    repeated = short.repeat(1, 480_000 // samples)
    padded = torch.nn.functional.pad(repeated, (0, 480_000 - repeated.shape[1]))
    assert torch.equal(clap_log_mel(short), clap_log_mel(padded))


def test_clap_gives_unit_vectors_for_sounds_and_sentences() -> None:
    judge = clap()
    heard = judge.embed_audio(noise(2, 48_000))
    read = judge.embed_text(["rain", "a much longer sentence " * 9])
    for vectors in (heard, read):
        assert vectors.shape == (2, 8)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    alone = judge.embed_text(["rain"])
    torch.testing.assert_close(read[:1], alone, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="non-empty list"):
        judge.embed_text("rain")


def test_a_laion_file_is_used_up_or_named() -> None:
    """Its names are made from transformers' own by the inverse of the mapping."""
    network = build_clap(TINY_CLAP)
    original = _as_laion(network)
    mapped = with_constants(from_laion(original), network)
    fill(network, mapped, title="CLAP")
    extra = original | {"module.audio_branch.more": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"left over audio_model\.audio_encoder\.more"):
        fill(network, with_constants(from_laion(extra), network), title="CLAP")


def _as_laion(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict()
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(("position_ids", "token_type_ids")):
            continue
        new = name
        for ours, theirs in (
            ("audio_model.audio_encoder.batch_norm.", "audio_branch.bn0."),
            ("audio_model.audio_encoder.", "audio_branch."),
            ("text_model.", "text_branch."),
            ("projection.linear1.", "projection.0."),
            ("projection.linear2.", "projection.2."),
        ):
            new = new.replace(ours, theirs)
        if new.startswith("audio_branch."):
            for ours, theirs in (
                (".layernorm_before.", ".norm1."),
                (".layernorm_after.", ".norm2."),
                (".attention.self.relative", ".attn.relative"),
                (".attention.output.dense.", ".attn.proj."),
                (".intermediate.dense.", ".mlp.fc1."),
                (".output.dense.", ".mlp.fc2."),
            ):
                new = new.replace(ours, theirs)
            if ".attention.self.query." in new:
                parts = [state[name.replace("query", p)] for p in ("query", "key", "value")]
                tensor = torch.cat(parts)
                new = new.replace(".attention.self.query.", ".attn.qkv.")
            elif ".attention.self." in new:
                continue
        renamed[f"module.{new}"] = tensor
    renamed["module.audio_branch.tscam_conv.weight"] = torch.zeros(1)
    renamed["module.audio_branch.layers.0.blocks.0.attn_mask"] = torch.zeros(1)
    renamed["module.text_transform.sequential.0.weight"] = torch.zeros(1)
    return renamed


def test_imagebind_hears_three_cuts_evenly_spread() -> None:
    """Clicks at 1, 4 and 7 s of 8 s: each cut of 2 s at 0, 3 and 6 s has one in its middle."""
    clip = torch.zeros(128_000)
    clip[[16_000, 64_000, 112_000]] = 1.0
    cuts = imagebind_log_mel(clip)
    assert cuts.shape == (3, 1, 128, 204)
    loudest = cuts[:, 0, :, :198].mean(dim=1).argmax(dim=1)
    assert ((loudest >= 97) & (loudest <= 100)).all()
    torch.testing.assert_close(cuts[:, :, :, 198:], torch.full((3, 1, 128, 6), 4.268 / 9.138))


@pytest.mark.parametrize(("height", "width"), [(224, 300), (300, 224)])
def test_imagebind_sees_both_ends_and_the_middle(height: int, width: int) -> None:
    place = torch.arange(max(height, width)) % 256
    place = place[:, None].expand(300, 224) if height > width else place.expand(224, 300)
    frames = place.to(torch.uint8)[None, :, :, None].expand(4, height, width, 3)
    cuts = picture_cuts(frames)
    assert cuts.shape == (9, 3, 2, 224, 224)
    firsts = (cuts[:3, 0, 0, 0, 0] * 0.26862954 + 0.48145466) * 255
    torch.testing.assert_close(firsts, torch.tensor([0.0, 38.0, 76.0]), atol=0.01, rtol=0)


def test_imagebind_means_of_unit_vectors_are_at_most_that_long() -> None:
    judge = image_bind()
    heard = judge.embed_audio(noise(128_000))
    seen = judge.embed_pictures(torch.randint(0, 256, (4, 60, 90, 3), dtype=torch.uint8))
    assert heard.shape == seen.shape == (12,)
    assert 0.1 < float(heard.norm()) <= 1 + 1e-5
    assert 0.1 < float(seen.norm()) <= 1 + 1e-5


def test_imagebind_names_the_senses_that_it_does_without() -> None:
    network = image_bind()._network
    tensors = network.state_dict() | {
        "modality_trunks.thermal.blocks.0.norm_1.weight": torch.zeros(1),
        "modality_postprocessors.audio.1.log_logit_scale": torch.zeros(()),
    }
    fill(network, tensors, title="ImageBind", not_needed=NOT_NEEDED)
    with pytest.raises(ConfigError, match="left over modality_trunks"):
        fill(network, tensors, title="ImageBind")


@pytest.mark.parametrize("judge", [Panns, Passt, Vggish, Clap, Synchformer, ImageBind])
def test_an_empty_folder_says_where_to_get_the_file(judge: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="get it from https://"):
        judge.load(tmp_path)


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        (lambda x: panns().logits_and_embeddings(x), noise(16_000)),
        (lambda x: panns().logits_and_embeddings(x), noise(1, 4000)),
        (lambda x: passt().logits_and_embeddings(x), noise(32_000)),
        (lambda x: vggish().embed(x), noise(1, 15_599)),
        (lambda x: clap().embed_audio(x), noise(48_000)),
        (lambda x: sync_judge().audio_features(x), noise(10_239)),
        (lambda x: image_bind().embed_audio(x), noise(1, 16_000)),
        (lambda x: image_bind().embed_pictures(x), torch.zeros(1, 8, 8, 3, dtype=torch.uint8)),
    ],
)
def test_other_shapes_are_refused(call: Any, wrong: Tensor) -> None:
    with pytest.raises(ShapeError):
        call(wrong)
