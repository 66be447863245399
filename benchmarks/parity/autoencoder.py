"""The full-size autoencoder against diffusers, and the names of stable-audio-tools."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.parity._table import Row, randomise, relative
from omni2sound.convert.names import from_released, oobleck_links
from omni2sound.models.oobleck import Oobleck, OobleckConfig

AGAINST = "diffusers AutoencoderOobleck"
CONFIG = OobleckConfig(channels=8, latent_dim=4, chunk_frames=10_000)


def _filled(tensors: dict[str, Tensor], *, naming: str) -> Oobleck:
    ours = Oobleck(CONFIG).eval()
    links = oobleck_links(CONFIG, naming=naming)
    wanted = {k: v for k, v in ours.state_dict().items() if k not in ("mean_C", "scale_C")}
    found, problems = from_released(tensors, links, wanted)
    assert not problems, problems
    assert {link.source for link in links} == set(tensors)
    ours.load_state_dict(found, strict=False)
    return ours


def _inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    sound_BN = 0.3 * torch.randn(2, 640 * 60, generator=generator)
    return sound_BN, torch.randn(2, 60, CONFIG.latent_dim, generator=generator)


@torch.no_grad()
def _both() -> tuple[Oobleck, Tensor, Tensor, Tensor, Tensor]:
    """Our network with their random weights; and sound, latents of it, latents, sound of them."""
    from diffusers import AutoencoderOobleck

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # their weight norm is the old one
        theirs = AutoencoderOobleck(
            encoder_hidden_size=CONFIG.channels,
            downsampling_ratios=list(CONFIG.strides),
            channel_multiples=list(CONFIG.multiples),
            decoder_channels=CONFIG.channels,
            decoder_input_channels=CONFIG.latent_dim,
            audio_channels=1,
            sampling_rate=CONFIG.sample_rate_hz,
        ).eval()
    randomise(theirs, seed=1, gain=0.7)
    ours = _filled(theirs.state_dict(), naming="diffusers")
    sound_BN, latents_BLC = _inputs()
    mean_BLC = theirs.encode(sound_BN[:, None]).latent_dist.mode().transpose(1, 2)
    decoded_BN = theirs.decode(latents_BLC.transpose(1, 2)).sample[:, 0]
    return ours, sound_BN, mean_BLC, latents_BLC, decoded_BN


def _encode() -> float:
    ours, sound_BN, mean_BLC, _, _ = _both()
    return relative(ours.encode(sound_BN), mean_BLC)


def _decode() -> float:
    ours, _, _, latents_BLC, decoded_BN = _both()
    return relative(ours.decode(latents_BLC), decoded_BN)


def _chunked() -> float:
    ours, sound_BN, mean_BLC, latents_BLC, decoded_BN = _both()
    ours.config = replace(CONFIG, chunk_frames=7)
    return max(
        relative(ours.encode(sound_BN), mean_BLC), relative(ours.decode(latents_BLC), decoded_BN)
    )


@torch.no_grad()
def _released() -> float:
    # Their module names packages that only other classes in it use; they are named, not run.
    unused = dict.fromkeys(
        ("torchaudio", "torchaudio.transforms", "alias_free_torch", "k_diffusion"), mock.MagicMock()
    )
    with mock.patch.dict(sys.modules, unused), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from stable_audio_tools.models.autoencoders import OobleckDecoder, OobleckEncoder

        shape = {
            "channels": CONFIG.channels,
            "c_mults": list(CONFIG.multiples),
            "strides": list(CONFIG.strides),
            "use_snake": True,
        }
        theirs = nn.ModuleDict(
            {
                "encoder": OobleckEncoder(in_channels=1, latent_dim=8, **shape),
                "decoder": OobleckDecoder(out_channels=1, latent_dim=4, final_tanh=False, **shape),
            }
        ).eval()
    randomise(theirs, seed=1, gain=0.7)
    ours = _filled(theirs.state_dict(), naming="stable-audio-tools")
    sound_BN, latents_BLC = _inputs()
    mean_BCL, _ = theirs["encoder"](sound_BN[:, None]).chunk(2, dim=1)
    decoded_BN = theirs["decoder"](latents_BLC.transpose(1, 2))[:, 0]
    return max(
        relative(ours.encode(sound_BN), mean_BCL.transpose(1, 2)),
        relative(ours.decode(latents_BLC), decoded_BN),
    )


ROWS = (
    Row(
        part="Oobleck encode",
        against=AGAINST,
        what="means of 60 frames, 8 channels, all strides",
        limit=0.0,
        measure=_encode,
    ),
    Row(
        part="Oobleck decode",
        against=AGAINST,
        what="60 frames, 8 channels, all strides",
        limit=0.0,
        measure=_decode,
    ),
    Row(
        part="Oobleck in chunks",
        against=AGAINST,
        what="both ways, 7 frames at a time against the whole",
        limit=1e-5,
        measure=_chunked,
    ),
    Row(
        part="Oobleck both ways",
        against="stable-audio-tools 0.0.19",
        what="its encoder and decoder by its names, 60 frames, 8 channels",
        limit=0.0,
        measure=_released,
    ),
)
