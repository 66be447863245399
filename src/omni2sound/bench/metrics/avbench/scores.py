"""The protocol avbench-8s-v1: FD, KL, IS, CLAP, IB and DeSync as in published tables.

In:   features of generated and of real sounds, of videos and captions (`avbench.clips`).
Out:  `Score`s with 95 % intervals: a bootstrap over clips for means, a delete-group jackknife for
      FD, Student's over its ten parts for the inception score.

Names and order of operations are av-benchmark's: FD-VGG and FD-PANNs compare all clips of both
sets, everything else pairs them by name. DeSync is the mean of the *size* of the offset over
the first and the last 4.8 s of each clip. What not to get wrong: IB and CLAP are cosines here;
papers print IB times 100. Features on disk are read one clip at a time.

Shape suffixes: N clips, K classes, D features, S segments.
Source: hkchengrex/av-benchmark, commit 050a5cd, evaluate.py and av_bench/metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student_t
from torch import Tensor

from omni2sound.bench.metrics.avbench.clips import SoundFeatures, VideoFeatures
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.stats.distances import NUM_SPLITS, kl_divergences, split_inception_score
from omni2sound.bench.stats.estimate import Direction, Estimate, Score
from omni2sound.bench.stats.frechet_sets import (
    GroupedMoments,
    frechet_of_moments,
    groups_of,
    jackknife_groups,
)
from omni2sound.encoders.metric.synchformer import OFFSETS_S, WINDOW_SEGMENTS, Synchformer
from omni2sound.errors import UserError

PROTOCOL = "avbench-8s-v1"
MIN_CLIPS = 10
"""The inception score splits the clips into ten parts."""
_CHUNK_CLIPS = 16


def score_avbench(
    generated: SoundFeatures,
    reference: SoundFeatures,
    *,
    videos: VideoFeatures | None = None,
    captions: Mapping[str, Tensor] | None = None,
    sync: Synchformer | None = None,
    sets: bool = True,
) -> tuple[Score, ...]:
    """Compute every score that the features allow, in the order of published tables.

    Args:
        generated: Features of the system's sounds.
        reference: Features of the real sounds.
        videos: Features of their videos. Default: no IB and no DeSync.
        captions: Embedding of each clip's caption. Default: no CLAP.
        sync: Network that estimates offsets. Default: no DeSync.
        sets: False for the real sounds themselves in any order: no FD and no inception score,
            since a set has no distance to itself.

    Raises:
        UserError: Fewer than ten clips are in both sets.
    """
    shared = sorted(set(generated.names) & set(reference.names))
    if len(shared) < MIN_CLIPS:
        raise UserError(
            f"{PROTOCOL} needs at least {MIN_CLIPS} clips with sounds of one name in both "
            f"folders, got {len(shared)}"
        )
    scores = [*_distances(generated, reference)] if sets else []
    for network, title in (("panns", "PANNS"), ("passt", "PASST")):
        ours, theirs = generated.logits.get(network, {}), reference.logits.get(network, {})
        names = sorted(ours.keys() & theirs.keys())
        if len(names) > 1:
            divergence = kl_divergences(_rows(theirs, names), _rows(ours, names))
            scores.append(_score(f"KL-{title}-softmax", bootstrap_mean(divergence), "lower"))
    for network, title in (("panns", "PANNS"), ("passt", "PASST")) if sets else ():
        scores += _inception(title, generated, reference, network)
    seen = videos.embeddings if videos is not None else {}
    pairs = (
        ("IB-Score", seen.get("imagebind", {}), "imagebind"),
        ("LAION-CLAP-Score", captions or {}, "clap"),
    )
    for name, other, network in pairs:
        sounds = generated.embeddings.get(network, {})
        names = sorted(sounds.keys() & other.keys())
        if names:
            scores.append(_score(name, bootstrap_mean(_cosines(other, sounds, names)), "higher"))
    sounds, frames = generated.embeddings.get("sync", {}), seen.get("sync", {})
    names = sorted(sounds.keys() & frames.keys())
    if names and sync is not None:
        offsets = [
            desync_s(
                sync,
                torch.stack([frames[n] for n in names[first : first + _CHUNK_CLIPS]]),
                torch.stack([sounds[n] for n in names[first : first + _CHUNK_CLIPS]]),
            )
            for first in range(0, len(names), _CHUNK_CLIPS)
        ]
        scores.append(_score("DeSync", bootstrap_mean(torch.cat(offsets).numpy()), "lower"))
    return tuple(scores)


def desync_s(sync: Synchformer, visual_NSZD: Tensor, audio_NSZD: Tensor) -> Tensor:
    """Estimated audio-visual offset (N,) in seconds: its mean size over two windows.

    Args:
        sync: Network that estimates offsets.
        visual_NSZD: Visual features (N, 24, 8, D) of 8 s.
        audio_NSZD: Audio features (N, 24, 6, D) of 8 s.

    Raises:
        ShapeError: Fewer than 14 segments.
    """
    grid = torch.tensor(OFFSETS_S, dtype=torch.float64).abs()
    sizes = []
    for window in (slice(None, WINDOW_SEGMENTS), slice(-WINDOW_SEGMENTS, None)):
        logits = sync.offset_logits(visual_NSZD[:, window], audio_NSZD[:, window])
        sizes.append(grid[logits.argmax(dim=-1)])
    return torch.stack(sizes).mean(dim=0)


def _distances(generated: SoundFeatures, reference: SoundFeatures) -> list[Score]:
    scores = []
    for network, name in (("vggish", "FD-VGG"), ("panns", "FD-PANN"), ("passt", "FD-PASST")):
        ours = generated.embeddings.get(network, {})
        theirs = reference.embeddings.get(network, {})
        shared = ours.keys() & theirs.keys()
        # Only PaSST's FD compares pairs.
        names = [sorted(shared if network == "passt" else side.keys()) for side in (ours, theirs)]
        if min(map(len, names)) >= MIN_CLIPS:
            scores.append(_score(name, _frechet(ours, theirs, *names), "lower"))
    return scores


def _frechet(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    our_names: Sequence[str],
    their_names: Sequence[str],
) -> Estimate:
    """FD of two sets, read one clip at a time; a jackknife group is left out of both at once."""
    everything = sorted({*our_names, *their_names})
    groups = dict(zip(everything, groups_of(len(everything)).tolist(), strict=True))
    num_groups = max(groups.values()) + 1

    def vectors(
        side: Mapping[str, Tensor], names: Sequence[str]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for name in names:
            rows = side[name].numpy()
            yield groups[name], rows if rows.ndim == 2 else rows[None]

    a = GroupedMoments(vectors(ours, our_names), num_groups)
    b = GroupedMoments(vectors(theirs, their_names), num_groups)

    def distance(group: int | None) -> float:
        return frechet_of_moments(a.without(group), b.without(group), rough=group is not None)

    return jackknife_groups(distance, num_groups, len(our_names))


def _inception(
    title: str, generated: SoundFeatures, reference: SoundFeatures, network: str
) -> list[Score]:
    logits = generated.logits.get(network, {})
    names = sorted(logits)
    if network == "passt":  # PaSST's logits are paired first
        names = sorted(logits.keys() & reference.logits.get(network, {}).keys())
    if len(names) < MIN_CLIPS:
        return []
    found = split_inception_score(_rows(logits, names))
    # The parts share no clip: their mean has Student's interval (std is that of ten values).
    half = float(student_t.ppf(0.975, NUM_SPLITS - 1)) * found.std / np.sqrt(NUM_SPLITS - 1)
    estimate = Estimate(
        value=found.mean, low=found.mean - half, high=found.mean + half, num_clips=len(names)
    )
    return [_score(f"ISC-{title}-mean", estimate, "higher")]


def _score(name: str, estimate: Estimate, direction: Direction) -> Score:
    unit = "s" if name == "DeSync" else ""
    return Score(protocol=PROTOCOL, name=name, direction=direction, unit=unit, estimate=estimate)


def _cosines(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Sequence[str]) -> np.ndarray:
    return np.array(
        [float(torch.cosine_similarity(a[n].double(), b[n].double(), dim=-1)) for n in names]
    )


def _rows(entries: Mapping[str, Tensor], names: Sequence[str]) -> np.ndarray:
    rows: np.ndarray = torch.stack([entries[name] for name in names]).numpy()
    return rows
