"""How near the added band comes to that of real recordings.

    python benchmarks/quality/band_extension.py --corpus CORPUS [--model embedded] [--split test]
        [--low coded|real] [--taggers] [--per-class 3]

In:   the folder of `scenes fetch` with all kinds; a model with a band extension.
Out:  on stdout, over all recordings whose files have 43 kHz or more: the share of energy above
      8 kHz by class, real and extended, and the share of classes within 3 dB; the log-spectral
      distance from 8 to 20 kHz of the extension and of baselines: nothing, white noise of the
      training recordings' mean level, and a copy of the upper half of the low band at that mean
      level. With `--taggers`: the share of recordings that YAMNet, the in-domain tagger and aisfx
      (which hears to 22 kHz) detect as their class, and the cosine of the tagger's mean embedding
      with that of the real recording.

The low band goes through the model's autoencoder, or stays as it is (`--low real`). Everything
is measured below the cliff of each file.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import TAGGERS, CatalogueTagger, at_rate, load_tagger
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.generate.finish import extend
from omni2sound.generate.model import Model, load_model
from omni2sound.media.samples import Audio
from omni2sound.models.band import HOP_SAMPLES, LOW_HOP_SAMPLES, LOW_RATE_HZ, RATE_HZ
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.train.parts.band import FullBand, full_band_recordings, split_bands

SPLIT_HZ, TOP_HZ = 8000, 20_000
WITHIN_DB = 3.0
LEAST_CLIFF_HZ = 12_000
FLOOR_DB = -100
Sound = NDArray[np.float32]


def main() -> None:
    options = _parse()
    assets = SceneAssets.open(options.corpus, kinds="all")
    model = load_model(options.model)
    if model.band is None:
        raise SystemExit(f"{options.model} has no band extension")
    model.autoencoder.eval()
    model.band.eval()
    by_class = defaultdict(list)
    for recording in full_band_recordings(assets, options.split):
        if recording.cliff_hz >= LEAST_CLIFF_HZ:
            by_class[recording.class_id].append(recording)
    recordings = [r for group in by_class.values() for r in group[: options.per_class]]
    mean_db = _mean_added_db(full_band_recordings(assets, "train"))
    ways = _ways(model, mean_db)
    heard = _Heard(assets.catalogue, options.taggers)
    distances: Mapping[str, list[float]] = defaultdict(list)
    energies: Mapping[str, list[tuple[str, float, float]]] = defaultdict(list)
    for recording in recordings:
        real_N, low_N, base_N = _prepared(recording, model, coded=options.low == "coded")
        sounds = {"real": real_N, **{n: w(low_N, base_N)[: len(real_N)] for n, w in ways.items()}}
        heard.add(recording.class_id, {n: sounds[n] for n in ("real", "nothing", "extension")})
        for name, sound_N in sounds.items():
            high, total = _energy(sound_N, recording.cliff_hz)
            energies[name].append((recording.class_id, high, total))
            if name != "real":
                distances[name].append(_distance_db(sound_N, real_N, recording.cliff_hz))
    _report(recordings, distances, energies)
    heard.report()


class _Heard:
    """How taggers hear each way: the class, and how near the embedding is to the real one's."""

    def __init__(self, catalogue: Catalogue, wanted: bool) -> None:
        self._networks = {n: load_tagger(n) for n in TAGGERS} if wanted else {}
        self._taggers = {n: CatalogueTagger(t, catalogue) for n, t in self._networks.items()}
        self._hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
        self._cosines: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, class_id: str, sounds: Mapping[str, Sound]) -> None:
        for name, tagger in self._taggers.items():
            network = self._networks[name]
            embeddings = {}
            for way, sound_N in sounds.items():
                at_rate_N = at_rate(sound_N, RATE_HZ, network.sample_rate_hz)
                embeddings[way] = network.scores_and_embeddings(at_rate_N)[1].mean(axis=0)
                hit = class_id in tagger.tag(sound_N, RATE_HZ).classes
                self._hits[name, way].append(hit)
            real_D = embeddings["real"]
            for way, found_D in embeddings.items():
                norm = np.linalg.norm(real_D) * np.linalg.norm(found_D)
                self._cosines[name, way].append(float(real_D @ found_D / max(norm, 1e-9)))

    def report(self) -> None:
        for (tagger, way), hits in self._hits.items():
            estimate = bootstrap_mean(np.array(hits, float))
            print(
                f"{tagger}, {way}: {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}], "
                f"cosine {np.mean(self._cosines[tagger, way]):.3f}"
            )


def _prepared(recording: FullBand, model: Model, *, coded: bool) -> tuple[Sound, Sound, Sound]:
    """The real sound, its low band at 16 kHz and that at 44.1 kHz, padded to whole frames."""
    hop = 4 * HOP_SAMPLES
    real_N = np.pad(recording.samples_N, (0, -len(recording.samples_N) % hop))
    low_N, _added_N = split_bands(real_N)
    low_N = np.pad(low_N, (0, 4 * LOW_HOP_SAMPLES))[: len(real_N) // hop * 4 * LOW_HOP_SAMPLES]
    if coded:
        with torch.inference_mode():
            latents = model.autoencoder.encode(torch.from_numpy(low_N)[None])
            low_N = model.autoencoder.decode(latents)[0].numpy()
    return real_N, low_N, soxr.resample(low_N, LOW_RATE_HZ, RATE_HZ)[: len(real_N)]


def _ways(model: Model, mean_db: float) -> Mapping[str, Callable[[Sound, Sound], Sound]]:
    """What is added above 8 kHz, by name."""

    def extended(low_N: Sound, _base_N: Sound) -> Sound:
        assert model.band is not None
        low = Audio(samples_CN=low_N[None], sample_rate_hz=LOW_RATE_HZ)
        return extend(low, model.band).samples_CN[0]

    def noise(low_N: Sound, base_N: Sound) -> Sound:
        white = np.random.default_rng(0).normal(size=len(base_N)).astype(np.float32)
        return _added(white, base_N, mean_db)

    def copy(low_N: Sound, base_N: Sound) -> Sound:
        time = np.arange(len(base_N)) / RATE_HZ
        moved = sum(base_N * np.cos(2 * np.pi * k * 4000 * time) for k in (1, 2, 3))
        return _added(np.asarray(moved, np.float32), base_N, mean_db)

    return {
        "nothing": lambda _low, base_N: base_N,
        "white noise": noise,
        "spectral copy": copy,
        "extension": extended,
    }


def _added(signal_N: Sound, base_N: Sound, mean_db: float) -> Sound:
    """Add a signal above 8 kHz, `mean_db` relative to the low band's energy."""
    spectrum = np.fft.rfft(signal_N)
    hz = np.fft.rfftfreq(len(signal_N), 1 / RATE_HZ)
    spectrum[(hz < SPLIT_HZ) | (hz > TOP_HZ)] = 0
    high_N = np.fft.irfft(spectrum, len(signal_N))
    level = float(np.sqrt(np.mean(np.square(base_N)))) * 10 ** (mean_db / 20)
    high_N *= level / max(float(high_N.std()), 1e-9)
    return (base_N + high_N).astype(np.float32)


def _mean_added_db(recordings: list[FullBand]) -> float:
    """Energy above 8 kHz relative to that below, mean over recordings in dB."""
    found = []
    for recording in recordings:
        high, total = _energy(recording.samples_N, recording.cliff_hz)
        found.append(10 * np.log10((high + 1e-9 * total) / max(total - high, 1e-12)))
    return float(np.mean(found))


def _energy(sound_N: Sound, cliff_hz: float) -> tuple[float, float]:
    """Energy from 8 to 20 kHz, and in all, below the cliff."""
    power = np.square(np.abs(np.fft.rfft(sound_N)))
    hz = np.fft.rfftfreq(len(sound_N), 1 / RATE_HZ)
    top_hz = min(TOP_HZ, cliff_hz)
    return float(power[(hz >= SPLIT_HZ) & (hz < top_hz)].sum()), float(power[hz < top_hz].sum())


def _distance_db(sound_N: Sound, real_N: Sound, cliff_hz: float) -> float:
    """Log-spectral distance of third-of-a-kHz bands from 8 to 20 kHz, over frames that sound.

    The root of the mean square over bands, then the mean over frames of 10 ms that are within
    60 dB of the loudest.
    """
    level_db, real_db = _bands_db(sound_N), _bands_db(real_N)
    hz = SPLIT_HZ + (np.arange(level_db.shape[1]) + 1) * 10 * 100 / 3
    known = hz <= min(TOP_HZ, cliff_hz)
    loud = 10 * np.log10(_power(real_N).mean(axis=1) + 1e-16)
    frames = loud > loud.max() - 60
    error = np.square(level_db - real_db)[frames][:, known]
    return float(np.sqrt(error.mean(axis=1)).mean())


def _power(sound_N: Sound) -> NDArray[np.float64]:
    window = 3 * HOP_SAMPLES
    padded = np.pad(sound_N, HOP_SAMPLES)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::HOP_SAMPLES]
    spectrum = np.fft.rfft(frames * np.hanning(window)) / np.hanning(window).sum()
    return np.asarray(np.square(np.abs(spectrum)), np.float64)


def _bands_db(sound_N: Sound) -> NDArray[np.float64]:
    first = round(SPLIT_HZ / (100 / 3))
    power = _power(sound_N)[:, first : first + 360]
    grouped = power.reshape(len(power), 36, 10).mean(axis=2)
    return np.asarray(np.maximum(10 * np.log10(grouped + 1e-20), FLOOR_DB), np.float64)


def _report(
    recordings: list[FullBand],
    distances: Mapping[str, list[float]],
    energies: Mapping[str, list[tuple[str, float, float]]],
) -> None:
    print(f"{len(recordings)} recordings of {len({r.class_id for r in recordings})} classes")
    for name, values in distances.items():
        estimate = bootstrap_mean(np.array(values))
        print(f"{name}: {estimate.value:.1f} dB [{estimate.low:.1f}, {estimate.high:.1f}]")
    shares = {name: _shares_db(rows) for name, rows in energies.items()}
    for name, by_class in shares.items():
        if name in ("real", "nothing"):
            continue
        errors = {c: by_class[c] - db for c, db in shares["real"].items()}
        near = np.mean([abs(e) <= WITHIN_DB for e in errors.values()])
        offset = np.median(list(errors.values()))
        each = [
            abs(10 * np.log10((a[1] / a[2] + 1e-6) / (r[1] / r[2] + 1e-6)))
            for a, r in zip(energies[name], energies["real"], strict=True)
        ]
        print(
            f"{name}: share above 8 kHz within {WITHIN_DB:.0f} dB in {near:.2f} of classes, "
            f"median {offset:+.1f} dB; recordings within 3 dB {np.mean(np.array(each) <= 3):.2f}"
        )
    counts = defaultdict(int)
    for recording in recordings:
        counts[recording.class_id] += 1
    for class_id, db in sorted(shares["real"].items(), key=lambda item: -item[1]):
        ours = shares["extension"][class_id]
        print(f"    {class_id} ({counts[class_id]}): real {db:.1f} dB, extension {ours:.1f} dB")


def _shares_db(rows: list[tuple[str, float, float]]) -> dict[str, float]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for class_id, high, total in rows:
        sums[class_id][0] += high / max(total, 1e-12)
        sums[class_id][1] += 1
    return {c: 10 * np.log10(high / count + 1e-6) for c, (high, count) in sums.items()}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--low", default="coded", choices=("coded", "real"))
    parser.add_argument("--taggers", action="store_true")
    parser.add_argument("--per-class", type=int, default=10**6)
    return parser.parse_args()


if __name__ == "__main__":
    main()
