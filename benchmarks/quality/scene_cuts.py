"""Which finds the cuts of a film: `recognise.cuts`, or the kept library PySceneDetect?

Run:  python -m benchmarks.quality.scene_cuts [--corpus CORPUS] [--videos VIDEO ...] [--sheet PNG]

In:   nothing (films drawn in code), a corpus of scenes (films of `quality.cuts`), videos.
Out:  for each film with known cuts: found and wrong of each detector, and seconds. For videos,
      whose cuts nobody wrote down: the times that only one of them gives; `--sheet` draws the
      pictures before and after these, to be judged by eye.

The library is not needed otherwise: pip install scenedetect-headless. Its detectors run with
their own defaults.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.quality.bouncing_ball import HEIGHT_PX, WIDTH_PX, write
from benchmarks.quality.cuts import FILMS, pictures, shots
from omni2sound.media.info import probe
from omni2sound.media.video import iter_frames
from omni2sound.recognise.cuts import find_cuts
from omni2sound.scenes.material.assets import SceneAssets

FPS = 25

NEAR_S = 0.061
DRAWN = ("plain", "like", "dark", "flashes", "jerks", "dissolves")
Detector = Callable[[Path], Sequence[float]]


def background(rng: np.random.Generator, low: float = 0, high: float = 255) -> NDArray[np.float32]:
    """Soft patches of colour over a larger picture than is shown, with some grain."""
    small = rng.uniform(low, high, (7, 9, 3)).astype(np.uint8)
    size = (2 * WIDTH_PX, 2 * HEIGHT_PX)
    large = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC), np.float32)
    return np.clip(large + rng.normal(0, 4, large.shape), 0, 255).astype(np.float32)


def drawn(kind: str, shot_s: Sequence[float], seed: int) -> Iterator[NDArray[np.uint8]]:
    """A film of shots with a slowly moving camera and a box that moves across."""
    rng = np.random.default_rng(seed)
    low, high = {"like": (90, 165), "dark": (0, 60)}.get(kind, (0, 255))
    before, still = None, background(rng, low, high)
    for number, length_s in enumerate(shot_s):
        if number and kind not in ("flashes", "jerks"):
            before, still = still, background(rng, low, high)
        colour, turn = rng.uniform(0, 255, 3), rng.uniform(-0.4, 0.4, 2)
        flash_at = rng.uniform(0.3, 0.7) * length_s
        for i in range(round(length_s * FPS)):
            now = i / FPS
            y, x = (np.array((HEIGHT_PX, WIDTH_PX)) / 2 + turn * 30 * np.sin(now)).astype(int)
            if kind == "jerks" and abs(now - flash_at) < 0.1:
                y, x = y + int(rng.integers(-9, 10)), x + int(rng.integers(-9, 10))
            shown = still[y : y + HEIGHT_PX, x : x + WIDTH_PX].copy()
            if kind == "dissolves" and before is not None and now < 1:
                shown = now * shown + (1 - now) * before[y : y + HEIGHT_PX, x : x + WIDTH_PX]
            left = int((0.1 + 0.6 * (now / max(length_s, 1))) * WIDTH_PX)
            shown[HEIGHT_PX // 2 :, left : left + 24] = colour
            if kind == "flashes" and 0 <= now - flash_at < 0.08:
                shown = 0.2 * shown + 204
            yield shown.astype(np.uint8)


def library() -> dict[str, Detector]:
    """PySceneDetect's detectors, if it is installed."""
    try:
        import scenedetect
    except ImportError:
        return {}

    def of(detector: type) -> Detector:
        def cuts(path: Path) -> list[float]:
            found = scenedetect.detect(str(path), detector(), backend="pyav")
            return [begin.seconds for begin, _ in found[1:]]

        return cuts

    return {
        "content": of(scenedetect.ContentDetector),
        "adaptive": of(scenedetect.AdaptiveDetector),
    }


def row(name: str, path: Path, cuts: Sequence[float], detectors: dict[str, Detector]) -> str:
    """Found and wrong of each detector on one film."""
    cells = []
    for detect in detectors.values():
        begin = time.perf_counter()
        told = detect(path)
        right = sum(any(abs(cut - t) < NEAR_S for t in told) for cut in cuts)
        seconds = time.perf_counter() - begin
        cells.append(f"{right:5} {max(0, len(told) - right):5} {seconds:6.1f}")
    return f"{name:14} {len(cuts):4}  " + "  ".join(cells)


def disagreements(path: Path, detectors: dict[str, Detector]) -> list[tuple[str, float]]:
    """Times that not all detectors give, with the names of those that do."""
    told = {name: list(detect(path)) for name, detect in detectors.items()}
    found: dict[float, list[str]] = {}
    for name, times in told.items():
        for t in times:
            near = next((k for k in found if abs(k - t) < NEAR_S), t)
            found.setdefault(near, []).append(name)
    rows = [(", ".join(who), t) for t, who in sorted(found.items()) if len(who) < len(told)]
    agreed = sum(len(who) == len(told) for who in found.values())
    print(f"{path.name}: {agreed} cuts agreed; " + "; ".join(f"{t:.2f} {who}" for who, t in rows))
    return rows


def strip(path: Path, at_s: float) -> NDArray[np.uint8]:
    """Four pictures around a time, side by side."""
    start = max(0.0, at_s - 0.1)
    frames = iter_frames(path, fps=20, size_px=(108, 144), start_s=start, duration_s=Fraction(1, 5))
    return np.concatenate(list(frames), axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--shots", type=int, default=12, help="of each drawn film; 0: none")
    parser.add_argument("--seconds", type=float, default=24.0, help="of each film of the corpus")
    args = parser.parse_args()
    detectors: dict[str, Detector] = {"ours": lambda path: find_cuts(path, probe(path).duration_s)}
    detectors |= library()
    print(f"{'':14} {'cuts':>4}  " + "  ".join(f"{n:>18}" for n in detectors))
    print(f"{'':20}" + "  ".join(f"{'found':>5} {'wrong':>5} {'s':>6}" for _ in detectors))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        rng = np.random.default_rng(0)
        for seed, kind in enumerate(DRAWN if args.shots else ()):
            lengths = [round(float(rng.uniform(1, 4)) * FPS) / FPS for _ in range(args.shots)]
            write(path, FPS, drawn(kind, lengths, seed))
            has_cuts = kind in ("plain", "like", "dark")
            cuts = list(np.cumsum(lengths)[:-1]) if has_cuts else []
            print(row(kind, path, cuts, detectors), flush=True)
        if args.corpus is not None:
            assets = SceneAssets.open(args.corpus)
            for film in FILMS[:4]:
                rng = np.random.default_rng(FILMS.index(film))
                ends = shots(film, rng, args.seconds)
                write(path, FPS, pictures(film, assets, ends, rng))
                print(row(film, path, ends[:-1], detectors), flush=True)
    strips = [strip(v, t) for v in args.videos for _, t in disagreements(v, detectors)]
    if args.sheet is not None and strips:
        Image.fromarray(np.concatenate(strips)).save(args.sheet)


if __name__ == "__main__":
    main()
