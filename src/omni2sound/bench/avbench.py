"""The protocol avbench-8s-v1: FD, KL, IS, CLAP, IB and DeSync as published tables have them.

In:   features of generated and of real sounds, of videos and captions (`avbench_clips`).
Out:  `AvScore`s, each with its direction, its number of clips and, where it is a mean over
      clips, a 95 % interval.

Names and order of operations are av-benchmark's: FD-VGG and FD-PANNs compare all clips of both
sets, everything else pairs them by name. DeSync is the mean of the *size* of the offset over
the first and the last 4.8 s of each clip. What not to get wrong: IB and CLAP are cosines here;
papers print IB times 100. FD and IS have no interval: they are not means over clips.

Shape suffixes: N clips, K classes, D features, S segments.
Source: hkchengrex/av-benchmark, commit 050a5cd, evaluate.py and av_bench/metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from omni2sound.bench.avbench_clips import SoundFeatures, VideoFeatures
from omni2sound.bench.distances import frechet_distance, kl_divergences
from omni2sound.bench.distributions import inception_score
from omni2sound.bench.metrics import Estimate, bootstrap_mean
from omni2sound.encoders.metric.synchformer import OFFSETS_S, WINDOW_SEGMENTS, SyncJudge
from omni2sound.errors import UserError

__all__ = ["PROTOCOL", "AvScore", "desync_s", "score_avbench"]

PROTOCOL = "avbench-8s-v1"
_MIN_CLIPS = 10
"""Inception score cuts the clips into ten parts."""
_CHUNK_CLIPS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class AvScore:
    """One number of the table.

    Attributes:
        name: As av-benchmark calls it.
        value: The score.
        better: Which way is better.
        num_clips: Generated clips behind it.
        interval: 95 % bootstrap over clips; None where the score is no mean over clips.
        spread: Standard deviation over ten parts (inception score only).
        protocol: By which rules.
    """

    name: str
    value: float
    better: Literal["lower", "higher"]
    num_clips: int
    interval: tuple[float, float] | None = None
    spread: float | None = None
    protocol: str = PROTOCOL


def score_avbench(
    generated: SoundFeatures,
    reference: SoundFeatures,
    *,
    videos: VideoFeatures | None = None,
    captions: Mapping[str, Tensor] | None = None,
    sync: SyncJudge | None = None,
) -> tuple[AvScore, ...]:
    """Every score that the features allow, in the order of published tables.

    Args:
        generated: Of the system's sounds.
        reference: Of the real ones.
        videos: Of the videos that both belong to; without them no IB and no DeSync.
        captions: Clip to its caption's embedding; without them no CLAP.
        sync: Decides on offsets.

    Raises:
        UserError: Fewer than ten clips are in both sets.
    """
    shared = sorted(set(generated.names) & set(reference.names))
    if len(shared) < _MIN_CLIPS:
        raise UserError(
            f"{PROTOCOL} needs at least {_MIN_CLIPS} clips with sounds of one name in both "
            f"folders, got {len(shared)}"
        )
    scores = [*_distances(generated, reference)]
    for judge, title in (("panns", "PANNS"), ("passt", "PASST")):
        ours, theirs = generated.logits.get(judge, {}), reference.logits.get(judge, {})
        if ours and theirs:
            names = sorted(ours.keys() & theirs.keys())
            divergence = kl_divergences(_rows(theirs, names), _rows(ours, names))
            scores.append(_mean(f"KL-{title}-softmax", divergence, "lower"))
    for judge, title in (("panns", "PANNS"), ("passt", "PASST")):
        scores += _inception(title, generated, reference, judge)
    seen = videos.embeddings if videos is not None else {}
    pairs = (
        ("IB-Score", seen.get("imagebind", {}), "imagebind"),
        ("LAION-CLAP-Score", captions or {}, "clap"),
    )
    for name, other, judge in pairs:
        heard = generated.embeddings.get(judge, {})
        names = sorted(heard.keys() & other.keys())
        if names:
            cosine = torch.cosine_similarity(_stack(other, names), _stack(heard, names), dim=-1)
            scores.append(_mean(name, cosine.double().numpy(), "higher"))
    heard, looked = generated.embeddings.get("sync", {}), seen.get("sync", {})
    names = sorted(heard.keys() & looked.keys())
    if names and sync is not None:
        offsets = desync_s(sync, _stack(looked, names), _stack(heard, names))
        scores.append(_mean("DeSync", offsets.numpy(), "lower"))
    return tuple(scores)


def desync_s(sync: SyncJudge, visual_NSZD: Tensor, audio_NSZD: Tensor) -> Tensor:
    """Seconds (N,) by which sound and picture seem apart: the mean size over two windows.

    Args:
        sync: Decides.
        visual_NSZD: (N, 24, 8, D) of 8 s.
        audio_NSZD: (N, 24, 6, D) of 8 s.

    Raises:
        ShapeError: Fewer than 14 segments.
    """
    grid = torch.tensor(OFFSETS_S, dtype=torch.float64).abs()
    sizes = []
    for window in (slice(None, WINDOW_SEGMENTS), slice(-WINDOW_SEGMENTS, None)):
        logits = [
            sync.offset_logits(visual[:, window], audio[:, window])
            for visual, audio in zip(
                torch.split(visual_NSZD, _CHUNK_CLIPS),
                torch.split(audio_NSZD, _CHUNK_CLIPS),
                strict=True,
            )
        ]
        sizes.append(grid[torch.cat(logits).argmax(dim=-1)])
    return torch.stack(sizes).mean(dim=0)


def _distances(generated: SoundFeatures, reference: SoundFeatures) -> list[AvScore]:
    scores = []
    for judge, name in (("vggish", "FD-VGG"), ("panns", "FD-PANN"), ("passt", "FD-PASST")):
        ours = generated.embeddings.get(judge, {})
        theirs = reference.embeddings.get(judge, {})
        if judge == "passt":  # the only one that compares pairs
            shared = ours.keys() & theirs.keys()
            ours = {k: ours[k] for k in sorted(shared)}
            theirs = {k: theirs[k] for k in sorted(shared)}
        if not ours or not theirs:
            continue
        join = torch.cat if judge == "vggish" else torch.stack
        distance = frechet_distance(
            join([ours[k] for k in sorted(ours)]).numpy(),
            join([theirs[k] for k in sorted(theirs)]).numpy(),
        )
        scores.append(AvScore(name=name, value=distance, better="lower", num_clips=len(ours)))
    return scores


def _inception(
    title: str, generated: SoundFeatures, reference: SoundFeatures, judge: str
) -> list[AvScore]:
    logits = dict(generated.logits.get(judge, {}))
    if judge == "passt":  # PaSST's logits are paired before anything is made of them
        kept = reference.logits.get(judge, {}).keys()
        logits = {name: row for name, row in logits.items() if name in kept}
    if len(logits) < _MIN_CLIPS:
        return []
    score = inception_score(_rows(logits, sorted(logits)))
    return [
        AvScore(
            name=f"ISC-{title}-mean",
            value=score.mean,
            spread=score.std,
            better="higher",
            num_clips=len(logits),
        )
    ]


def _mean(name: str, per_clip_N: np.ndarray, better: Literal["lower", "higher"]) -> AvScore:
    estimate: Estimate = bootstrap_mean(per_clip_N)
    return AvScore(
        name=name,
        value=estimate.value,
        better=better,
        num_clips=estimate.num_clips,
        interval=(estimate.low, estimate.high),
    )


def _stack(entries: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    return torch.stack([entries[name] for name in names])


def _rows(entries: Mapping[str, Tensor], names: Sequence[str]) -> np.ndarray:
    rows: np.ndarray = _stack(entries, names).numpy()
    return rows
