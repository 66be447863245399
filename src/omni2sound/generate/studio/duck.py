"""Ducking: the new sound gives way while somebody speaks in the video's own sound.

In:   the new sound, the video's own one.
Out:  the new sound, lower where there is speech.

YAMNet says in which half seconds there is speech, and the level of the own sound where in them it
begins and ends. The new sound is down before the first word, and comes back slowly.

Shape suffixes: N samples, F frames of 10 ms.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from omni2sound.media.long_sound import in_blocks, resampled
from omni2sound.media.samples import Audio, Sound

_RATE_HZ = 16_000
_FRAMES_PER_S = 100
_SPEECH = 0.3
_RANGE_DB = 30.0
"""Below the loudest frame of speech, a pause."""
_PAUSE_S = 0.5
"""Shorter pauses are none."""
_DOWN_S, _UP_S = 0.15, 0.5
_BLOCK_S = 60


def ducked(new: Audio, own: Sound, duck_db: float) -> Audio:
    """Lower a sound while there is speech in another one.

    Args:
        new: The sound.
        own: The one with speech, on the same clock.
        duck_db: By how much.
    """
    speech_F = speech_frames(own)
    num_frames = math.ceil(new.num_samples * _FRAMES_PER_S / new.sample_rate_hz)
    # Where the own sound is over, nobody speaks.
    speech_F = np.pad(speech_F, (0, max(0, num_frames - len(speech_F))))
    gain_db_F = -duck_db * _softened(speech_F)
    if not gain_db_F.any():
        return new
    at_N = np.arange(new.num_samples) * (_FRAMES_PER_S / new.sample_rate_hz)
    gain_N = 10 ** (np.interp(at_N, np.arange(len(gain_db_F)) + 0.5, gain_db_F) / 20)
    return replace(new, samples_CN=new.samples_CN * gain_N.astype(np.float32))


def speech_frames(sound: Sound) -> NDArray[np.bool_]:
    """Whether somebody speaks in each frame of 10 ms."""
    from omni2sound.encoders.metric.yamnet import YamNet

    tagger = YamNet.load()
    speech = tagger.class_names.index("Speech")
    hop_s = tagger.patch_hop_samples / _RATE_HZ
    found = []
    for block_CN in in_blocks(resampled(sound, _RATE_HZ).read(), _BLOCK_S * _RATE_HZ):
        mono_N = block_CN.mean(axis=0)
        scores_PK, _ = tagger.scores_and_embeddings(np.ascontiguousarray(mono_N))
        num_frames = math.ceil(len(mono_N) * _FRAMES_PER_S / _RATE_HZ)
        middle_F = (np.arange(num_frames) + 0.5) / _FRAMES_PER_S
        # A patch is two hops long; the frame belongs to the one whose middle is nearest.
        patch_F = np.clip(np.floor(middle_F / hop_s - 0.5).astype(int), 0, len(scores_PK) - 1)
        near_F = np.clip(patch_F + 1, 0, len(scores_PK) - 1)
        score_F = np.maximum(scores_PK[patch_F, speech], scores_PK[near_F, speech])
        found.append(_loud_ones(score_F >= _SPEECH, mono_N))
    return _closed(np.concatenate(found)) if found else np.zeros(0, bool)


def _loud_ones(is_speech_F: NDArray[np.bool_], mono_N: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Those frames of speech that are not pauses."""
    size = _RATE_HZ // _FRAMES_PER_S
    padded_N = np.pad(mono_N, (0, len(is_speech_F) * size - len(mono_N)))
    level_F = np.square(padded_N.reshape(-1, size)).mean(axis=1)
    loudest = float(level_F[is_speech_F].max(initial=0.0))
    least = max(loudest * 10 ** (-_RANGE_DB / 10), 1e-9)
    loud_F: NDArray[np.bool_] = is_speech_F & (level_F >= least)
    return loud_F


def _closed(is_loud_F: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The frames with short pauses filled."""
    from scipy.ndimage import binary_closing

    size = round(_PAUSE_S * _FRAMES_PER_S)
    padded_F = np.pad(is_loud_F, size)
    closed: NDArray[np.bool_] = binary_closing(padded_F, np.ones(size, bool))[size:-size]
    return closed


def _softened(is_speech_F: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far the sound is down, 0 to 1: wholly in all frames of speech, with slopes around."""
    down_F = is_speech_F.astype(np.float64)
    for frames_F, slope_s in ((down_F[::-1], _DOWN_S), (down_F, _UP_S)):
        step = 1 / (slope_s * _FRAMES_PER_S)
        for k in range(1, len(frames_F)):
            frames_F[k] = max(frames_F[k], frames_F[k - 1] - step)
    return down_F
