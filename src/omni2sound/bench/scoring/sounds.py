"""What judges make of every sound of a system, computed once for each and kept by digest.

In:   files of sounds, the clips that they stand for, names of judges.
Out:  `Judged`: a clip's scores by `stage-v1` (where there is a truth) and where its embeddings
      lie, to be read one at a time.

An entry's name is the digest of everything that decides what is in it: the sound's bytes, the
truth's, the judge, the definitions' version, torch's version. So a stopped extraction goes on
where it was, systems that share sounds share entries, and the folder can be deleted at any
time. Workers write entries themselves: on a cluster the folder must be one that all see.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from omni2sound.bench.metrics.clip_metric import CLIP_METRICS, measure_clip
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
from omni2sound.bench.stats.frechet_sets import TaggerFeatures
from omni2sound.bench.systems.folder import SoundFile
from omni2sound.bench.tracks.scenes import read_truth, stored_recordings
from omni2sound.bench.tracks.track import Track, TrackClip, read_track
from omni2sound.data.workers import EngineName, map_jobs
from omni2sound.media.audio import read_audio
from omni2sound.media.samples import Audio, fit_length, round_half_up
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets

_VERSION = 1
"""Of the definitions behind an entry; a changed one needs a new number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One sound, judged."""

    clip_id: str
    score: ClipScore | None
    """None on tracks without truth."""
    heard: Mapping[str, tuple[str, ...]]
    """Classes heard somewhere in it, by the judges that count for `stage-v1`."""
    entries: Mapping[str, Path]
    """By judge; read with `read_judged`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    track: Path
    judges: tuple[str, ...]
    cache: Path
    hearing: tuple[RealTags, ...]
    """Of the first two judges; empty on tracks without truth."""


@cache
def judge_digest(name: str) -> str:
    """What a judge makes of a fixed sound, and what it counts as heard, as a digest."""
    judge = load_tagger(name)
    rng = np.random.default_rng(0)
    time_s = np.arange(2 * judge.sample_rate_hz) / judge.sample_rate_hz
    sweep = 0.3 * np.sin(2 * np.pi * (100 + 1000 * time_s) * time_s)
    probe_N = (sweep + 0.05 * rng.standard_normal(len(time_s))).astype(np.float32)
    parts = [np.round(part, 4).tobytes() for part in judge.scores_and_embeddings(probe_N)]
    rules = repr((judge.class_names, judge.top_k, judge.least_score)).encode()
    return hashlib.sha256(b"".join([*parts, rules])).hexdigest()


@cache
def _track(folder: Path) -> Track:
    return read_track(folder)


@cache
def _ears(folder: Path, judge: str) -> tuple[CatalogueTagger, str]:
    """A judge's ears for a track's catalogue, and the catalogue's digest."""
    catalogue = stored_recordings(_track(folder)).catalogue
    return CatalogueTagger(load_tagger(judge), catalogue), catalogue.digest


def real_hearing(track: Track, judge: str, cache_folder: Path) -> RealTags:
    """How a judge hears the track's real recordings: what may be asked of a system."""
    assets = stored_recordings(track)
    path = entry_path(
        cache_folder,
        entry_key(kind="hearing", of=assets.catalogue.digest, judge=judge_digest(judge)),
    )
    path = path.with_suffix(".json")
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        return RealTags(tags={c: [_heard(h) for h in all_] for c, all_ in told.items()})
    hearing = tag_recordings(assets, CatalogueTagger(load_tagger(judge), assets.catalogue))
    plain = {
        c: [
            {k: sorted(v) if isinstance(v, frozenset) else v for k, v in asdict(h).items()}
            for h in all_heard
        ]
        for c, all_heard in hearing.tags.items()
    }
    put_entry(path, json.dumps(plain).encode())
    return hearing


def _heard(told: Mapping[str, Any]) -> Tags:
    return Tags(
        classes=frozenset(told["classes"]),
        somewhere=frozenset(told["somewhere"]),
        speech=told["speech"],
        music=told["music"],
    )


def judge_sounds(
    track: Track,
    sounds: Iterable[tuple[TrackClip, SoundFile]],
    *,
    judges: tuple[str, ...],
    cache_folder: Path,
    with_scores: bool = True,
    engine: EngineName = "local",
    num_workers: int = 1,
    on_sound: Callable[[int, int], None] | None = None,
) -> list[Judged]:
    """Judge every sound that has not been judged before.

    Args:
        track: Whose clips they are.
        sounds: Each with the clip that it stands for.
        judges: Names; the first one's ears count for `stage-v1`.
        cache_folder: Where entries are kept.
        with_scores: Score the sounds by `stage-v1`; False for sounds that belong to no clip.
        engine: What the jobs run on.
        num_workers: Sounds at a time.
        on_sound: Called with (sounds done, sounds in all).

    Returns:
        One for each sound, in their order.

    Raises:
        UserError: A judge is unknown, or a file can't be read.
    """
    jobs = list(enumerate(sounds))
    for name in judges:
        load_tagger(name)  # says here, not in a worker, that it is missing
    hearing: tuple[RealTags, ...] = ()
    if track.has_truth and with_scores:
        hearing = tuple(real_hearing(track, judge, cache_folder) for judge in judges[:2])
    work = _Work(track=track.folder, judges=judges, cache=cache_folder, hearing=hearing)
    results: list[Judged | None] = [None] * len(jobs)
    done = map_jobs(partial(_judge, work), jobs, engine=engine, num_workers=num_workers)
    for count, (at, judged) in enumerate(done, start=1):
        results[at] = judged
        if on_sound is not None:
            on_sound(count, len(jobs))
    return [r for r in results if r is not None]


def read_judged(path: Path) -> TaggerFeatures:
    """An entry's embeddings and logits."""
    with safe_open(path, framework="np") as file:
        return TaggerFeatures(
            embeddings_PD=file.get_tensor("embeddings_PD"), logits_K=file.get_tensor("logits_K")
        )


def _judge(work: _Work, job: tuple[int, tuple[TrackClip, SoundFile]]) -> tuple[int, Judged]:
    at, (clip, sound) = job
    heard = _Once(sound.path)
    entries: dict[str, Path] = {}
    for name in work.judges:
        key = entry_key(kind="sound", sound=sound.sha256, judge=judge_digest(name))
        path = entries[name] = entry_path(work.cache, key)
        if not _is_whole(path):
            judge = load_tagger(name)
            judged = embed_clip(heard.at(judge.sample_rate_hz), judge)
            tensors = {"embeddings_PD": judged.embeddings_PD, "logits_K": judged.logits_K}
            put_entry(path, to_safetensors(tensors))
    score, classes = _stage_score(work, clip, sound, heard) if work.hearing else (None, {})
    return at, Judged(clip_id=clip.clip_id, score=score, heard=classes, entries=entries)


class _Once:
    """A file's sound, decoded when first asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_rate: dict[int, NDArray[np.float32]] = {}

    def at(self, rate_hz: int) -> NDArray[np.float32]:
        if rate_hz not in self._by_rate:
            audio = read_audio(self._path, sample_rate_hz=rate_hz, mono=True)
            self._by_rate[rate_hz] = audio.samples_CN[0]
        return self._by_rate[rate_hz]


def _fit(clip: TrackClip, heard: _Once, rate_hz: int) -> NDArray[np.float32]:
    """The sound at the clip's length: a longer one is cut, a shorter one ends in silence."""
    whole = Audio(samples_CN=heard.at(rate_hz)[None], sample_rate_hz=rate_hz)
    num_samples = round_half_up(Fraction(clip.duration_s) * rate_hz)
    fitted_N: NDArray[np.float32] = fit_length(whole, num_samples).samples_CN[0]
    return fitted_N


def _stage_score(
    work: _Work, clip: TrackClip, sound: SoundFile, heard: _Once
) -> tuple[ClipScore, dict[str, tuple[str, ...]]]:
    """Score of a sound, and the classes that each judge hears in it."""
    track = _track(work.track)
    key = entry_key(
        kind="score and classes",
        sound=sound.sha256,
        truth=track.digests[clip.clip_id].truth,
        catalogue=_ears(work.track, work.judges[0])[1],
        judges=[judge_digest(name) for name in work.judges[:2]],
        duration_s=clip.duration_s,
    )
    path = entry_path(work.cache, key).with_suffix(".json")
    with suppress(FileNotFoundError, ValueError, KeyError):  # ValueError: cut off
        stored = json.loads(path.read_text(encoding="utf-8"))
        return _clip_score(stored["score"]), {j: tuple(c) for j, c in stored["heard"].items()}
    assert clip.truth is not None  # the caller has looked
    events = _events(track.path(clip.truth))
    asked = work.judges[: len(work.hearing)]
    rates_hz = [load_tagger(name).sample_rate_hz for name in asked]
    tags = [
        _ears(work.track, name)[0].tag(_fit(clip, heard, rate_hz), rate_hz)
        for name, rate_hz in zip(asked, rates_hz, strict=True)
    ]
    first, *more = zip(tags, work.hearing, strict=True)
    score = score_clip(
        _fit(clip, heard, SAMPLE_RATE_HZ), events, *first, second=more[0] if more else None
    )
    classes = {n: tuple(sorted(t.somewhere)) for n, t in zip(asked, tags, strict=True)}
    put_entry(path, json.dumps({"score": asdict(score), "heard": classes}).encode())
    return score, classes


@dataclass(frozen=True, kw_only=True, slots=True)
class _CopyWork:
    track: Path
    training: Path
    catalogue_digest: str
    judge: str
    cache: Path


@cache
def _training_sounds(corpus: Path, judge: str) -> TrainingSounds:
    """Load once in each process, when the first sound is not in the cache."""
    return TrainingSounds(SceneAssets.open(corpus), load_tagger(judge))


def measure_nearness(
    track: Track,
    sounds: Iterable[tuple[TrackClip, SoundFile]],
    *,
    judge: str,
    training: Path,
    cache_folder: Path,
    engine: EngineName = "local",
    num_workers: int = 1,
    on_sound: Callable[[int, int], None] | None = None,
) -> list[Nearness]:
    """Search each sound for training recordings (`copies-v1`), unless that was done before.

    Args:
        track: A track with truth.
        sounds: Each with the clip that it stands for.
        judge: Whose embeddings are compared.
        training: The scene corpus.
        cache_folder: Where entries are kept.
        engine: What the jobs run on.
        num_workers: Sounds at a time.
        on_sound: Called with (sounds done, sounds in all).

    Returns:
        One for each sound, in their order.
    """
    jobs = list(enumerate(sounds))
    work = _CopyWork(
        track=track.folder,
        training=training,
        catalogue_digest=SceneAssets.open(training).catalogue.digest,
        judge=judge,
        cache=cache_folder,
    )
    found: dict[int, Nearness] = {}
    done = map_jobs(partial(_nearness, work), jobs, engine=engine, num_workers=num_workers)
    for count, (at, nearness) in enumerate(done, start=1):
        found[at] = nearness
        if on_sound is not None:
            on_sound(count, len(jobs))
    return [found[at] for at, _ in jobs]


def _nearness(
    work: _CopyWork, job: tuple[int, tuple[TrackClip, SoundFile]]
) -> tuple[int, Nearness]:
    at, (clip, sound) = job
    assert clip.truth is not None  # only tracks with truth are searched
    ask_copy = copies_asked(_events(_track(work.track).path(clip.truth)))
    key = entry_key(
        kind="nearness",
        sound=sound.sha256,
        catalogue=work.catalogue_digest,
        judge=judge_digest(work.judge),
        duration_s=clip.duration_s,
        ask_copy=ask_copy,
    )
    path = entry_path(work.cache, key).with_suffix(".json")
    with suppress(FileNotFoundError, ValueError, TypeError):
        return at, Nearness(**json.loads(path.read_text(encoding="utf-8")))
    fitted_N = _fit(clip, _Once(sound.path), SAMPLE_RATE_HZ)
    known = _training_sounds(work.training, work.judge)
    nearness = known.nearness(fitted_N, ask_copy=ask_copy)
    put_entry(path, json.dumps(asdict(nearness)).encode())
    return at, nearness


def measure_clip_metrics(
    track: Track,
    sounds: Iterable[tuple[TrackClip, SoundFile]],
    *,
    engine: EngineName = "local",
    num_workers: int = 1,
    on_sound: Callable[[int, int], None] | None = None,
) -> list[dict[str, float]]:
    """Measure each sound by the metrics of plugins; not cached, since their code may change.

    Args:
        track: The track of the clips.
        sounds: Each with its clip.
        engine: What the jobs run on.
        num_workers: Sounds at a time.
        on_sound: Called with (sounds done, sounds in all).

    Returns:
        For each sound, in their order, its numbers by metric.

    Raises:
        UserError: If a number is not finite, or a file can't be read.
    """
    jobs = list(enumerate(sounds)) if CLIP_METRICS else []
    found: dict[int, dict[str, float]] = {}
    work = partial(_measure_clip, track.folder, tuple(CLIP_METRICS))
    for at, values in map_jobs(work, jobs, engine=engine, num_workers=num_workers):
        found[at] = values
        if on_sound is not None:
            on_sound(len(found), len(jobs))
    return [found[at] for at, _ in jobs]


def _measure_clip(
    folder: Path, metrics: tuple[str, ...], job: tuple[int, tuple[TrackClip, SoundFile]]
) -> tuple[int, dict[str, float]]:
    at, (clip, sound) = job
    made, real = _Once(sound.path), _Once(_track(folder).path(clip.audio))
    values = {
        name: measure_clip(
            name, lambda rate: (_fit(clip, made, rate), _fit(clip, real, rate)), clip
        )
        for name in metrics
    }
    return at, {name: value for name, value in values.items() if value is not None}


@lru_cache(maxsize=2048)
def _events(path: Path) -> tuple[TrueEvent, ...]:
    """Read once for all systems; a scene's whole truth is large."""
    return read_truth(path)[1]


def _clip_score(told: Mapping[str, Any]) -> ClipScore:
    return ClipScore(**{**told, "own_offsets_s": tuple(told["own_offsets_s"])})


def entry_key(**what: object) -> str:
    """The name of the entry that follows from all this, this version and torch's."""
    asked = {**what, "version": _VERSION, "torch": torch.__version__}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def entry_path(folder: Path, key: str) -> Path:
    """Where an entry lies."""
    return folder / key[:2] / f"{key}.safetensors"


def _is_whole(path: Path) -> bool:
    try:
        read_judged(path)
    except (FileNotFoundError, SafetensorError, OSError):
        return False
    return True


def put_entry(path: Path, data: bytes) -> None:
    """Under its name only when whole. Not flushed: what a power cut spoils is made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def iter_judged(judged: Iterable[Judged], judge: str) -> Iterator[TaggerFeatures]:
    """Entries of one judge, read one at a time."""
    for one in judged:
        yield read_judged(one.entries[judge])
