"""Scores of a training run's checkpoints, as curves beside its loss.

In:   the folder of a run, which may be going on elsewhere; a track; settings.
Out:  RUN/scores/step-NNNNNNNN, what `bench run` writes of each checkpoint; RUN/scores.jsonl, a line
      a checkpoint; the same numbers in RUN/tensorboard, if TensorBoard is installed.

The engine is that of `bench run`, so a number means the same in a curve and in a report. Noise and
clips are the same at every checkpoint: differences are due to training. Nothing is written that
training reads, and a run trains the same whether it is followed or not.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omni2sound.bench.report.results import ScoredRun
from omni2sound.bench.run import run_model
from omni2sound.bench.scoring.options import OnStep, ScoringOptions
from omni2sound.bench.systems.model import ModelRun, forget_models
from omni2sound.bench.tracks.track import Track
from omni2sound.errors import IntegrityError, MissingPartError
from omni2sound.files import split_lines, write_text
from omni2sound.readers import loads, read_text
from omni2sound.train.export import export_checkpoint
from omni2sound.train.state import checkpoints

_log = logging.getLogger(__name__)

CURVES = "scores.jsonl"
"""File of the scores, in a run's folder."""


def follow(
    run: Path,
    track: Track,
    asked: ModelRun,
    options: ScoringOptions,
    *,
    limit: int | None,
    on_step: OnStep,
) -> Iterator[Mapping[str, Any]]:
    """Score every checkpoint of a run that has no scores yet, oldest first.

    Args:
        run: Folder of the run.
        track: The whole track.
        asked: Settings; the model is that of the checkpoint.
        options: Execution settings. Baselines that need the scene corpus are left out.
        limit: Only the first clips.
        on_step: Reports progress.

    Yields:
        Each line as it is written to `CURVES`: the step, and scores by
        "protocol/task/part/name".

    Raises:
        UserError: A checkpoint was scored with other settings, or clips are missing.
    """
    lines = _lines(run / CURVES)
    for folder in checkpoints(run):
        step = int(folder.name.removeprefix("step-"))
        if step in lines:
            continue
        with TemporaryDirectory() as temporary:
            model = Path(temporary) / "model"
            try:
                export_checkpoint(run, model, step=step)
            except (FileNotFoundError, MissingPartError, IntegrityError) as error:
                if folder.exists():
                    raise
                _log.warning("step %d was deleted before it was scored: %s", step, error)
                continue
            try:
                scored = run_model(
                    track,
                    run / "scores" / folder.name,
                    replace(asked, model=str(model)),
                    replace(options, assets=None),
                    limit=limit,
                    on_step=on_step,
                )
            finally:
                forget_models()
        lines[step] = {"step": step, **scores_of(scored)}
        ordered = (json.dumps(lines[k]) + "\n" for k in sorted(lines))
        write_text(run / CURVES, "".join(ordered))
        _draw(run / "tensorboard", lines[step])
        yield lines[step]


def scores_of(scored: ScoredRun) -> dict[str, float]:
    """Return the model's scores by "protocol/task/part/name"."""
    return {
        f"{score.protocol}/{row.task}/{row.part}/{score.name}": score.estimate.value
        for row in scored.evaluation.rows
        if not row.is_baseline
        for score in row.scores
    }


def _lines(path: Path) -> dict[int, dict[str, Any]]:
    if not path.is_file():
        return {}
    lines = [loads(line, not_finite=True) for line in split_lines(read_text(path)) if line]
    return {line["step"]: line for line in lines}


def _draw(folder: Path, line: Mapping[str, Any]) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as board:
        for name, value in line.items():
            if name != "step":
                board.add_scalar(f"scores/{name}", value, line["step"])
