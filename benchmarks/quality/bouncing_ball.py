"""Does one motion give the same sound at every frame rate? A bouncing ball of known hits.

Run:  python benchmarks/quality/bouncing_ball.py [--model embedded] [--seconds 180]
        [--fps 24 25 30 50 60 120] [--seen "A hammer strikes metal."]

The ball is thrown up anew at each hit, by chance .45 to 1.2 s apart, and falls freely: its hits are
known exactly. The videos of all frame rates show the same motion, each picture the middle of its
turn. Onsets of the generated sound (those of `stage-v1`) are paired with hits one to one, within
100 ms; *heard* is the share of hits that have a pair, *false* the number of other onsets over that
of hits. Must show: heard at least .85 and false at most .05 at each rate.

Baselines: the same onsets held against the hits of another throw (*other hits*), and the peaks of
motion energy as the benchmark's baseline has them (*motion energy*). Words are given by `--seen`,
for a drawn ball is no thing that sounds; `--seen recognise` leaves them to recognition.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from omni2sound.bench.metrics.onsets import Onsets, count_pairs
from omni2sound.bench.systems.baselines import MOTION_FPS, motion_peaks_s
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.media.video import iter_frames

TOLERANCE_S = 0.1
HEARD, FALSE = 0.85, 0.05
HEIGHT_PX, WIDTH_PX = 240, 320
GRAVITY = 3.0
"""Picture heights per second, squared: a picture 3.3 m high."""
RADIUS, FLOOR = 0.1, 0.85
"""Picture heights."""
CONTACT_S, SQUASH = 0.02, 0.25
BALL = (210, 80, 40)
_ROOM = np.full((HEIGHT_PX, WIDTH_PX, 3), (90, 120, 150), np.uint8)
_ROOM[round(FLOOR * HEIGHT_PX) :] = (120, 90, 60)


def hits_s(duration_s: float, seed: int) -> NDArray[np.float64]:
    """Times of the hits."""
    rng = np.random.default_rng(seed)
    times = [0.6]
    while times[-1] < duration_s:
        times.append(times[-1] + float(rng.uniform(0.45, 1.2)))
    return np.array([t for t in times if t < duration_s - 0.3])


def height_at(time_s: float, hits: NDArray[np.float64]) -> float:
    """Height of the ball's lowest point above the floor, picture heights."""
    around = np.concatenate([[hits[0] - 1.1], hits, [hits[-1] + 1.1]])
    i = int(np.clip(np.searchsorted(around, time_s, side="right") - 1, 0, len(around) - 2))
    return max(0.0, 0.5 * GRAVITY * (time_s - around[i]) * (around[i + 1] - time_s))


def draw(
    time_s: float, hits: NDArray[np.float64], behind: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """One picture, with soft edges; `behind` replaces sky and ground."""
    picture = _ROOM.copy() if behind is None else behind.copy()
    near = max(0.0, 1 - float(np.abs(hits - time_s).min()) / CONTACT_S)
    high, wide = RADIUS * (1 - SQUASH * near), RADIUS * (1 + 0.6 * SQUASH * near)
    y_px = (FLOOR - height_at(time_s, hits) - high) * HEIGHT_PX
    first, reach = max(0, int(y_px - 1.3 * RADIUS * HEIGHT_PX)), int(1.3 * RADIUS * HEIGHT_PX)
    box = slice(first, first + 2 * reach), slice(WIDTH_PX // 2 - reach, WIDTH_PX // 2 + reach)
    rows, columns = np.mgrid[box] + 0.5
    far = np.hypot(
        (rows - y_px) / (high * HEIGHT_PX), (columns - WIDTH_PX / 2) / (wide * HEIGHT_PX)
    )[: len(picture[box])]
    cover = np.clip((1 - far) * RADIUS * HEIGHT_PX + 0.5, 0, 1)[..., None]
    light = 1.15 - 0.3 * np.clip(far, 0, 1)[..., None]
    mixed = picture[box] + cover * (light * BALL - picture[box])
    picture[box] = np.clip(mixed, 0, 255).astype(np.uint8)
    return picture


def write(path: Path, fps: int, pictures: Iterable[NDArray[np.uint8]]) -> None:
    """Write a video of one frame rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = HEIGHT_PX, WIDTH_PX, "yuv420p"
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def moving_frames(path: Path, duration_s: float) -> Iterator[NDArray[np.uint8]]:
    """The pictures that motion energy is measured on."""
    return iter_frames(path, fps=MOTION_FPS, size_px=(96, 96), duration_s=duration_s)


def row(found_s: Sequence[float], hits: NDArray[np.float64]) -> tuple[float, float]:
    """Share of hits that are heard, and false onsets for each hit."""
    pairs = count_pairs(sorted(found_s), hits.tolist(), tolerance_s=TOLERANCE_S)
    return pairs / len(hits), (len(found_s) - pairs) / len(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="embedded", help="name or folder")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--fps", type=int, nargs="+", default=[24, 25, 30, 50, 60, 120])
    parser.add_argument("--seen", default="A hammer strikes metal.", help="words, or: recognise")
    parser.add_argument("--seed", type=int, default=1, help="of the hits and of the noise")
    args = parser.parse_args()
    pipeline = TorchPipeline.load(args.model)
    hits = hits_s(args.seconds, args.seed)
    other = hits_s(args.seconds, args.seed + 1000)
    print(f"{args.model}, {args.seen!r}: {len(hits)} hits in {args.seconds:g} s, within 100 ms")
    print(f"{'fps':>5}  {'':14}  {'onsets':>6}  {'heard':>5}  {'false':>5}", flush=True)
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        for fps in args.fps:
            path = Path(folder) / f"{fps}.mp4"
            times = (np.arange(round(args.seconds * fps)) + 0.5) / fps
            write(path, fps, (draw(float(t), hits) for t in times))
            request = GenerationRequest(
                video=path, seen=None if args.seen == "recognise" else args.seen, seed=args.seed
            )
            audio = next(pipeline.run(request)).audio
            found = Onsets(audio.samples_CN[0], audio.sample_rate_hz).times_s
            frames = np.stack(list(moving_frames(path, args.seconds)))
            energy = motion_peaks_s(frames, MOTION_FPS)
            for name, times, truth in (
                ("generated", found, hits),
                ("other hits", found, other),
                ("motion energy", energy, hits),
            ):
                heard, false = row(times, truth)
                print(f"{fps:5}  {name:14}  {len(times):6}  {heard:5.2f}  {false:5.2f}", flush=True)
                fine &= name != "generated" or (heard >= HEARD and false <= FALSE)
            path.unlink()
    print(f"heard at least {HEARD}, false at most {FALSE} at each: {'yes' if fine else 'NO'}")
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
