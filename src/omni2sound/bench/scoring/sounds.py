"""Measurements of every sound of a system, made once for each and cached by digest.

In:   files of sounds, the clips that they belong to, names of audio taggers.
Out:  `TaggedSound`: a clip's score by `stage-v1` (where there is a truth) and the entries of its
      embeddings, to be read one at a time; nearness to training recordings; plugins' metrics.

An entry is named by the digests of the sound and the truth, the tagger and the settings
(`scoring.cache`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as to_safetensors

from omni2sound.bench.metrics.clip_metric import CLIP_METRICS, ScoredClip, measure_clip
from omni2sound.bench.metrics.copies import Nearness, TrainingSounds, copies_asked
from omni2sound.bench.metrics.scene_v1 import ClipScore, TrueEvent, score_clip
from omni2sound.bench.metrics.tagger_8s import embed_clip
from omni2sound.bench.metrics.tagging import (
    CatalogueTagger,
    RealTags,
    Tags,
    load_tagger,
    tag_recordings,
)
from omni2sound.bench.scoring.cache import entry_key, entry_path, put_entry
from omni2sound.bench.scoring.options import ScoringOptions
from omni2sound.bench.stats.frechet_sets import TaggerFeatures
from omni2sound.bench.systems.folder import SoundFile
from omni2sound.bench.tracks.scenes import read_truth, stored_recordings
from omni2sound.bench.tracks.track import Track, TrackClip, open_track
from omni2sound.config import from_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.media.audio import read_audio
from omni2sound.media.samples import Audio, fit_length, round_half_up
from omni2sound.readers import open_tensors, read_json, read_object
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets

Result = TypeVar("Result")
Pair = tuple[TrackClip, SoundFile]
"""A clip and a system's sound for it."""
OnSound = Callable[[int, int], None]
"""Called with (sounds done, sounds in all)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaggedSound:
    """Tags and features of one sound."""

    clip_id: str
    score: ClipScore | None
    """None on tracks without truth."""
    heard: Mapping[str, tuple[str, ...]]
    """Classes found anywhere in it, by the taggers that count for `stage-v1`."""
    entries: Mapping[str, Path]
    """Features by tagger, for `read_features`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    track: Path
    taggers: tuple[str, ...]
    cache: Path
    real: tuple[RealTags, ...]
    """Real recordings by the first two taggers; empty on tracks without truth."""


@cache
def tagger_digest(name: str) -> str:
    """Digest of a tagger's output for a fixed sound, and of its rule for what counts."""
    tagger = load_tagger(name)
    rng = np.random.default_rng(0)
    time_s = np.arange(2 * tagger.sample_rate_hz) / tagger.sample_rate_hz
    sweep = 0.3 * np.sin(2 * np.pi * (100 + 1000 * time_s) * time_s)
    probe_N = (sweep + 0.05 * rng.standard_normal(len(time_s))).astype(np.float32)
    parts = [np.round(part, 4).tobytes() for part in tagger.scores_and_embeddings(probe_N)]
    rules = repr((tagger.class_names, tagger.top_k, tagger.least_score)).encode()
    return hashlib.sha256(b"".join([*parts, rules])).hexdigest()


@cache
def _catalogue_tagger(folder: Path, tagger: str) -> tuple[CatalogueTagger, str]:
    """A tagger for the catalogue of a track, and the catalogue's digest."""
    catalogue = stored_recordings(open_track(folder)).catalogue
    return CatalogueTagger(load_tagger(tagger), catalogue), catalogue.digest


def real_tags(track: Track, tagger: str, cache_folder: Path) -> RealTags:
    """Tags of the track's real recordings, which decide the classes that systems are scored on."""
    assets = stored_recordings(track)
    # The words of a key are hashed: another word than "judge" would make every entry anew.
    key = entry_key(kind="hearing", of=assets.catalogue.digest, judge=tagger_digest(tagger))
    path = entry_path(cache_folder, key).with_suffix(".json")
    if path.is_file():
        stored = read_object(path)
        return RealTags(tags={c: [_read_tags(t) for t in tags] for c, tags in stored.items()})
    real = tag_recordings(assets, CatalogueTagger(load_tagger(tagger), assets.catalogue))
    plain = {
        c: [
            {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(tags).items()}
            for tags in all_tags
        ]
        for c, all_tags in real.tags.items()
    }
    put_entry(path, json.dumps(plain).encode())
    return real


def _read_tags(data: Mapping[str, object]) -> Tags:
    return Tags(**{k: frozenset(v) if isinstance(v, list) else v for k, v in data.items()})  # type: ignore[arg-type]


def tag_sounds(
    track: Track,
    sounds: Iterable[Pair],
    options: ScoringOptions,
    *,
    with_scores: bool = True,
    on_sound: OnSound | None = None,
) -> list[TaggedSound]:
    """Tag every sound that is not in the cache.

    Args:
        track: The track of the clips.
        sounds: Each with its clip.
        options: Taggers, cache, engine.
        with_scores: Score the sounds by `stage-v1`; False for sounds that belong to no clip.
        on_sound: Called with (sounds done, sounds in all).

    Returns:
        A record for each sound, in their order.

    Raises:
        UserError: A tagger is unknown, or a file can't be read.
    """
    for name in options.taggers:
        load_tagger(name)  # a missing one is reported here, not by a worker
    real: tuple[RealTags, ...] = ()
    if track.has_truth and with_scores:
        real = tuple(real_tags(track, name, options.cache_folder) for name in options.taggers[:2])
    work = _Work(track=track.folder, taggers=options.taggers, cache=options.cache_folder, real=real)
    return options.workers.map_in_order(partial(_tag, work), list(sounds), on_job=on_sound)


def read_features(path: Path) -> TaggerFeatures:
    """Read an entry's embeddings and logits."""
    with open_tensors(path, framework="np") as file:
        return TaggerFeatures(
            embeddings_PD=file.get_tensor("embeddings_PD"), logits_K=file.get_tensor("logits_K")
        )


def iter_features(tagged: Iterable[TaggedSound], tagger: str) -> Iterator[TaggerFeatures]:
    """Entries of one tagger, read one at a time."""
    for sound in tagged:
        yield read_features(sound.entries[tagger])


def _is_whole(path: Path) -> bool:
    try:
        read_features(path)
    except (ConfigError, OSError):
        return False
    return True


def _tag(work: _Work, pair: Pair) -> TaggedSound:
    clip, sound = pair
    decoded = DecodedSound(sound.path)
    entries: dict[str, Path] = {}
    for name in work.taggers:
        key = entry_key(kind="sound", sound=sound.sha256, judge=tagger_digest(name))
        path = entries[name] = entry_path(work.cache, key)
        if not _is_whole(path):
            tagger = load_tagger(name)
            features = embed_clip(decoded.at(tagger.sample_rate_hz), tagger)
            tensors = {"embeddings_PD": features.embeddings_PD, "logits_K": features.logits_K}
            put_entry(path, to_safetensors(tensors))
    score, classes = _stage_score(work, clip, sound, decoded) if work.real else (None, {})
    return TaggedSound(clip_id=clip.clip_id, score=score, heard=classes, entries=entries)


class DecodedSound:
    """A file's sound, decoded when first asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_rate: dict[int, NDArray[np.float32]] = {}

    def at(self, rate_hz: int) -> NDArray[np.float32]:
        """The whole sound at a sample rate, mono."""
        if rate_hz not in self._by_rate:
            audio = read_audio(self._path, sample_rate_hz=rate_hz, mono=True)
            self._by_rate[rate_hz] = audio.samples_CN[0]
        return self._by_rate[rate_hz]

    def fitted(self, clip: TrackClip, rate_hz: int) -> NDArray[np.float32]:
        """The sound at the clip's length: a longer one is cut, a shorter one ends in silence."""
        whole = Audio(samples_CN=self.at(rate_hz)[None], sample_rate_hz=rate_hz)
        num_samples = round_half_up(Fraction(clip.duration_s) * rate_hz)
        fitted_N: NDArray[np.float32] = fit_length(whole, num_samples).samples_CN[0]
        return fitted_N


def _stage_score(
    work: _Work, clip: TrackClip, sound: SoundFile, decoded: DecodedSound
) -> tuple[ClipScore, dict[str, tuple[str, ...]]]:
    """Score of a sound, and the classes that each tagger finds in it."""
    track = open_track(work.track)
    key = entry_key(
        kind="score and classes",
        sound=sound.sha256,
        truth=track.digests[clip.clip_id].truth,
        catalogue=_catalogue_tagger(work.track, work.taggers[0])[1],
        judges=[tagger_digest(name) for name in work.taggers[:2]],
        duration_s=clip.duration_s,
    )
    path = entry_path(work.cache, key).with_suffix(".json")
    with suppress(FileNotFoundError, ValueError, KeyError):  # ValueError: cut off
        stored = read_object(path, not_finite=True)
        classes = {name: tuple(found) for name, found in stored["heard"].items()}
        return from_json(ClipScore, stored["score"]), classes
    assert clip.truth is not None  # the caller has looked
    events = true_events(track.path(clip.truth))
    asked = work.taggers[: len(work.real)]
    rates_hz = [load_tagger(name).sample_rate_hz for name in asked]
    tags = [
        _catalogue_tagger(work.track, name)[0].tag(decoded.fitted(clip, rate_hz), rate_hz)
        for name, rate_hz in zip(asked, rates_hz, strict=True)
    ]
    first, *more = zip(tags, work.real, strict=True)
    score = score_clip(
        decoded.fitted(clip, SAMPLE_RATE_HZ), events, *first, second=more[0] if more else None
    )
    classes = {n: tuple(sorted(t.somewhere)) for n, t in zip(asked, tags, strict=True)}
    put_entry(path, json.dumps({"score": asdict(score), "heard": classes}).encode())
    return score, classes


@cache
def _training_sounds(corpus: Path, tagger: str) -> TrainingSounds:
    """Load once in each process, when the first sound is not in the cache."""
    return TrainingSounds(SceneAssets.open(corpus), load_tagger(tagger))


def measure_nearness(
    track: Track,
    sounds: Iterable[Pair],
    options: ScoringOptions,
    *,
    on_sound: OnSound | None = None,
) -> list[Nearness]:
    """Search each sound for training recordings (`copies-v1`), unless it is in the cache.

    Args:
        track: A track with truth.
        sounds: Each with its clip.
        options: The corpus, the taggers (the first one's embeddings are compared), cache, engine.
        on_sound: Called with (sounds done, sounds in all).

    Returns:
        A record for each sound, in their order.

    Raises:
        UserError: There is no corpus.
    """
    if options.assets is None:
        raise UserError("copies-v1 compares with training recordings and needs the scene corpus")
    catalogue_sha256 = SceneAssets.open(options.assets).catalogue.digest
    work = partial(_nearness, track.folder, options, options.assets, catalogue_sha256)
    return options.workers.map_in_order(work, list(sounds), on_job=on_sound)


def _nearness(
    folder: Path, options: ScoringOptions, corpus: Path, catalogue_sha256: str, pair: Pair
) -> Nearness:
    clip, sound = pair
    assert clip.truth is not None  # only tracks with truth are searched
    tagger = options.taggers[0]
    ask_copy = copies_asked(true_events(open_track(folder).path(clip.truth)))
    key = entry_key(
        kind="nearness",
        sound=sound.sha256,
        catalogue=catalogue_sha256,
        judge=tagger_digest(tagger),
        duration_s=clip.duration_s,
        ask_copy=ask_copy,
    )
    path = entry_path(options.cache_folder, key).with_suffix(".json")
    with suppress(FileNotFoundError, ValueError):
        return from_json(Nearness, read_json(path, not_finite=True))
    fitted_N = DecodedSound(sound.path).fitted(clip, SAMPLE_RATE_HZ)
    nearness = _training_sounds(corpus, tagger).nearness(fitted_N, ask_copy=ask_copy)
    put_entry(path, json.dumps(asdict(nearness)).encode())
    return nearness


def measure_clip_metrics(
    track: Track,
    sounds: Iterable[Pair],
    options: ScoringOptions,
    *,
    on_sound: OnSound | None = None,
) -> list[dict[str, float]]:
    """Measure each sound by the metrics of plugins; not cached, since their code may change.

    Args:
        track: The track of the clips.
        sounds: Each with its clip.
        options: The engine.
        on_sound: Called with (sounds done, sounds in all).

    Returns:
        For each sound, in their order, its numbers by metric; nothing without such metrics.

    Raises:
        UserError: If a number is not finite, or a file can't be read.
    """
    work = partial(_measure_clip, track.folder, tuple(CLIP_METRICS))
    wanted = list(sounds) if CLIP_METRICS else []
    return options.workers.map_in_order(work, wanted, on_job=on_sound)


def _measure_clip(folder: Path, metrics: tuple[str, ...], pair: Pair) -> dict[str, float]:
    clip, sound = pair
    track = open_track(folder)
    files = ScoredClip(
        clip=clip,
        sound=sound.path,
        real=track.path(clip.audio),
        video=None if clip.video is None else track.path(clip.video),
    )
    made, real = DecodedSound(files.sound), DecodedSound(files.real)
    values = {
        name: measure_clip(
            name, lambda rate: (made.fitted(clip, rate), real.fitted(clip, rate)), files
        )
        for name in metrics
    }
    return {name: value for name, value in values.items() if value is not None}


@lru_cache(maxsize=2048)
def true_events(path: Path) -> tuple[TrueEvent, ...]:
    """The true events of a clip, read once for all systems; a scene's whole truth is large."""
    return read_truth(path)[1]
