"""Audiobox-Aesthetics: how good people would find a sound, without any reference.

In:   a mono waveform at 16 kHz.
Out:  four numbers, about 1 to 10: content enjoyment, content usefulness, production complexity,
      production quality.

The network is the authors' own (package `audiobox_aesthetics`, of which the network alone is used:
its command needs torchaudio). What not to get wrong: it hears windows of 10 s, the last one padded
and masked, and a sound's number is their mean by the length of what they hold.

Shape suffixes: N samples, W windows.
Source: Tjandra et al. 2025, arXiv:2502.05139; facebookresearch/audiobox-aesthetics, infer.py
(version 0.0.4).
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.encoders.published import AESTHETICS, fill, read_checkpoint, resolve
from omni2sound.errors import ConfigError, MissingPartError, ShapeError
from omni2sound.readers import read_object

AXES = ("CE", "CU", "PC", "PQ")
RATE_HZ = 16_000
_WINDOW = 10 * RATE_HZ


class Aesthetics:
    """The network, frozen. Build it with `Aesthetics.load`."""

    def __init__(self, network: Any, device: torch.device | str = "cpu") -> None:
        """Wrap an `AesMultiOutput`.

        Raises:
            ConfigError: It lacks the mean or the spread of an axis.
        """
        self._scales = _scales(network.target_transform)
        self._network = network.eval().requires_grad_(False).to(device)
        self.device = torch.device(device)

    @property
    def settings(self) -> str:
        """Settings beside the weights that change numbers."""
        return repr(self._scales)

    @staticmethod
    def check(source: str | os.PathLike[str]) -> Path:
        """Find the folder of the weights, and the authors' package.

        Raises:
            MissingPartError: A file or the package is missing.
        """
        folder = resolve(AESTHETICS, source)
        if importlib.util.find_spec("audiobox_aesthetics") is None:
            raise MissingPartError(
                f"{AESTHETICS.title} needs its authors' network: "
                "pip install --no-deps audiobox_aesthetics"
            )
        return folder

    @classmethod
    def load(cls, source: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Load published weights.

        Args:
            source: Folder of the release's files, or a Hub id with its revision.
            device: Device to run on.

        Raises:
            MissingPartError: A file or the authors' package is missing.
            ConfigError: The files do not fit the network.
        """
        folder = cls.check(source)
        kind = importlib.import_module("audiobox_aesthetics.model.aes").AesMultiOutput
        settings = read_object(folder / "config.json")
        known = {field.name for field in dataclasses.fields(kind)}
        try:
            with warnings.catch_warnings(action="ignore"):  # of an old form of weight norm
                network = kind(**{k: v for k, v in settings.items() if k in known})
        except Exception as error:  # wrong configurations fail in any way
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"{AESTHETICS.title}: {folder} can't be read: {reason}") from None
        fill(network, read_checkpoint(folder / "model.safetensors"), title=AESTHETICS.title)
        return cls(network, device)

    @torch.no_grad()
    def scores(self, waveform_N: NDArray[np.float32]) -> dict[str, float]:
        """Score a mono sound at 16 kHz by axis.

        Raises:
            ShapeError: Not (N,) with N >= 1.
        """
        if waveform_N.ndim != 1 or not len(waveform_N):
            raise ShapeError(f"waveform must be (N,) at 16 kHz, got {waveform_N.shape}")
        pieces = torch.split(torch.from_numpy(waveform_N), _WINDOW)
        lengths_W = torch.tensor([len(piece) for piece in pieces], device=self.device)
        padded = torch.nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)
        padded = torch.nn.functional.pad(padded, (0, _WINDOW - padded.shape[1]))[:, None]
        heard = torch.arange(_WINDOW, device=self.device) < lengths_W[:, None]
        with warnings.catch_warnings(action="ignore"):  # of masks of two types
            found = self._network({"wav": padded.to(self.device), "mask": heard[:, None]})
        share_W = lengths_W / lengths_W.sum()
        return {
            axis: float((found[axis].float() * share_W).sum()) * spread + mean
            for axis, (mean, spread) in self._scales.items()
        }


def _scales(transform: object) -> dict[str, tuple[float, float]]:
    """Mean and spread of each axis."""
    found = {}
    for axis in AXES:
        row = transform.get(axis) if isinstance(transform, Mapping) else None
        mean, spread = (
            (row.get("mean"), row.get("std")) if isinstance(row, Mapping) else (None, None)
        )
        if not isinstance(mean, int | float) or not isinstance(spread, int | float):
            raise ConfigError(f"{AESTHETICS.title}: config.json lacks target_transform of {axis}")
        found[axis] = (float(mean), float(spread))
    return found
