"""Files of other people: read within limits, or refused in one line."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.robustness.odd_contents import BY_KIND, COMMON
from benchmarks.robustness.odd_files import outcome_of, run_reader
from benchmarks.robustness.odd_more import ALL
from benchmarks.robustness.odd_readers import Reader
from omni2sound import readers
from omni2sound.annotate.records import from_json
from omni2sound.cli.main import _one_line
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import file_sha256
from omni2sound.readers import (
    MAX_DEPTH,
    byte_lines,
    check_regular,
    interpreting,
    loads,
    open_regular,
    open_tensors,
    parquet_rows,
    parse_toml,
    read_bytes,
    read_json,
    read_text,
    real_path,
    sqlite_file,
    text_lines,
)

_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
)


@given(_PLAIN)
def test_plain_json_is_read_as_it_was_written(data: Any) -> None:
    assert loads(json.dumps(data)) == data
    assert loads(json.dumps(data, ensure_ascii=False)) == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * (MAX_DEPTH + 2) + "1" + "}" * (MAX_DEPTH + 2), "nested too deeply"),
        ("NaN", "NaN"),
        ("[-Infinity]", "Infinity"),
        ("1e999", "beyond the range"),
        ("9" * 20, "20 digits"),
        ("9" * 5000, "5000 digits"),
        ('"\\ud83d"', "half of a character"),
        ('{"\\uDE00": 1}', "half of a character"),
        ("", "Expecting value"),
    ],
)
def test_json_that_others_could_not_hold_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        loads(text)


def test_json_at_the_limits_is_read() -> None:
    assert loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert loads("9" * 19) == int("9" * 19)
    assert loads('"\\ud83d\\ude00"') == "\N{GRINNING FACE}"
    assert loads("[NaN, Infinity]", not_finite=True)[1] == float("inf")


@pytest.mark.parametrize(
    "text",
    [
        *("a = " + "[" * 5000, "a = 1\na = 2", "a", "a = " + "9" * 5000),
        *("a = inf", "a = [-nan]", "a = 1e999"),
    ],
)
def test_toml_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"p\.toml: expected TOML"):
        parse_toml(text, "p.toml")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes or devices among files")
@pytest.mark.parametrize("make", [_pipe, _device, Path.mkdir])
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "odd.json"
    make(path)
    for read in (check_regular, read_text, read_json):
        with pytest.raises(ConfigError, match="expected a regular file, got a"):
            read(path)
    with pytest.raises(ConfigError, match="expected a regular file"), open_tensors(path):
        pytest.fail("it was opened")
    for reads in (parquet_rows, byte_lines, text_lines):
        with pytest.raises(ConfigError, match="expected a regular file"):
            list(reads(path))
    for read in (file_sha256, open_regular):
        with pytest.raises(ConfigError, match="expected a regular file"):
            read(path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
def test_a_link_to_itself_is_a_path_that_cannot_be_opened(tmp_path: Path) -> None:
    loop, link = tmp_path / "loop", tmp_path / "link"
    loop.symlink_to("loop")
    link.symlink_to(tmp_path)
    with pytest.raises(OSError, match="Too many levels"):
        real_path(loop / "a").stat()
    assert real_path(link / "a") == real_path(tmp_path) / "a"
    # `Path.resolve` ends in a RuntimeError there.
    sources = Path(readers.__file__).parent.rglob("*.py")
    assert not [p for p in sources if ".resolve()" in p.read_text(encoding="utf-8")]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="Linux: opens, can't be read")
def test_a_failure_to_read_names_the_file() -> None:
    for read in (lambda path: next(byte_lines(path)), read_bytes):
        with pytest.raises(OSError, match="/proc/self/mem"):
            read(Path("/proc/self/mem"))


def test_sizes_have_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 101)
    assert len(read_text(path, max_bytes=101)) == 101
    with pytest.raises(ConfigError, match="larger than 100 bytes"):
        read_text(path, max_bytes=100)


def test_line_ends_are_those_of_every_system(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\r\nb\rc\n")
    assert read_text(path) == path.read_text(encoding="utf-8") == "a\nb\nc\n"


@pytest.mark.parametrize("odd", [{}, {"a": None}, {"a": "b"}, [], None, {"a": 0}])
def test_plain_data_of_another_shape_is_one_line(odd: Any) -> None:
    with (
        pytest.raises(ConfigError, match=r"^x.json: not a share \(.*\)$"),
        interpreting("x.json", "a share"),
    ):
        assert 1 / odd["a"]


@pytest.mark.parametrize("header", [b"{'descr': '<f4', (\n", b"{'descr': '<f4',, }"])
def test_a_header_of_an_array_that_is_no_literal_is_one_line(header: bytes) -> None:
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(ConfigError, match="a: not an array"), interpreting("a", "an array"):
        np.load(io.BytesIO(data), allow_pickle=False)


def test_errors_of_the_caller_pass() -> None:
    with pytest.raises(UserError, match=r"^mine$"), interpreting("x.json", "a share"):
        raise UserError("mine")


def test_errors_of_sqlite_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"odd" * 1000)
    with pytest.raises(ConfigError, match=r"a\.sqlite: not a store"), sqlite_file(path, "a store"):
        sqlite3.connect(path).execute("SELECT 1 FROM a")
    with pytest.raises(UserError, match="no such table"), sqlite_file(path, "a store"):
        sqlite3.connect(":memory:").execute("SELECT 1 FROM a")
    with pytest.raises(ConfigError, match="not a store"), sqlite_file(path, "a store"):
        b"\xff".decode()  # as the module does with a damaged file's names


@pytest.mark.parametrize("cell", [b"{}", 1, None])
def test_a_cell_that_is_no_text_is_no_record(cell: Any) -> None:
    with pytest.raises(ConfigError, match="no text"):
        from_json(cell)


def test_a_message_is_short_whatever_a_file_holds() -> None:
    assert len(_one_line(ConfigError("got " + "'x', " * 10**5))) < 2100
    named = _one_line(OSError(36, "File name too long", "a\nb" * 10**5))
    assert "\n" not in named
    assert len(named) < 3000
    assert named.endswith("...: File name too long")


def test_there_are_forty_contents_of_a_document() -> None:
    assert len(COMMON | BY_KIND["json"]) >= 37


@pytest.mark.parametrize("reader", ALL, ids=lambda reader: reader.name)
def test_odd_files_are_read_or_refused_in_one_line(reader: Reader, tmp_path: Path) -> None:
    _, violations = run_reader(reader, tmp_path / "files", count=2, seed=1)
    assert not violations


@pytest.mark.slow
@pytest.mark.parametrize("reader", ALL, ids=lambda reader: reader.name)
def test_forty_odd_files_and_forty_changed_ones(reader: Reader, tmp_path: Path) -> None:
    _, violations = run_reader(reader, tmp_path / "files", count=80, seed=2)
    assert not violations


@pytest.mark.parametrize("limit", [[1], "3", 2.5, True])
def test_the_limit_of_a_scored_run_is_a_number(tmp_path: Path, limit: object) -> None:
    (reader,) = (one for one in ALL if one.name == "systems.json")
    reader.write(tmp_path)
    path = tmp_path / reader.target
    path.write_text(json.dumps(json.loads(path.read_text()) | {"limit": limit}))
    outcome, said = outcome_of(reader, tmp_path)
    assert outcome == "refused", said
    assert "limit: expected int" in said


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes among files")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            ["generate", "--prompt", "rain", "--model", "FOLDER", "-o", "out.wav"],
            marks=pytest.mark.slow,
        ),
        ["batch", "FILE", "-o", "out"],
        ["data", "check", "FILE"],
        pytest.param(
            ["annotate", "run", "FILE", "run", "--junior", "scripted:FILE"],
            marks=pytest.mark.slow,
        ),
        ["bench", "decide", "FILE", "a", "accept", "--who", "b"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_command_never_waits_for_a_pipe(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "model").mkdir()
    pipe = tmp_path / "model" / "card.json"
    os.mkfifo(pipe)
    named = {"FOLDER": str(pipe.parent), "FILE": str(pipe), "scripted:FILE": f"scripted:{pipe}"}
    done = subprocess.run(
        [sys.executable, "-m", "omni2sound", *(named.get(a, a) for a in arguments)],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert readers.__name__ not in done.stderr


def test_a_parquet_file_claims_no_more_than_a_table_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes can hold a billion equal cells."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"name": pa.array(["a"] * 10_000)}), path)
    monkeypatch.setattr(readers, "MAX_ROWS", 10_000)
    assert list(parquet_rows(path)) == [{"name": "a"}] * 10_000
    limits = {"MAX_ROWS": 9_999, "MAX_UNPACKED_BYTES": 10, "MAX_COLUMNS": 0, "MAX_BATCH_BYTES": 10}
    for name, most in limits.items():
        with monkeypatch.context() as patch:
            patch.setattr(readers, name, most)
            with pytest.raises(ConfigError, match="rows"):
                list(parquet_rows(path))


@pytest.mark.parametrize("nested", [False, True])
def test_a_long_cell_that_is_repeated_is_not_unpacked(tmp_path: Path, nested: bool) -> None:
    """In the file it is one entry of a dictionary and a run of rows."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path, cell = tmp_path / "rows.parquet", "x" * 1_000_000
    values = pa.array([0] * 5000, pa.int32())
    column: Any = pa.DictionaryArray.from_arrays(values, [cell])
    if nested:
        column = pa.ListArray.from_arrays(list(range(5001)), column)
    pq.write_table(pa.table({"caption": column}), path)
    assert path.stat().st_size < 2_000_000
    with pytest.raises(ConfigError, match="rows take"):
        list(parquet_rows(path))


def test_memory_of_a_document_is_bounded_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = json.dumps([{"name": "a dog barks, and another", "at": [1, 2.5]}] * 30_000)
    assert len(loads(text)) == 30_000
    for odd in ("{},", "[],", "0,", '"",'):
        with pytest.raises(ValueError, match="MB of memory"):
            loads(f"[{odd * (readers.MAX_PARSED_BYTES // 50 + 1)}0]")
    monkeypatch.setattr(readers, "MAX_PARSED_BYTES", 2_000_000)
    with pytest.raises(ValueError, match="MB of memory"):
        loads(text)


def test_a_line_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", 5)
    path = tmp_path / "a.jsonl"
    path.write_text("12345\n1234\n")
    with pytest.raises(ConfigError, match=r"a\.jsonl:1: longer than 5 bytes"):
        list(text_lines(path))
    path.write_text("1234\n12")
    assert list(text_lines(path)) == ["1234\n", "12"]
