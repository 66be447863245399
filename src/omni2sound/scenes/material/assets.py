"""The sounds and pictures of the catalogue as arrays.

In:   the folder that `fetch` prepared (or arrays, in tests).
Out:  float32 waveforms at 16 kHz and uint8 RGBA pictures, cached, read-only.

A waveform begins at its onset (within 5 ms for impulsive classes): the scene adds the
time, nothing else may. The arrays are shared: copy before changing one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from PIL import Image
from scipy.signal import resample_poly

from omni2sound.errors import ConfigError, MissingPartError, ShapeError
from omni2sound.scenes.material.catalogue import Catalogue

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SAMPLE_RATE_HZ", "SceneAssets"]

SAMPLE_RATE_HZ = 16_000
"""Rate of every prepared recording."""

STORE_CATALOGUE = "catalogue.json"

_FINEST_RATE = 50
"""Largest denominator of a playing rate: steps of about 2 %, and short filters."""


class SceneAssets:
    """Recordings and pictures by id. Make one with `open` or `from_arrays`."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        folder: Path | None,
        waveforms: Mapping[str, NDArray[np.float32]],
        pictures: Mapping[str, NDArray[np.uint8]],
    ) -> None:
        """Use `open` or `from_arrays`; this one takes what they worked out."""
        self.catalogue = catalogue
        self._folder = folder
        self._waveforms = dict(waveforms)
        self._pictures = dict(pictures)

    @classmethod
    def open(cls, folder: Path, *, licences: Collection[str] | None = None) -> SceneAssets:
        """Opens a prepared store; files are read when first asked for.

        Args:
            folder: What `fetch` wrote.
            licences: Keep only items under these; None keeps all.

        Raises:
            MissingPartError: If the folder is not a complete store.
            ConfigError: If a licence is unknown.
        """
        folder = Path(folder)
        stored = folder / STORE_CATALOGUE
        if not stored.is_file():
            raise MissingPartError(
                f"no recordings and pictures in {folder}; "
                f"run: omni2sound scenes fetch --corpus {folder}"
            )
        catalogue = Catalogue.from_json(stored.read_text(encoding="utf-8"))
        if licences is not None:
            catalogue = catalogue.only(licences)
        return cls(catalogue, folder=folder, waveforms={}, pictures={})

    @classmethod
    def from_arrays(
        cls,
        catalogue: Catalogue,
        waveforms: Mapping[str, NDArray[np.float32]],
        pictures: Mapping[str, NDArray[np.uint8]],
    ) -> SceneAssets:
        """Assets from memory, for material that no package holds.

        Args:
            catalogue: Names every key of the two mappings.
            waveforms: recording_id -> (N,) at 16 kHz.
            pictures: picture_id -> (H, W, 4).

        Raises:
            ConfigError: If an item of the catalogue has no array.
            ShapeError: If an array has the wrong shape or type.
        """
        missing = [r.recording_id for r in catalogue.recordings if r.recording_id not in waveforms]
        missing += [p.picture_id for p in catalogue.pictures if p.picture_id not in pictures]
        if missing:
            raise ConfigError(f"no array for {', '.join(missing[:5])} ({len(missing)} missing)")
        return cls(
            catalogue,
            folder=None,
            waveforms={k: _checked_waveform(k, v) for k, v in waveforms.items()},
            pictures={k: _checked_rgba(k, v) for k, v in pictures.items()},
        )

    def of_classes(self, class_ids: Collection[str]) -> SceneAssets:
        """The part of these classes, as `Catalogue.of_classes` cuts it; files are the same.

        Raises:
            ConfigError: If none of the classes is in the catalogue.
        """
        return SceneAssets(
            self.catalogue.of_classes(class_ids),
            folder=self._folder,
            waveforms=self._waveforms,
            pictures=self._pictures,
        )

    def at_other_speeds(self, most: float, *, seed: int) -> SceneAssets:
        """The same with every recording played a little faster or slower, each at its own rate.

        Levels and hits are those of what is played, so scenes that are drawn from it are as
        consistent as ever. For training: recordings are few beside its steps.

        Args:
            most: Rates lie between 1 / (1 + most) and 1 + most, evenly in their logarithm.
            seed: Of the rates.
        """
        return _OtherSpeeds(self, most, seed)

    def waveform(self, recording_id: str) -> NDArray[np.float32]:
        """(N,) at 16 kHz, read-only.

        Raises:
            MissingPartError: If the store lacks it.
        """
        if recording_id not in self._waveforms:
            path = self._path("recordings", recording_id, ".flac")
            samples, _ = soundfile.read(path, dtype="float32")
            self._waveforms[recording_id] = _checked_waveform(recording_id, samples)
        return self._waveforms[recording_id]

    def rgba(self, picture_id: str) -> NDArray[np.uint8]:
        """(H, W, 4), straight alpha, longest side at most 256 pixels, read-only.

        Raises:
            MissingPartError: If the store lacks it.
        """
        if picture_id not in self._pictures:
            path = self._path("pictures", picture_id, ".png")
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGBA"))
            self._pictures[picture_id] = _checked_rgba(picture_id, pixels)
        return self._pictures[picture_id]

    def _path(self, kind: str, name: str, suffix: str) -> Path:
        path = None if self._folder is None else self._folder / kind / f"{name}{suffix}"
        if path is None or not path.is_file():
            raise MissingPartError(
                f"the corpus has no {kind[:-1]} {name!r}; run: omni2sound scenes fetch"
            )
        return path


class _OtherSpeeds(SceneAssets):
    """See `SceneAssets.at_other_speeds`."""

    def __init__(self, plain: SceneAssets, most: float, seed: int) -> None:
        super().__init__(plain.catalogue, folder=plain._folder, waveforms={}, pictures={})
        self._plain, self._most, self._seed = plain, most, seed

    def waveform(self, recording_id: str) -> NDArray[np.float32]:
        if recording_id not in self._waveforms:
            rng = np.random.default_rng([self._seed, zlib.crc32(recording_id.encode())])
            widest = math.log1p(self._most)
            rate = Fraction(math.exp(rng.uniform(-widest, widest))).limit_denominator(_FINEST_RATE)
            sound = self._plain.waveform(recording_id)
            played = resample_poly(sound, rate.denominator, rate.numerator).astype(np.float32)
            self._waveforms[recording_id] = _checked_waveform(recording_id, played)
        return self._waveforms[recording_id]

    def rgba(self, picture_id: str) -> NDArray[np.uint8]:
        return self._plain.rgba(picture_id)

    def of_classes(self, class_ids: Collection[str]) -> SceneAssets:
        return _OtherSpeeds(self._plain.of_classes(class_ids), self._most, self._seed)


def _checked_waveform(name: str, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    if samples.ndim != 1 or samples.dtype != np.float32 or not len(samples):
        raise ShapeError(
            f"recording {name!r} must be (N,) float32 with N > 0, "
            f"got {samples.shape} {samples.dtype}"
        )
    return _read_only(samples)


def _checked_rgba(name: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise ShapeError(
            f"picture {name!r} must be (H, W, 4) uint8, got {pixels.shape} {pixels.dtype}"
        )
    return _read_only(pixels)


def _read_only(array: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray:  # type: ignore[type-arg]
    view = array.view()
    view.flags.writeable = False
    return view
