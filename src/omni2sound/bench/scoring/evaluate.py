"""From systems' sounds to rows of scores: one path for models, folders of sounds and baselines.

In:   a track, systems (each with one sound file a clip), names of taggers.
Out:  `Evaluation`: rows with intervals, a record for each clip and system, what was left out.

All scores are of one part of a track. A system that lacks clips is compared with the real sounds
of the clips that it has, and its rows say of how many. Sounds are read one at a time
(`scoring.sounds`, `stats.frechet_sets`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.metrics.avbench.scores import MIN_CLIPS as MIN_AVBENCH_CLIPS
from omni2sound.bench.metrics.avbench.scores import score_avbench
from omni2sound.bench.metrics.clip_metric import CLIP_METRICS, clip_metric_scores
from omni2sound.bench.metrics.copies import Nearness, copies_scores
from omni2sound.bench.metrics.kad import PUBLISHED, kad_score
from omni2sound.bench.metrics.scene_v1 import ClipScore, stage_scores
from omni2sound.bench.metrics.tagger_8s import MIN_CLIPS_FOR_VERDICT, as_scores
from omni2sound.bench.scoring.avbench import TrackFeatures, embed_track
from omni2sound.bench.scoring.clip_networks import measure_by_networks, network_digests
from omni2sound.bench.scoring.options import OnStep, ScoringOptions
from omni2sound.bench.scoring.sounds import (
    TaggedSound,
    iter_features,
    measure_clip_metrics,
    measure_nearness,
    real_tags,
    tag_sounds,
)
from omni2sound.bench.stats.distances import kl_divergences
from omni2sound.bench.stats.estimate import Score
from omni2sound.bench.stats.frechet_sets import SetOfSounds, groups_of, set_values
from omni2sound.bench.stats.kernel_distance import KernelReference
from omni2sound.bench.systems.folder import Problem, SoundFile
from omni2sound.bench.systems.system import ORACLE, RETRIEVAL, System, SystemKey, real_sounds
from omni2sound.bench.tracks.track import Part, Track, TrackClip
from omni2sound.errors import ShapeError, UserError
from omni2sound.generate.request import Task

MIN_CLIPS = 4
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of a table."""

    part: Part
    protocol: str
    system: str
    task: Task | None
    is_baseline: bool
    num_clips: int
    num_expected: int
    scores: tuple[Score, ...]
    left_out: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Distances by name, each without one jackknife group after another: what intervals of
    differences and ratios of rows are made of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRecord:
    """Measurements of one sound."""

    clip_id: str
    part: Part
    system: str
    task: Task | None
    stage: ClipScore | None
    kl: Mapping[str, float]
    """KL divergence by tagger."""
    heard: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Classes found anywhere in it, by tagger."""
    nearness: Nearness | None = None
    """None where training recordings were not searched for."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers of the metrics of single clips, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """All scores of a track's systems."""

    rows: tuple[Row, ...]
    clips: tuple[ClipRecord, ...]
    problems: Mapping[str, tuple[Problem, ...]]
    """Problems of sounds, by the system's title."""
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scored:
    """One system and what was found in its sounds, by clip."""

    system: System
    tagged: Mapping[str, TaggedSound]
    nearness: Mapping[str, Nearness]
    own: Mapping[str, Mapping[str, float]]
    """Numbers of the metrics of single clips, by clip."""
    kl: dict[str, dict[str, float]] = field(default_factory=dict)
    """KL divergence by clip and tagger."""


def evaluate(
    track: Track,
    systems: Sequence[System],
    options: ScoringOptions,
    *,
    on_step: OnStep,
    with_copies: bool = False,
) -> Evaluation:
    """Measure all sounds and compute all scores.

    Args:
        track: The track, limited to the clips that are wanted.
        systems: In the order of the table.
        options: Execution settings.
        on_step: Reports progress.
        with_copies: Search the sounds of models, of real test scenes and of retrieval for the
            corpus' training recordings (`copies-v1`).

    Raises:
        UserError: A system has fewer than four clips, or copies are asked for without a corpus.
    """
    oracle = System(name=ORACLE, sounds=real_sounds(track), is_baseline=True, is_real=True)
    everyone = [oracle, *systems]
    for system in everyone:
        if len(system.sounds) < MIN_CLIPS:
            raise UserError(
                f"{system.name}: {len(system.sounds)} of {len(track.clips)} clips can be scored; "
                f"{MIN_CLIPS} are the least"
            )
    scored = _scored(track, everyone, options, on_step, with_copies=with_copies)
    rows = [
        row
        for tagger in options.taggers
        for part in track.parts
        for row in _distance_rows(track, scored, part, tagger)
    ]
    facts = _facts(track, options)
    if options.published is not None:
        features = embed_track(
            track,
            [sound for _, sound in _sounds_of(track, everyone)],
            options.published,
            cache_folder=options.cache_folder,
            on_job=on_step("published networks"),
        )
        rows += [row for part in track.parts for row in _published(track, features, scored, part)]
        facts |= _published_facts(features, everyone)
    with_clips = [one for one in scored if not one.system.distances_only]
    rows += [row for one in with_clips for row in _clip_rows(track, one)]
    return Evaluation(
        rows=tuple(sorted(rows, key=lambda r: _order(r, everyone))),
        clips=tuple(record for one in with_clips for record in _records(track, one)),
        problems={s.title: s.problems for s in systems if s.problems},
        facts=facts,
    )


def _scored(
    track: Track,
    systems: Sequence[System],
    options: ScoringOptions,
    on_step: OnStep,
    *,
    with_copies: bool,
) -> list[_Scored]:
    """Measure the sounds of all systems; those that belong to no clip get no scores."""
    tagged: dict[SystemKey, dict[str, TaggedSound]] = {}
    for belong in (True, False):
        group = [s for s in systems if s.distances_only != belong]
        pairs, report = _sounds_of(track, group), on_step("tagging")
        found = tag_sounds(track, pairs, options, with_scores=belong, on_sound=report)
        tagged |= _by_system(track, group, found)
    nearness: dict[SystemKey, dict[str, Nearness]] = {}
    if with_copies:
        group = [s for s in systems if _is_searched(s)]
        pairs = _sounds_of(track, group)
        near = measure_nearness(track, pairs, options, on_sound=on_step("copies"))
        nearness = _by_system(track, group, near)
    group = [s for s in systems if CLIP_METRICS and not s.distances_only]
    pairs, report = _sounds_of(track, group), on_step("metrics of plugins")
    own = _by_system(track, group, measure_clip_metrics(track, pairs, options, on_sound=report))
    for key, numbers in _by_networks(track, systems, options, on_step).items():
        mine = own.setdefault(key, {})
        mine |= {clip: {**mine.get(clip, {}), **more} for clip, more in numbers.items()}
    return [
        _Scored(
            system=s,
            tagged=tagged[s.key],
            nearness=nearness.get(s.key, {}),
            own=own.get(s.key, {}),
        )
        for s in systems
    ]


def _by_networks(
    track: Track, systems: Sequence[System], options: ScoringOptions, on_step: OnStep
) -> dict[SystemKey, dict[str, dict[str, float]]]:
    """Numbers of `metrics.network_scores`, by system and clip."""
    if options.clip_networks is None:
        return {}
    group = [s for s in systems if not s.distances_only]
    numbers = measure_by_networks(
        track,
        _sounds_of(track, group),
        options.clip_networks,
        cache_folder=options.cache_folder,
        on_sound=on_step("networks of single clips"),
    )
    return _by_system(track, group, numbers)


def _sounds_of(track: Track, systems: Sequence[System]) -> list[tuple[TrackClip, SoundFile]]:
    """The clips of one system after another, in the track's order, with the system's sounds."""
    return [(c, s.sounds[c.clip_id]) for s in systems for c in track.clips if c.clip_id in s.sounds]


def _by_system(
    track: Track, systems: Sequence[System], found: Sequence[Found]
) -> dict[SystemKey, dict[str, Found]]:
    """Results for `_sounds_of` the systems, by system and clip."""
    rest = iter(found)
    return {
        s.key: {c.clip_id: next(rest) for c in track.clips if c.clip_id in s.sounds}
        for s in systems
    }


def _is_searched(system: System) -> bool:
    is_model = not (system.is_baseline or system.is_variant)
    return is_model or system.name in (ORACLE, RETRIEVAL)


def _records(track: Track, one: _Scored) -> Iterator[ClipRecord]:
    for clip in track.clips:
        if (tagged := one.tagged.get(clip.clip_id)) is not None:
            yield ClipRecord(
                clip_id=clip.clip_id,
                part=clip.part,
                system=one.system.name,
                task=one.system.task,
                stage=tagged.score,
                kl=one.kl.get(clip.clip_id, {}),
                heard=tagged.heard,
                nearness=one.nearness.get(clip.clip_id),
                metrics=one.own.get(clip.clip_id, {}),
            )


def _order(row: Row, systems: Sequence[System]) -> tuple[int, str, int]:
    at = next(i for i, s in enumerate(systems) if s.key == (row.system, row.task))
    return (("main", "offscreen").index(row.part), row.protocol, at)


class _References:
    """Real sounds of the clips that a system has; most systems have all of them."""

    def __init__(self, real: Mapping[str, TaggedSound], tagger: str) -> None:
        self._real, self._tagger = real, tagger
        self._ids: tuple[str, ...] = ()
        self._sets: tuple[SetOfSounds, KernelReference | None] | None = None

    def of(self, ids: tuple[str, ...]) -> tuple[SetOfSounds, KernelReference | None]:
        """The real sounds, and what KAD needs of them; None where they hardly differ."""
        if self._sets is None or ids != self._ids:
            tagged = (self._real[i] for i in ids)
            real = SetOfSounds(iter_features(tagged, self._tagger), groups_of(len(ids)))
            self._sets = real, _kernel_reference(real.means_ND, real.group_N)
            self._ids = ids
        return self._sets


def _kernel_reference(
    real_ND: NDArray[np.floating], group_N: NDArray[np.intp]
) -> KernelReference | None:
    try:
        return KernelReference(real_ND, group_N)
    except ShapeError:
        return None


def _distance_rows(track: Track, scored: Sequence[_Scored], part: Part, tagger: str) -> list[Row]:
    """Distances of each system that has four clips of the part; KL goes to its clips too."""
    ids = [c.clip_id for c in track.clips if c.part == part]
    references = _References(scored[0].tagged, tagger)
    rows = []
    for one in scored:
        have = tuple(i for i in ids if i in one.tagged)
        if len(have) < MIN_CLIPS:
            continue
        real, kernel = references.of(have)
        made = SetOfSounds(iter_features((one.tagged[i] for i in have), tagger), real.group_N)
        kl_N = None
        if not one.system.distances_only:
            kl_N = kl_divergences(real.logits_NK, made.logits_NK)
            for clip_id, kl in zip(have, kl_N.tolist(), strict=True):
                one.kl.setdefault(clip_id, {})[tagger] = kl
        values = {} if one.system.is_real else set_values(real, made)
        scores = as_scores(values, kl_N, tagger_name=tagger, num_clips=len(have))
        left_out = {name: tuple(v[1:].tolist()) for name, v in values.items()}
        rows.append(_row(one.system, part, scores, len(have), len(ids), left_out))
        if kernel is not None and not one.system.is_real:
            kad = kernel.distance(made.means_ND)
            score = kad_score(kad, network=tagger, num_clips=len(have))
            left_out = {"KAD": tuple(kad[1:].tolist())}
            rows.append(_row(one.system, part, (score,), len(have), len(ids), left_out))
    return rows


def _clip_rows(track: Track, one: _Scored) -> list[Row]:
    """Rows of `stage-v1`, of `copies-v1` and of the metrics of single clips."""
    rows = []
    for part in track.parts:
        clips = [c for c in track.clips if c.part == part]
        tagged = [one.tagged[c.clip_id] for c in clips if c.clip_id in one.tagged]
        scores = [t.score for t in tagged if t.score is not None]
        if scores:
            rows.append(_row(one.system, part, stage_scores(scores), len(scores), len(clips)))
        near = [one.nearness[c.clip_id] for c in clips if c.clip_id in one.nearness]
        if found := copies_scores(near):
            rows.append(_row(one.system, part, found, len(near), len(clips)))
        own = [one.own[c.clip_id] for c in clips if c.clip_id in one.own]
        rows += [
            _row(one.system, part, found, len(own), len(clips)) for found in clip_metric_scores(own)
        ]
    return rows


def _published(
    track: Track, features: TrackFeatures, scored: Sequence[_Scored], part: Part
) -> list[Row]:
    """Rows of avbench-8s-v1, against the real sounds of the clips that each system has."""
    ids = [c.clip_id for c in track.clips if c.part == part]
    real = scored[0].system.sounds
    rows = []
    for system in (one.system for one in scored):
        made = {i: system.sounds[i] for i in ids if i in system.sounds}
        if len(made) < MIN_AVBENCH_CLIPS:
            continue
        shown = not system.distances_only  # else its sounds belong to no video and no caption
        scores = score_avbench(
            features.sounds(made),
            features.sounds({i: real[i] for i in made}),
            videos=features.videos(list(made)) if shown else None,
            captions=features.captions(list(made)) if shown else None,
            sync=features.networks.sync,
            sets=not system.is_real,
        )
        if scores:
            rows.append(_row(system, part, scores, len(made), len(ids)))
        for network in PUBLISHED if not system.is_real else ():
            found = _published_kad(features, made, real, network)
            if found is not None:
                rows.append(_row(system, part, (found,), found.estimate.num_clips, len(ids)))
    return rows


def _published_kad(
    features: TrackFeatures,
    made: Mapping[str, SoundFile],
    real: Mapping[str, SoundFile],
    network: str,
) -> Score | None:
    """KAD of the clips that a network could process on both sides; None without the network."""
    ours = features.sounds(made).embeddings.get(network, {})
    theirs = features.sounds({i: real[i] for i in made}).embeddings.get(network, {})
    both = [i for i in ours if i in theirs]
    if len(both) < MIN_AVBENCH_CLIPS:
        return None
    tables = [np.stack([some[i].numpy() for i in both]) for some in (theirs, ours)]
    kernel = _kernel_reference(tables[0], groups_of(len(both)))
    if kernel is None:
        return None
    return kad_score(kernel.distance(tables[1]), network=network, num_clips=len(both))


def _published_facts(features: TrackFeatures, systems: Sequence[System]) -> dict[str, Any]:
    left_out: dict[str, Any] = {}
    for system in systems:
        dropped = features.sounds(system.sounds).dropped
        left_out |= {f"{system.title}, {network}": clips for network, clips in dropped.items()}
    seen = features.videos(list(systems[0].sounds)).dropped  # the oracle has all clips
    left_out |= {f"videos, {network}": clips for network, clips in seen.items()}
    return {
        "published_judges": {name: sha[:16] for name, sha in features.digests.items()},
        "published_missing": dict(features.networks.missing),
        "published_left_out": left_out,
    }


def _row(
    system: System,
    part: Part,
    scores: tuple[Score, ...],
    num_clips: int,
    num_expected: int,
    left_out: Mapping[str, tuple[float, ...]] | None = None,
) -> Row:
    return Row(
        part=part,
        protocol=scores[0].protocol,
        system=system.name,
        task=system.task,
        is_baseline=system.is_baseline,
        num_clips=num_clips,
        num_expected=num_expected,
        scores=scores,
        left_out=left_out or {},
    )


def _facts(track: Track, options: ScoringOptions) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "track": track.identity,
        "judges": list(options.taggers),
        "min_clips_for_verdict": MIN_CLIPS_FOR_VERDICT,
    }
    if options.clip_networks is not None:
        digests = network_digests(options.clip_networks)
        facts["clip_networks"] = {name: sha256[:16] for name, sha256 in digests.items()}
    if track.has_truth:
        tags = [real_tags(track, name, options.cache_folder) for name in options.taggers[:2]]
        for end, real in zip(("", "_2nd"), tags, strict=False):
            facts[f"oracle_rates{end}"] = real.rates
            facts[f"classes_left_out{end}"] = [c for c in real.rates if c not in real.scorable]
        real = tags[0]
        facts["speech_not_asked"] = sorted(set(real.rates) - real.never_speech)
        facts["music_not_asked"] = sorted(set(real.rates) - real.never_music)
    return facts
