"""From systems' sounds to rows of scores: one path for models, strangers and baselines.

In:   a track, systems (each a sound file for every clip that it made), judges.
Out:  `Evaluation`: rows with intervals, a record for each clip and system, what was left out.

On stage tracks `stage-v1` is asked of each part and distances are taken over all clips
together, as the stage table does; on other tracks distances are taken of each part. A system
that lacks clips is compared with the real sounds of the clips that it has, and its rows say of
how many. Sounds are read one at a time (`judging`, `streamed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omni2sound.bench.metrics.avbench.scores import MIN_CLIPS as MIN_AVBENCH_CLIPS
from omni2sound.bench.metrics.avbench.scores import score_avbench
from omni2sound.bench.metrics.scene_v1 import ClipScore, stage_scores
from omni2sound.bench.metrics.tagger_8s import MIN_CLIPS_FOR_VERDICT, distance_scores
from omni2sound.bench.scoring.avbench import PublishedJudges, TrackFeatures, embed_track
from omni2sound.bench.scoring.sounds import Judged, iter_judged, judge_sounds, real_hearing
from omni2sound.bench.stats.distances import kl_divergences
from omni2sound.bench.stats.estimate import Score
from omni2sound.bench.stats.frechet_sets import SetOfSounds, groups_of
from omni2sound.bench.systems.folder import Problem
from omni2sound.bench.systems.system import ORACLE, System, real_sounds
from omni2sound.bench.tracks.track import Task, Track
from omni2sound.data.workers import EngineName
from omni2sound.errors import UserError

__all__ = ["ClipRecord", "Evaluation", "Row", "evaluate"]

MIN_CLIPS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A line of a table."""

    part: str
    """"main", "offscreen", or "all"."""
    protocol: str
    system: str
    task: Task | None
    is_baseline: bool
    num_clips: int
    num_expected: int
    scores: tuple[Score, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRecord:
    """What was measured of one sound."""

    clip_id: str
    part: str
    system: str
    task: Task | None
    stage: ClipScore | None
    kl: Mapping[str, float]
    """By judge."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """All of it."""

    rows: tuple[Row, ...]
    clips: tuple[ClipRecord, ...]
    problems: Mapping[str, tuple[Problem, ...]]
    """By system and task."""
    facts: Mapping[str, Any]


def evaluate(
    track: Track,
    systems: Sequence[System],
    *,
    judges: tuple[str, ...],
    cache_folder: Path,
    published: PublishedJudges | None = None,
    engine: EngineName = "local",
    num_workers: int = 1,
    on_sound: Callable[[int, int], None] | None = None,
    on_published: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Judge all sounds and count.

    Args:
        track: With as many clips as are asked for.
        systems: In the order of the table.
        judges: Names, the one whose ears count first.
        cache_folder: Where judged sounds are kept.
        published: The judges of avbench-8s-v1, if that is asked for.
        engine: What the jobs run on.
        num_workers: Sounds at a time.
        on_sound: Called with (sounds done, sounds in all).
        on_published: The same, of the published judges.

    Raises:
        UserError: A system has fewer than four clips.
    """
    by_id = {clip.clip_id: clip for clip in track.clips}
    oracle = System(name=ORACLE, sounds=real_sounds(track), is_baseline=True, is_real=True)
    everyone = [oracle, *systems]
    for system in everyone:
        if len(system.sounds) < MIN_CLIPS:
            raise UserError(
                f"{system.name}: {len(system.sounds)} of {len(by_id)} clips can be scored; "
                f"{MIN_CLIPS} are the least"
            )
    wanted = [(by_id[i], s.sounds[i]) for s in everyone for i in by_id if i in s.sounds]
    judged = iter(
        judge_sounds(
            track,
            wanted,
            judges=judges,
            cache_folder=cache_folder,
            engine=engine,
            num_workers=num_workers,
            on_sound=on_sound,
        )
    )
    heard = {id(s): {i: next(judged) for i in by_id if i in s.sounds} for s in everyone}
    real = heard[id(oracle)]
    records: list[ClipRecord] = []
    rows: list[Row] = []
    kls: dict[int, dict[str, dict[str, float]]] = {id(s): {} for s in everyone}
    for judge in judges:
        for part, ids in _distance_sets(track):
            references = _References(real, judge)
            for system in everyone:
                scores, kl = _distances(
                    references, heard[id(system)], ids, judge, sets=not system.is_real
                )
                for clip_id, value in kl.items():
                    kls[id(system)].setdefault(clip_id, {})[judge] = value
                if scores:
                    rows.append(_row(system, part, scores, len(kl), len(ids)))
    facts = _facts(track, judges, cache_folder)
    if published is not None:
        features = embed_track(
            track,
            [s.sounds[i] for s in everyone for i in by_id if i in s.sounds],
            published,
            cache_folder=cache_folder,
            engine=engine,
            on_job=on_published,
        )
        for part, ids in _distance_sets(track):
            for system in everyone:
                rows += _published_rows(features, system, oracle, part, ids)
        facts |= _published_facts(features, everyone)
    for system in everyone:
        if not system.distances_only:
            if track.has_truth:
                rows += _stage_rows(track, system, heard[id(system)])
            records += [
                ClipRecord(
                    clip_id=i,
                    part=by_id[i].part,
                    system=system.name,
                    task=system.task,
                    stage=one.score,
                    kl=kls[id(system)].get(i, {}),
                )
                for i, one in heard[id(system)].items()
            ]
    return Evaluation(
        rows=tuple(sorted(rows, key=lambda r: _order(r, everyone))),
        clips=tuple(records),
        problems={_title(s): s.problems for s in systems if s.problems},
        facts=facts,
    )


def _title(system: System) -> str:
    return system.name if system.task is None else f"{system.name} {system.task}"


def _order(row: Row, systems: Sequence[System]) -> tuple[int, str, int]:
    at = next(i for i, s in enumerate(systems) if (s.name, s.task) == (row.system, row.task))
    return (("main", "offscreen", "all").index(row.part), row.protocol, at)


def _distance_sets(track: Track) -> list[tuple[str, list[str]]]:
    if track.has_truth:
        return [("all", [c.clip_id for c in track.clips])]
    return [(p, [c.clip_id for c in track.clips if c.part == p]) for p in track.parts]


class _References:
    """Real sounds of the clips that a system has; most systems have all of them."""

    def __init__(self, real: Mapping[str, Judged], judge: str) -> None:
        self._real, self._judge = real, judge
        self._ids: tuple[str, ...] = ()
        self._set: SetOfSounds | None = None

    def of(self, ids: tuple[str, ...]) -> SetOfSounds:
        if self._set is None or ids != self._ids:
            judged = (self._real[i] for i in ids)
            self._set = SetOfSounds(iter_judged(judged, self._judge), groups_of(len(ids)))
            self._ids = ids
        return self._set


def _distances(
    references: _References,
    made: Mapping[str, Judged],
    ids: Sequence[str],
    judge: str,
    *,
    sets: bool,
) -> tuple[tuple[Score, ...], dict[str, float]]:
    """Scores over the clips of a set, and KL of each clip; nothing of fewer than four clips."""
    have = tuple(i for i in ids if i in made)
    if len(have) < MIN_CLIPS:
        return (), {}
    real_set = references.of(have)
    made_set = SetOfSounds(iter_judged((made[i] for i in have), judge), real_set.group_N)
    kl = kl_divergences(real_set.logits_NK, made_set.logits_NK)
    scores = distance_scores(real_set, made_set, judge_name=judge, sets=sets)
    return scores, dict(zip(have, kl.tolist(), strict=True))


def _stage_rows(track: Track, system: System, heard: Mapping[str, Judged]) -> list[Row]:
    rows = []
    for part in track.parts:
        clips = [c for c in track.clips if c.part == part]
        scores = [s for c in clips if c.clip_id in heard and (s := heard[c.clip_id].score)]
        if scores:
            rows.append(_row(system, part, stage_scores(scores), len(scores), len(clips)))
    return rows


def _published_rows(
    features: TrackFeatures, system: System, oracle: System, part: str, ids: Sequence[str]
) -> list[Row]:
    """One row of avbench-8s-v1, against the real sounds of the clips that the system has."""
    made = {i: system.sounds[i] for i in ids if i in system.sounds}
    if len(made) < MIN_AVBENCH_CLIPS:
        return []
    shown = not system.distances_only  # else its sounds belong to no video and no caption
    scores = score_avbench(
        features.sounds(made),
        features.sounds({i: oracle.sounds[i] for i in made}),
        videos=features.videos(list(made)) if shown else None,
        captions=features.captions(list(made)) if shown else None,
        sync=features.judges.sync,
        sets=not system.is_real,
    )
    return [_row(system, part, scores, len(made), len(ids))] if scores else []


def _published_facts(features: TrackFeatures, systems: Sequence[System]) -> dict[str, Any]:
    left_out: dict[str, Any] = {}
    for system in systems:
        dropped = features.sounds(system.sounds).dropped
        left_out |= {f"{_title(system)}, {judge}": clips for judge, clips in dropped.items()}
    seen = features.videos(list(systems[0].sounds)).dropped  # the oracle has all clips
    left_out |= {f"videos, {judge}": clips for judge, clips in seen.items()}
    return {
        "published_judges": {name: sha[:16] for name, sha in features.digests.items()},
        "published_missing": dict(features.judges.missing),
        "published_left_out": left_out,
    }


def _row(
    system: System, part: str, scores: tuple[Score, ...], num_clips: int, num_expected: int
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
    )


def _facts(track: Track, judges: tuple[str, ...], cache_folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "track": track.identity,
        "judges": list(judges),
        "min_clips_for_verdict": MIN_CLIPS_FOR_VERDICT,
    }
    if track.has_truth:
        for name, judge in zip(("", "_2nd"), judges, strict=False):
            real = real_hearing(track, judge, cache_folder)
            facts[f"oracle_rates{name}"] = real.rates
            facts[f"classes_left_out{name}"] = [c for c in real.rates if c not in real.scorable]
        real = real_hearing(track, judges[0], cache_folder)
        facts["speech_not_asked"] = sorted(set(real.rates) - real.never_speech)
        facts["music_not_asked"] = sorted(set(real.rates) - real.never_music)
    return facts
