from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from omni2sound.annotate import Crew, Thresholds
from omni2sound.annotate.build import (
    CrewSettings,
    Pictures,
    Wording,
    annotate_manifest,
    open_crew,
)
from omni2sound.annotate.chat.scripted import ScriptedScorer
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.roles import LocalSenior
from omni2sound.annotate.report.judge_run import JUDGE_FILE
from omni2sound.annotate.report.status import run_status
from omni2sound.annotate.runs import CALLS_FILE, RunSettings
from omni2sound.cli.main import app
from omni2sound.data.corpora.annotations import read as read_annotations
from omni2sound.data.corpora.manifest import Clip, read_manifest, write_manifest
from omni2sound.data.corpora.rows import Located
from omni2sound.errors import BudgetExceeded, UserError
from omni2sound.llm import CallStore
from tests.annotate.crews import SCRIPT, sound_file
from tests.media.clips import write_video

KEY = "planted-in-the-environment-0123456789"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    sound_file(tmp_path / "tone.wav")
    write_video(tmp_path / "video.mp4", ticks=range(0, 600, 75))
    clips = [
        Clip(
            clip_id=f"c{i}",
            corpus="made",
            split="train",
            audio="tone.wav",
            video="video.mp4",
            duration_s=1.0,
            licence="CC0-1.0",
        )
        for i in range(3)
    ]
    write_manifest(tmp_path / "clips.jsonl", clips, media=tmp_path)
    script = {
        **SCRIPT,
        "validator": {"*": {"plausible": True, "reason": "<b>fits</b>"}},
        "scorer": {**SCRIPT["scorer"], "made/c2": {"similarity": 0.1, "score": 0.5}},
    }
    (tmp_path / "script.json").write_text(json.dumps(script))
    rows = [f"{f.name} = 0.9" for f in fields(Thresholds) if f.name not in ("scorer", "source")]
    (tmp_path / "strict.toml").write_text(
        "[paper]\nsource = 'too much'\n"
        + "\n".join(rows).replace("route_drop = 0.9", "route_drop = 0")
    )
    return tmp_path


@pytest.fixture
def call(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.chdir(corpus)

    def call(*argv: str) -> str:
        done = CliRunner().invoke(app, ["annotate", *argv], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


def run(call: Callable[..., str], out: str = "run", *more: str) -> Any:
    model = "scripted:script.json"
    models = ["--junior", model, "--senior", model, "--vision", model]
    return json.loads(call("run", "clips.jsonl", out, *models, *more))


def test_run_status_export_and_page(corpus: Path, call: Callable[..., str]) -> None:
    assert run(call) == {"kept": 2, "dropped": 1, "failed": 0, "waiting": 0}
    status = json.loads(call("status", "run", "--json"))
    assert (status["clips"], status["ended"], status["dropped by route"]) == (3, 3, 1)
    call("export", "run", "--out", "export")
    manifest = read_manifest(corpus / "export" / "manifest.jsonl")
    assert [c.captions for c in manifest.clips] == [("A dog barks.",)] * 2
    assert manifest.media == corpus.resolve()
    call("inspect", "run", "made/c0", "-o", "page.html")
    page = (corpus / "page.html").read_text()
    assert "A dog barks." in page
    assert "<b>fits</b>" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes")
@pytest.mark.parametrize("limit_bytes", [0, 1000, 4000])
def test_an_export_is_whole_or_absent_when_a_file_can_not_be_written(
    corpus: Path, call: Callable[..., str], limit_bytes: int
) -> None:
    run(call)
    command = (  # the limit comes when everything is read: SQLite writes even then
        "import resource\n"
        "from omni2sound.annotate.report import export\n"
        "from omni2sound.cli.main import main\n"
        "count = export.Tally.add\n"
        "def full(*values):\n"
        f"    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n"
        "    return count(*values)\n"
        "export.Tally.add = full\n"
        "main()"
    )
    full = subprocess.run(
        [sys.executable, "-B", "-c", command, "annotate", "export", "run", "--out", "export"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert (full.returncode, full.stderr.count("\n")) == (2, 1), full.stderr
    assert "export" in full.stderr
    assert not list(corpus.glob("*export*"))
    call("export", "run", "--out", "export")
    assert len(read_manifest(corpus / "export" / "manifest.jsonl").clips) == 2


def test_an_empty_folder_becomes_the_data_set_and_a_full_one_is_left_alone(
    corpus: Path, call: Callable[..., str]
) -> None:
    run(call)
    (corpus / "export").mkdir()
    call("export", "run", "--out", "export")
    before = {p: p.read_bytes() for p in (corpus / "export").rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="export: not empty; choose another folder"):
        call("export", "run", "--out", "export")
    assert {p: p.read_bytes() for p in before} == before


def test_parquet_and_manifest_are_read_by_the_importer_as_one(
    corpus: Path, call: Callable[..., str]
) -> None:
    run(call)
    call("export", "run", "--out", "export")
    table = corpus / "export" / "data" / "train-00000-of-00001.parquet"
    assert pq.read_table(table).column("events")[0].as_py()[0]["what"] == "a dog"
    read = [
        [item.draft for item in read_annotations(source) if isinstance(item, Located)]
        for source in (corpus / "export", corpus / "export" / "data")
    ]
    assert read[0] == read[1]
    assert len(read[0]) == 2


def test_judges_have_books_and_a_budget_of_their_own(
    corpus: Path, call: Callable[..., str]
) -> None:
    run(call)
    model = "gemini-2.5-pro@https://generativelanguage.googleapis.com/v1beta/openai"
    before = (corpus / "run" / CALLS_FILE).read_bytes()
    with pytest.raises(BudgetExceeded):  # before anything is sent
        call("judge", "run", "--against", "run", "--judge", model, "--budget-usd", "0.000001")
    assert (corpus / "run" / JUDGE_FILE).is_file()
    assert (corpus / "run" / CALLS_FILE).read_bytes() == before
    with pytest.raises(UserError, match="above 0"):
        call("judge", "run", "--budget-usd", "0")


def test_status_counts_drops_by_rule_and_watches_until_the_end(
    corpus: Path, call: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(call, "run", "--thresholds", "strict.toml", "--limit", "2")
    status = json.loads(call("status", "run", "--json"))
    drops = {name: number for name, number in status.items() if name.startswith("dropped by")}
    assert drops == {
        **dict.fromkeys(drops, 0),
        "dropped by sentence": 2,
    }
    assert len(drops) == 5

    # A run that is under way is watched until its last clip has ended.
    settings = replace(RunSettings.read(corpus / "run"), num_clips=3)
    settings.write(corpus / "run")
    slept: list[float] = []

    def goes_on(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            run(call, "run", "--thresholds", "strict.toml")

    monkeypatch.setattr("omni2sound.cli.annotate.report.time.sleep", goes_on)
    said = call("status", "run", "--json", "--watch").splitlines()
    ended = [json.loads(line)["ended"] for line in said if '"clips"' in line]
    assert ended == [2, 2, 3]


def test_a_judge_sees_what_both_runs_kept(corpus: Path, call: Callable[..., str]) -> None:
    run(call)
    run(call, "stricter", "--thresholds", "strict.toml")
    with pytest.raises(UserError, match="kept here"):  # the other run has captions, all dropped
        call("judge", "run", "--against", "stricter", "--judge", "scripted:script.json")


def test_the_same_results_are_the_same_bytes(corpus: Path, call: Callable[..., str]) -> None:
    for name in ("one", "two"):
        run(call, name, "--concurrency", "1" if name == "one" else "8")
        call("export", name, "--out", f"export-{name}")
    for file in (
        "manifest.jsonl",
        "data/train-00000-of-00001.parquet",
        "statistics.json",
        "README.md",
    ):
        first, second = (corpus / f"export-{name}" / file for name in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_the_key_is_in_no_file(corpus: Path, call: Callable[..., str]) -> None:
    run(call)
    call("export", "run", "--out", "export")
    call("inspect", "run", "made/c0", "-o", "page.html")
    written = [p for p in corpus.rglob("*") if p.is_file()]
    assert len(written) > 8
    assert not [p for p in written if KEY.encode() in p.read_bytes()]


def test_a_dry_run_asks_nobody_and_says_the_most_it_can_cost(
    corpus: Path, call: Callable[..., str]
) -> None:
    url = "https://generativelanguage.googleapis.com/v1beta/openai"
    said = call("run", "clips.jsonl", "run", "--dry-run", "--junior", f"gemini-2.5-flash@{url}")
    assert re.search(r"junior: at most 3 calls of gemini-2.5-flash, \d+\.\d+ USD", said)
    assert not (corpus / "run").exists()


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (("--budget-usd", "-1"), "above 0"),
        (("--extra", "senior=[1]"), "JSON object"),
        (("--extra", "{}"), "ROLE="),
        (("--cap", "senior=0"), "above 0"),
        (("--cap", "boss=9"), "vision, junior"),
        (("--structured", "xml"), "json_schema"),
        (("--crew", "best"), "paper"),
        (("--crew", "open"), "junior=http|vision=http"),
        (("--frames-per-second", "9"), "up to 4"),
        (("--junior", "gpt"), "NAME@URL"),
    ],
)
def test_bad_options_are_said(corpus: Path, argv: tuple[str, ...], wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        CliRunner().invoke(
            app,
            ["annotate", "run", str(corpus / "clips.jsonl"), str(corpus / "r"), *argv],
            catch_exceptions=False,
        )


@pytest.mark.parametrize("option", ["--pictures", "--wording"])
def test_an_unknown_choice_ends_with_what_there_is(
    corpus: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus)
    done = CliRunner().invoke(app, ["annotate", "run", "clips.jsonl", "r", option, "all"])
    assert done.exit_code == 2
    field = option.removeprefix("--")
    known = get_args(Pictures if field == "pictures" else Wording)
    assert all(repr(choice) in done.stderr for choice in known)
    with pytest.raises(UserError, match=f"{field}: expected one of {', '.join(known)}, got 'all'"):
        CrewSettings(**{field: "all"})


@pytest.mark.parametrize("junior", ["local", "ears-1@http://127.0.0.1:9/v1"])
def test_captions_of_others_are_filtered_with_a_warning(
    junior: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    async def build() -> None:
        with CallStore.open(tmp_path / CALLS_FILE) as calls:
            settings = CrewSettings(junior=junior)
            async with open_crew(settings, calls=calls, executor=Executor()):
                pass

    asyncio.run(build())
    warned = [r.getMessage() for r in caplog.records if "43 classes" in r.getMessage()]
    assert len(warned) == (junior != "local")
    assert all("joint-v1 knows 43 classes" in text and junior in text for text in warned)


def test_roles_of_a_crew_are_chosen_one_by_one(corpus: Path) -> None:
    """A scripted junior beside a local senior: the scores are the script's."""

    async def build(settings: CrewSettings) -> Crew:
        with CallStore.open(corpus / CALLS_FILE) as calls:
            async with open_crew(settings, calls=calls, executor=Executor()) as crew:
                return crew

    mixed = asyncio.run(build(CrewSettings(junior=f"scripted:{corpus / 'script.json'}")))
    assert isinstance(mixed.scorer, ScriptedScorer)
    assert isinstance(mixed.senior, LocalSenior)
    blind = asyncio.run(build(CrewSettings(pictures="none")))
    assert (blind.viewer, blind.validator) == (None, None)


def test_a_manifest_is_annotated_from_python_and_resumed(corpus: Path) -> None:
    model = f"scripted:{corpus / 'script.json'}"
    settings = CrewSettings(junior=model, senior=model, vision=model)
    run = corpus / "run"
    for limit, kept in ((1, 1), (None, 2), (None, 2)):
        ends = asyncio.run(annotate_manifest(corpus / "clips.jsonl", run, settings, limit=limit))
        assert ends["kept"] == kept
    assert run_status(run)["ended"] == 3


def test_failed_clips_are_named_with_the_reason(
    corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # hche11/VGGSound#6 and #16, YuanGongND/cav-mae#9: broken downloads, no sound, no length.
    (corpus / "broken.wav").write_bytes(b"RIFF")
    (corpus / "empty.wav").touch()
    write_video(corpus / "mute.mp4", ticks=range(0, 600, 75))
    files = {"-AAAAAAAAA1": "broken.wav", "empty": "empty.wav", "gone": "gone.wav"}
    odd = [
        Clip(clip_id=name, corpus="made", split="train", audio=file) for name, file in files.items()
    ]
    odd.append(Clip(clip_id="mute", corpus="made", split="train", video="mute.mp4"))
    odd.append(Clip(clip_id="late", corpus="made", split="train", audio="tone.wav", start_s=99.0))
    write_manifest(corpus / "clips.jsonl", odd, media=corpus)
    model = f"scripted:{corpus / 'script.json'}"
    settings = CrewSettings(junior=model, senior=model, vision=model)
    ends = asyncio.run(annotate_manifest(corpus / "clips.jsonl", corpus / "run", settings))
    assert ends["failed"] == len(odd)
    messages = [r.getMessage() for r in caplog.records]
    for clip in odd:
        (message,) = (m for m in messages if m.startswith(f"made/{clip.clip_id}: failed at "))
        assert clip.sound_file in message
    assert any("tone.wav: no sound from 99 s on; it ends earlier" in m for m in messages)
    done = CliRunner().invoke(app, ["annotate", "status", str(corpus / "run")])
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == sorted(
        f"made/{clip.clip_id}" for clip in odd
    )
    assert all("media at junior" in line for line in done.stderr.splitlines())


def test_nothing_is_exported_from_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no annotation run"):
        CliRunner().invoke(
            app,
            ["annotate", "export", str(tmp_path), "--out", str(tmp_path / "e")],
            catch_exceptions=False,
        )
