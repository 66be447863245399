"""A run with its controls and gates: models that know the answer, models that say nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omni2sound.bench.metrics import tagging
from omni2sound.bench.report.gates import gates_of
from omni2sound.bench.report.results import ScoredRun, read_run
from omni2sound.bench.report.write import write_report
from omni2sound.bench.run import run_model
from omni2sound.bench.scoring.options import ScoringOptions
from omni2sound.bench.systems.baseline_files import Embedders
from omni2sound.bench.systems.folder import SETTINGS, check_settings
from omni2sound.bench.systems.model import ModelRun, model_identity, variants_of
from omni2sound.bench.systems.system import NOISE, REAL_ELSEWHERE, RECONSTRUCTION
from omni2sound.bench.tracks.track import Part, Track
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import UserError
from omni2sound.plugins import Registry
from tests.bench.embeds import colours_embed, words_embed

pytestmark = pytest.mark.slow

RUN = ModelRun(model="embedded", num_steps=1, device="cpu", with_controls=True)
MODEL = "embedded-v3"
BASELINES = (
    *("oracle", "shuffled", "silence", "retrieval", "motion-energy", "motion + retrieval"),
    RECONSTRUCTION,
)
TASKS: dict[Part, tuple[str, ...]] = {
    "main": (f"{MODEL} VT2A", f"{MODEL} V2A", f"{MODEL} T2A"),
    "offscreen": (f"{MODEL} VT2A", f"{MODEL}, seen-only caption VT2A"),
}


def quiet(step: str) -> Callable[[int, int], None]:
    return lambda done, total: None


@pytest.fixture(scope="module")
def options(store: Path, tmp_path_factory: pytest.TempPathFactory) -> ScoringOptions:
    return ScoringOptions(
        taggers=("yamnet",),
        cache_folder=tmp_path_factory.mktemp("cache"),
        assets=store,
        num_remembered=2,
        embed=Embedders(caption=words_embed, look=colours_embed),
    )


def run_with(
    track: Track, out: Path, options: ScoringOptions, *, knows: bool, run: ModelRun = RUN
) -> ScoredRun:
    """A run whose sounds are there already: the clips' own, or silence."""
    sounds, identity = out / "sounds", model_identity(run)
    check_settings(sounds / SETTINGS, {"track": track.clips_sha256, **identity})
    for variant in variants_of(run, identity["model"]):
        (sounds / variant.folder).mkdir(exist_ok=True)
        for clip in filter(variant.wants, track.clips):
            path = sounds / variant.folder / f"{clip.clip_id}.wav"
            if knows:
                shutil.copyfile(track.path(clip.audio), path)
            else:
                soundfile.write(path, np.zeros(32_000), 16_000)
    return run_model(track, out, run, options, limit=None, on_step=quiet)


@pytest.fixture(scope="module")
def knowing(
    scene_track: Track, options: ScoringOptions, tmp_path_factory: pytest.TempPathFactory
) -> ScoredRun:
    return run_with(scene_track, tmp_path_factory.mktemp("knowing"), options, knows=True)


def titles(run: ScoredRun, part: Part, protocol: str) -> set[str]:
    rows = [r for r in run.evaluation.rows if (r.part, r.protocol) == (part, protocol)]
    return {f"{r.system} {r.task or ''}".strip() for r in rows}


@pytest.mark.parametrize("part", ["main", "offscreen"])
def test_every_system_is_scored_on_every_part(knowing: ScoredRun, part: Part) -> None:
    systems = {*BASELINES, *TASKS[part]}
    assert titles(knowing, part, "stage-v1") == systems
    assert titles(knowing, part, "yamnet-8s-v1") == {*systems, NOISE, REAL_ELSEWHERE}
    searched = {"oracle", "retrieval", *TASKS[part]} - {f"{MODEL}, seen-only caption VT2A"}
    assert titles(knowing, part, "copies-v1") == searched


def test_a_model_that_knows_the_answer_ties_with_the_oracle(knowing: ScoredRun) -> None:
    rows = {(r.part, r.protocol, r.system, r.task): r for r in knowing.evaluation.rows}
    for part in ("main", "offscreen"):
        for protocol in ("stage-v1", "copies-v1"):
            theirs = rows[part, protocol, MODEL, "VT2A"].scores
            assert theirs == rows[part, protocol, "oracle", None].scores
        fd = {
            system: row.scores[0].estimate.value
            for (p, protocol, system, _), row in rows.items()
            if (p, protocol) == (part, "yamnet-8s-v1") and row.scores[0].name == "FD"
        }
        assert fd[MODEL] == fd[RECONSTRUCTION] == pytest.approx(0, abs=0.05)
        assert fd["silence"] > fd[REAL_ELSEWHERE] > 0
        assert "oracle" not in fd and "shuffled" not in fd


def test_a_model_that_knows_the_answer_passes_what_is_measured_by_the_oracle(
    knowing: ScoredRun,
) -> None:
    gates = {gate.name: gate for gate in gates_of(knowing)}
    by_oracle = [gate for name, gate in gates.items() if "of the oracle's" in name]
    assert len(by_oracle) == 5
    for gate in by_oracle:
        assert (gate.measured.value, gate.measured.low, gate.measured.high) == (1, 1, 1)
        assert gate.passed
    for name, gate in gates.items():
        if "minus the better" in name or "minus real" in name:
            assert gate.measured.value == 0
            assert gate.passed
    # What was not named is heard all the same: it knows too much for this one.
    assert gates["off-screen: named and heard, times that of not named"].passed is False
    assert {name for name, gate in gates.items() if gate.passed is None} == {
        f"{name}: FD, way from noise to real" for name in ("V2A", "T2A", "VT2A", "off-screen VT2A")
    } | {"FD over the reconstruction's, second best track"}


def test_reports_hold_the_gates_and_say_that_verdicts_are_missing(knowing: ScoredRun) -> None:
    write_report(knowing)
    gates = gates_of(knowing)
    data = json.loads((knowing.folder / "report.json").read_text(encoding="utf-8"))["gates"]
    assert (data["passed"], data["complete"]) == (False, False)
    assert {row["passed"] for row in data["rows"]} == {True, False, None}
    for name in ("report.md", "report.html"):
        text = (knowing.folder / name).read_text(encoding="utf-8")
        assert "5 without a verdict" in text
        assert all(gate.name.split("|")[0] in unescape(text) for gate in gates)
    assert gates_of(read_run(knowing.folder)) == gates


def test_a_mute_model_misses(scene_track: Track, options: ScoringOptions, tmp_path: Path) -> None:
    run = replace(RUN, many_steps=2)
    gates = gates_of(run_with(scene_track, tmp_path, options, knows=False, run=run))
    missed = {gate.name for gate in gates if gate.passed is False}
    assert {
        "V2A: onset F1, of the oracle's",
        "V2A: classes heard, of the oracle's",
        "T2A: classes heard minus shuffled prompts",
        "off-screen: named and heard, of the oracle's",
    } <= missed
    assert "VT2A: FD, over many steps'" in {gate.name for gate in gates}


def test_a_second_tagger_changes_nothing_that_the_first_says(
    scene_track: Track,
    options: ScoringOptions,
    knowing: ScoredRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The same network twice: what it says again must be what it said.
    def twin() -> YamNet:
        judge = YamNet.load()
        judge.name = "twin"
        return judge

    monkeypatch.setattr(tagging, "TAGGERS", Registry("tagger", {**tagging.TAGGERS, "twin": twin}))
    both = run_with(scene_track, tmp_path, replace(options, taggers=("yamnet", "twin")), knows=True)
    first = {
        (r.part, r.protocol, r.system, r.task): {s.name: s for s in r.scores}
        for r in knowing.evaluation.rows
    }
    for row in both.evaluation.rows:
        scores = {score.name: score for score in row.scores}
        protocol = row.protocol.replace("twin", "yamnet")
        alone = first[row.part, protocol, row.system, row.task]
        for name, score in alone.items():
            assert scores[name].estimate == score.estimate
        for name in {"seen heard", "unseen heard"} & scores.keys():
            assert scores[f"{name} (2nd)"].estimate == scores[name].estimate
    by_name = {gate.name: gate for gate in gates_of(both)}
    again = [gate for name, gate in by_name.items() if name.endswith(" (2nd tagger)")]
    assert len(again) == 4
    for gate in again:
        assert gate.measured == by_name[gate.name.removesuffix(" (2nd tagger)")].measured


def test_runs_without_controls_have_no_gates(knowing: ScoredRun) -> None:
    kept = tuple(s for s in knowing.systems if "seen-only" not in s.name)
    assert gates_of(replace(knowing, systems=kept)) == ()


def test_gates_are_refused_where_they_cannot_be_computed(
    scene_track: Track, options: ScoringOptions, knowing: ScoredRun, tmp_path: Path
) -> None:
    clip = next(c.clip_id for c in scene_track.clips if c.part == "offscreen")
    records = [r for r in knowing.evaluation.clips if (r.clip_id, r.system) != (clip, MODEL)]
    lacking = replace(knowing, evaluation=replace(knowing.evaluation, clips=tuple(records)))
    with pytest.raises(UserError, match=f"has no sound of {clip}"):
        gates_of(lacking)
    for track, changed_options, run, words in (
        (scene_track, replace(options, assets=None), RUN, "need the scene corpus"),
        (scene_track, options, replace(RUN, tasks=("VT2A",)), "add T2A, V2A"),
        (
            replace(scene_track, clips=tuple(replace(c, truth=None) for c in scene_track.clips)),
            options,
            RUN,
            "has none",
        ),
    ):
        with pytest.raises(UserError, match=words):
            run_model(track, tmp_path, run, changed_options, limit=None, on_step=quiet)
    with pytest.raises(UserError, match="4 clips or more of part main, got 3"):
        run_model(scene_track, tmp_path, RUN, options, limit=6, on_step=quiet)
