"""What the autoencoder keeps of real recordings, and how fast it decodes.

    python benchmarks/quality/vocoder.py --corpus CORPUS [--model embedded] [--split val]
        [--limit 100]

In:   the folder of `omni2sound scenes fetch`; a model's autoencoder, by
      model name or folder, or a bare `autoencoder.safetensors`.
Out:  a table on stdout: a row for each way back to sound, from what the phases alone cost
      (`full bands`) over the closed form (`components`) to the learned decoder.

Columns: cosine and top-1 compare YAMNet's mean embedding and its first class with the
original's (higher is better); mel is the mean absolute difference of log-mel spectra at
three windows, stft the spectral convergence, both lower is better. +- is a standard error
over recordings. Speed: seconds for 8 s of sound, best of five, with the threads given.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from omni2sound.config import from_json
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.spectrum import (
    Spectrum,
    mel_filterbank,
    noise_spectrum,
    phase_by_projection,
)
from omni2sound.models.vocoder import VocoderConfig
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.weights import load_card, load_part, resolve_model

RATE = 16_000
WINDOWS_AND_BANDS = ((160, 20), (400, 64), (1024, 128))
LEAST_S, MOST_S = 0.7, 3.0
Decoder = Callable[[Tensor], Tensor]


def load_autoencoder(model: str) -> MelPcaAutoencoder:
    if not model.endswith(".safetensors"):
        card = load_card(resolve_model(model))
        loaded = MelPcaAutoencoder(from_json(MelPcaConfig, card.parts["autoencoder"]))
        load_part(card, "autoencoder", loaded)
        return loaded.eval()
    tensors = {k: v.float() for k, v in load_file(model).items()}
    learned = any(k.startswith("vocoder.") for k in tensors)
    loaded = MelPcaAutoencoder(MelPcaConfig(vocoder=VocoderConfig() if learned else None))
    loaded.load_state_dict(tensors)
    return loaded.eval()


def with_settings(model: MelPcaAutoencoder, **changes: object) -> MelPcaAutoencoder:
    """The same weights under a changed config; `texture` reaches into the vocoder's."""
    config = model.config
    if "texture" in changes and config.vocoder is not None:
        texture = changes.pop("texture")
        changes["vocoder"] = dataclasses.replace(config.vocoder, texture=texture)
    other = MelPcaAutoencoder(dataclasses.replace(config, **changes))
    other.load_state_dict({k: v for k, v in model.state_dict().items() if k in other.state_dict()})
    return other.eval()


def ways_back(model: MelPcaAutoencoder) -> dict[str, Decoder]:
    def full_bands(x_BN: Tensor) -> Tensor:
        wanted = model.magnitude_from_mel(model.log_mel(x_BN))
        start = noise_spectrum(wanted, model.spectrum)
        return phase_by_projection(wanted, model.spectrum, iterations=32, start_BTF=start)

    def through(variant: MelPcaAutoencoder) -> Decoder:
        return lambda x_BN: variant.decode(variant.encode(x_BN))

    ways: dict[str, Decoder] = {"full bands, 32 projections": full_bands}
    for iterations in (16, 32):
        plain = with_settings(model, vocoder=None, phase_iterations=iterations)
        ways[f"components, {iterations} projections"] = through(plain)
    if model.vocoder is not None:
        for iterations, texture in ((0, 0.6), (8, 0.6), (16, 0.0), (16, 0.3), (16, 0.6), (32, 0.6)):
            variant = with_settings(model, phase_iterations=iterations, texture=texture)
            name = f"learned, texture {texture}, {iterations} projections"
            ways[name] = through(variant)
        ways["as shipped"] = through(model)
    return ways


class Judge:
    """Distances of a decoded sound from its original."""

    def __init__(self) -> None:
        self.yamnet = YamNet.load()
        self.spectra = [
            (
                Spectrum(window_samples=window, hop_samples=window // 4),
                mel_filterbank(
                    bands, window // 2 + 1, sample_rate_hz=RATE, lowest_hz=0, highest_hz=RATE / 2
                ),
            )
            for window, bands in WINDOWS_AND_BANDS
        ]

    def heard(self, x_BN: Tensor) -> tuple[NDArray[np.float64], int]:
        scores, embeddings = self.yamnet.scores_and_embeddings(x_BN[0].numpy())
        mean = np.asarray(embeddings, np.float64).mean(axis=0)
        return mean, int(np.asarray(scores).mean(axis=0).argmax())

    def compare(self, x_BN: Tensor, y_BN: Tensor) -> tuple[float, float, float, float]:
        (a, first), (b, again) = self.heard(x_BN), self.heard(y_BN)
        cosine = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        mel, stft = 0.0, 0.0
        for spectrum, bank_MF in self.spectra:
            whole = x_BN.shape[1] // spectrum.hop_samples * spectrum.hop_samples
            one, two = (spectrum.transform(w[:, :whole]).abs() for w in (x_BN, y_BN))
            ratio = torch.log((one @ bank_MF.T + 1e-5) / (two @ bank_MF.T + 1e-5))
            mel += float(ratio.abs().mean()) / len(self.spectra)
            stft += float((one - two).norm() / one.norm()) / len(self.spectra)
        return cosine, float(first == again), mel, stft


def sounds(store: Path, split: str, limit: int, seed: int) -> list[Tensor]:
    assets = SceneAssets.open(store)
    chosen = [r for r in assets.catalogue.recordings if r.split == split]
    chosen = [chosen[i] for i in np.random.default_rng(seed).permutation(len(chosen))]
    waveforms = (assets.waveform(r.recording_id) for r in chosen)
    long_enough = [w for w in waveforms if len(w) >= LEAST_S * RATE][:limit]
    pieces = []
    for waveform in long_enough:
        frames = math.ceil(min(max(len(waveform), RATE), MOST_S * RATE) / 640)
        piece = np.zeros(frames * 640, np.float32)
        kept = waveform[: len(piece)]
        piece[: len(kept)] = 0.6 * kept / max(float(np.abs(kept).max()), 1e-3)
        pieces.append(torch.from_numpy(piece)[None])
    return pieces


def seconds_for_8_s(model: MelPcaAutoencoder) -> float:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 200, model.latent_dim, generator=generator)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        model.decode(latents)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, judge = load_autoencoder(arguments.model), Judge()
    pieces = sounds(arguments.corpus, arguments.split, arguments.limit, arguments.seed)
    print(f"{len(pieces)} {arguments.split} recordings")
    print(f"{'way back':40} {'cosine':>12} {'top-1':>12} {'mel':>7} {'stft':>7}")
    with torch.inference_mode():
        for name, decode in ways_back(model).items():
            rows = np.array([judge.compare(x_BN, decode(x_BN)) for x_BN in pieces])
            mean, error = rows.mean(axis=0), rows.std(axis=0) / len(rows) ** 0.5
            kept = " ".join(f"{mean[i]:6.3f} +-{error[i]:.3f}" for i in range(2))
            print(f"{name:40} {kept} {mean[2]:7.3f} {mean[3]:7.3f}", flush=True)
        print(f"decode 8 s, {arguments.threads} thread(s): {seconds_for_8_s(model):.3f} s")


if __name__ == "__main__":
    main()
