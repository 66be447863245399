"""`bench build`, `score`, `report`, `compare`, `listen` from the shell."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from benchmarks.robustness.click_corpus import click_store
from omni2sound.bench.follow import scores_of
from omni2sound.bench.report.results import read_run
from omni2sound.bench.run import score_folder
from omni2sound.bench.scoring import options as scoring
from omni2sound.bench.tracks.track import Track
from omni2sound.cli.main import app
from omni2sound.errors import UserError
from omni2sound.train.export import export_checkpoint
from tests.build import tiny_model_folder
from tests.cli.training import command

pytestmark = pytest.mark.slow


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["-q", "bench", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_build_prints_the_tracks_identity(
    store: Path,
    scene_track: Track,
    tmp_path: Path,
) -> None:
    arguments = ("--corpus", store, "--clips", 8, "--seed", 3, "--duration", 2, "--workers", 1)
    code, out, _ = run("build", "stage-omni", *arguments, "--out", tmp_path / "again")
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(scene_track.identity))


def test_score_report_compare_listen(scene_track: Track, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for clip in scene_track.clips:
        shutil.copyfile(scene_track.path(clip.audio), theirs / f"{clip.clip_id}.wav")
    common = ("--cache", tmp_path / "cache", "--workers", 1, "--taggers", "yamnet")
    arguments = (scene_track.folder, theirs, "--task", "V2A", "--out", tmp_path / "out", *common)
    code, out, err = run("score", *arguments)
    assert (code, err) == (0, "")
    assert "| theirs V2A | 4 |" in out
    page = (tmp_path / "out" / "report.html").read_bytes()
    assert run("report", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "report.html").read_bytes() == page

    ids = [clip.clip_id for clip in scene_track.clips]
    (theirs / f"{ids[0]}.wav").unlink()
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000)
    spoilt = {
        "not finite": (np.full(32_000, np.nan), 16_000),
        "silent": (np.zeros(32_000), 16_000),
        "clipped": ((40 * noise).clip(-1, 1), 16_000),
        "wrong length": (noise[:20_000], 16_000),
        "wrong rate": (noise[:16_000], 8_000),
    }
    for name, (sound, rate_hz) in zip(ids[1:], spoilt.values(), strict=False):
        soundfile.write(theirs / f"{name}.wav", sound, rate_hz, subtype="FLOAT")
    (theirs / "stranger.wav").write_bytes(b"")
    code, out, err = run("score", *arguments)
    assert code == 1
    named = {"missing": ids[0], "extra": "stranger.wav", **dict(zip(spoilt, ids[1:], strict=False))}
    for kind, name in named.items():
        assert f"theirs V2A: {kind}: {name}: " in err
    assert err.count("theirs V2A: ") == len(named)
    assert out.count("| theirs V2A | 3 of 4 |") >= 2  # what is missing or not finite is in no score

    code, out, _ = run(
        "compare", tmp_path / "out", tmp_path / "out", "--system-b", "silence", *common
    )
    assert code == 0
    assert "A: theirs V2A; B: silence" in out
    kit = tmp_path / "kit"
    systems = ("--system", f"a={theirs}", "--system", f"b={theirs}")
    assert run("listen", "build", scene_track.folder, *systems, "--clips", 2, "--out", kit)[0] == 0
    key = json.loads((kit / "key.json").read_text(encoding="utf-8"))
    answers = {json.dumps([t["trial"], "", q]): "" for t in key["trials"] for q in t["questions"]}
    saved = tmp_path / "answers.json"
    saved.write_text(json.dumps({"kit": key["kit"], "listener": "ann", "answers": answers}))
    code, out, _ = run("listen", "analyse", kit, saved)
    assert code == 0
    assert "a preferred to b | 0.50" in out


def test_a_random_model_misses_gates_and_the_run_goes_on_where_it_was(
    store: Path,
    scene_track: Track,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Retrieval from 200 training scenes a part takes most of the time and changes nothing here.
    few = functools.partial(scoring.ScoringOptions, num_remembered=4)
    monkeypatch.setattr(scoring, "ScoringOptions", few)
    model, out = tiny_model_folder(tmp_path / "tiny"), tmp_path / "out"
    arguments = (
        *("run", scene_track.folder, "--gates", "--model", model, "--corpus", store, "--out", out),
        *("--steps", 1, "--many-steps", 2, "--batch", 4, "--device", "cpu", "--workers", 1),
        *("--cache", tmp_path / "cache"),
    )
    code, printed, _ = run(*arguments)
    assert code == 1  # a random model misses
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (report["gates"]["passed"], report["gates"]["complete"]) == (False, False)
    model_rows = {(r["part"], r["system"]) for r in report["rows"] if not r["is_baseline"]}
    assert model_rows == {
        *(("main", name) for name in ("tiny", "tiny, 2 steps")),
        *(("offscreen", name) for name in ("tiny", "tiny, seen-only caption")),
    }
    facts = report["facts"]["model"]
    assert (facts["model"], facts["steps"], facts["many_steps"]) == ("tiny", 1, 2)
    files = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.wav")}
    assert run(*arguments)[:2] == (code, printed)
    assert files == {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.wav")}
    assert run("report", out)[1] == printed


def test_a_folder_is_scored_from_python_as_by_the_command(
    scene_track: Track, tmp_path: Path
) -> None:
    theirs, cache = tmp_path / "theirs", tmp_path / "cache"
    theirs.mkdir()
    for clip in scene_track.clips:
        shutil.copyfile(scene_track.path(clip.audio), theirs / f"{clip.clip_id}.wav")
    options = scoring.scoring_options(["yamnet"], cache_folder=cache, num_workers=1)
    scored = score_folder(scene_track.folder, theirs, "V2A", tmp_path / "a", options=options)
    run(
        *("score", scene_track.folder, theirs, "--task", "V2A", "--out", tmp_path / "b"),
        *("--taggers", "yamnet", "--cache", cache, "--workers", 1),
    )
    assert scored.evaluation == read_run(tmp_path / "b").evaluation
    assert next(s for s in scored.systems if s.task == "V2A").name == "theirs"
    with pytest.raises(UserError, match="task: expected one of VT2A, V2A, T2A, got 'A2V'"):
        score_folder(scene_track.folder, theirs, "A2V", tmp_path / "c", options=options)
    with pytest.raises(UserError, match="taggers: expected at least one name"):
        scoring.scoring_options([])


def test_bad_input_is_refused(scene_track: Track, tmp_path: Path) -> None:
    for arguments, words in (
        (
            ("score", scene_track.folder, tmp_path, "--task", "A2V", "--out", tmp_path / "o"),
            "--task",
        ),
        (("score", tmp_path, tmp_path, "--task", "V2A", "--out", tmp_path / "o"), "no track"),
        (("report", tmp_path), "no scores"),
        (("run", scene_track.folder, "--taggers", "nobody", "--out", tmp_path / "o"), "no tagger"),
    ):
        with pytest.raises(UserError, match=words):
            run(*arguments)


@pytest.mark.parametrize(("workers", "published", "others"), [(None, 1, 5), (3, 3, 3)])
def test_published_networks_are_held_once_unless_more_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    workers: int | None,
    published: int,
    others: int,
) -> None:
    monkeypatch.setattr(scoring, "default_workers", lambda: 5)
    options = scoring.scoring_options(
        ["yamnet"], cache_folder=tmp_path, weights=tmp_path, num_workers=workers
    )
    assert options.published is not None
    assert (options.published.workers.count, options.workers.count) == (published, others)


def test_checkpoints_of_a_run_are_scored_once_by_the_engine_of_a_run(
    scene_track: Track, tmp_path: Path
) -> None:
    click_store(tmp_path / "features")
    command(tmp_path / "run", steps=2, save_every=1)
    trained = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*.safetensors")}
    arguments = (
        *("follow", tmp_path / "run", "--track", scene_track.folder),
        *("--tasks", "T2A", "--steps", 1),
        *("--limit", 4, "--batch", 4, "--device", "cpu", "--workers", 1, "--taggers", "yamnet"),
        *("--cache", tmp_path / "cache"),
    )
    code, printed, _ = run(*arguments, "--watch")  # the run has ended, so it waits for nothing
    curves = tmp_path / "run" / "scores.jsonl"
    assert (code, printed) == (0, f"{curves}\n")
    lines = [json.loads(line) for line in curves.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    # The engine of `bench run`: the model of a checkpoint has the same scores there.
    model, out = tmp_path / "model", tmp_path / "out"
    export_checkpoint(tmp_path / "run", model, step=1)
    assert run("run", scene_track.folder, "--model", model, "--out", out, *arguments[4:])[0] == 0
    assert {"step": 1, **scores_of(read_run(out))} == pytest.approx(lines[0], nan_ok=True)
    before = curves.stat().st_mtime_ns
    assert run(*arguments)[0] == 0
    assert curves.stat().st_mtime_ns == before
    assert trained == {p: p.read_bytes() for p in trained}
