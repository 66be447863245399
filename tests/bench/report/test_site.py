"""A page of results: what files say, over the same clips, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omni2sound.bench.report.results import ScoredRun
from omni2sound.bench.report.site import build_page, publish
from omni2sound.bench.scoring.evaluate import Evaluation, Row
from omni2sound.bench.stats.estimate import Estimate, Score
from omni2sound.errors import UserError


def run(system: str, value: float, *, clips: str = "c" * 64) -> ScoredRun:
    score = Score(
        protocol="stage-v1",
        name="sync",
        direction="higher",
        unit="",
        estimate=Estimate(value=value, low=value - 0.1, high=value + 0.1, num_clips=40),
    )
    row = Row(
        part="main",
        protocol="stage-v1",
        system=system,
        task="VT2A",
        is_baseline=False,
        num_clips=40,
        num_expected=40,
        scores=(score,),
        left_out={"FD": (1.0, 2.0)},
    )
    track = {
        "name": "stage-omni",
        "version": "3",
        "clips_sha256": clips,
        "media_sha256": "d" * 64,
        "num_clips": 40,
        "num_by_part": {"main": 40},
    }
    evaluation = Evaluation(
        rows=(row,), clips=(), problems={}, facts={"track": track, "judges": ["yamnet"]}
    )
    return ScoredRun(folder=Path(), track=Path(), limit=None, systems=(), evaluation=evaluation)


def add(site: Path, name: str, scored: ScoredRun, **more: Any) -> str:
    _, page = publish(site, scored, name=name, by="us", **more)
    return page.read_text(encoding="utf-8")


def test_rows_of_equal_clips_share_a_table_and_others_do_not(tmp_path: Path) -> None:
    add(tmp_path, "one", run("first", 0.5))
    assert add(tmp_path, "two", run("second", 0.7)).count("<table>") == 1
    page = add(tmp_path, "three", run("third", 0.6, clips="e" * 64))
    assert page.count("<table>") == 2
    assert all(f"{s} ({n})" in page for s, n in (("first", "one"), ("third", "three")))
    assert "0.70" in page and "[0.60, 0.80]" in page
    changed = add(tmp_path, "two", run("second", 0.9))
    assert ">0.90<" in changed and ">0.70<" not in changed, "the same name is replaced"


def test_the_weights_that_scored_single_clips_are_named(tmp_path: Path) -> None:
    """Cosines of PE-AV's sizes are on scales of their own."""
    scored = run("first", 0.5)
    facts = {**scored.evaluation.facts, "clip_networks": {"pe_av": "0123456789abcdef"}}
    evaluation = replace(scored.evaluation, facts=facts)
    page = add(tmp_path, "one", replace(scored, evaluation=evaluation))
    assert "scored by us with yamnet, pe-av 0123456789abcdef" in page


def test_a_file_that_somebody_sends_is_a_row(tmp_path: Path) -> None:
    file, _ = publish(tmp_path / "theirs", run("theirs", 0.4), name="them", by="them")
    assert "left_out" in file.read_text() and "FD" not in file.read_text()
    add(tmp_path / "ours", "us", run("ours", 0.5))
    (tmp_path / "ours" / "results" / file.name).write_bytes(file.read_bytes())
    page = build_page(tmp_path / "ours").read_text(encoding="utf-8")
    assert page.count("<table>") == 1 and "theirs (them)" in page


def test_nothing_of_a_file_becomes_markup(tmp_path: Path) -> None:
    page = add(tmp_path, "x", run("<script>alert(1)</script>", 0.5), note="<img src=x>")
    assert "<script>" not in page and "<img" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "other"}, "kind 'other'"),
        ({"by": " "}, "who scored it"),
        ({"rows": []}, "no rows"),
        ({"more": 1}, "more"),
    ],
)
def test_a_file_that_is_no_result_is_named(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    file, _ = publish(tmp_path, run("s", 0.5), name="a", by="us")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=rf"a\.json: holds no results .*{said}"):
        build_page(tmp_path)


def test_names_are_those_of_files_and_an_empty_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="small letters"):
        publish(tmp_path, run("s", 0.5), name="../a", by="us")
    with pytest.raises(UserError, match="no files"):
        build_page(tmp_path)
