"""Review by a person: the page shows what is least sure, and its decisions are applied."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks.checks.page_driver import available, chromium
from omni2sound.annotate.build import CrewSettings, annotate_manifest
from omni2sound.annotate.report.export import ExportOptions, export
from omni2sound.annotate.report.review import margin_of, write_review_page
from omni2sound.annotate.runs import RunSettings, stories
from omni2sound.data.corpora.manifest import Clip, read_manifest, write_manifest
from omni2sound.errors import ConfigError, UserError
from tests.annotate.crews import DOG, SCRIPT, sound_file

SCORES = {"a": 0.70, "b": 0.36, "c": 0.34, "d": 0.10}
"""The threshold is .35: a and b are kept, c and d dropped; c and b are nearest to it."""
ODD = '"></section><script>alert(1)</script> dog & "cat"'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    sound_file(tmp_path / "tone.wav")
    clips = [Clip(clip_id=n, corpus="c", split="train", audio="tone.wav") for n in SCORES]
    write_manifest(tmp_path / "clips.jsonl", clips, media=tmp_path)
    script: dict[str, Any] = {
        **SCRIPT,
        "scorer": {f"c/{n}": {"similarity": None, "score": s} for n, s in SCORES.items()},
        "junior": {"*": {**DOG, "caption": ODD}},
        "senior": {**SCRIPT["senior"], "answer": {**DOG, "caption": ODD}},
    }
    (tmp_path / "script.json").write_text(json.dumps(script))
    model = f"scripted:{tmp_path / 'script.json'}"
    crew = CrewSettings(junior=model, senior=model, pictures="none")
    asyncio.run(annotate_manifest(tmp_path / "clips.jsonl", tmp_path / "run", crew))
    return tmp_path / "run"


def decisions(path: Path, **clips: tuple[str, str]) -> Path:
    given = {
        f"c/{n}": {"decision": decision, "shown": ODD, "caption": caption}
        for n, (decision, caption) in clips.items()
    }
    saved = {"omni2sound_review": 1, "who": "Ada", "when": "2026-11-30T12:00:00Z", "clips": given}
    path.write_text(json.dumps(saved))
    return path


def kept(folder: Path) -> dict[str, Any]:
    return {r["clip_id"]: r for r in pq.read_table(folder / "data").to_pylist()}


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM steps WHERE step NOT IN ('end', 'intake')",
        "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = replace(sql, 'cpu_s', 'cpu s')",
    ],
)
def test_a_damaged_store_of_steps_is_named(run: Path, damage: str) -> None:
    with closing(sqlite3.connect(run / "steps.sqlite")) as store:
        store.executescript(damage)
        store.commit()
    with pytest.raises(UserError, match=r"steps\.sqlite: (not a whole run|.*malformed|.*expected)"):
        list(stories(run))


def test_margins_are_on_the_side_of_the_decision_and_the_nearest_come_first(
    run: Path, tmp_path: Path
) -> None:
    thresholds = RunSettings.read(run).thresholds
    assert thresholds is not None
    margins = {s.clip.clip_id: margin_of(s, thresholds) for s in stories(run)}
    assert {n: round(m or 0, 4) for n, m in margins.items()} == {
        n: round(score - 0.35, 4) for n, score in SCORES.items()
    }
    assert write_review_page(run, tmp_path / "page.html", num_clips=3) == 3
    shown = re.findall(r'data-clip="c/(\w)"', (tmp_path / "page.html").read_text())
    assert (set(shown[:2]), shown[2]) == ({"b", "c"}, "d")


def test_the_page_asks_nobody_and_text_stays_text(run: Path, tmp_path: Path) -> None:
    write_review_page(run, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert ODD not in page and "alert(1)" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("<section") == 4


def test_decisions_go_before_the_filter(run: Path, tmp_path: Path) -> None:
    file = decisions(tmp_path / "r.json", b=("drop", ODD), c=("keep", "A  cat meows. "))
    counted = export(run, tmp_path / "e", ExportOptions(reviews=(file,), dropped=True))
    rows = kept(tmp_path / "e")
    assert set(rows) == {"a", "c"}
    assert (counted["kept"], counted["dropped"], counted["reviewed"]) == (2, 2, 2)
    assert rows["c"]["captions"] == ["A cat meows."]
    assert rows["c"]["events"] == [], "events of another caption are not those of this one"
    assert (rows["a"]["reviewed_by"], rows["c"]["reviewed_by"]) == (None, "Ada")
    manifest = {c.clip_id: c for c in read_manifest(tmp_path / "e" / "manifest.jsonl").clips}
    assert manifest["c"].captions == ("A cat meows.",)
    left = pq.read_table(tmp_path / "e" / "dropped").to_pylist()
    assert {r["clip_id"]: r["why_ended"] for r in left}["b"] == "review: dropped by a person"


def test_a_decision_about_another_caption_is_left_out(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = decisions(tmp_path / "r.json", b=("drop", ODD))
    file.write_text(file.read_text().replace("dog", "hog"))
    export(run, tmp_path / "e", ExportOptions(reviews=(file,)))
    assert set(kept(tmp_path / "e")) == {"a", "b"}
    assert "1 of 1 decisions are about captions" in caplog.text


def test_what_is_no_review_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"omni2sound_review": 2}')
    with pytest.raises(ConfigError, match=r"r\.json"):
        export(run, tmp_path / "e", ExportOptions(reviews=(tmp_path / "r.json",)))
    replace(RunSettings.read(run), thresholds=None).write(run)
    with pytest.raises(UserError, match="earlier release"):
        write_review_page(run, tmp_path / "page.html")


@pytest.mark.slow
@pytest.mark.skipif(available() is not None, reason=available() or "")
def test_a_person_decides_in_a_browser(run: Path, tmp_path: Path) -> None:
    write_review_page(run, tmp_path / "page.html")
    with chromium() as browser:
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        assert page.locator("#save").is_disabled()
        assert page.evaluate(
            "() => Promise.all([...document.querySelectorAll('audio')].map(a => new Promise(done "
            "=> { a.onloadedmetadata = () => done(a.duration); a.onerror = () => done(0); "
            "a.load(); })))"
        ) == [1.0] * len(SCORES)
        for name, decision in (("b", "drop"), ("c", "keep")):
            section = page.locator(f'section[data-clip="c/{name}"]')
            if decision == "keep":
                section.locator("textarea").fill("A cat meows.")
            section.locator(f'button[data-decision="{decision}"]').click()
        page.fill("#who", "Ada Lovelace")
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "saved.json")
        assert download.value.suggested_filename == "review-Ada-Lovelace.json"
        assert not said
    export(run, tmp_path / "e", ExportOptions(reviews=(tmp_path / "saved.json",)))
    rows = kept(tmp_path / "e")
    assert set(rows) == {"a", "c"}
    assert rows["c"]["captions"] == ["A cat meows."] and rows["c"]["reviewed_by"] == "Ada Lovelace"
