"""Systems that learn nothing: what every table shows beside a model.

In:   a `SceneClip`.
Out:  its sound, (N,) at 16 kHz.

`oracle` plays the scene's own sound: the ceiling of every measure. `shuffled` plays that of
another scene: what is right by habit. `silence` plays nothing. `retrieval` plays the whole
sound of the training scene whose caption is nearest. `motion-energy` makes a burst of noise
wherever the picture changes much; `motion + retrieval` plays there a training recording of the
class that sounds in the training scene that looks most alike. None of them sees the truth of
the clip, except the first two. `noise_like` is the far end of distances: the right spectrum and
level, and nothing else.

Shape suffixes: M remembered scenes, D features, T frames, H W picture, K colours, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from omni2sound.bench.tracks.scene_clips import MOTION_FPS, SceneClip
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.levels import level_of
from omni2sound.scenes.render.render import render_audio
from omni2sound.scenes.scene import Scene
from omni2sound.timebase import TimeBase


@dataclass(frozen=True, slots=True)
class Embed:
    """A clip's caption, or its pictures, as one vector."""

    digest: str
    """Identifies the weights, so that vectors of others are not mixed with these."""
    function: Callable[[SceneClip], NDArray[np.float32]]

    def __call__(self, clip: SceneClip) -> NDArray[np.float32]:
        """The vector at length 1."""
        return _unit(self.function(clip))


MIN_PEAK = 0.55
"""Of the largest change; set on 80 training scenes (0.2 to 0.6 tried)."""
_APART_FRAMES = 3
_BURST_S = 0.15
_SPECTRUM_SAMPLES = 1024


def shuffled_place(at: int, num_clips: int) -> int:
    """Whose sound `shuffled` plays for the clip at this place: that of the clip half the set on.

    So no clip keeps its own sound, whatever the number of clips (from two on).
    """
    return (at + max(1, num_clips // 2)) % num_clips


def motion_peaks_s(frames_THWK: NDArray[np.uint8], fps: int) -> tuple[float, ...]:
    """Times at which the picture changes much more than it usually does.

    A peak is the largest change within three frames on either side that exceeds the median
    change by more than `MIN_PEAK` of the largest excess. The change from frame i - 1 to i lies
    at i / fps.
    """
    change_T = np.abs(np.diff(frames_THWK.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    if len(change_T) == 0:
        return ()
    excess = change_T - np.median(change_T)
    if excess.max() <= 0:
        return ()
    highest = maximum_filter1d(excess, 2 * _APART_FRAMES + 1)
    peaks = np.flatnonzero((excess == highest) & (excess > MIN_PEAK * excess.max()))
    return tuple((int(i) + 1) / fps for i in peaks)


def noise_like(sound_N: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Steady noise with a sound's long-term spectrum (64 ms windows) and level: nothing happens.

    Args:
        sound_N: Any length.
        rng: Draws the noise.
    """
    size, num_samples = _SPECTRUM_SAMPLES, len(sound_N)
    padded = np.pad(sound_N.astype(np.float64), (0, -num_samples % (size // 2) + size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2]
    power_F = np.square(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1))).mean(axis=0)
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    place = np.linspace(0, len(power_F) - 1, len(spectrum))
    noise = np.fft.irfft(
        spectrum * np.interp(place, np.arange(len(power_F)), np.sqrt(power_F)), num_samples
    )
    power, wanted = np.square(noise).mean(), np.square(sound_N, dtype=np.float64).mean()
    scaled: NDArray[np.float32] = (noise * np.sqrt(wanted / max(power, 1e-30))).astype(np.float32)
    return scaled


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainingMemory:
    """Training scenes, found again by what is said of them or by how they look."""

    assets: SceneAssets
    scenes: tuple[Scene, ...]
    by_caption_MD: NDArray[np.float32]
    by_look_MD: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Baselines:
    """The baselines that compare a clip with training scenes or look at its motion.

    Attributes:
        memory: Training scenes of the clip's part.
        embed_caption: As the memory was made with.
        embed_look: As the memory was made with.
    """

    memory: TrainingMemory
    embed_caption: Embed
    embed_look: Embed

    def sounds(self, clip: SceneClip) -> dict[str, NDArray[np.float32]]:
        """Sound of each baseline for a clip, in the order of the table."""
        peaks_s = motion_peaks_s(clip.motion_frames_THWK, MOTION_FPS)
        return {
            "retrieval": self._retrieved(clip),
            "motion-energy": self._bursts(clip, peaks_s),
            "motion + retrieval": self._recordings(clip, peaks_s),
        }

    def _retrieved(self, clip: SceneClip) -> NDArray[np.float32]:
        memory = self.memory
        nearest = int((memory.by_caption_MD @ self.embed_caption(clip)).argmax())
        return _fitted(render_audio(memory.scenes[nearest], memory.assets), len(clip.sound_N))

    def _bursts(self, clip: SceneClip, peaks_s: Sequence[float]) -> NDArray[np.float32]:
        rng = np.random.default_rng([clip.scene.seed, clip.index])
        time_s = np.arange(round(_BURST_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        burst = 0.2 * rng.standard_normal(len(time_s)) * np.exp(-time_s / 0.03)
        return _placed([burst.astype(np.float32)] * len(peaks_s), peaks_s, clip)

    def _recordings(self, clip: SceneClip, peaks_s: Sequence[float]) -> NDArray[np.float32]:
        memory = self.memory
        nearest = int((memory.by_look_MD @ self.embed_look(clip)).argmax())
        event = next(e for e in memory.scenes[nearest].events if e.on_screen)
        level = level_of(memory.assets, event.recording_id)
        waveform = memory.assets.waveform(event.recording_id)
        sound = level.scale * waveform[round(level.onset_s * SAMPLE_RATE_HZ) :]
        return _placed([sound.astype(np.float32)] * len(peaks_s), peaks_s, clip)


def _placed(
    sounds: Sequence[NDArray[np.float32]], times_s: Sequence[float], clip: SceneClip
) -> NDArray[np.float32]:
    """Each sound from its time on, cut where the next one begins or the clip ends."""
    mix = np.zeros(TimeBase().num_samples(clip.scene.duration_s), np.float32)
    starts = [round(t * SAMPLE_RATE_HZ) for t in times_s]
    for sound, start, end in zip(sounds, starts, [*starts[1:], len(mix)], strict=True):
        piece = sound[: max(0, end - start)]
        mix[start : start + len(piece)] = piece[: len(mix) - start]
    return mix


def _fitted(sound_N: NDArray[np.float32], num_samples: int) -> NDArray[np.float32]:
    fitted = np.zeros(num_samples, np.float32)
    fitted[: len(sound_N)] = sound_N[:num_samples]
    return fitted


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector at length 1, or zero."""
    unit: NDArray[np.float32] = (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(
        np.float32
    )
    return unit
