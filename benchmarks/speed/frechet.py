"""FD of 15,000 x 2,048 against scipy's matrix square root, in the same run.

    python benchmarks/speed/frechet.py [--clips 15000] [--width 2048] [--repeat 1]

In:   two sets of correlated random vectors.
Out:  seconds of both ways (means and covariances included in both), their ratio, both values.

The other way is what av-benchmark and most toolkits do: `np.cov`, then `scipy.linalg.sqrtm` of
the product. Exit code 1 if ours is not five times as fast or the values differ: on a machine
that does other work the ratio says less than on a quiet one.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import scipy
from numpy.typing import NDArray

from omni2sound.bench.stats.frechet_sets import Moments, frechet_of_moments

LEAST_RATIO = 5.0
MAX_RELATIVE = 1e-6


def vectors(seed: int, clips: int, width: int) -> NDArray[np.float32]:
    """Variances that fall as those of real embeddings do."""
    rng = np.random.default_rng(seed)
    scales = 1 / np.sqrt(1 + np.arange(width))
    turned = rng.standard_normal((clips, width)) * scales
    mixing = np.linalg.qr(rng.standard_normal((width, width)))[0]
    return (turned @ mixing + 0.02 * seed).astype(np.float32)


def by_square_root(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    a, b = x.astype(np.float64), y.astype(np.float64)
    shift = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=15_000)
    parser.add_argument("--width", type=int, default=2_048)
    parser.add_argument("--repeat", type=int, default=1)
    asked = parser.parse_args()
    x, y = (vectors(seed, asked.clips, asked.width) for seed in (0, 1))
    ways = {
        "ours": lambda a, b: frechet_of_moments(Moments.of(a), Moments.of(b)),
        "scipy sqrtm": by_square_root,
    }
    seconds: dict[str, float] = {}
    values: dict[str, float] = {}
    for name, way in ways.items():
        times = []
        for _ in range(asked.repeat):
            begin = time.perf_counter()
            values[name] = way(x, y)
            times.append(time.perf_counter() - begin)
        seconds[name] = min(times)
        print(f"{name:16s} {seconds[name]:8.2f} s   FD {values[name]:.9f}", flush=True)
    ratio = seconds["scipy sqrtm"] / seconds["ours"]
    apart = abs(values["ours"] / values["scipy sqrtm"] - 1)
    load = os.getloadavg()[0]
    print(f"{asked.clips} x {asked.width}, NumPy {np.__version__}, SciPy {scipy.__version__}")
    print(f"ratio {ratio:.1f} (needs {LEAST_RATIO:g}), apart {apart:.1e}, load {load:.1f}")
    return 0 if ratio >= LEAST_RATIO and apart <= MAX_RELATIVE else 1


if __name__ == "__main__":
    raise SystemExit(main())
