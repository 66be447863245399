"""Recordings and pictures of the catalogue as arrays.

In:   the folder that `fetch` prepared (or arrays, in tests).
Out:  float32 waveforms at 16 kHz (or, on request, at their own rate) and uint8 RGBA pictures,
      cached, read-only.

A waveform begins at its onset (within 5 ms for impulsive classes): only the scene may add time.
The arrays are shared: copy before changing one.
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

from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, ShapeError
from omni2sound.readers import read_text
from omni2sound.scenes.material.catalogue import Catalogue, KindSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
"""Sample rate of every prepared recording."""

STORE_CATALOGUE = "catalogue.json"
TRAINING_CATALOGUE = "training.json"
"""The catalogue with the kinds that only training uses, in a prepared folder."""
FULL_BAND = "full-band"
"""Folder of the recordings at their own rate."""

_FINEST_RATE = 50
"""Largest denominator of a speed factor: steps of about 2 %, and short filters."""


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
        """Use `open` or `from_arrays` instead."""
        self.catalogue = catalogue
        self._folder = folder
        self._waveforms = dict(waveforms)
        self._pictures = dict(pictures)

    @classmethod
    def open(
        cls, folder: Path, *, licences: Collection[str] | None = None, kinds: KindSet = "bench"
    ) -> SceneAssets:
        """Open a prepared folder; files are read when first needed.

        Args:
            folder: Folder that `fetch` wrote.
            kinds: "bench": kinds of the benchmark scenes. "all": also those for training.
            licences: Keep only items under these licences. Default: all.

        Raises:
            MissingPartError: If the folder is not complete.
            ConfigError: If a licence is unknown.
        """
        folder = Path(folder)
        stored = folder / (STORE_CATALOGUE if kinds == "bench" else TRAINING_CATALOGUE)
        if not stored.is_file():
            raise MissingPartError(
                f"no recordings and pictures of {kinds} kinds in {folder}; "
                f"run: omni2sound scenes fetch --corpus {folder}"
            )
        catalogue = Catalogue.from_json(read_text(stored))
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
        """Make assets from arrays.

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
            waveforms={k: _check_waveform(k, v) for k, v in waveforms.items()},
            pictures={k: _check_rgba(k, v) for k, v in pictures.items()},
        )

    def of_classes(self, class_ids: Collection[str]) -> SceneAssets:
        """Keep these classes, as `Catalogue.of_classes` does; files are shared.

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
        """Apply speed perturbation: play each recording a little faster or slower.

        Levels and hits are those of the perturbed sound, so scenes stay consistent. For training,
        where recordings are few beside the steps.

        Args:
            most: Speed factors lie between 1 / (1 + most) and 1 + most, log-uniformly.
            seed: Random seed of the factors.
        """
        return _OtherSpeeds(self, most, seed)

    def waveform(self, recording_id: str) -> NDArray[np.float32]:
        """Read a recording: (N,) at 16 kHz, read-only.

        Raises:
            MissingPartError: If the folder lacks it.
        """
        if recording_id not in self._waveforms:
            path = self._path("recordings", recording_id, ".flac")
            samples, _ = _read_flac(path)
            self._waveforms[recording_id] = _check_waveform(recording_id, samples)
        return self._waveforms[recording_id]

    def full_band(self, recording_id: str) -> tuple[NDArray[np.float32], int]:
        """Read a recording at its own rate: (N,), and the sample rate in Hz.

        Raises:
            MissingPartError: If the folder lacks it.
        """
        path = self._path(FULL_BAND, recording_id, ".flac")
        samples, rate_hz = _read_flac(path)
        return _check_waveform(recording_id, samples), rate_hz

    def rgba(self, picture_id: str) -> NDArray[np.uint8]:
        """Read a picture: (H, W, 4), straight alpha, at most 256 pixels a side, read-only.

        Raises:
            MissingPartError: If the folder lacks it.
        """
        if picture_id not in self._pictures:
            path = self._path("pictures", picture_id, ".png")
            pixels = _read_png(path)
            self._pictures[picture_id] = _check_rgba(picture_id, pixels)
        return self._pictures[picture_id]

    def _path(self, kind: str, name: str, suffix: str) -> Path:
        path = None if self._folder is None else self._folder / kind / f"{name}{suffix}"
        if path is None or not path.is_file():
            raise MissingPartError(
                f"the corpus has no {kind}/{name}{suffix}; run: omni2sound scenes fetch"
            )
        return path


class _OtherSpeeds(SceneAssets):
    """Assets of `SceneAssets.at_other_speeds`."""

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
            self._waveforms[recording_id] = _check_waveform(recording_id, played)
        return self._waveforms[recording_id]

    def rgba(self, picture_id: str) -> NDArray[np.uint8]:
        return self._plain.rgba(picture_id)

    def of_classes(self, class_ids: Collection[str]) -> SceneAssets:
        return _OtherSpeeds(self._plain.of_classes(class_ids), self._most, self._seed)


def _read_flac(path: Path) -> tuple[NDArray[np.float32], int]:
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32")
    except (soundfile.SoundFileError, OSError) as error:
        raise _damaged(path, error) from None
    return samples, rate_hz


def _read_png(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> IntegrityError:
    reason = " ".join(str(error).split())
    return IntegrityError(
        f"{path} is damaged ({reason}); delete it and run: omni2sound scenes fetch"
    )


def _check_waveform(name: str, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    if samples.ndim != 1 or samples.dtype != np.float32 or not len(samples):
        raise ShapeError(
            f"recording {name!r} must be (N,) float32 with N > 0, "
            f"got {samples.shape} {samples.dtype}"
        )
    return _read_only(samples)


def _check_rgba(name: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise ShapeError(
            f"picture {name!r} must be (H, W, 4) uint8, got {pixels.shape} {pixels.dtype}"
        )
    return _read_only(pixels)


def _read_only(array: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray:  # type: ignore[type-arg]
    view = array.view()
    view.flags.writeable = False
    return view
