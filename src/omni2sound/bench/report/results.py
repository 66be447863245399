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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omni2sound.bench.scoring.evaluate import Evaluation
from omni2sound.bench.systems.folder import Problem, SoundFile
from omni2sound.bench.systems.system import System
from omni2sound.config import from_json
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import split_lines, write_json, write_text
from omni2sound.readers import MAX_TABLE_BYTES, as_object, loads, read_object, read_text, real_path

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
        "track": str(real_path(track)),
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
                "sounds": {i: [str(real_path(f.path)), f.sha256] for i, f in s.sounds.items()},
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
    records = map(asdict, evaluation.clips)
    plain = ({k: v for k, v in r.items() if k != "metrics" or v} for r in records)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in plain)
    write_json(folder / SYSTEMS, places)
    write_text(folder / RECORDS, "".join(lines))
    write_json(folder / SCORES, scores)


def read_run(folder: Path) -> ScoredRun:
    """Read it back.

    Raises:
        UserError: The folder holds no scored run.
        ConfigError: A file is damaged.
    """
    if not (folder / SCORES).is_file():
        raise UserError(f"{folder}: holds no scores; make them with: omni2sound bench run or score")
    try:
        scores = read_object(folder / SCORES, not_finite=True)
        places = read_object(folder / SYSTEMS)
        lines = split_lines(read_text(folder / RECORDS, max_bytes=MAX_TABLE_BYTES))
        del scores["omni2sound_scores"]
        _check_facts(scores.get("facts"))
        evaluation = {**scores, "clips": [loads(line, not_finite=True) for line in lines]}
        return ScoredRun(
            folder=folder,
            track=Path(places["track"]),
            limit=None if (n := places["limit"]) is None else from_json(int, n, where="limit"),
            evaluation=from_json(Evaluation, evaluation, where=SCORES),
            systems=tuple(_system(s) for s in places["systems"]),
        )
    except (LookupError, TypeError, AttributeError, ValueError, OSError) as error:
        raise ConfigError(f"{folder}: its scores can't be read ({error!r}); score again") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _TrackFacts:
    name: str
    version: str
    num_clips: int
    num_by_part: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Facts:
    """Those facts that reports take apart."""

    track: _TrackFacts
    judges: tuple[str, ...]
    min_clips_for_verdict: int
    model: Mapping[str, Any] = field(default_factory=dict)
    oracle_rates: Mapping[str, float] = field(default_factory=dict)
    oracle_rates_2nd: Mapping[str, float] = field(default_factory=dict)
    classes_left_out: tuple[str, ...] = ()
    classes_left_out_2nd: tuple[str, ...] = ()
    speech_not_asked: tuple[str, ...] = ()
    music_not_asked: tuple[str, ...] = ()
    published_missing: Mapping[str, str] = field(default_factory=dict)
    published_left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rates, classes in (
            (self.oracle_rates, self.classes_left_out),
            (self.oracle_rates_2nd, self.classes_left_out_2nd),
        ):
            if unknown := set(classes) - set(rates):
                raise ConfigError(f"facts: no rate of {sorted(unknown)[0]!r}")


def _check_facts(data: Any) -> None:
    """Refuse facts that reports could not show.

    Raises:
        ConfigError: One is missing or of another type.
    """
    facts = as_object(data, "facts")
    track = as_object(facts.get("track"), "facts.track")
    known = {k: v for k, v in track.items() if k in _TrackFacts.__dataclass_fields__}
    shown = {k: v for k, v in facts.items() if k in _Facts.__dataclass_fields__}
    from_json(_Facts, {**shown, "track": known}, where="facts")


def _system(data: Mapping[str, Any]) -> System:
    sounds = {
        clip_id: SoundFile(clip_id=clip_id, path=Path(path), sha256=sha256)
        for clip_id, (path, sha256) in data["sounds"].items()
    }
    problems = tuple(from_json(Problem, problem) for problem in data["problems"])
    return System(**{**data, "sounds": sounds, "problems": problems})
