"""The stage table: every baseline, and models, under `stage-v1` and `yamnet-8s-v1`.

In:   the stage corpus, a judge, embeddings for retrieval, models as functions.
Out:  a `StageReport`: for each track and system its scores, and facts.

Clips are made one after another and forgotten; what is kept of a sound is a few numbers and
its patch embeddings, so memory grows by about 70 kB a sound. Everything follows from the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.baselines import Baselines, Embed, TrainingMemory
from omni2sound.bench.ears import Ears, NamedJudge, RealHearing, hear_recordings
from omni2sound.bench.stage_clips import TRACKS, StageClip, Track, draw_clips
from omni2sound.bench.stage_v1 import ClipScore, Score, score_clip, stage_scores
from omni2sound.bench.streamed import SetOfSounds, distance_scores, groups_of
from omni2sound.bench.yamnet_8s import JudgedClip, judge_clip
from omni2sound.data.stage.assets import StageAssets
from omni2sound.errors import UserError

__all__ = ["REAL_ELSEWHERE", "StageReport", "SystemScores", "run_stage"]

_SAME_SETS = ("oracle", "shuffled")
"""The real sounds themselves: as a set they have no distance to anything."""
REAL_ELSEWHERE = "real, other scenes"
"""Real sound of as many other scenes: the floor of FD and KID at this number of clips."""
MIN_SCENES = 8
_MEMORY_SEED_STEP = 1000
"""Keeps the remembered and the other scenes apart from those of the table."""

SoundsForClips = Callable[[Sequence[StageClip]], Sequence[NDArray[np.float32]]]
"""A model: one mono waveform at 16 kHz for each clip."""


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
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"rows": [asdict(row) for row in self.rows], "facts": dict(self.facts)}

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
    assets: StageAssets,
    judge: NamedJudge,
    *,
    num_scenes: int,
    seed: int,
    duration_s: float,
    embed_caption: Embed,
    embed_look: Embed,
    second_judge: NamedJudge | None = None,
    models: Mapping[str, SoundsForClips] | None = None,
    batch_size: int = 8,
    num_remembered: int | None = None,
    on_scenes: Callable[[int, int], None] | None = None,
) -> StageReport:
    """Scores all baselines and models on test scenes, half of each track.

    Args:
        assets: The stage corpus.
        judge: YAMNet, or another that knows the catalogue's class groups.
        num_scenes: Of both tracks together, at least 8.
        seed: Of the scenes.
        duration_s: Length of every scene.
        embed_caption: For retrieval by caption.
        embed_look: For retrieval by picture.
        second_judge: Says again what is heard, and has distances of its own.
        models: By name.
        batch_size: Clips given to a model at once.
        num_remembered: Training scenes of each track to retrieve from; as many as there are
            test scenes by default.
        on_scenes: Called with (scenes done, scenes in all).

    Raises:
        UserError: If a number is out of range.
    """
    if num_scenes < MIN_SCENES:
        raise UserError(f"number of scenes: expected {MIN_SCENES} or more, got {num_scenes}")
    ears = Ears(judge, assets.catalogue)
    real = hear_recordings(assets, ears)
    second = None
    if second_judge is not None:
        second_ears = Ears(second_judge, assets.catalogue)
        second = _Second(second_ears, hear_recordings(assets, second_ears))
    judges = {j.name: j for j in (judge, second_judge) if j is not None}
    rows: list[SystemScores] = []
    judged: dict[str, dict[str, list[JudgedClip]]] = {name: {} for name in judges}
    done = 0
    for track in TRACKS:
        count = num_scenes // 2 if track == "offscreen" else num_scenes - num_scenes // 2
        table = _Track(ears=ears, real=real, second=second, judges=judges, judged=judged)
        clips = list(
            draw_clips(
                assets, track, split="test", seed=seed, num_clips=count, duration_s=duration_s
            )
        )
        baselines = Baselines(
            memory=TrainingMemory.of(
                assets,
                track,
                num_scenes=num_remembered or num_scenes,
                seed=seed + _MEMORY_SEED_STEP,
                duration_s=duration_s,
                embed_caption=embed_caption,
                embed_look=embed_look,
            ),
            embed_caption=embed_caption,
            embed_look=embed_look,
            track_clips=clips,
        )
        for first in range(0, count, batch_size):
            batch = [_fresh(clip) for clip in clips[first : first + batch_size]]
            for clip in batch:
                for system, sound_N in baselines.sounds(clip).items():
                    table.add(system, clip, sound_N)
            for system, model in (models or {}).items():
                for clip, sound_N in zip(batch, model(batch), strict=True):
                    table.add(system, clip, sound_N)
            done += len(batch)
            if on_scenes is not None:
                on_scenes(done, num_scenes)
        others = draw_clips(
            assets,
            track,
            split="test",
            seed=seed + 2 * _MEMORY_SEED_STEP,
            num_clips=count,
            duration_s=duration_s,
        )
        for clip in others:
            table.judge(REAL_ELSEWHERE, clip.sound_N)
        rows += table.rows(track)
    for name, by_system in judged.items():
        track_name = "all" if name == judge.name else f"all, {name}"
        group_N = groups_of(num_scenes)
        real_set = SetOfSounds(by_system["oracle"], group_N)
        rows += [
            SystemScores(
                track=track_name,
                system=system,
                scores=distance_scores(
                    real_set,
                    SetOfSounds(clips, group_N),
                    judge_name=name,
                    sets=system not in _SAME_SETS,
                ),
            )
            for system, clips in by_system.items()
        ]
    return StageReport(
        rows=tuple(rows),
        facts={
            "catalogue_sha256": assets.catalogue.digest,
            "seed": seed,
            "num_scenes": num_scenes,
            "duration_s": duration_s,
            "oracle_rates": real.rates,
            "classes_left_out": [c for c in real.rates if c not in real.scorable],
            "classes_left_out_2nd": []
            if second is None
            else [c for c in second.real.rates if c not in second.real.scorable],
            "oracle_rates_2nd": {} if second is None else second.real.rates,
            "speech_not_asked": sorted(set(real.rates) - real.never_speech),
            "music_not_asked": sorted(set(real.rates) - real.never_music),
        },
    )


@dataclass(frozen=True)
class _Second:
    ears: Ears
    real: RealHearing


class _Track:
    """Scores of all systems on one track, as they come."""

    def __init__(
        self,
        *,
        ears: Ears,
        real: RealHearing,
        second: _Second | None,
        judges: Mapping[str, NamedJudge],
        judged: dict[str, dict[str, list[JudgedClip]]],
    ) -> None:
        self._ears, self._real, self._second = ears, real, second
        self._judges, self._judged = judges, judged
        self._scores: dict[str, list[ClipScore]] = {}

    def add(self, system: str, clip: StageClip, sound_N: NDArray[np.float32]) -> None:
        heard = self._ears.listen(sound_N)
        again = None
        if self._second is not None:
            again = self._second.ears.listen(sound_N), self._second.real
        score = score_clip(sound_N, clip.events, heard, self._real, second=again)
        self._scores.setdefault(system, []).append(score)
        self.judge(system, sound_N)

    def judge(self, system: str, sound_N: NDArray[np.float32]) -> None:
        for name, judge in self._judges.items():
            self._judged[name].setdefault(system, []).append(judge_clip(sound_N, judge))

    def rows(self, track: Track) -> list[SystemScores]:
        return [
            SystemScores(track=track, system=system, scores=stage_scores(scores))
            for system, scores in self._scores.items()
        ]


def _fresh(clip: StageClip) -> StageClip:
    """The same clip without what it has rendered: a whole track of pictures is gigabytes."""
    return StageClip(index=clip.index, scene=clip.scene, assets=clip.assets, caption=clip.caption)
