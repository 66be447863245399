"""Tables by their standards: only CR and LF end a line, quotes hold everything."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.data import tables
from omni2sound.data.tables import Line, Problem, csv_lines, json_items, json_lines
from omni2sound.errors import UserError

# What str.splitlines takes for an end of line, and a JSON or CSV file does not. Reports:
# huggingface/tau#354, datalad/datalad#3523.
SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]


def rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    found = list(csv_lines(path, strip=False))
    assert all(isinstance(line, Line) for line in found), found
    return [(line.number, dict(line.cells)) for line in found if isinstance(line, Line)]


def problems(found: list[Line | Problem]) -> list[int]:
    return [line.line for line in found if isinstance(line, Problem)]


@given(
    cells=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        ),
        min_size=1,
    ),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
)
def test_what_a_csv_writer_wrote_is_read(
    cells: list[tuple[str, str]], line_end: str, bom: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    encoding = "utf-8-sig" if bom else "utf-8"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator=line_end, quoting=csv.QUOTE_ALL)
        writer.writerows([("id", "caption"), *cells])
    assert [tuple(row.values()) for _, row in rows(path)] == cells


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("first_line", ["", "sep={}\r\n"])
def test_a_spreadsheet_is_read_whatever_separates_its_cells(
    tmp_path: Path, separator: str, first_line: str
) -> None:
    path = tmp_path / "t.csv"
    lines = ["id,caption,", 'a,"rain, 2;5\tmm",', ",,", '"",x,', ",,"]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        file.write(first_line.format(separator))
        for line in lines:
            csv.writer(file, delimiter=separator).writerow(next(csv.reader([line])))
    assert [row for _, row in rows(path)] == [
        {"id": "a", "caption": "rain, 2;5\tmm"},
        {"id": "", "caption": "x"},
    ]


def test_the_index_of_pandas_is_no_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(",id,caption\n0,a,rain\n1,b,wind\n", encoding="utf-8")
    assert [row for _, row in rows(path)] == [
        {"id": "a", "caption": "rain"},
        {"id": "b", "caption": "wind"},
    ]


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1),
    ascii_only=st.booleans(),
    bom=st.booleans(),
)
def test_what_a_json_writer_wrote_is_read(
    texts: list[str], ascii_only: bool, bom: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("json") / "t.jsonl"
    lines = [json.dumps({"caption": t}, ensure_ascii=ascii_only) + "\n" for t in texts]
    path.write_text("".join(lines), encoding="utf-8-sig" if bom else "utf-8", newline="")
    found = list(json_lines(path))
    assert [line.cells["caption"] for line in found if isinstance(line, Line)] == texts
    path = path.with_suffix(".json")
    path.write_text(json.dumps([{"caption": t} for t in texts], ensure_ascii=ascii_only))
    found = list(json_items(path))
    assert [line.cells["caption"] for line in found if isinstance(line, Line)] == texts


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_separator_of_lines_elsewhere_is_part_of_an_unquoted_cell(
    tmp_path: Path, separator: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,caption\na,rain{separator}falls\nb,wind\n", encoding="utf-8")
    assert rows(path) == [
        (2, {"id": "a", "caption": f"rain{separator}falls"}),
        (3, {"id": "b", "caption": "wind"}),
    ]


def test_a_quoted_cell_keeps_its_line_breaks_and_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'id,caption\r\na,"rain,\r\nthen ""wind"""\r\n\r\nb,"x\ny"\r\nc,a 5" nail\r\n')
    assert rows(path) == [
        (2, {"id": "a", "caption": 'rain,\r\nthen "wind"'}),
        (5, {"id": "b", "caption": "x\ny"}),
        (7, {"id": "c", "caption": 'a 5" nail'}),
    ]


@pytest.mark.parametrize(
    "damaged",
    [
        'a,"rain falls\nb,wind\n',  # never closed
        'a,"rain falls\nb,"wind"\n',  # closed where the next one opens
        'a,"rain falls\nb,"wind, and rain"\n',
        'a,"rain" falls\nb,wind\n',
        "a,rain,falls\nb,wind\n",
    ],
)
def test_half_a_caption_is_never_taken_for_a_whole_one(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,caption\n" + damaged)
    found = list(csv_lines(path))
    assert problems(found) == [2]
    assert [line.cells["id"] for line in found if isinstance(line, Line)] == ["b"]


def test_a_file_that_was_cut_inside_a_cell_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,caption\na,rain\nb,"wind and\nra')
    found = list(csv_lines(path))
    assert problems(found) == [3, 4]
    assert sum(isinstance(line, Line) for line in found) == 1
    (tmp_path / "t.jsonl").write_text('{"id": "a"}\n{"id": "b", "capt')
    assert problems(list(json_lines(tmp_path / "t.jsonl"))) == [2]
    (tmp_path / "t.json").write_text('{"data": [{"id": "a"}, {"id": "b"}')
    assert problems(list(json_items(tmp_path / "t.json"))) == [1]


def test_where_a_record_may_begin_ends_an_open_quote(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,caption\n1,"rain\n2,wind\n3,snow on a 5"\n4,"a\nb"\n')
    swallowed = list(csv_lines(path))
    assert [line.cells["id"] for line in swallowed if isinstance(line, Line)] == ["1", "4"]
    found = list(csv_lines(path, record_start=re.compile(r"\d+,")))
    assert problems(found) == [2]
    assert [line.cells["id"] for line in found if isinstance(line, Line)] == ["2", "3", "4"]


def test_blanks_belong_to_a_cell_if_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('name, "caption"\n a.wav , "x, y"\n', encoding="utf-8")
    (line,) = csv_lines(path)
    assert isinstance(line, Line)
    assert line.cells == {"name": "a.wav", "caption": "x, y"}
    path.write_text('name,caption\n a.wav ,"x, y"\n', encoding="utf-8")
    assert rows(path) == [(2, {"name": " a.wav ", "caption": "x, y"})]


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,caption\na,caf\xe9\nb,x\n")
    assert problems(list(csv_lines(path))) == [2]
    (tmp_path / "t.jsonl").write_bytes(b'{"id": "caf\xe9"}\n{"id": "\\ud83d"}\n{"id": "x"}\n')
    assert problems(list(json_lines(tmp_path / "t.jsonl"))) == [1, 2]
    (tmp_path / "t.json").write_bytes(b'[{"id": "caf\xe9"}, {"id": "x"}]')
    assert problems(list(json_items(tmp_path / "t.json"))) == [1]
    path.write_text("id,caption\na,b\n", encoding="utf-16")
    with pytest.raises(UserError, match="UTF-16"):
        list(csv_lines(path))


@pytest.mark.parametrize("depth", [900, 990, 1000, 5000, 100_001])
def test_what_is_nested_too_deeply_is_a_problem_and_the_next_item_is_read(
    tmp_path: Path, depth: int
) -> None:
    path = tmp_path / "t.json"
    for text in ("[" * depth, '{"data": ' * depth, "[" * depth + "]" * depth):
        path.write_text(text)
        assert any(isinstance(line, Problem) for line in json_items(path))
        assert any(isinstance(line, Problem) for line in json_lines(path)) or text[0] == "{"
    deep = "[" * depth + "]" * depth
    path.write_text(f'[{{"id": {deep}}}, {{"id": "b"}}]')
    *_, last = json_items(path)
    assert isinstance(last, Line)
    assert last.cells == {"id": "b"}


def test_an_object_beyond_its_limit_is_a_problem_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MAX_ITEM_CHARS", 50)
    path = tmp_path / "t.json"
    fit = [{"id": "a" * n} for n in range(39)]  # of 10 to 48 characters
    path.write_text(json.dumps(fit))
    assert [line.cells for line in json_items(path) if isinstance(line, Line)] == fit
    for long in ('"' + "b" * 60 + '"', "[" + "[1], " * 30 + "[2]]"):
        path.write_text(f'[{{"id": "a"}}, {{"id": {long}}}, {{"id": "c"}}]')
        found = list(json_items(path))
        ids = [line.cells.get("id") for line in found if isinstance(line, Line)]
        assert ids[0] == "a"
        assert ids[-1] == "c"
        assert len(problems(found)) == 1
        path.write_text(f'{{"about": {long}, "data": []}}')
        assert problems(list(json_items(path))) == [1]


@pytest.mark.parametrize("value", ["NaN", "1e999", "9" * 30])
def test_an_object_holds_what_any_reader_can_hold(tmp_path: Path, value: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(f'[{{"id": {value}}}, {{"id": "b"}}]')
    found = list(json_items(path))
    assert [line.cells["id"] for line in found if isinstance(line, Line)] == ["b"]
    assert problems(found) == [1]


def test_the_list_is_the_one_under_the_key_of_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    other = '"about": {"data": [{"id": "no"}], "text": "\\"data\\": [{}]"}, "n": [{"data": []}]'
    path.write_text(f'{{{other}, "data" : [ {{"id": "a"}} , {{"id": "b"}} ], "more": 1}}')
    found = list(json_items(path))
    assert [line.cells["id"] for line in found if isinstance(line, Line)] == ["a", "b"]
    assert problems(found) == []
    for text in (f"{{{other}}}", '{"data": 1}', "{}", "", "3", '{"a": tru, "data": []}', '{"a"'):
        path.write_text(text)
        assert problems(list(json_items(path))) == [1]


def test_a_line_of_more_cells_than_a_table_has_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MAX_CELLS", 10)
    path = tmp_path / "a.csv"
    path.write_text("x" + "," * 11 + "\na,b\n1,2\n")
    problem, line = csv_lines(path)
    assert isinstance(problem, Problem)
    assert "more than 10 cells" in problem.reason
    assert isinstance(line, Line)
    assert line.cells == {"a": "1", "b": "2"}


@pytest.mark.parametrize("row", ["a,b\n", 'a,"b\n'])
def test_a_table_of_malformed_rows_is_another_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    monkeypatch.setattr(tables, "MAX_PROBLEMS", 5)
    path = tmp_path / "table.csv"
    path.write_text("x\n" + row * 5)
    assert all(isinstance(line, Problem) for line in csv_lines(path, record_start=re.compile("a")))
    path.write_text("x\n" + row * 6)
    with pytest.raises(UserError, match=r"table\.csv:7: more than 5 malformed rows"):
        list(csv_lines(path, record_start=re.compile("a")))
