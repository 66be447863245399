"""The dependencies of a release: pinned, with hashes, and none left out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_licences import brought_by

ROOT = Path(__file__).parents[1]


def _pinned(name: str) -> dict[str, set[str]]:
    """Versions by name; a package may have one for each platform."""
    lines = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ").split("\n")
    found: dict[str, set[str]] = {}
    for line in lines:
        if match := re.match(r"([\w.-]+)==([^ ;]+)", line):
            found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


def test_every_requirement_is_pinned_and_has_hashes() -> None:
    text = (ROOT / "locked.txt").read_text(encoding="utf-8")
    assert "://" not in text
    for line in text.replace("\\\n", " ").split("\n"):
        if line and not line.startswith("#"):
            assert re.fullmatch(
                r"[\w.-]+==[\w.]+( ; [^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+", line
            ), line[:80]


def test_versions_are_those_of_the_tests() -> None:
    locked, tested = _pinned("locked.txt"), _pinned("constraints.txt")
    assert {name: locked[name] for name in locked if name in tested} == {
        name: tested[name] for name in locked if name in tested
    }
    assert len(set(locked) & set(tested)) > 40


def test_nothing_that_the_release_needs_is_left_out() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    locked = set(_pinned("locked.txt"))
    assert {canonicalize_name(Requirement(text).name) for text in needed} <= locked
    assert brought_by("omni2sound") <= locked
