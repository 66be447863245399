"""Your own audio tagger: rain if the spectrum is flat, bell if it is not.

`omni2sound --plugin examples/plugins/tagger.py bench score TRACK SOUNDS --task V2A -o OUT
--taggers flatness`; it also adds the distances `flatness-8s-v1`.
"""

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.tagging import TAGGERS

Array = NDArray[np.float32]


class Flatness:
    """Scores patches of 0.5 s."""

    name = "flatness"
    class_names = ("rain", "bell")
    vocabulary = "catalogue"  # names of classes of the scenes; or "audioset"
    top_k, least_score = 1, 0.5  # a class is found if it has the best score, 0.5 or more
    sample_rate_hz = 16_000
    patch_samples = patch_hop_samples = 8_000

    def scores_and_embeddings(self, waveform_N: Array) -> tuple[Array, Array]:
        """Scores (P, 2) in 0 to 1, and embeddings (P, 16): levels of 16 bands in nepers."""
        padded_N = np.pad(waveform_N, (0, -len(waveform_N) % self.patch_samples))
        patches_PN = padded_N.reshape(-1, self.patch_samples)
        power_PBF = (np.abs(np.fft.rfft(patches_PN))[:, :4000] ** 2 + 1e-6).reshape(-1, 16, 250)
        bands_PB = power_PBF.mean(axis=2)
        flat_P = np.exp(np.log(bands_PB).mean(axis=1)) / bands_PB.mean(axis=1)
        scores_PK = np.stack([flat_P, 1 - flat_P], axis=1)
        return scores_PK.astype(np.float32), (np.log(bands_PB) / 2).astype(np.float32)


TAGGERS.register("flatness", Flatness)
