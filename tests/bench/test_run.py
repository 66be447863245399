"""A whole run on a tiny track with the real model: scores, kills, strangers' folders, pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omni2sound.bench.report.examples import choose_examples
from omni2sound.bench.report.html import report_page
from omni2sound.bench.report.notes import notes_of
from omni2sound.bench.report.results import ScoredRun, read_run
from omni2sound.bench.report.tables import tables_of
from omni2sound.bench.report.write import REPORTS, write_report
from omni2sound.bench.run import Submission, make_share, run_model, score_folders
from omni2sound.bench.scoring.options import ScoringOptions
from omni2sound.bench.systems.baseline_files import Embedders
from omni2sound.bench.systems.folder import check_settings
from omni2sound.bench.systems.model import ModelRun, clip_seed, make_sounds, model_identity
from omni2sound.bench.tracks.track import Track, read_track, write_track
from omni2sound.data.workers import Share
from omni2sound.errors import UserError
from omni2sound.media.page import policy_of
from tests.bench.embeds import colours_embed, words_embed
from tests.warm.start import warm

pytestmark = pytest.mark.slow

RUN = ModelRun(model="embedded", num_steps=1, device="cpu", batch_size=3)
RATE_HZ = 16_000


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


@pytest.fixture(scope="module")
def whole(
    scene_track: Track, options: ScoringOptions, tmp_path_factory: pytest.TempPathFactory
) -> ScoredRun:
    out = tmp_path_factory.mktemp("run")
    run = run_model(scene_track, out, RUN, options, limit=None, on_step=quiet)
    write_report(run)
    return run


def reports(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (*REPORTS, "scores.json")}


def value(run: ScoredRun, system: str, name: str, part: str, task: str | None = None) -> float:
    (row,) = (
        r
        for r in run.evaluation.rows
        if (r.system, r.task, r.part) == (system, task, part) and name in [s.name for s in r.scores]
    )
    return next(s.estimate.value for s in row.scores if s.name == name)


def test_models_stand_beside_all_baselines_on_both_parts(whole: ScoredRun) -> None:
    rows = [r for r in whole.evaluation.rows if r.protocol == "stage-v1"]
    systems = {(r.system, r.task) for r in rows if r.part == "main"}
    model = next(r.system for r in whole.evaluation.rows if not r.is_baseline)
    plain = ("oracle", "shuffled", "silence", "retrieval", "motion-energy", "motion + retrieval")
    assert systems == {(name, None) for name in plain} | {
        (model, task) for task in ("VT2A", "V2A", "T2A")
    }
    assert {r.part for r in whole.evaluation.rows} == {"main", "offscreen"}
    assert all(r.num_clips == r.num_expected for r in whole.evaluation.rows)


def test_the_oracle_is_the_ceiling(whole: ScoredRun) -> None:
    for part in ("main", "offscreen"):
        assert value(whole, "oracle", "KL", part) == 0
        elsewhere = value(whole, "real, other scenes", "FD", part)
        assert value(whole, "silence", "FD", part) > elsewhere > 0
        best = value(whole, "oracle", "onset F1 100 ms", part)
        assert best > value(whole, "shuffled", "onset F1 100 ms", part)
        assert value(whole, "silence", "onset F1 100 ms", part) == 0


def test_a_limit_changes_no_sound(
    whole: ScoredRun, scene_track: Track, options: ScoringOptions, tmp_path: Path
) -> None:
    make_sounds(scene_track.limited(2), tmp_path, replace(RUN, tasks=("VT2A",)))
    for clip in scene_track.clips[:2]:
        name = f"{clip.clip_id}.wav"
        made = (tmp_path / "VT2A" / name).read_bytes()
        assert made == (whole.folder / "sounds" / "VT2A" / name).read_bytes()
    assert clip_seed(0, "a") != clip_seed(1, "a") != clip_seed(1, "b")


def test_shares_make_the_sounds_of_a_whole_run(
    whole: ScoredRun, scene_track: Track, options: ScoringOptions, tmp_path: Path
) -> None:
    asked, left = replace(RUN, tasks=("T2A",)), []
    for number in (2, 1):
        failed, missing = make_share(
            scene_track,
            tmp_path,
            asked,
            options,
            share=Share(number, 2),
            limit=None,
            on_step=quiet,
        )
        assert not failed
        left.append(missing)
    assert left[0] > left[1] == 0
    for clip in scene_track.clips:
        name = f"sounds/T2A/{clip.clip_id}.wav"
        assert (tmp_path / name).read_bytes() == (whole.folder / name).read_bytes()


def test_sounds_of_other_settings_are_refused(
    whole: ScoredRun, scene_track: Track, options: ScoringOptions
) -> None:
    for other, words in (
        (replace(RUN, seed=1), "seed 0 and not 1"),
        (replace(RUN, text_guidance=4.0), "text_guidance None and not 4.0"),
        (replace(RUN, batch_size=2), "batch_size 3 and not 2"),  # rounding differs
    ):
        with pytest.raises(UserError, match=words):
            run_model(scene_track, whole.folder, other, options, limit=None, on_step=quiet)


SCRIPT = """
import sys
from pathlib import Path
from omni2sound.bench.systems.baseline_files import Embedders
from omni2sound.bench.report.examples import choose_examples
from omni2sound.bench.systems.model import ModelRun
from omni2sound.bench.report.write import write_report
from omni2sound.bench.run import run_model
from omni2sound.bench.scoring.options import ScoringOptions
from omni2sound.bench.tracks.track import read_track
from tests.bench.embeds import colours_embed, words_embed
track, out, cache, store = map(Path, sys.argv[1:])
options = ScoringOptions(taggers=("yamnet",), cache_folder=cache, assets=store, num_remembered=2,
              embed=Embedders(caption=words_embed, look=colours_embed))
def step(name):
    print(name, flush=True)
    return lambda done, total: print(name, done, flush=True)
asked = ModelRun(model="embedded", num_steps=1, device="cpu", batch_size=3)
run = run_model(read_track(track), out, asked, options, limit=None, on_step=step)
print("reporting", flush=True)
write_report(run)
"""


def test_killed_at_any_step_a_run_ends_with_the_same_report(
    whole: ScoredRun, scene_track: Track, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "kill.py").write_text(SCRIPT, encoding="utf-8")
    out, cache = tmp_path / "out", tmp_path / "cache"
    command = [sys.executable, str(tmp_path / "kill.py"), *map(str, (scene_track.folder, out))]
    command = warm([*command, str(cache), str(store)])
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    # In generation, among the baselines, in extraction, and as the scores are counted.
    for moment in ("sounds 3", "baselines 2", "tagging 20", "reporting"):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == moment:
                break
        else:
            pytest.fail(f"the run never came to {moment!r}")
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.read()  # to its end, which is the end of all that could still write
        process.stdout.close()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert "sounds 8" not in done.stdout  # nothing was made again
    assert reports(out) == reports(whole.folder)


# --- anybody's folder -------------------------------------------------------------------


@pytest.fixture
def theirs(scene_track: Track, tmp_path: Path) -> Path:
    """The real sounds, as another system would hand them in."""
    return hand_in(scene_track, tmp_path / "theirs")


def hand_in(track: Track, folder: Path) -> Path:
    folder.mkdir()
    for clip in track.clips:
        shutil.copyfile(track.path(clip.audio), folder / f"{clip.clip_id}.wav")
    return folder


def scored(track: Track, folder: Path, out: Path, options: ScoringOptions) -> ScoredRun:
    submission = Submission(name="theirs", task="VT2A", folder=folder)
    plain = replace(options, assets=None)
    return score_folders(track, [submission], out, plain, limit=None, on_step=quiet)


def test_a_system_that_hands_in_the_truth_ties_with_the_oracle(
    scene_track: Track, theirs: Path, options: ScoringOptions, tmp_path: Path
) -> None:
    run = scored(scene_track, theirs, tmp_path / "out", options)
    assert run.evaluation.problems == {}
    for name, part in (("KL", "main"), ("onset F1 50 ms", "main")):
        ours = value(run, "theirs", name, part, "VT2A")
        assert ours == pytest.approx(value(run, "oracle", name, part), abs=1e-6)
    assert value(run, "theirs", "FD", "main", "VT2A") == pytest.approx(0, abs=1e-6)


def test_the_real_set_itself_has_no_distances(whole: ScoredRun) -> None:
    for system in ("oracle", "shuffled"):
        rows = [
            r
            for r in whole.evaluation.rows
            if (r.system, r.part, r.protocol) == (system, "main", "yamnet-8s-v1")
        ]
        assert [[s.name for s in r.scores] for r in rows] == [["KL"]]
    assert any("the real set itself" in note for note in notes_of(whole.evaluation))
    tables = tables_of(whole.evaluation)
    (table,) = (t for t in tables if (t.part, t.protocol) == ("main", "yamnet-8s-v1"))
    assert [c.name for c in table.columns] == ["FD", "KID", "KL", "IS"]


def test_what_is_missing_is_counted_and_named_never_replaced(
    scene_track: Track, options: ScoringOptions, tmp_path: Path
) -> None:
    # Two clips more in each part, with the sounds of others: two are spoilt, and four are needed.
    more = [replace(c, clip_id=f"{c.clip_id}-again") for c in scene_track.clips[:4]]
    shutil.copytree(scene_track.folder, tmp_path / "track")
    track = write_track(tmp_path / "track", scene_track.info, [*scene_track.clips, *more])
    theirs = hand_in(track, tmp_path / "theirs")
    gone, broken = (c.clip_id for c in track.clips[:4] if c.part == "main")
    (theirs / f"{gone}.wav").unlink()
    sound = np.full(2 * RATE_HZ, np.nan, np.float32)
    soundfile.write(theirs / f"{broken}.wav", sound, RATE_HZ, subtype="FLOAT")
    run = scored(track, theirs, tmp_path / "out", options)
    problems = {(p.kind, p.name) for p in run.evaluation.problems["theirs VT2A"]}
    assert problems == {("missing", gone), ("not finite", broken)}
    rows = {r.part: r for r in run.evaluation.rows if r.system == "theirs"}
    assert [(r.part, r.num_clips, r.num_expected) for r in rows.values()] == [
        ("main", 4, 6),
        ("offscreen", 6, 6),
    ]
    # Four clips are compared with the real sounds of those four.
    assert value(run, "theirs", "FD", "main", "VT2A") == pytest.approx(0, abs=1e-6)
    assert {r.clip_id for r in run.evaluation.clips if r.system == "theirs"} == {
        c.clip_id for c in track.clips if c.clip_id not in (gone, broken)
    }
    assert any("not every clip" in note for note in notes_of(run.evaluation))


def test_too_few_clips_are_no_system(
    scene_track: Track, theirs: Path, options: ScoringOptions, tmp_path: Path
) -> None:
    for path in list(theirs.iterdir())[:5]:
        path.unlink()
    with pytest.raises(UserError, match="3 of 8 clips"):
        scored(scene_track, theirs, tmp_path / "out", options)


# --- reports ----------------------------------------------------------------------------


def test_a_run_is_read_back_as_it_was(whole: ScoredRun) -> None:
    assert read_run(whole.folder) == whole


def test_the_page_asks_nobody_for_anything(whole: ScoredRun) -> None:
    page = (whole.folder / "report.html").read_text(encoding="utf-8")
    assert f'http-equiv="Content-Security-Policy" content="{policy_of()}"' in page
    assert "default-src 'none'" in policy_of()
    assert not re.findall(r"https?:|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    asked = r"""(?:src|href|action|poster|data|url)\s*[=(]\s*["']?([^"'\s>)]+)"""
    addresses = re.findall(asked, page)
    assert addresses and all(a.startswith("data:") for a in addresses)
    for forbidden in ("<script", "<link", "<iframe", "@import", "<form", "javascript:"):
        assert forbidden not in page


def test_the_page_plays_best_and_worst_and_names_what_is_published(whole: ScoredRun) -> None:
    page = (whole.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 3 * 2 * 2 * 2  # tasks, verdicts, clips, made and real
    assert page.count('class="example best"') == page.count('class="example worst"') == 6
    assert "published, not measured here" in page
    assert "no verdict should be taken" in page  # there are but eight clips
    told = json.loads((whole.folder / "report.json").read_text(encoding="utf-8"))
    assert told["published"]["rows"][0]["scores"]["FAD"] == 1.63
    markdown = (whole.folder / "report.md").read_text(encoding="utf-8")
    for row in whole.evaluation.rows:
        assert row.system in page and row.system in markdown


def test_captions_cannot_break_out_of_the_page(whole: ScoredRun) -> None:
    (example, *_) = choose_examples(
        read_track(whole.track), whole.systems, whole.evaluation.clips, num_each=1
    )
    evil = replace(example.clip, caption='</p><img src="http://evil/x.png">')
    page = report_page(whole, [replace(example, clip=evil)])
    assert '<img src="http' not in page


def test_the_sampler_of_a_run_is_recorded_and_must_fit_the_model(tmp_path: Path) -> None:
    assert "sampler" not in model_identity(RUN)
    asked = replace(RUN, sampler="dpmpp-2m-sde", sigmas=(0.05, 50.0))
    identity = model_identity(asked)
    assert {k: identity["sampler"][k] for k in ("kind", "sigma_min", "sigma_max")} == {
        "kind": "dpmpp-2m-sde",
        "sigma_min": 0.05,
        "sigma_max": 50.0,
    }
    check_settings(tmp_path / "settings.json", identity)
    with pytest.raises(UserError, match="sounds of another run, sampler"):
        check_settings(tmp_path / "settings.json", model_identity(RUN))
    with pytest.raises(UserError, match="'euler' does not solve 'v' models"):
        model_identity(replace(RUN, sampler="euler"))
    with pytest.raises(UserError, match="expected one of dpmpp-2m"):
        replace(RUN, sampler="ddim")
