"""The stage table: every baseline, and a model, under `stage-v1` and `yamnet-8s-v1`.

In:   the stage corpus, judges, embeddings for retrieval, a model or none.
Out:  a `StageReport`: for each track and system its scores; gates; facts.

Clips are made one after another and forgotten. What is kept of a sound are a few numbers and its
patch embeddings, on disk, batch by batch (`stage_parts`): a stopped run goes on, and memory holds
one system's embeddings at a time. Everything follows from the seed.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.bench.metrics.copies import (
    COPIES_V1,
    MIN_SOURCE_S,
    Nearness,
    TrainingSounds,
    copies_asked,
)
from omni2sound.bench.metrics.scene_v1 import STAGE_V1, score_clip, stage_scores
from omni2sound.bench.metrics.tagger_8s import as_scores, embed_clip
from omni2sound.bench.metrics.tagging import (
    AudioTagger,
    CatalogueTagger,
    RealTags,
    Tags,
    tag_recordings,
)
from omni2sound.bench.stage_table.gates import Gate, TrackResult, stage_gates
from omni2sound.bench.stage_table.kept import KeptSound, StageParts
from omni2sound.bench.stage_table.tasks import MANY_STEPS, TASKS, StageModel
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.stats.distances import kl_divergences
from omni2sound.bench.stats.estimate import Score
from omni2sound.bench.stats.frechet_sets import SetOfSounds, TaggerFeatures, groups_of, set_values
from omni2sound.bench.systems.baselines import (
    Baselines,
    Embed,
    TrainingMemory,
    noise_like,
    shuffled_place,
)
from omni2sound.bench.systems.system import NOISE, REAL_ELSEWHERE, RECONSTRUCTION
from omni2sound.bench.tracks.scene_clips import TRACKS, StageClip, Track, draw_clips
from omni2sound.errors import UserError
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.scene import RENDER_VERSION
from omni2sound.weights import networks_sha256

__all__ = ["REAL_ELSEWHERE", "StageReport", "SystemScores", "run_stage"]

logger = logging.getLogger(__name__)

_SAME_SETS = ("oracle", "shuffled")
"""The real sounds themselves: as a set they have no distance to anything."""
_DISTANCES_ONLY = (NOISE, REAL_ELSEWHERE)
MIN_CLIPS = 4
"""Of each track: what a jackknife needs."""
NUM_REMEMBERED = 200
_MEMORY_SEED_STEP = 1000
"""Keeps the remembered and the other scenes apart from those of the table."""
_NOISE_SEED = 0x2015E


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemScores:
    """One line of the table."""

    track: str
    system: str
    scores: tuple[Score, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """What the table shows."""

    rows: tuple[SystemScores, ...]
    gates: tuple[Gate, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no gate was missed; gates without a verdict are not."""
        return all(gate.passed is not False for gate in self.gates)

    @property
    def num_not_judged(self) -> int:
        """Gates without a verdict."""
        return sum(gate.passed is None for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        """Plain data; null where a number is not finite, which JSON does not know.

        `passed` is of the gates that were judged, `complete` says whether those are all.
        """
        told = {
            "passed": self.passed,
            "complete": self.num_not_judged == 0,
            "rows": [asdict(row) for row in self.rows],
            "gates": [asdict(gate) | {"passed": gate.passed} for gate in self.gates],
            "facts": dict(self.facts),
        }
        return {key: _finite(value) for key, value in told.items()}

    def value(self, track: str, system: str, name: str) -> float:
        """One number of the table.

        Raises:
            UserError: If it is not in it.
        """
        for row in self.rows:
            if (row.track, row.system) == (track, system):
                for score in row.scores:
                    if score.name == name:
                        return score.estimate.value
        raise UserError(f"the table has no {name!r} of {system!r} on {track!r}")


def run_stage(
    assets: SceneAssets,
    judge: AudioTagger,
    *,
    num_clips: int,
    seed: int,
    duration_s: float,
    embed_caption: Embed,
    embed_look: Embed,
    second_judge: AudioTagger | None = None,
    model: StageModel | None = None,
    many_steps: StageModel | None = None,
    model_settings: Mapping[str, Any] | None = None,
    retrieval_settings: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    num_remembered: int = NUM_REMEMBERED,
    out: Path | None = None,
    on_clips: Callable[[int, int], None] | None = None,
) -> StageReport:
    """Scores all baselines and a model on test scenes.

    Args:
        assets: The stage corpus.
        judge: YAMNet, or another that knows the catalogue's class groups.
        num_clips: Of each track, at least 4.
        seed: Of the scenes.
        duration_s: Length of every scene.
        embed_caption: For retrieval by caption.
        embed_look: For retrieval by picture.
        second_judge: Says again what is heard, and has distances of its own.
        model: Under test.
        many_steps: The same with more sampling steps; asked for the task VT2A on "main".
        model_settings: What tells this model from others, as JSON data.
        retrieval_settings: What tells both embeddings from others, as JSON data.
        batch_size: Clips given to a model at once.
        num_remembered: Training scenes of each track to retrieve from.
        out: Folder in which batches are kept and found again; None keeps nothing.
        on_clips: Called with (clips done, clips in all).

    Raises:
        UserError: If a number is out of range, or `out` holds another run.
    """
    if num_clips < MIN_CLIPS:
        raise UserError(f"clips of each track: expected {MIN_CLIPS} or more, got {num_clips}")
    judges = [judge] if second_judge is None else [judge, second_judge]
    settings = {
        "catalogue_sha256": assets.catalogue.digest,
        "seed": seed,
        "num_clips": num_clips,
        "duration_s": duration_s,
        "num_remembered": num_remembered,
        "batch_size": batch_size,
        "render_version": RENDER_VERSION,
        "protocols": _protocols(judges),
        "judges": [_identity(one) for one in judges],
        "retrieval": dict(retrieval_settings or {}),
        "torch": torch.__version__,
        "model": None if model is None else dict(model_settings or {}),
    }
    firsts = range(0, num_clips, batch_size)
    with _folder(out) as folder:
        parts = StageParts(folder, settings)
        clock = _Clock()
        with clock("real recordings"):
            panel = _Panel(assets, judge, second_judge, with_model=model is not None)
        maker = _Maker(panel=panel, clock=clock, model=model, many_steps=many_steps)
        results: dict[Track, TrackResult] = {}
        rows: list[SystemScores] = []
        for number, track in enumerate(TRACKS):
            clips = _draw(assets, track, num_clips, seed, duration_s)
            others = _draw(assets, track, num_clips, seed + 2 * _MEMORY_SEED_STEP, duration_s)
            baselines: Baselines | None = None
            for first in firsts:
                last = min(first + batch_size, num_clips)
                if not parts.has(track, first):
                    if baselines is None:
                        with clock("memory of training scenes"):
                            memory = TrainingMemory.of(
                                assets,
                                track,
                                num_scenes=num_remembered,
                                seed=seed + _MEMORY_SEED_STEP,
                                duration_s=duration_s,
                                embed_caption=embed_caption,
                                embed_look=embed_look,
                            )
                        baselines = Baselines(
                            memory=memory,
                            embed_caption=embed_caption,
                            embed_look=embed_look,
                            track_clips=clips,
                        )
                    batch = [_fresh(clip) for clip in clips[first:last]]
                    made = maker.make(track, batch, others[first:last], baselines)
                    parts.write(track, first, *made)
                if on_clips is not None:
                    on_clips(number * num_clips + last, len(TRACKS) * num_clips)
            with clock("distances"):
                found, results[track] = _track_rows(track, clips, parts, firsts, panel)
            rows += found
        with clock("gates"):
            gates = stage_gates(results)
        clock.tell()
    return StageReport(rows=tuple(rows), gates=gates, facts={**settings, **panel.facts()})


def _protocols(judges: Sequence[AudioTagger]) -> list[str]:
    return [STAGE_V1, COPIES_V1, *(f"{judge.name}-8s-v1" for judge in judges)]


def _identity(judge: AudioTagger) -> dict[str, Any]:
    """Weights and rules. (What it says of a probe would change with the number of threads.)"""
    names = hashlib.sha256("\n".join(judge.class_names).encode()).hexdigest()
    return {
        "name": judge.name,
        "weights_sha256": networks_sha256(judge),
        "class_names_sha256": names,
        "top_k": judge.top_k,
        "least_score": judge.least_score,
    }


def _finite(told: Any) -> Any:
    if isinstance(told, Mapping):
        return {key: _finite(value) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [_finite(value) for value in told]
    return None if isinstance(told, float) and not math.isfinite(told) else told


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with TemporaryDirectory() as name:
        yield Path(name)


class _Clock:
    """Processor time by part of the work, told to the log."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.process_time()
        try:
            yield
        finally:
            self._seconds[part] += time.process_time() - begin

    def tell(self) -> None:
        told = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in self._seconds.items())
        logger.info("processor time: %s", told)


class _Panel:
    """One judge or two, and how they hear real recordings."""

    def __init__(
        self,
        assets: SceneAssets,
        judge: AudioTagger,
        second_judge: AudioTagger | None,
        *,
        with_model: bool,
    ) -> None:
        self.first_name = judge.name
        self.judges: dict[str, AudioTagger] = {judge.name: judge}
        if second_judge is not None:
            self.judges[second_judge.name] = second_judge
        self._ears = [CatalogueTagger(one, assets.catalogue) for one in self.judges.values()]
        self.real: list[RealTags] = [tag_recordings(assets, ears) for ears in self._ears]
        self.training = TrainingSounds(assets, judge) if with_model else None

    def keep(
        self, clip: StageClip, sound_N: NDArray[np.float32], nearness: Nearness | None
    ) -> KeptSound:
        """What `stage-v1` and the judges say of one sound."""
        heard: list[Tags] = [ears.tag(sound_N) for ears in self._ears]
        second = (heard[1], self.real[1]) if len(heard) > 1 else None
        return KeptSound(
            score=score_clip(sound_N, clip.events, heard[0], self.real[0], second=second),
            heard=tuple(sorted(heard[0].somewhere)),
            heard_2nd=tuple(sorted(heard[1].somewhere)) if len(heard) > 1 else (),
            nearness=nearness,
        )

    def facts(self) -> dict[str, Any]:
        """What may be asked of a system, by each judge."""
        first, second = self.real[0], self.real[1] if len(self.real) > 1 else None
        return {
            "oracle_rates": first.rates,
            "classes_left_out": [c for c in first.rates if c not in first.scorable],
            "classes_left_out_2nd": []
            if second is None
            else [c for c in second.rates if c not in second.scorable],
            "oracle_rates_2nd": {} if second is None else second.rates,
            "speech_not_asked": sorted(set(first.rates) - first.never_speech),
            "music_not_asked": sorted(set(first.rates) - first.never_music),
        }


Made = tuple[dict[str, list[KeptSound]], dict[tuple[str, str], list[TaggerFeatures]]]


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes and judges the sounds of one batch."""

    panel: _Panel
    clock: _Clock
    model: StageModel | None
    many_steps: StageModel | None

    def make(
        self,
        track: Track,
        batch: Sequence[StageClip],
        others: Sequence[StageClip],
        baselines: Baselines,
    ) -> Made:
        with self.clock("baselines"):
            played = [baselines.sounds(clip) for clip in batch]
            noises = [
                noise_like(
                    clip.sound_N, np.random.default_rng([clip.scene.seed, clip.index, _NOISE_SEED])
                )
                for clip in batch
            ]
        sounds = {system: [one[system] for one in played] for system in played[0]}
        made: dict[str, Sequence[NDArray[np.float32]]] = {}
        if self.model is not None:
            with self.clock("model"):
                made = {str(t): n for t, n in self.model.for_clips(batch, TASKS[track]).items()}
            with self.clock("reconstruction"):
                sounds[RECONSTRUCTION] = [self.model.reconstruct(c.sound_N) for c in batch]
        if self.many_steps is not None and track == "main":
            with self.clock("many steps"):
                made[MANY_STEPS] = self.many_steps.for_clips(batch, ("VT2A",))["VT2A"]
        near: dict[str, list[Nearness]] = {}
        if self.panel.training is not None:
            asked = [copies_asked(clip.events) for clip in batch]
            with self.clock("copies"):
                for system, all_N in {**sounds, **made}.items():
                    if system in made or system in ("oracle", "retrieval"):
                        near[system] = [
                            self.panel.training.nearness(n, ask_copy=ask)
                            for n, ask in zip(all_N, asked, strict=True)
                        ]
        everything = {**sounds, **made}
        with self.clock("what is heard"):
            kept = {
                system: [
                    self.panel.keep(clip, n, near[system][i] if system in near else None)
                    for i, (clip, n) in enumerate(zip(batch, all_N, strict=True))
                ]
                for system, all_N in everything.items()
            }
        del everything["shuffled"]  # as a set the same as the oracle's
        everything[NOISE] = noises
        everything[REAL_ELSEWHERE] = [_fresh(clip).sound_N for clip in others]
        with self.clock("embeddings"):
            judged = {
                (name, system): [embed_clip(n, judge) for n in all_N]
                for name, judge in self.panel.judges.items()
                for system, all_N in everything.items()
            }
        return kept, judged


def _track_rows(
    track: Track,
    clips: Sequence[StageClip],
    parts: StageParts,
    firsts: Sequence[int],
    panel: _Panel,
) -> tuple[list[SystemScores], TrackResult]:
    sounds = parts.sounds(track, firsts)
    seen = [frozenset(e.class_id for e in clip.events if e.on_screen) for clip in clips]
    known = [frozenset(real.scorable) for real in panel.real]
    rows = [
        SystemScores(track=track, system=system, scores=_scores_of(kept))
        for system, kept in sounds.items()
    ]
    fd: dict[str, NDArray[np.float64]] = {}
    for judge in panel.judges:
        found, distances = _distances(track, judge, (*sounds, *_DISTANCES_ONLY), parts, firsts)
        rows += found
        if judge == panel.first_name:
            fd = distances
    return rows, TrackResult(
        sounds=sounds,
        seen_classes=[c & known[0] for c in seen],
        seen_classes_2nd=[c & known[1] if len(known) > 1 else frozenset() for c in seen],
        seen_impulsive=[clip.seen_impulsive for clip in clips],
        fd=fd,
    )


def _scores_of(kept: Sequence[KeptSound]) -> tuple[Score, ...]:
    scores = stage_scores([sound.score for sound in kept])
    near = [sound.nearness for sound in kept]
    copies = [float(n.is_copy) for n in near if n is not None and n.is_copy is not None]
    cosines = [n.cosine for n in near if n is not None and n.cosine is not None]
    told = [
        ("nearest in training", cosines),
        (f"copies of recordings of {MIN_SOURCE_S:g} s or more", copies),
    ]
    return scores + tuple(
        Score(
            protocol=COPIES_V1,
            name=name,
            direction="lower",
            unit="",
            estimate=bootstrap_mean(values),
        )
        for name, values in told
        if values
    )


def _distances(
    track: Track,
    judge: str,
    systems: Sequence[str],
    parts: StageParts,
    firsts: Sequence[int],
) -> tuple[list[SystemScores], dict[str, NDArray[np.float64]]]:
    """Rows of distances, and FD of all clips and without each group."""
    oracle = list(parts.judged(track, firsts, judge, "oracle"))
    count = len(oracle)
    group_N = groups_of(count)
    real = SetOfSounds(oracle, group_N)
    shuffled = [shuffled_place(at, count) for at in range(count)]
    rows, distances = [], {}
    for system in systems:
        values: dict[str, NDArray[np.float64]] = {}
        if system in _SAME_SETS:
            logits_NK = real.logits_NK[shuffled] if system == "shuffled" else real.logits_NK
        else:
            made = SetOfSounds(parts.judged(track, firsts, judge, system), group_N)
            logits_NK = made.logits_NK
            values = set_values(real, made)
            distances[system] = values["FD"]
        kl_N = None if system == REAL_ELSEWHERE else kl_divergences(real.logits_NK, logits_NK)
        scores = as_scores(values, kl_N, judge_name=judge, num_clips=count)
        rows.append(SystemScores(track=f"{track}, {judge}", system=system, scores=scores))
    return rows, distances


def _draw(
    assets: SceneAssets, track: Track, num_clips: int, seed: int, duration_s: float
) -> list[StageClip]:
    drawn = draw_clips(
        assets, track, split="test", seed=seed, num_clips=num_clips, duration_s=duration_s
    )
    return list(drawn)


def _fresh(clip: StageClip) -> StageClip:
    """The same clip without what it has rendered: a whole track of pictures is gigabytes."""
    return StageClip(index=clip.index, scene=clip.scene, assets=clip.assets, caption=clip.caption)
