"""Cues from subtitles, tables and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omni2sound.errors import UserError
from omni2sound.generate.words.cue_files import read_cues
from omni2sound.generate.words.cues import Cue, parse_cue

WANTED = [
    Cue(start_s=0.5, end_s=2.0, text="a dog barks"),
    Cue(start_s=65.0, end_s=70.25, text="rain, 5 drops: loud"),
]
SRT = """1
00:00:00,500 --> 00:00:02,000
<i>a dog</i>
barks

2
00:01:05,000 --> 00:01:10,250
rain, 5 drops: loud
"""
FILES = {
    "a.srt": SRT,
    "crlf.srt": "\ufeff" + SRT.replace("\n", "\r\n"),
    "without empty rows.srt": SRT.replace("\n\n", "\n"),
    "a.csv": 'start,end,text\n0.5,2,a dog barks\n1:05,1:10.25,"rain, 5 drops: loud"\n',
    "a.json": json.dumps(
        ["0.5-2: a dog barks", {"start": "1:05", "end": 70.25, "text": "rain, 5 drops: loud"}]
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_hold_the_same_cues(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name].encode())
    assert [parse_cue(line) for line in read_cues(tmp_path / name)] == WANTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "0-1: rain", "expected one of .srt .csv .json"),
        ("a.srt", "", "expected 1 to 32 cues, got 0"),
        ("a.srt", "1\nsoon\nrain\n", "expected a span of times"),
        ("a.srt", "1\n00:00:02,000 --> 00:00:01,000\nrain\n", "ends after it begins"),
        ("a.csv", "start,end\n0,1\n", "a.csv:2: expected start, end and text"),
        ("a.csv", "start,end,text\nx,1,rain\n", "expected seconds or a time"),
        ("a.json", "{}", "expected a list of cues"),
        ("a.json", "[3]", "cue 1: expected start, end and text"),
        ("a.json", json.dumps(["0-1: rain"] * 33), "got 33"),
    ],
)
def test_what_is_no_list_of_cues_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_cues(tmp_path / name)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.srt"):
        read_cues(tmp_path / "none.srt")
