"""Point cues: a hit that is made by itself and put where it belongs, to the sample.

In:   a text, the second at which it is to be heard.
Out:  a sound of the clip's length, silent before its onset at that second.

The model decides in a window of its own when a hit falls; only the sound is moved. What not to
get wrong: the model often leads up to a hit or makes several, so what comes before the strongest
rise is cut off, and what follows it stays.

Shape suffixes: C channels, N samples.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omni2sound.generate.stems.onsets import onset_s
from omni2sound.media.samples import Audio

WINDOW_S = 3.0
"""Seconds of sound in which a hit is made."""
_LEAD_S, _FADE_IN_S, _FADE_OUT_S = 0.004, 0.003, 0.1


def placed_at(hit: Audio, at_s: float, num_samples: int) -> Audio:
    """Put a hit into a clip so that its onset lies at a second; silence before it.

    Args:
        hit: A sound with a hit in it.
        at_s: Where its onset is to be.
        num_samples: Length of the clip.
    """
    rate_hz = hit.sample_rate_hz
    onset = round(onset_s(hit.samples_CN.mean(axis=0), rate_hz) * rate_hz)
    lead = min(onset, round(_LEAD_S * rate_hz), round(at_s * rate_hz))
    part_CN = hit.samples_CN[:, onset - lead :].copy()
    fade_in, fade_out = (
        min(round(s * rate_hz), part_CN.shape[1]) for s in (_FADE_IN_S, _FADE_OUT_S)
    )
    part_CN[:, :fade_in] *= np.linspace(0, 1, fade_in, endpoint=False, dtype=np.float32)
    part_CN[:, part_CN.shape[1] - fade_out :] *= np.linspace(1, 0, fade_out, dtype=np.float32)
    first = round(at_s * rate_hz) - lead
    clip_CN = np.zeros((hit.num_channels, num_samples), np.float32)
    part_CN = part_CN[:, : max(0, num_samples - first)]
    clip_CN[:, first : first + part_CN.shape[1]] = part_CN
    return replace(hit, samples_CN=clip_CN)
