"""What the words of the benchmark mean: silence, onset, class hit, a class that may be scored.

In:   mono waveforms in [-1, 1] and their rate; scores of a judge that the caller loaded.
Out:  times in seconds or None, hits, class names.

Nothing here loads a network, and nothing may change once a model has been scored with it:
give a changed definition a new name. What they mean:

*Silent*: no 20 ms of the clip reach -60 dBFS (RMS).

*Strongest onset*: where loudness rises most. The signal is looked at every 2.5 ms through a
10 ms Hann window; power is summed in 11 bands, two Bark wide each, and compressed to loudness
(power^0.3, Stevens). Rise at t = sum over bands of the positive part of (mean loudness of the
20 ms from t on - mean loudness of the 20 ms before). The strongest onset is the largest rise,
moved to the steepest point (over 5 ms) within 20 ms around it. What sounds at the clip's first
instant has not begun there: time before the clip is taken to sound like its first frame.

*Class scores*: the largest score of each class over patches that begin 50 ms before the
strongest onset, or whole patch hops before or after that; patches 40 dB below the loudest one
are left out. The clip is first brought to a peak of 0.5: how loud it is, is not what it is.

*Class hit*: one of the classes of the group is among the `TOP_K` highest of all scores.

*Impulsive*: a sound that within 80 ms of its onset comes to 90 % of the loudest level of its first
0.3 s, and to half of its loudest level at all: when it begins is then known to some milliseconds.

*Oracle rule*: a class whose real recordings are hit in less than 70 % leaves the metric.

Shape suffixes: N samples, F frames of 2.5 ms, B bands, P patches, K judge's classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omni2sound.errors import ShapeError, UserError

__all__ = [
    "ONSET_TOLERANCE_S",
    "ORACLE_MIN_RATE",
    "STEP_S",
    "TOP_K",
    "Judge",
    "class_hit",
    "class_scores",
    "is_impulsive",
    "is_silent",
    "loudness_bands",
    "onset_hit",
    "onset_strength",
    "patch_scores",
    "rise_of",
    "scorable_classes",
    "strongest_onset_s",
]

ONSET_TOLERANCE_S = 0.1
TOP_K = 5
ORACLE_MIN_RATE = 0.7
STEP_S = 0.0025
"""Between the frames of loudness."""

_SILENCE_RMS = 10 ** (-60 / 20)
_SILENCE_WINDOW_S = 0.02
_WINDOW_S = 0.010
_SIDE_FRAMES = 8  # 20 ms on each side
_BAND_EDGES_HZ = (200, 400, 630, 920, 1270, 1720, 2320, 3150, 4400, 6400)
_LOUDNESS_EXPONENT = 0.3
_LEAD_S = 0.05
_PATCH_RANGE_DB = 40
_JUDGED_PEAK = 0.5


_ATTACK_S, _FIRST_S = 0.08, 0.3
_OF_FIRST, _OF_ALL = 0.9, 0.5


class Judge(Protocol):
    """What class scores need of a network; `encoders.metric.yamnet.YamNet` is one."""

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveforms it takes."""

    @property
    def patch_samples(self) -> int:
        """Samples that one patch looks at."""

    @property
    def patch_hop_samples(self) -> int:
        """Samples from the start of one patch to the next."""

    def scores_and_embeddings(
        self, waveform_N: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (P, K) and embeddings (P, D); zeros are appended to a whole patch."""


def is_silent(waveform_N: ArrayLike, sample_rate_hz: int) -> bool:
    """Whether no 20 ms of the clip reach -60 dBFS RMS.

    Raises:
        ShapeError: If the waveform is not (N,) with N >= 1.
        UserError: If it holds NaN or infinity.
    """
    waveform = _checked(waveform_N)
    window = max(1, round(_SILENCE_WINDOW_S * sample_rate_hz))
    energy = np.add.reduceat(waveform**2, np.arange(0, len(waveform), window))
    return bool(energy.max() / window < _SILENCE_RMS**2)


def is_impulsive(level_T: ArrayLike, rate_hz: float) -> bool:
    """Whether a sound begins at once, as defined on top of this module.

    Args:
        level_T: Its level (amplitude, any scale) from its onset on.
        rate_hz: Levels a second.

    Raises:
        ShapeError: If the level is not (T,) with T >= 1.
        UserError: If it holds NaN or infinity.
    """
    level = _checked(level_T)
    attack = level[: max(1, round(_ATTACK_S * rate_hz))].max()
    first = level[: max(1, round(_FIRST_S * rate_hz))].max()
    return bool(attack > 0 and attack >= _OF_FIRST * first and attack >= _OF_ALL * level.max())


def strongest_onset_s(waveform_N: ArrayLike, sample_rate_hz: int) -> float | None:
    """Where loudness rises most, or None if the clip is silent or never gets louder.

    The definition is on top of this module; clicks and steps are found to within 5 ms.

    Args:
        waveform_N: Mono samples.
        sample_rate_hz: At least 8000.

    Raises:
        ShapeError: If the waveform is not (N,) with N >= 1.
        UserError: If it holds NaN or infinity.
    """
    waveform = _checked(waveform_N)
    if is_silent(waveform, sample_rate_hz):
        return None
    loudness_FB = loudness_bands(waveform, sample_rate_hz)
    rise_F = rise_of(loudness_FB, _SIDE_FRAMES)
    peak = int(rise_F.argmax())
    if rise_F[peak] <= 1e-9 * loudness_FB.max():
        return None
    first = max(0, peak - _SIDE_FRAMES)
    steep_F = rise_of(loudness_FB, 1)[first : peak + _SIDE_FRAMES + 1]
    return (first + int(steep_F.argmax())) * STEP_S


def onset_strength(waveform_N: ArrayLike, sample_rate_hz: int) -> NDArray[np.float64]:
    """Rise of loudness (F,) at times 0, 2.5 ms, 5 ms, ...: for plots and for other measures."""
    return rise_of(loudness_bands(_checked(waveform_N), sample_rate_hz), _SIDE_FRAMES)


def onset_hit(
    onset_s: float | None, truth_s: float, *, tolerance_s: float = ONSET_TOLERANCE_S
) -> bool:
    """Whether an onset lies within the tolerance of the truth; no onset is a miss."""
    return onset_s is not None and abs(onset_s - truth_s) <= tolerance_s + 1e-9


def class_scores(
    waveform_N: ArrayLike, sample_rate_hz: int, judge: Judge
) -> NDArray[np.float32] | None:
    """Scores (K,) of a clip, as defined on top of this module; None for a silent clip.

    Args:
        waveform_N: Mono samples at the judge's rate.
        sample_rate_hz: The judge's rate; resample before, never after.
        judge: Scores patches.

    Raises:
        ShapeError: If the waveform is not (N,) with N >= 1.
        UserError: If it holds NaN or infinity, or has another rate.
    """
    scores_PK = patch_scores(waveform_N, sample_rate_hz, judge)
    return None if scores_PK is None else scores_PK.max(axis=0)


def patch_scores(
    waveform_N: ArrayLike, sample_rate_hz: int, judge: Judge
) -> NDArray[np.float32] | None:
    """Scores (P, K) of the patches that class scores are the maximum of; errors as there."""
    if sample_rate_hz != judge.sample_rate_hz:
        raise UserError(
            f"the judge takes {judge.sample_rate_hz} Hz, got {sample_rate_hz}; resample"
        )
    waveform = _checked(waveform_N)
    if is_silent(waveform, sample_rate_hz):
        return None
    waveform = waveform * (_JUDGED_PEAK / np.abs(waveform).max())
    onset_s = strongest_onset_s(waveform, sample_rate_hz)
    start = round(max(0.0, (onset_s or 0.0) - _LEAD_S) * sample_rate_hz)
    hop = judge.patch_hop_samples
    aligned = np.concatenate([np.zeros(-start % hop), waveform]).astype(np.float32)
    scores_PK, _ = judge.scores_and_embeddings(aligned)
    energy_P = _patch_energy(aligned, len(scores_PK), judge.patch_samples, hop)
    heard_P = energy_P >= energy_P.max() * 10 ** (-_PATCH_RANGE_DB / 10)
    heard_PK: NDArray[np.float32] = scores_PK[heard_P]
    return heard_PK


def class_hit(
    scores_K: NDArray[np.float32] | None,
    class_names: Sequence[str],
    group: Collection[str],
    *,
    top_k: int = TOP_K,
) -> bool:
    """Whether one of `group` is among the `top_k` highest scores; silence (None) is a miss.

    Args:
        scores_K: From `class_scores`.
        class_names: The judge's K classes.
        group: The classes that count, of those names.
        top_k: How many count as heard.

    Raises:
        UserError: If the judge does not know a class of the group.
    """
    unknown = sorted(set(group) - set(class_names))
    if unknown:
        raise UserError(f"the judge does not know {unknown}; use its class names")
    if scores_K is None:
        return False
    best = np.argsort(-scores_K, kind="stable")[:top_k]
    return any(class_names[i] in group for i in best)


def scorable_classes(
    oracle_hits: Mapping[str, Sequence[bool]], *, min_rate: float = ORACLE_MIN_RATE
) -> tuple[str, ...]:
    """Classes whose real recordings are hit often enough, in the order given.

    Args:
        oracle_hits: For each class, one hit per real recording; a class without any leaves.
        min_rate: Below this rate a class leaves the metric.
    """
    return tuple(
        name for name, hits in oracle_hits.items() if len(hits) and np.mean(hits) >= min_rate
    )


def _checked(waveform_N: ArrayLike) -> NDArray[np.float64]:
    waveform = np.asarray(waveform_N, dtype=np.float64)
    if waveform.ndim != 1 or len(waveform) == 0:
        raise ShapeError(f"waveform must be mono (N,) with N >= 1, got {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise UserError("waveform holds NaN or infinity; the sound before it is broken")
    return waveform


def loudness_bands(waveform_N: NDArray[np.float64], sample_rate_hz: int) -> NDArray[np.float64]:
    """(F, B): loudness in each band at 0, 2.5 ms, 5 ms, ..., windows centred there."""
    window = round(_WINDOW_S * sample_rate_hz)
    padded = np.pad(waveform_N, (0, max(0, window - len(waveform_N))))
    num_frames = int(len(waveform_N) / sample_rate_hz / STEP_S) + 1
    # The step need not be whole samples (44.1 kHz): each start is rounded by itself. Windows
    # stay inside the clip: one that hung over its edge would see an onset there.
    starts = np.round(np.arange(num_frames) * STEP_S * sample_rate_hz).astype(int) - window // 2
    starts = starts.clip(0, len(padded) - window)
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(window) + 0.5) / window)
    edges_hz = [0, *(hz for hz in _BAND_EDGES_HZ if hz < sample_rate_hz / 2)]
    num_fft = 2 * window  # zero-padded, so that the lowest bands hold some bins each
    bins = np.round(np.array(edges_hz) * num_fft / sample_rate_hz).astype(int)
    parts = []
    for chunk in np.array_split(starts, max(1, num_frames // 4096)):
        frames = padded[chunk[:, None] + np.arange(window)] * shape
        power = np.abs(np.fft.rfft(frames, n=num_fft)) ** 2
        parts.append(np.add.reduceat(power, bins, axis=1) ** _LOUDNESS_EXPONENT)
    return np.concatenate(parts)


def rise_of(loudness_FB: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """(F,): positive change from the `side` frames before t to the `side` frames from t on."""
    padded = np.pad(loudness_FB, ((side, side), (0, 0)), mode="edge")
    total = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0)
    mean = (total[side:] - total[:-side]) / side  # mean[i] covers padded frames i .. i + side - 1
    num_frames = len(loudness_FB)
    after, before = mean[side : side + num_frames], mean[:num_frames]
    rise: NDArray[np.float64] = np.maximum(after - before, 0).sum(axis=1)
    return rise


def _patch_energy(
    waveform_N: NDArray[np.float32], num_patches: int, size: int, hop: int
) -> NDArray[np.float64]:
    total = np.concatenate([[0.0], np.cumsum(waveform_N.astype(np.float64) ** 2)])
    starts = np.minimum(np.arange(num_patches) * hop, len(waveform_N))
    energy: NDArray[np.float64] = total[np.minimum(starts + size, len(waveform_N))] - total[starts]
    return energy
