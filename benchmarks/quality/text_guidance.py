"""What does the prompt's own guidance scale bring beside a video, and what does it cost?

Run:  python benchmarks/quality/text_guidance.py --corpus CORPUS [--clips 64]

Video and prompt to sound on the same clips, from the same noise, at several pairs of scales:
"off-screen" scenes of the training split (the validation split has none), where one thing is
named and not seen, and "main" scenes of the validation split. Beside them the scenes' own sound;
below them paired differences from plain guidance, with 95 % intervals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.scene_v1 import ClipScore, score_clip, stage_scores
from omni2sound.bench.metrics.tagging import CatalogueTagger, RealTags, tag_recordings
from omni2sound.bench.quick.model import PipelineSounds
from omni2sound.bench.stats.bootstrap import bootstrap_difference, bootstrap_means
from omni2sound.bench.tracks.scene_clips import SceneClip, ScenePictures, draw_clips
from omni2sound.bench.tracks.track import Part
from omni2sound.encoders.metric.tagger import Tagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.encoders.sync import SyncConfig
from omni2sound.generate.model import PipelineConfig
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Split

DURATION_S = 8.0
BATCH = 8
SCENE_SEED, NOISE_SEED = 611, 77
PLAIN = (3.0, 3.0)
SCALES = (PLAIN, (3.0, 4.5), (3.0, 6.0), (2.0, 4.0))
TRACKS: tuple[tuple[Part, Split], ...] = (("offscreen", "train"), ("main", "val"))
SHOWN = (
    "onset F1 100 ms",
    "seen heard",
    "seen heard (2nd)",
    "unseen heard",
    "unseen heard (2nd)",
)

Judged = tuple[CatalogueTagger, RealTags]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=64)
    args = parser.parse_args()
    assets = SceneAssets.open(args.corpus)
    ears = [CatalogueTagger(judge, assets.catalogue) for judge in (YamNet.load(), Tagger.load())]
    judged = [(e, tag_recordings(assets, e)) for e in ears]
    pipeline = TorchPipeline.load("embedded", device="cpu")
    for track, split in TRACKS:
        real: list[ClipScore] = []
        made: dict[tuple[float, float], list[ClipScore]] = {scales: [] for scales in SCALES}
        loudest = dict.fromkeys(SCALES, 0.0)
        for first in range(0, args.clips, BATCH):
            clips = list(
                draw_clips(
                    assets,
                    track,
                    split=split,
                    seed=SCENE_SEED,
                    num_clips=min(BATCH, args.clips - first),
                    duration_s=DURATION_S,
                    first=first,
                )
            )
            real += [_score(clip, clip.sound_N, judged) for clip in clips]
            pictures = _pictures(clips, pipeline.model.config)
            for scales in SCALES:
                model = PipelineSounds(
                    pipeline=pipeline,
                    seed=NOISE_SEED,
                    duration_s=DURATION_S,
                    guidance=scales[0],
                    text_guidance=scales[1],
                )
                sounds = model.for_pictures(pictures, [c.caption for c in clips])
                made[scales] += [_score(c, x, judged) for c, x in zip(clips, sounds, strict=True)]
                loudest[scales] = max(loudest[scales], *(float(np.abs(x).max()) for x in sounds))
        print(f"\n{track} scenes of the {split} split, {args.clips} clips (+- half of 95 %)")
        print(f"{'real sound':12}  {_row(real)}")
        for scales in SCALES:
            print(f"{_name(scales):12}  {_row(made[scales])}  loudest {loudest[scales]:.1f}")
        for scales in SCALES[1:]:
            print(f"{_name(scales)} minus plain: {_differences(made[scales], made[PLAIN])}")


def _pictures(clips: list[SceneClip], config: PipelineConfig) -> ScenePictures:
    assert isinstance(config.sync, SyncConfig)  # the embedded model
    timebase, sync_px = config.timebase, config.sync.frame_px
    return ScenePictures(
        first_index=clips[0].index,
        vision_frames_BTHWK=np.stack(
            [c.frames(timebase.vision_fps, config.vision.spec.size_px[0]) for c in clips]
        ),
        sync_frames_BTHWK=np.stack([c.frames(timebase.sync_fps, sync_px) for c in clips]),
        duration_s=DURATION_S,
    )


def _score(clip: SceneClip, sound_N: NDArray[np.float32], judged: list[Judged]) -> ClipScore:
    (first, real), (second, real_2nd) = judged
    return score_clip(
        sound_N,
        clip.events,
        first.tag(sound_N),
        real,
        second=(second.tag(sound_N), real_2nd),
    )


def _name(scales: tuple[float, float]) -> str:
    return f"{scales[0]:g}, text {scales[1]:g}"


def _row(scores: list[ClipScore]) -> str:
    found = {s.name: s.estimate for s in stage_scores(scores)}
    return "  ".join(
        f"{name} {found[name].value:.3f} +- {(found[name].high - found[name].low) / 2:.3f}"
        for name in SHOWN
        if name in found
    )


def _onset_sums(scores: list[ClipScore]) -> list[NDArray[np.float64]]:
    sums = [(2 * c.pairs, c.num_found + c.num_true) for c in scores]
    return list(np.array(sums, np.float64).T)


def _differences(scores: list[ClipScore], plain: list[ClipScore]) -> str:
    f1 = bootstrap_means(
        [*_onset_sums(scores), *_onset_sums(plain)],
        lambda means: means[0] / means[1] - means[2] / means[3],
    )
    told = [("onset F1", f1)]
    for name in ("seen_heard", "seen_heard_2nd", "unseen_heard", "unseen_heard_2nd"):
        # What is asked of a clip is the same for every system: both are None, or neither is.
        pairs = [
            (a, b)
            for a, b in zip(
                (getattr(c, name) for c in scores), (getattr(c, name) for c in plain), strict=True
            )
            if a is not None
        ]
        if pairs:
            told.append((name, bootstrap_difference(*zip(*pairs, strict=True))))
    return "; ".join(f"{name} {e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for name, e in told)


if __name__ == "__main__":
    main()
