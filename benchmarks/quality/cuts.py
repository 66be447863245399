"""Are cuts and moving cameras taken for impacts? Sound of films in which nothing hits anything.

Run:  python -m benchmarks.quality.cuts --corpus CORPUS [--model embedded] [--seconds 24]
        [--words "A hammer strikes metal."]

Films of things that stand still, pictures of the catalogue's test split before drawn backgrounds:
cut to another scene every 1.5 to 3 s, before a camera that stands (*cuts*); one scene before a
hand-held camera (*hand-held*), before one that turns (*turning*); cuts and moving camera (*both*).
Nothing strikes: every onset of the sound is false. *At cuts* are those within 150 ms of a cut. In
*ball and cuts* a ball bounces over all of it (`bouncing_ball`): hits heard and other onsets. Beside
them, the cuts that `recognise.cuts` finds in the written file, right and wrong.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.bouncing_ball import HEIGHT_PX, WIDTH_PX, draw, hits_s, row, write
from omni2sound.bench.metrics.onsets import Onsets
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.recognise.cuts import find_cuts
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.render.free import CameraMotion
from omni2sound.scenes.render.render import iter_frames_at
from omni2sound.scenes.scene import Scene, Sway

FPS = 25
AT_CUT_S = 0.15
FILMS = ("cuts", "hand-held", "turning", "both", "ball and cuts")
STILL = Sway(x=0.0, y=0.0, angle=0.0, rate_hz=1.0, phase=0.0)


def standing(assets: SceneAssets, index: int) -> Scene:
    """A scene in which nothing moves or sounds."""
    scene = draw_scene(assets, split="test", seed=68, index=index, kind="main", duration_s=4.0)
    objects = tuple(
        replace(
            thing,
            role="distractor",
            source=None,
            knots=thing.knots[:1],
            sway=STILL,
            visible_from_s=0.0,
            visible_until_s=1e9,
            response=None,
            gestures=(),
        )
        for thing in scene.objects
    )
    look = replace(scene.look, flicker=0.0)
    return replace(
        scene, events=(), objects=objects, shots=scene.shots[:1], look=look, aspect=4 / 3
    )


def shots(film: str, rng: np.random.Generator, seconds: float) -> list[float]:
    """Ends of the shots; the last one is the film's."""
    ends = []
    if film in ("cuts", "both", "ball and cuts"):
        end = float(rng.uniform(1.5, 3))
        while end < seconds - 1:
            ends.append(round(end * FPS) / FPS)
            end += float(rng.uniform(1.5, 3))
    return [*ends, seconds]


def pictures(
    film: str, assets: SceneAssets, ends: list[float], rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """All pictures of a film but the ball."""
    begin = 0.0
    held, turns = film in ("hand-held", "both", "ball and cuts"), film in ("turning", "both")
    for index, end in enumerate(ends):
        pieces = int((end - begin) // 4) + 1 if turns else 1
        length = (end - begin) / pieces
        at = np.zeros(2)
        for piece in range(pieces):
            pan = (*rng.uniform(-0.17, 0.17, 2), float(rng.uniform(-0.1, 0.1)))
            camera = CameraMotion(
                zoom=1.15,
                shake=0.008 if held else 0.0,
                rates_hz=tuple(rng.uniform(0.5, 4, 6)),
                phases=tuple(rng.random(6)),
                pan=(pan[0] - at[0], pan[1] - at[1], 0.0) if turns else (0.0, 0.0, 0.0),
                from_s=float(rng.uniform(0.1, 0.4)) * length,
                lasts_s=float(rng.uniform(0.2, 1.0)),
            )
            times = np.arange(0, length - 1e-6, 1 / FPS)
            x, y, zoom = camera.view(times, 4 / 3)
            if turns:  # each turn begins where the last one ended
                shift = np.array(camera.pan[:2])
                x, y = x + at[0] + shift[0] / 2, y + at[1] + shift[1] / 2
                at = at + shift
            del piece
            yield from iter_frames_at(
                standing(assets, index),
                assets,
                times,
                height_px=HEIGHT_PX,
                width_px=WIDTH_PX,
                view=(x, y, zoom),
            )
        begin = end


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="embedded", help="name or folder")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--words", default="A hammer strikes metal.")
    parser.add_argument("--films", nargs="+", default=list(FILMS), choices=FILMS)
    args = parser.parse_args()
    pipeline = TorchPipeline.load(args.model)
    assets = SceneAssets.open(args.corpus)
    print(f"{args.model}, {args.words!r}, {args.seconds:g} s a film")
    print(f"{'':14}  {'cuts':>4}  {'found':>5}  {'wrong':>5}  {'onsets':>6}  {'at cuts':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for film in args.films:
            rng = np.random.default_rng(FILMS.index(film))
            ends = shots(film, rng, args.seconds)
            cuts = np.array(ends[:-1])
            hits = hits_s(args.seconds, 1)
            path = Path(folder) / "film.mp4"
            frames = pictures(film, assets, ends, rng)
            if film == "ball and cuts":
                frames = (draw((i + 0.5) / FPS, hits, f) for i, f in enumerate(frames))
            write(path, FPS, frames)
            told = find_cuts(path, args.seconds)
            right = sum(any(abs(c - t) < 0.03 for t in told) for c in cuts)
            request = GenerationRequest(video=path, seen=args.words, seed=1)
            audio = next(pipeline.run(request)).audio
            found = Onsets(audio.samples_CN[0], audio.sample_rate_hz).times_s
            near = sum(any(abs(c - t) <= AT_CUT_S for c in cuts) for t in found)
            line = f"{film:14}  {len(cuts):4}  {right:5}  {len(told) - right:5}  {len(found):6}"
            line += f"  {near:7}"
            if film == "ball and cuts":
                heard, false = row(found, hits)
                line += f"   of {len(hits)} hits heard {heard:.2f}, false {false:.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
