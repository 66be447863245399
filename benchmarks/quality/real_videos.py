"""What the default model makes of real videos, with and without recognition.

Run:  python benchmarks/quality/real_videos.py VIDEO... [--seconds 8] [--seeds 3]

For each video: what was recognised, how loud the loudest second is, and YAMNet's first three
classes (largest patch, averaged over seeds), once with recognition (the default) and once without.
What is really there has to be judged by eye: the script has no ground truth. YAMNet plays no part
in recognition.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.notes import for_tagger
from omni2sound.media.info import probe


def loudest_second_dbfs(samples_N: np.ndarray, rate_hz: int) -> float:
    """Level of the loudest second, dB below full scale."""
    power = np.convolve(samples_N**2, np.ones(rate_hz) / rate_hz, mode="same")
    return float(10 * np.log10(max(power.max(), 1e-12)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO")
    parser.add_argument("--seconds", type=float, default=8.0, help="at most, of each video")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    pipeline, tagger = TorchPipeline.load("embedded"), YamNet.load()
    for video in args.videos:
        info = probe(video).video
        assert info is not None, f"{video} has no picture"
        seconds = args.seconds if info.is_still else min(args.seconds, float(info.duration_s))
        print(f"{video.name}, {seconds:.1f} s")
        for recognise in (False, True):
            scores, levels, notes = [], [], ()
            for seed in range(1, args.seeds + 1):
                request = GenerationRequest(
                    video=video, duration_s=seconds, recognise=recognise, seed=seed
                )
                result = next(pipeline.run(request))
                samples_N = result.audio.samples_CN[0]
                levels.append(loudest_second_dbfs(samples_N, result.audio.sample_rate_hz))
                scores_PK = tagger.scores(for_tagger(result.audio))
                scores.append(scores_PK.max(axis=0))
                notes = result.notes
            mean_K = np.mean(scores, axis=0)
            first = ", ".join(
                f"{tagger.class_names[k]} {mean_K[k]:.2f}" for k in np.argsort(-mean_K)[:3]
            )
            name = "recognised" if recognise else "as before"
            print(f"  {name:10}  {np.mean(levels):6.1f} dBFS  {first}")
            for note in notes:
                print(f"              {note}")


if __name__ == "__main__":
    main()
