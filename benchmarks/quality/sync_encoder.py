"""Does the sync encoder find what sounds, and how far is it from motion energy alone?

Run:  python benchmarks/quality/sync_encoder.py --model embedded --corpus CORPUS [--split test]
        [--scenes 200] [--file-fps 24 30]

*Strike*: in scenes with one on-screen strike among moving silent distractors the frame with the
largest answer is compared with the truth. *All onsets*: in "main" scenes of 8 s every peak of
the answer above a threshold is paired with the true onsets (those of `stage-v1`, within 0.1 s),
at the threshold of the best F1, which is told; what lies in no event is a distractor's.
With `--file-fps` only all onsets are scored, from pictures as files of these frame rates show them:
taken at 25 a second, and at the rate of `encoders.sync.even_rate`, interpolated to 25 afterwards.
Motion energy is the mean absolute change between neighbouring frames; "shuffled" scores each
answer against another scene's truth.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.onsets import count_pairs
from omni2sound.bench.metrics.scene_v1 import TrueEvent, true_events
from omni2sound.bench.stats.bootstrap import bootstrap_mean, bootstrap_ratio
from omni2sound.config import from_json
from omni2sound.encoders.sync import SyncConfig, SyncEncoder, at_rate
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.render.free import show_times
from omni2sound.scenes.render.render import iter_frames_at, render_frames
from omni2sound.scenes.scene import Scene, SceneKind
from omni2sound.timebase import even_rate
from omni2sound.weights import load_card, load_part, resolve_model

TOLERANCE_S = 0.1
STRIKE_S = 4.0
MAIN_S = 8.0
APART_FRAMES = 3
"""A peak is the largest of so many frames on either side."""

Truth = tuple[TrueEvent, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file-fps", type=Fraction, nargs="+", default=[])
    args = parser.parse_args()

    card = load_card(resolve_model(args.model))
    encoder = SyncEncoder(from_json(SyncConfig, card.parts["sync"])).eval()
    load_part(card, "sync", encoder)
    assets = SceneAssets.open(args.corpus)

    def look(
        kind: SceneKind, duration_s: float
    ) -> tuple[list[NDArray], list[NDArray], list[Truth]]:
        answers, energies, truths = [], [], []
        for index in range(args.scenes):
            scene = draw_scene(
                assets,
                split=args.split,
                seed=args.seed,
                index=index,
                kind=kind,
                duration_s=duration_s,
            )
            config = encoder.config
            frames = render_frames(scene, assets, fps=config.fps, size_px=config.frame_px)
            answers.append(encoder.embed(frames)[:, -2].numpy())
            change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
            energies.append(np.concatenate([[0.0], change]))
            truths.append(true_events(scene, assets))
        return answers, energies, truths

    fps = encoder.config.fps
    if args.file_fps:
        scenes = [
            draw_scene(
                assets, split=args.split, seed=args.seed, index=i, kind="main", duration_s=MAIN_S
            )
            for i in range(args.scenes)
        ]
        print(f"all onsets within {TOLERANCE_S * 1000:.0f} ms, {args.scenes} {args.split} scenes")
        for file_fps in args.file_fps:
            for name, rate in (("25", Fraction(fps)), ("even", even_rate(file_fps, fps))):
                answers = [answer_of_file(encoder, s, assets, file_fps, rate) for s in scenes]
                truths = [true_events(scene, assets) for scene in scenes]
                print(f"  file of {file_fps!s:10}  {name:5} {_best_f1(answers, truths, fps)}")
        return
    answers, energies, truths = look("strike", STRIKE_S)
    truth = np.array([events[0].onset_s for events in truths])
    print(f"strike within {TOLERANCE_S * 1000:.0f} ms, {args.scenes} {args.split} scenes")
    for name, curves, wanted in (
        ("sync encoder", answers, truth),
        ("sync encoder, shuffled", answers, np.roll(truth, 1)),
        ("motion energy", energies, truth),
    ):
        error = np.abs(np.array([(c.argmax() + 0.5) / fps for c in curves]) - wanted)
        rate = bootstrap_mean((error <= TOLERANCE_S).astype(np.float64), seed=0)
        print(
            f"  {name:24s} {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
            f"   median error {np.median(error) * 1000:.0f} ms"
        )
    answers, energies, truths = look("main", MAIN_S)
    print(f"all onsets within {TOLERANCE_S * 1000:.0f} ms, {args.scenes} {args.split} scenes")
    for name, curves, events in (
        ("sync encoder", answers, truths),
        ("sync encoder, shuffled", answers, [*truths[-1:], *truths[:-1]]),
        ("motion energy", energies, truths),
    ):
        print(f"  {name:24s} {_best_f1(curves, events, fps)}")


def answer_of_file(
    encoder: SyncEncoder, scene: Scene, assets: SceneAssets, file_fps: Fraction, rate: Fraction
) -> NDArray:
    """The onset answer, 25 a second, from a file's pictures that are taken at `rate`."""
    times = (np.arange(math.ceil(MAIN_S * rate)) + 0.5) / float(rate)
    px, fps = encoder.config.frame_px, encoder.config.fps
    shown = show_times(times, float(file_fps))
    frames = np.stack(list(iter_frames_at(scene, assets, shown, height_px=px, width_px=px)))
    features = at_rate(encoder.embed(frames), rate, fps, math.ceil(MAIN_S * fps))
    return features[:, -2].numpy()


def _best_f1(curves: Sequence[NDArray], truths: Sequence[Truth], fps: int) -> str:
    best = ""
    highest = -1.0
    for quantile in np.linspace(0.7, 0.995, 60):
        threshold = float(np.quantile(np.concatenate(curves), quantile))
        pairs, found, true, outside = [], [], [], []
        for curve, events in zip(curves, truths, strict=True):
            peaks_s = _peaks_s(curve, threshold, fps)
            true_s = sorted(t for e in events for t in (e.onset_s, *e.hits_s))
            pairs.append(count_pairs(peaks_s, true_s, tolerance_s=TOLERANCE_S))
            found.append(len(peaks_s))
            true.append(len(true_s))
            outside.append(
                sum(
                    not any(
                        e.onset_s - TOLERANCE_S <= t <= e.offset_s + TOLERANCE_S for e in events
                    )
                    for t in peaks_s
                )
            )
        f1 = bootstrap_ratio([2 * p for p in pairs], np.add(found, true).tolist())
        if f1.value > highest:
            highest = f1.value
            best = (
                f"F1 {f1.value:.3f} [{f1.low:.3f}, {f1.high:.3f}]   recall "
                f"{sum(pairs) / sum(true):.3f}   precision {sum(pairs) / max(1, sum(found)):.3f}   "
                f"in no event {np.mean(outside):.2f} a clip   threshold {threshold:.3g}"
            )
    return best


def _peaks_s(curve: NDArray, threshold: float, fps: int) -> list[float]:
    return [
        (i + 0.5) / fps
        for i, value in enumerate(curve)
        if value >= threshold
        and value >= curve[max(0, i - APART_FRAMES) : i + APART_FRAMES + 1].max()
    ]


if __name__ == "__main__":
    main()
