"""Laws of the records: one form, every record in its index, and lines that can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
EXPERIMENTS = sorted((DOCS / "experiments").glob("2*.md"))
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
MAX_COLUMNS = 120


def _name(path: Path) -> str:
    return path.name


def _field(text: str, name: str) -> str:
    """The paragraphs after `**name.**`, up to the next field, as one line."""
    found = re.search(
        rf"^\*\*{name}\.\*\* (.+?)(?=^\*\*\w+\.\*\* |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, f"no paragraph that begins with **{name}.**"
    return " ".join(found[1].split())


def _first_sentence(text: str) -> str:
    found = re.match(r".+?[.?!](?=\s|$)", text)
    assert found, f"no sentence: {text!r}"
    return found[0]


def _rows(index: Path) -> dict[str, list[str]]:
    """The rows of an index that end in a link to a file beside it, by the file's name."""
    rows = {}
    for line in index.read_text(encoding="utf-8").splitlines():
        row = re.fullmatch(r"\| (.+) \| \[[^\]]+\]\(([^)/]+\.md)\) \|", line)
        if row:
            assert row[2] not in rows, f"{row[2]} stands twice in {index}"
            rows[row[2]] = row[1].split(" | ")
    return rows


@pytest.mark.parametrize("path", EXPERIMENTS, ids=_name)
def test_an_experiment_stands_in_the_index_with_its_question_and_verdict(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    date = re.fullmatch(r"(\d{4}-\d\d-\d\d)-[a-z0-9-]+\.md", path.name)
    assert date, "not YYYY-MM-DD-slug.md"
    assert re.match(r"# \S", text)
    question = re.search(r"^\*\*Question\.\*\* (.+?)\n\n", text, re.MULTILINE | re.DOTALL)
    assert question
    verdict = _first_sentence(_field(text, "Verdict"))
    row = _rows(DOCS / "experiments" / "index.md")[path.name]
    assert row == [date[1], " ".join(question[1].split()), verdict]


def test_the_index_of_experiments_is_newest_first_and_names_files_that_exist() -> None:
    rows = _rows(DOCS / "experiments" / "index.md")
    assert set(rows) == {path.name for path in EXPERIMENTS}
    dates = [date for date, *_ in rows.values()]
    assert dates == sorted(dates, reverse=True)


@pytest.mark.parametrize("path", DECISIONS, ids=_name)
def test_a_decision_follows_the_template_and_stands_in_the_index(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    number = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", path.name)
    assert number, "not NNNN-slug.md"
    title = re.match(rf"# {number[1]}: (\S.*)\n\n\*\*Status\.\*\* ", text)
    assert title, "does not begin with '# NNNN: title' and a status"
    fields = re.findall(r"^\*\*(\w+)\.\*\* ", text, re.MULTILINE)
    assert fields == ["Status", "Context", "Decision", "Consequences"]
    status = r"(accepted|superseded by \[decision \d+\]\([^)]+\)), \d{4}-\d\d-\d\d"
    assert re.fullmatch(status, _field(text, "Status"))
    row = _rows(DOCS / "decisions" / "index.md")[path.name]
    assert len(row) == 3
    assert row[:2] == [number[1], title[1]]
    assert row[2].endswith(".")


def test_the_index_of_decisions_is_in_order_and_names_files_that_exist() -> None:
    assert list(_rows(DOCS / "decisions" / "index.md")) == [path.name for path in DECISIONS]


RECORDS = sorted([*DOCS.glob("experiments/*.md"), *DOCS.glob("decisions/*.md")])


@pytest.mark.parametrize("path", RECORDS, ids=_name)
def test_prose_of_records_has_no_long_lines(path: Path) -> None:
    """Tables and fenced blocks may be wider."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("|"):
            assert len(line) <= MAX_COLUMNS, f"{path.name}:{number} has {len(line)} columns"
    assert not fenced, "a fenced block does not end"
