"""Batches on disk come back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omni2sound.bench.metrics.copies import Nearness
from omni2sound.bench.metrics.scene_v1 import ClipScore
from omni2sound.bench.stage_table.kept import KeptSound, StageParts
from omni2sound.bench.stats.frechet_sets import TaggerFeatures
from omni2sound.errors import UserError

SETTINGS = {"seed": 1, "model": None}


def sound(k: int) -> KeptSound:
    score = ClipScore(
        num_true=2,
        num_found=k,
        pairs_close=0,
        pairs=1,
        own_offsets_s=(None, 0.25),
        num_invented=k,
        seen_heard=None,
        unseen_heard=0.5,
        speech=True,
        music=None,
    )
    nearness = Nearness(cosine=None, is_copy=True if k == 1 else None) if k else None
    return KeptSound(score=score, heard=("bell", "dog"), heard_2nd=(), nearness=nearness)


def clip(k: int) -> TaggerFeatures:
    return TaggerFeatures(
        embeddings_PD=np.full((3, 2), k, np.float32), logits_K=np.full(4, -k, np.float32)
    )


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    parts = StageParts(tmp_path / "run", SETTINGS)
    assert not parts.has("main", 0)
    parts.write("main", 0, {"oracle": [sound(0), sound(1)]}, {("y", "oracle"): [clip(0), clip(1)]})
    parts.write("main", 2, {"oracle": [sound(2)]}, {("y", "oracle"): [clip(2)]})
    again = StageParts(tmp_path / "run", SETTINGS)
    assert again.has("main", 0)
    assert not again.has("offscreen", 0)
    assert again.sounds("main", (0, 2)) == {"oracle": [sound(0), sound(1), sound(2)]}
    found = list(again.judged("main", (0, 2), "y", "oracle"))
    assert [float(c.embeddings_PD[0, 0]) for c in found] == [0, 1, 2]
    assert [float(c.logits_K[0]) for c in found] == [0, -1, -2]


def test_another_run_is_refused(tmp_path: Path) -> None:
    StageParts(tmp_path, SETTINGS)
    with pytest.raises(UserError, match="holds another run, seed 1 and not 2"):
        StageParts(tmp_path, {**SETTINGS, "seed": 2})
    with pytest.raises(UserError, match="holds another run, steps None and not 8"):
        StageParts(tmp_path, {**SETTINGS, "steps": 8})
