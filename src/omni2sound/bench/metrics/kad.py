"""The protocols `kad-NAME-v1`: kernel audio distance in the embedding space of one network.

In:   KAD with and without each jackknife group (`stats.kernel_distance`).
Out:  a `Score` with a 95 % interval.

Definition: one embedding a clip of 8 s; unbiased squared MMD times 100 with a Gaussian kernel whose
width is the median distance of two real clips. NAME is an audio tagger, whose patches are averaged
as for KID, or one of avbench-8s-v1's networks: panns or clap.
"""

from __future__ import annotations

from omni2sound.bench.stats.distances import Matrix
from omni2sound.bench.stats.estimate import Score
from omni2sound.bench.stats.frechet_sets import jackknife_estimate

PUBLISHED = ("panns", "clap")
"""Networks of avbench-8s-v1 with one embedding a clip that KAD is used with."""


def kad_score(values: Matrix, *, network: str, num_clips: int) -> Score:
    """Make the score of a network from `KernelReference.distance`."""
    return Score(
        protocol=f"kad-{network}-v1",
        name="KAD",
        direction="lower",
        unit="",
        estimate=jackknife_estimate(float(values[0]), values[1:], num_clips),
    )
