"""What is left of a manifest is what the store says has not ended, whatever has been noted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omni2sound.annotate.build import CrewSettings, annotate_manifest
from omni2sound.annotate.pending import PendingClips
from omni2sound.annotate.records import Caption, Ending
from omni2sound.annotate.roles import SourceClip
from omni2sound.annotate.runs import source_clips
from omni2sound.annotate.steps import Found, StepStore
from omni2sound.data.corpora.manifest import Clip, parse_clip, read_manifest, write_manifest
from omni2sound.errors import UserError
from tests.annotate.crews import SCRIPT, sound_file

NUM = 11
STEPS = "all steps of one crew"


def stamp(clip: SourceClip) -> str:
    return f"{STEPS} {clip.name} {clip.fingerprint}"


def write(folder: Path, num: int = NUM, caption: str = "") -> Path:
    clips = []
    for number in range(num):
        if not (folder / f"{number}.wav").exists():
            (folder / f"{number}.wav").write_bytes(b"RIFF")
        captions = (caption,) if caption else ()
        clips.append(
            Clip(
                clip_id=str(number),
                corpus="made",
                split="train",
                audio=f"{number}.wav",
                captions=captions,
            )
        )
    write_manifest(folder / "clips.jsonl", clips, media=folder)
    return folder / "clips.jsonl"


def left(
    folder: Path, *, limit: int | None = None, steps: str = STEPS
) -> tuple[list[str], dict[str, int]]:
    """Names of the clips that are left, and the number of the others."""

    def stamp_of(clip: SourceClip) -> str:
        return stamp(clip).replace(STEPS, steps)

    with (
        PendingClips.open(folder / "clips.jsonl", folder, limit=limit) as clips,
        StepStore.open(folder / "steps.sqlite") as store,
    ):
        names = [clip.name for clip in clips.left(store, steps, stamp_of)]
        assert len(names) + sum(clips.ended.values()) == clips.total
        return names, clips.ended


def end(folder: Path, ends: dict[int, str]) -> None:
    """Store the ends of clips by number."""
    clips = source_clips(read_manifest(folder / "clips.jsonl"))
    with StepStore.open(folder / "steps.sqlite") as store:
        for number, kind in ends.items():
            record = Ending(end=kind, steps=())  # type: ignore[arg-type]
            clip = clips[number]
            store.put("end", [Found(clip=clip.name, key="k", record=record, stamp=stamp(clip))])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omni2sound.annotate.pending.BLOCK", 4)


ENDS = st.dictionaries(st.integers(0, NUM - 1), st.sampled_from(["kept", "dropped", "failed"]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ends=ENDS, more=ENDS, limit=st.none() | st.integers(0, NUM + 1), lost=st.integers(-1, 3))
def test_left_are_the_clips_that_were_neither_kept_nor_dropped(
    tmp_path_factory: pytest.TempPathFactory,
    ends: dict[int, str],
    more: dict[int, str],
    limit: int | None,
    lost: int,
) -> None:
    """Without notes, with all, with some, with damaged ones; and after more clips have ended."""
    folder = tmp_path_factory.mktemp("run")
    write(folder)
    now: dict[int, str] = {}
    for newly in (ends, more, {}):
        now |= newly
        end(folder, newly)
        wanted = [
            f"made/{number}"
            for number in range(NUM)
            if now.get(number, "failed") == "failed" and (limit is None or number < limit)
        ]
        assert left(folder, limit=limit)[0] == wanted
        with sqlite3.connect(folder / "steps.sqlite") as db:
            db.execute("UPDATE memo SET data = substr(data, 5) WHERE number = ?", (lost,))
            db.execute("DELETE FROM memo WHERE number = ?", (lost + 1,))


def test_a_clip_whose_file_changed_is_left_and_the_others_are_not(tmp_path: Path) -> None:
    write(tmp_path)
    end(tmp_path, dict.fromkeys(range(NUM), "kept"))
    assert left(tmp_path) == ([], {"kept": NUM, "dropped": 0})
    os.utime(tmp_path / "5.wav", ns=(1, 1))
    (tmp_path / "9.wav").unlink()
    for _ in range(2):
        assert left(tmp_path)[0] == ["made/5", "made/9"]


def test_another_crew_begins_anew_and_the_first_one_finds_its_ends_again(tmp_path: Path) -> None:
    write(tmp_path)
    end(tmp_path, dict.fromkeys(range(NUM), "dropped"))
    for steps, num in ((STEPS, 0), ("of another crew", NUM), (STEPS, 0)):
        assert len(left(tmp_path, steps=steps)[0]) == num


def test_a_manifest_with_other_captions_and_clips_is_read_again(tmp_path: Path) -> None:
    write(tmp_path)
    end(tmp_path, {0: "kept", 10: "kept"})
    left(tmp_path)
    write(tmp_path, NUM + 2, caption="a dog")
    assert left(tmp_path)[0] == [f"made/{n}" for n in range(NUM + 2) if n not in (0, 10)]


def test_a_result_that_is_written_later_makes_an_end_doubtful(tmp_path: Path) -> None:
    write(tmp_path)
    end(tmp_path, dict.fromkeys(range(NUM), "kept"))
    left(tmp_path)
    with StepStore.open(tmp_path / "steps.sqlite") as store:
        store.put("junior", [Found(clip="made/3", key="other", record=Caption(text="Another."))])
        store.forget([("made/7", "junior")])
    assert left(tmp_path)[0] == ["made/3", "made/7"]


def test_with_notes_no_line_of_an_ended_clip_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing and hashing took most of a resumed start."""
    write(tmp_path)
    end(tmp_path, {number: "kept" for number in range(NUM) if number != 6})
    left(tmp_path)
    parsed: list[str] = []

    def counted(line: str | bytes, where: str) -> Clip:
        parsed.append(where)
        return parse_clip(line, where)

    monkeypatch.setattr("omni2sound.annotate.pending.parse_clip", counted)
    assert left(tmp_path)[0] == ["made/6"]
    assert parsed == [f"{tmp_path / 'clips.jsonl'}:8"]


def test_notes_of_blocks_of_another_size_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a release with larger blocks would skip clips between their beginnings and ours."""
    write(tmp_path)
    end(tmp_path, {6: "kept"})
    wanted = [f"made/{n}" for n in range(NUM) if n != 6]
    for size in (4, 3, 5):
        monkeypatch.setattr("omni2sound.annotate.pending.BLOCK", size)
        assert left(tmp_path)[0] == wanted


def test_a_manifest_that_changes_after_its_digest_was_taken_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else notes of the new lines would have the key of the old ones."""
    path = write(tmp_path)
    digest = hashlib.file_digest

    def then_changed(*args: Any) -> Any:
        found = digest(*args)
        path.write_text(path.read_text() + path.read_text().splitlines()[-1].replace("10", "11"))
        return found

    monkeypatch.setattr(hashlib, "file_digest", then_changed)
    with pytest.raises(UserError, match="changed while it was read; start the command again"):
        PendingClips.open(path, tmp_path)


def test_a_manifest_that_changes_under_the_run_ends_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    with (
        PendingClips.open(path, tmp_path) as clips,
        StepStore.open(tmp_path / "steps.sqlite") as store,
    ):
        names = clips.left(store, STEPS, stamp)
        next(names)
        with path.open("a") as file:
            file.write("{}\n")
        with pytest.raises(UserError, match="changed while it was read; start the command again"):
            list(names)


def test_a_bad_manifest_leaves_no_folder(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(Exception, match=f"clips.jsonl:{NUM + 2}: clip: field 'clip_id' is missing"):
        asyncio.run(annotate_manifest(path, tmp_path / "run", CrewSettings()))
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_after_notes_of_all_clips(tmp_path: Path) -> None:
    """Notes are written before clips are annotated: a killed run leaves notes without ends."""
    sound_file(tmp_path / "tone.wav")
    clips = [
        Clip(clip_id=str(n), corpus="made", split="train", audio="tone.wav", duration_s=1.0)
        for n in range(NUM)
    ]
    write_manifest(tmp_path / "clips.jsonl", clips, media=tmp_path)
    script = tmp_path / "script.json"
    script.write_text(json.dumps(SCRIPT))
    who = CrewSettings(junior=f"scripted:{script}", senior=f"scripted:{script}", pictures="none")
    seen: list[tuple[int, int]] = []

    def run(limit: int | None) -> dict[str, int]:
        return asyncio.run(
            annotate_manifest(
                tmp_path / "clips.jsonl",
                tmp_path / "run",
                who,
                limit=limit,
                on_progress=lambda p: seen.append((p.done, p.total)),
            )
        )

    assert run(6)["kept"] == 6
    with StepStore.open(tmp_path / "run" / "steps.sqlite") as store:
        store.forget([("made/2", "junior")])
    seen.clear()
    assert run(None)["kept"] == NUM
    assert seen[-1] == (NUM, NUM) and [done for done, _ in seen] == sorted(d for d, _ in seen)
    seen.clear()
    assert run(None)["kept"] == NUM and seen[-1] == (NUM, NUM)
