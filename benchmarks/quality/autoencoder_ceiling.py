"""What no generator behind an autoencoder can beat: real recordings, encoded and decoded.

    python benchmarks/quality/autoencoder_ceiling.py --corpus CORPUS [--model embedded]
        [--model FOLDER]
        [--components 64 96 128] [--split val] [--per-class 8]

In:   the folder of `scenes fetch`; autoencoders, by the name or folder of a model or of parts. With
      `--components`, also closed-form ones of these sizes, fitted on the training split.
Out:  on stdout, the share of recordings that YAMNet hears as their class (the benchmark's own
      rule), as they are and after each autoencoder, with the paired loss and its 95 % interval;
      and the classes that lose most.

Choose on train or val, never on test: what is measured on test is then no measurement.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from vocoder import load_autoencoder

from omni2sound.bench.metrics.tagging import CatalogueTagger, tag_recordings
from omni2sound.bench.stats.bootstrap import bootstrap_difference, bootstrap_mean
from omni2sound.bench.stats.estimate import Estimate
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.train.parts.vocoder import fit_components

WORST = 8
Way = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def main() -> None:
    options = _parse()
    assets = SceneAssets.open(options.corpus)
    ears = CatalogueTagger(YamNet.load(), assets.catalogue)
    known = tag_recordings(assets, ears).scorable
    rng = np.random.default_rng(0)
    asked: list[tuple[str, str]] = []
    for class_id in known:
        of_class = assets.catalogue.recordings_of(class_id, options.split)
        chosen = rng.permutation(len(of_class))[: options.per_class]
        asked += [(class_id, of_class[i].recording_id) for i in chosen]
    if not asked:
        raise SystemExit(f"no recordings of scored classes in split {options.split!r}")

    ways: dict[str, Way] = {"as it is": lambda x_N: x_N}
    ways |= {name: _round_trip(load_autoencoder(name)) for name in options.model}
    for count in options.components:
        plain = MelPcaAutoencoder(MelPcaConfig(latent_dim=count)).eval()
        training = [
            assets.waveform(r.recording_id)
            for c in assets.catalogue.class_ids
            for r in assets.catalogue.recordings_of(c, "train")
        ]
        fit_components(plain, training)
        ways[f"{count} components, closed form"] = _round_trip(plain)

    print(f"{len(asked)} recordings of {len(known)} classes, split {options.split}")
    hits: dict[str, NDArray[np.float64]] = {}
    for name, way in ways.items():
        heard = [ears.tag(way(assets.waveform(i))).classes for _, i in asked]
        hits[name] = np.array([c in h for (c, _), h in zip(asked, heard, strict=True)], float)
        rate = bootstrap_mean(hits[name])
        loss = bootstrap_difference(hits["as it is"], hits[name])
        print(f"{name}: {_shown(rate)}, lost {_shown(loss)}")
        by_class = {
            c: float(np.mean([h for h, (of, _) in zip(hits[name], asked, strict=True) if of == c]))
            for c in {of for of, _ in asked}
        }
        worst = sorted(by_class.items(), key=lambda item: item[1])[:WORST]
        print("    " + ", ".join(f"{c} {rate:.2f}" for c, rate in worst))


def _round_trip(autoencoder: MelPcaAutoencoder) -> Way:
    def way(x_N: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            y_BN = autoencoder.decode(autoencoder.encode(torch.from_numpy(x_N.copy())[None]))
        return np.asarray(y_BN[0, : len(x_N)], np.float32)

    return way


def _shown(x: Estimate) -> str:
    return f"{x.value:.3f} [{x.low:.3f}, {x.high:.3f}]"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", action="append", default=None)
    parser.add_argument("--components", type=int, nargs="*", default=[])
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--per-class", type=int, default=8)
    options = parser.parse_args()
    options.model = options.model or ["embedded"]
    return options


if __name__ == "__main__":
    main()
