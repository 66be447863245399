"""Networks of a model in the form in which they are exported: real numbers in and out.

In:   the trained and the frozen networks of a model.
Out:  one module for each graph of the exported folder.

What not to get wrong: ONNX runtimes know no complex numbers and no generators. Spectra are pairs of
real arrays here, transforms are products with cosines and sines (windows of 480 and 1323 samples
are short), and noise is an input. An absent text or picture is one token that is masked, and its
sync features are zeros: that gives what leaving it out gives, since padding is masked.

Shape suffixes: B batch, L latent frames, C latent channels, D width, T tokens, pictures or
spectral frames, E text, V picture, S sync features, N samples, F bins, A anchors, K labels.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from omni2sound.encoders.metric.yamnet import FFT_SAMPLES, LOG_OFFSET, YamNet
from omni2sound.encoders.sync import Stage, SyncEncoder
from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.models.autoencoder import MelPcaAutoencoder, loudness_of
from omni2sound.models.band import MAGNITUDE_FLOOR, POWER_FLOOR, BandExtension
from omni2sound.models.conditioning import Conditions
from omni2sound.models.dit import DiT
from omni2sound.models.spectrum import MOMENTUM, TINY, Spectrum
from omni2sound.recognise.detector import Detector, anchors, decode_boxes
from omni2sound.recognise.labeller import Labeller, normalise

# --- spectra ----------------------------------------------------------------------------

Pair = tuple[Tensor, Tensor]
"""Real and imaginary part."""


class RealSpectrum(nn.Module):
    """A `Spectrum` without complex numbers."""

    forward_WF2: Tensor
    backward_F2W: Tensor
    weight_W: Tensor

    def __init__(self, spectrum: Spectrum) -> None:
        super().__init__()
        size, self.hop = spectrum.window_samples, spectrum.hop_samples
        self.size, self.num_bins = size, spectrum.num_bins
        self.pieces = -(-size // self.hop)
        self.margin = (size - self.hop) // 2
        window_W = spectrum.window.double()
        whole_WW = torch.fft.rfft(torch.eye(size, dtype=torch.float64)) / window_W.sum()
        analysis_WF = whole_WW * window_W[:, None]
        unit_FF = torch.eye(self.num_bins, dtype=torch.complex128)
        back = [torch.fft.irfft(x * unit_FF, n=size) for x in (1, 1j)]
        synthesis_F2W = torch.cat(back) * window_W * window_W.sum()
        forward_WF2 = torch.cat([analysis_WF.real, analysis_WF.imag], dim=1)
        self.register_buffer("forward_WF2", forward_WF2.float(), persistent=False)
        self.register_buffer("backward_F2W", synthesis_F2W.float(), persistent=False)
        self.register_buffer("weight_W", (window_W**2).float(), persistent=False)

    def transform(self, waveform_BN: Tensor) -> Pair:
        """Real and imaginary part (B, T, F) of the spectrum."""
        padded = F.pad(waveform_BN, (self.margin, self.pieces * self.hop - self.size + self.margin))
        slots = padded.reshape(padded.shape[0], -1, self.hop)
        num_frames = waveform_BN.shape[1] // self.hop
        cut = [slots[:, k : k + num_frames] for k in range(self.pieces)]
        frames_BTW = torch.cat(cut, dim=-1)[..., : self.size]
        return self.pair(frames_BTW @ self.forward_WF2)

    def pair(self, both_BTF2: Tensor) -> Pair:
        """Split the last axis."""
        return both_BTF2[..., : self.num_bins], both_BTF2[..., self.num_bins :]

    def inverse(self, both_BTF2: Tensor) -> Tensor:
        """The waveform (B, T * hop) from real parts before imaginary ones."""
        frames_BTW = both_BTF2 @ self.backward_F2W
        num_frames = frames_BTW.shape[1]
        ones_1TW = self.weight_W.expand(1, num_frames, -1)
        kept = slice(self.margin, self.margin + num_frames * self.hop)
        summed, weight = self._overlap_add(frames_BTW), self._overlap_add(ones_1TW)
        return summed[:, kept] / weight[:, kept].clamp_min(TINY)

    def _overlap_add(self, frames_BTW: Tensor) -> Tensor:
        frames = F.pad(frames_BTW, (0, self.pieces * self.hop - self.size))
        slots = sum(
            F.pad(frames[..., k * self.hop : (k + 1) * self.hop], (0, 0, k, self.pieces - 1 - k))
            for k in range(self.pieces)
        )
        assert isinstance(slots, Tensor)
        return slots.reshape(slots.shape[0], -1)


def magnitude(pair: Pair) -> Tensor:
    """Absolute value."""
    return (pair[0].square() + pair[1].square()).sqrt()


class DecoderGraph(nn.Module):
    """`MelPcaAutoencoder.decode`, with its noise as an input."""

    def __init__(self, autoencoder: MelPcaAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.spectrum = RealSpectrum(autoencoder.spectrum)
        window = autoencoder.spectrum.window
        self.power_one = float(window.sum() / window.norm())

    def forward(self, latents_BLC: Tensor, noise_1N: Tensor) -> Tensor:
        """Waveforms (B, 640 L); noise (1, 640 L) is standard normal."""
        autoencoder, config = self.autoencoder, self.autoencoder.config
        log_mel_BTM = autoencoder.log_mel_from_latents(latents_BLC)
        if config.loudest is not None:
            over_BT1 = loudness_of(log_mel_BTM) - config.loudest
            log_mel_BTM = log_mel_BTM - over_BT1.clamp_min(0)
        noise = tuple(part * self.power_one for part in self.spectrum.transform(noise_1N))
        loudness_1TF = magnitude((noise[0], noise[1]))
        if autoencoder.vocoder is None:
            target_BTF = autoencoder.magnitude_from_mel(log_mel_BTM)
        else:
            target_BTF = autoencoder.vocoder.magnitude(log_mel_BTM, loudness_1TF)
        target_BT2F = torch.cat([target_BTF, target_BTF], dim=-1)
        current = target_BT2F * self._unit(torch.cat(noise, dim=-1))
        before = torch.zeros_like(current)
        for _ in range(config.phase_iterations):
            projected = torch.cat(self.spectrum.transform(self.spectrum.inverse(current)), dim=-1)
            current = target_BT2F * self._unit(projected + MOMENTUM * (projected - before))
            before = projected
        return self.spectrum.inverse(current)

    def _unit(self, both_BTF2: Tensor) -> Tensor:
        size_BTF = magnitude(self.spectrum.pair(both_BTF2)).clamp_min(TINY)
        return both_BTF2 / torch.cat([size_BTF, size_BTF], dim=-1)


class LevelGraph(nn.Module):
    """`MelPcaAutoencoder.level_from_latents`."""

    def __init__(self, autoencoder: MelPcaAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents_BLC: Tensor) -> Tensor:
        """Power (B, L) of each latent frame."""
        return self.autoencoder.level_from_latents(latents_BLC)


class BandGraph(nn.Module):
    """`BandExtension.added_band`, with its noise as an input."""

    def __init__(self, band: BandExtension) -> None:
        super().__init__()
        self.band = band
        self.low = RealSpectrum(band.low_spectrum)
        self.high = RealSpectrum(band.spectrum)
        window = band.spectrum.window
        self.power_one = float(window.sum() / window.norm())

    def forward(self, low_BN: Tensor, noise_1N: Tensor) -> Tensor:
        """The band above (B, N * 441 / 160); noise is standard normal and as long as that."""
        band, share = self.band, self.band.config.tonal
        low = self.low.transform(low_BN)
        log_mel_BTM = torch.log(magnitude(low) @ band.mel_MK.T + MAGNITUDE_FLOOR)
        power_BTH = (band.forward(log_mel_BTM).exp() - POWER_FLOOR).clamp_min(0)
        moved = self._even((low[0][..., band.source_F], low[1][..., band.source_F]))
        noise = self.high.transform(noise_1N)
        even = self._even((noise[0] * self.power_one, noise[1] * self.power_one))
        tonal, rest = share**0.5, (1 - share) ** 0.5
        mixed = self._even((tonal * moved[0] + rest * even[0], tonal * moved[1] + rest * even[1]))
        gain_BTF = (power_BTH @ band.spread_FH.T).sqrt()
        return self.high.inverse(torch.cat([mixed[0] * gain_BTF, mixed[1] * gain_BTF], dim=-1))

    def _even(self, pair: Pair) -> Pair:
        power_BTH = (pair[0].square() + pair[1].square()) @ self.band.bands_HF.T
        size_BTF = (power_BTH @ self.band.spread_FH.T + POWER_FLOOR).sqrt()
        return pair[0] / size_BTF, pair[1] / size_BTF


# --- transformer --------------------------------------------------------------------------


class PrepareGraph(nn.Module):
    """`DiT.prepare` for conditions of which each part is given, perhaps masked."""

    def __init__(self, dit: DiT) -> None:
        super().__init__()
        self.dit = dit

    def forward(
        self,
        text_BTE: Tensor,
        text_mask_BT: Tensor,
        vision_BTV: Tensor,
        vision_mask_BT: Tensor,
        sync_BLS: Tensor,
        seconds_B: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Keys and values of all blocks (B, blocks, heads, T, H), and the rest."""
        conditions = Conditions(
            seconds_start_B=torch.zeros_like(seconds_B),
            seconds_total_B=seconds_B,
            text_BTE=text_BTE,
            text_mask_BT=text_mask_BT,
            vision_BTV=vision_BTV,
            vision_mask_BT=vision_mask_BT,
            sync_BLS=sync_BLS,
        )
        made = self.dit.prepare(conditions, sync_BLS.shape[1])
        assert made.context_mask_B11T is not None
        assert made.sync_modulation_BLM is not None
        values = torch.stack([v for _, v in made.keys_values], dim=1)
        return (
            torch.stack([k for k, _ in made.keys_values], dim=1),
            values * made.context_mask_B11T[:, :, :, :, None],
            made.context_mask_B11T,
            made.sync_modulation_BLM,
            made.duration_BD,
        )


# --- encoders -----------------------------------------------------------------------------


class TextGraph(nn.Module):
    """States of tokens, zero at padding."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.network = encoder.network

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """States (B, T, E)."""
        states_BTE: Tensor = self.network(input_ids=ids_BT, attention_mask=mask_BT)[0]
        return states_BTE * mask_BT[..., None]


class VisionGraph(nn.Module):
    """`VisionEncoder.embed`."""

    scale_C: Tensor
    shift_C: Tensor

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__()
        self.network = encoder.network.float()
        self.register_buffer("scale_C", encoder.scale_C.clone())
        self.register_buffer("shift_C", encoder.shift_C.clone())

    def forward(self, frames_THWC: Tensor) -> Tensor:
        """Unit vectors (T, V) of uint8 pictures."""
        x_THWC = frames_THWC.float() * self.scale_C + self.shift_C
        pooled_TD = self.network(x_THWC.permute(0, 3, 1, 2))
        length_T1 = pooled_TD.square().sum(dim=-1, keepdim=True).sqrt()
        features_TV: Tensor = pooled_TD / length_T1.clamp_min(1e-12)
        return features_TV


class SyncGraph(nn.Module):
    """`SyncEncoder.embed`."""

    def __init__(self, encoder: SyncEncoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).eval()
        for stage in self.encoder.stages:
            assert isinstance(stage, Stage)
            # ONNX Runtime folds norms, too, but fails where a convolution has no bias.
            for conv, norm in (("spatial", "spatial_norm"), ("temporal", "temporal_norm")):
                folded = fuse_conv_bn_eval(getattr(stage, conv), getattr(stage, norm))
                setattr(stage, conv, folded)
                setattr(stage, norm, nn.Identity())

    def forward(self, frames_THWK: Tensor) -> Tensor:
        """Features (T, S) of uint8 pictures."""
        features_BTS: Tensor = self.encoder(frames_THWK[None])[0]
        return features_BTS[0]


class DetectorGraph(nn.Module):
    """Scores of labels and corners of boxes, before any is discarded."""

    anchors_A4: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.network = detector.network
        size = detector.size_px[0]
        *_, grids = self.network(torch.zeros(1, 3, size, size))
        self.register_buffer("anchors_A4", anchors(grids))

    def forward(self, picture_1HWC: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (A, K) and corners (A, 4) of one uint8 picture."""
        x = (picture_1HWC.float() / 127.5 - 1).permute(0, 3, 1, 2)
        logits_1AK, offsets_1A4, _ = self.network(x)
        return logits_1AK[0].sigmoid(), decode_boxes(offsets_1A4[0], self.anchors_A4)


class LabellerGraph(nn.Module):
    """`Labeller.classify` for one picture."""

    def __init__(self, labeller: Labeller) -> None:
        super().__init__()
        self.network = labeller.network

    def forward(self, picture_1HWC: Tensor) -> Tensor:
        """Probabilities (1, K) of one uint8 picture."""
        logits_1K: Tensor = self.network(normalise(picture_1HWC))
        return logits_1K.softmax(dim=-1)


class TaggerGraph(nn.Module):
    """`YamNet` from patches of frames of its sound."""

    real_NF: Tensor
    imag_NF: Tensor
    mel_FM: Tensor

    def __init__(self, tagger: YamNet) -> None:
        super().__init__()
        self.network = tagger.network
        frame = torch.eye(len(tagger.window_N)) * tagger.window_N
        spectrum = torch.fft.rfft(frame, n=FFT_SAMPLES)
        self.register_buffer("real_NF", spectrum.real.clone())
        self.register_buffer("imag_NF", spectrum.imag.clone())
        self.register_buffer("mel_FM", tagger.mel_FM)
        self.offset = LOG_OFFSET

    def forward(self, patches_PTN: Tensor) -> Tensor:
        """Scores (P, K) of patches of T frames of samples."""
        size_PTF = magnitude((patches_PTN @ self.real_NF, patches_PTN @ self.imag_NF))
        scores_PK: Tensor = self.network(torch.log(size_PTF @ self.mel_FM + self.offset))[0]
        return scores_PK
