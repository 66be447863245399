"""A scored run on disk: numbers, records of clips, problems, and what made them.

    DIR/scores.json   rows, facts, problems
    DIR/clips.jsonl   a line a clip and system: what is compared and played
    DIR/systems.json  where each system's sounds lie

In:   an `Evaluation` and its systems.
Out:  the three files; `ScoredRun`.

What not to get wrong: nothing in `scores.json` and `clips.jsonl` depends on when or where a run
was made, so that a run that was killed and started again gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omni2sound.bench.metrics.copies import Nearness
from omni2sound.bench.metrics.scene_v1 import ClipScore
from omni2sound.bench.scoring.evaluate import ClipRecord, Evaluation, Row
from omni2sound.bench.stats.estimate import Estimate, Score
from omni2sound.bench.systems.folder import Problem, SoundFile
from omni2sound.bench.systems.system import System
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import atomic_path, split_lines

SCORES, RECORDS, SYSTEMS = "scores.json", "clips.jsonl", "systems.json"
FORMAT = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRun:
    """Everything that reports and comparisons need."""

    folder: Path
    track: Path
    limit: int | None
    evaluation: Evaluation
    systems: tuple[System, ...]


def write_run(
    folder: Path,
    evaluation: Evaluation,
    systems: Sequence[System],
    *,
    track: Path,
    limit: int | None,
) -> None:
    """Write the three files; `scores.json` last.

    Args:
        folder: Where; it exists.
        evaluation: What was measured.
        systems: Those that it was measured of, without the oracle.
        track: The track's folder.
        limit: How many of its clips were asked for.
    """
    places = {
        "track": str(track.resolve()),
        "limit": limit,
        "systems": [
            {
                "name": s.name,
                "task": s.task,
                "is_baseline": s.is_baseline,
                "is_variant": s.is_variant,
                "distances_only": s.distances_only,
                "is_real": s.is_real,
                "problems": [asdict(p) for p in s.problems],
                "sounds": {i: [str(f.path.resolve()), f.sha256] for i, f in s.sounds.items()},
            }
            for s in systems
        ],
    }
    scores = {
        "omni2sound_scores": FORMAT,
        "facts": evaluation.facts,
        "problems": {n: [asdict(p) for p in ps] for n, ps in evaluation.problems.items()},
        "rows": [asdict(row) for row in evaluation.rows],
    }
    lines = (json.dumps(c.to_json(), ensure_ascii=False) + "\n" for c in evaluation.clips)
    for name, text in (
        (SYSTEMS, json.dumps(places, indent=1, ensure_ascii=False) + "\n"),
        (RECORDS, "".join(lines)),
        (SCORES, json.dumps(scores, indent=1, ensure_ascii=False) + "\n"),
    ):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_run(folder: Path) -> ScoredRun:
    """Read it back.

    Raises:
        UserError: The folder holds no scored run.
        ConfigError: A file is damaged.
    """
    if not (folder / SCORES).is_file():
        raise UserError(f"{folder}: holds no scores; make them with: omni2sound bench run or score")
    try:
        scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
        places = json.loads((folder / SYSTEMS).read_text(encoding="utf-8"))
        text = (folder / RECORDS).read_text(encoding="utf-8")
        clips = tuple(_clip(json.loads(line)) for line in split_lines(text))
        return ScoredRun(
            folder=folder,
            track=Path(places["track"]),
            limit=places["limit"],
            evaluation=Evaluation(
                rows=tuple(_row(row) for row in scores["rows"]),
                clips=clips,
                problems={
                    n: tuple(Problem(**p) for p in ps) for n, ps in scores["problems"].items()
                },
                facts=scores["facts"],
            ),
            systems=tuple(_system(s) for s in places["systems"]),
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"{folder}: its scores can't be read ({error!r}); score again") from error


def _clip(told: Mapping[str, Any]) -> ClipRecord:
    stage = told["stage"]
    if stage is not None:
        stage = ClipScore(**{**stage, "own_offsets_s": tuple(stage["own_offsets_s"])})
    heard = {judge: tuple(classes) for judge, classes in told["heard"].items()}
    nearness = None if told["nearness"] is None else Nearness(**told["nearness"])
    return ClipRecord(**{**told, "stage": stage, "heard": heard, "nearness": nearness})


def _row(told: Mapping[str, Any]) -> Row:
    scores = tuple(Score(**{**s, "estimate": Estimate(**s["estimate"])}) for s in told["scores"])
    left_out = {name: tuple(values) for name, values in told["left_out"].items()}
    return Row(**{**told, "scores": scores, "left_out": left_out})


def _system(told: Mapping[str, Any]) -> System:
    return System(
        name=told["name"],
        task=told["task"],
        is_baseline=told["is_baseline"],
        is_variant=told["is_variant"],
        distances_only=told["distances_only"],
        is_real=told["is_real"],
        problems=tuple(Problem(**p) for p in told["problems"]),
        sounds={
            i: SoundFile(clip_id=i, path=Path(path), sha256=digest)
            for i, (path, digest) in told["sounds"].items()
        },
    )
