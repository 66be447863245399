"""Base of the encoders of a request: loading, and what a plan asks of them.

In:   functions that load text, picture and sync encoders, recogniser and tagger.
Out:  each of them, loaded when first needed; what a video shows; which kinds a prompt is near.

What computes them (torch or an ONNX runtime) is the subclasses' concern.

Shape suffixes: B texts, D features.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from omni2sound.generate.words.english import is_english
from omni2sound.generate.words.kinds import (
    all_kinds,
    example_of,
    named_kinds,
    nearest,
    plain,
    similarities,
)
from omni2sound.media.info import probe
from omni2sound.media.video import Kept, Sampling, iter_frames
from omni2sound.recognise.observe import Seen
from omni2sound.runtime import LoadedHere
from omni2sound.scenes.material.catalogue import SoundClass
from omni2sound.timebase import even_rate

_log = logging.getLogger(__name__)

_MOST_KEPT_BYTES = 128_000_000
"""Two minutes of film; a longer one is decoded for each encoder."""

F = TypeVar("F")
EncoderName = Literal["text", "vision", "sync", "recogniser", "tagger"]

_MOST_SEEN = 16
_WEIGHT = re.compile(r"\([^()]*:\s*\d*\.?\d+\)")
_TIMES = re.compile(r"\d+(\.\d+)?\s*(s|sec)?\s*(-|–|to)\s*\d+(\.\d+)?\s*(s|sec|seconds)\b")


def warn_of_syntax(prompt: str) -> None:
    """Report notations of other programs, which are read as words."""
    for pattern, what in ((_WEIGHT, "a weight"), (_TIMES, "a time")):
        if found := pattern.search(prompt):
            _log.warning("%r is read as words: %s has no effect in a prompt", found[0][:60], what)


def _state_of(file: Path) -> tuple[int, ...]:
    """What changes with a file; nothing where there is none."""
    try:
        state = file.stat()
    except OSError:
        return ()
    return state.st_ino, state.st_size, state.st_mtime_ns


class Tagger(Protocol):
    """A network that names the sounds in a sound."""

    class_names: tuple[str, ...]

    def scores(self, waveform_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (P, classes) of the patches of a mono sound at 16 kHz."""


class RequestEncoder(LoadedHere):
    """The frozen encoders of one model; subclasses add what says `NotImplementedError`.

    Args:
        loaders: Function that loads each encoder.
        loaded: Encoders that are there already, and stay.
        near: Similarity of mean states from which a prompt is near a kind of sound.
        same: Similarity of mean states from which two phrases name one sound.
        low_memory: Drop each encoder after it has encoded.
    """

    def __init__(
        self,
        loaders: Mapping[EncoderName, Callable[[], Any]],
        loaded: Mapping[EncoderName, Any],
        *,
        near: float,
        same: float,
        low_memory: bool = False,
    ) -> None:
        super().__init__()
        self._one_at_a_time = threading.RLock()
        self._low_memory = low_memory
        self._load_s = 0.0
        self._near, self._same = near, same
        self._kept = frozenset(loaded)
        self._loaded: dict[EncoderName, Any] = dict(loaded)
        self._loaders = dict(loaders)
        self._features: dict[tuple[object, ...], Any] | None = None
        """Of videos, inside of `each_video_once`."""
        self._seen: dict[tuple[object, ...], Seen] = {}
        """What the latest videos show, by file, its time of change, and length."""
        self._read = threading.local()
        """Pictures of a video that were kept while it was recognised in this thread."""

    def mean_states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Mean token states (B, D), to compare; what can't be read is told by `encode` alone."""
        raise NotImplementedError

    def knows(self, word: str) -> bool:
        """Whether a word is in the text encoder's vocabulary as a whole."""
        raise NotImplementedError

    def sound_stems(self) -> frozenset[str]:
        """Stems of AudioSet's names of sounds."""
        raise NotImplementedError

    def samplings(self, video: Path) -> tuple[Sampling, ...]:
        """How the encoders sample a video, in the order in which they do."""
        raise NotImplementedError

    @contextmanager
    def use(self, name: EncoderName) -> Iterator[Any]:
        """Yield an encoder, loaded at its first use: its libraries take seconds to import.

        Threads wait for each other while one loads; with little memory, while one encodes.
        """
        self.check_process()
        with self._one_at_a_time:
            if name not in self._loaded:
                begin = time.perf_counter()
                self._loaded[name] = self._loaders[name]()
                self._load_s += time.perf_counter() - begin
            encoder = self._loaded[name]
            if self._low_memory:
                yield encoder
                if name not in self._kept:
                    self._loaded.pop(name, None)
                return
        yield encoder

    @contextmanager
    def each_video_once(self) -> Iterator[None]:
        """Keep the features of videos as long as the block: its sounds have one film."""
        before, self._features = self._features, {}
        try:
            yield
        finally:
            self._features = before

    def _encoded_once(self, key: tuple[object, ...], encode: Callable[[], F]) -> F:
        """Encode a part of a video, or return what was kept of it."""
        kept = self._features
        if kept is None:
            return encode()
        if key not in kept:
            kept[key] = encode()
        features: F = kept[key]
        return features

    def release(self) -> None:
        """Drop the encoders that were loaded here."""
        with self._one_at_a_time:
            for name in self._loaded.keys() - self._kept:
                del self._loaded[name]

    def collect_load_s(self) -> float:
        """Return the seconds spent on loading encoders since the last call."""
        load_s, self._load_s = self._load_s, 0.0
        return load_s

    def recognise(
        self, video: Path, duration_s: float | Fraction, *, then_encode: bool = False
    ) -> Seen:
        """Recognise what a video shows, once for the same file; see `Recogniser.observe`.

        Args:
            video: A video, or a still picture.
            duration_s: Seconds to look at, from the start.
            then_encode: Keep pictures for `frames`, so that a short film is decoded once.

        Raises:
            MediaError: The video can't be read.
            MissingPartError: A bundled network is not installed.
        """
        key = (video, Fraction(duration_s), *_state_of(video))
        seen = self._seen.get(key)
        if seen is None:
            keep = _within_budget(self.samplings(video) if then_encode else (), duration_s)
            with self.use("recogniser") as recogniser:
                seen = recogniser.observe(video, duration_s, keep=keep)
            assert seen is not None
            self._seen[key] = seen
            for oldest in list(self._seen)[:-_MOST_SEEN]:
                self._seen.pop(oldest, None)
            self._read.kept = {(*key, sampling): pictures for sampling, pictures in keep.items()}
        return seen

    def frames(
        self, video: Path, sampling: Sampling, duration_s: float | Fraction
    ) -> Iterator[NDArray[np.uint8]]:
        """Pictures of a video: those that were kept, once, or else decoded now.

        What is decoded now is kept for the encoders that come after this one.

        Raises:
            MediaError: The video can't be read.
        """
        key = (video, Fraction(duration_s), *_state_of(video))
        kept = getattr(self._read, "kept", {}).pop((*key, sampling), None)
        if kept is not None:
            return iter(kept)
        in_order = self.samplings(video)
        keep = _within_budget(in_order[in_order.index(sampling) + 1 :], duration_s)
        fps, size_px = sampling
        read = iter_frames(video, fps=fps, size_px=size_px, duration_s=duration_s, keep=keep)

        def reading() -> Iterator[NDArray[np.uint8]]:
            yield from read
            self._read.kept = {(*key, later): pictures for later, pictures in keep.items()}

        return reading()

    def forget_frames(self) -> None:
        """Drop what was kept of a video."""
        self._read.kept = {}

    @contextmanager
    def tagger(self) -> Iterator[Tagger]:
        """Yield the tagger for notes on what came out."""
        with self.use("tagger") as tagger:
            yield tagger

    def names(self, prompt: str, sound: str) -> bool:
        """Whether a prompt already names a sound, by the similarity of their mean states."""
        means_BD = self.mean_states([prompt, sound])
        return bool(similarities(means_BD[0], means_BD[1:])[0] >= self._same)

    def is_english(self, prompt: str) -> bool:
        """Whether a prompt is likely English, by the text encoder's vocabulary."""
        return is_english(prompt, self.knows, self.sound_stems())

    def nearest_kinds(self, prompt: str) -> tuple[SoundClass, ...]:
        """The nearest kinds of sound of a prompt that is near none; nothing if it is near one."""
        if named_kinds(prompt):
            return ()
        (prompt_D,) = self.mean_states([plain(prompt)])
        return nearest(prompt_D, self._examples_KD, all_kinds(), near=self._near)

    @cached_property
    def _examples_KD(self) -> NDArray[np.float32]:
        """Mean token states of an example of each kind."""
        return self.mean_states([example_of(kind) for kind in all_kinds()])


def motion_sampling(video: Path, *, fps: int, side_px: int) -> tuple[Fraction, tuple[int, int]]:
    """How a video is sampled for a sync encoder of `fps` pictures a second; see `even_rate`.

    Raises:
        MediaError: The video can't be read.
    """
    shown = probe(video).video
    rate = Fraction(fps) if shown is None else even_rate(shown.average_fps, fps)
    return rate, (side_px, side_px)


def _within_budget(samplings: Sequence[Sampling], duration_s: float | Fraction) -> Kept:
    """Empty lists for samplings that are small enough to be kept, all or none."""
    each = (fps * math.prod(size_px) * 3 * duration_s for fps, size_px in samplings)
    return {x: [] for x in (samplings if sum(each) <= _MOST_KEPT_BYTES else ())}
