"""The built page is that of its sources, small, and asks nobody else for anything."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SERVE, _BROWSER = (ROOT / "src" / "omni2sound" / name / "page" for name in ("serve", "browser"))
PAGES = {"studio": (_SERVE, 400_000), "try": (_BROWSER, 4_400_000)}
"""Folder of each built page, and its most bytes; most of `try` is ONNX Runtime."""
NO_ADDRESSES = {
    "http://www.w3.org/",  # names of SVG and HTML in scripts
    "https://web.dev/",  # in messages of libraries
    "https://rolldown.rs/",
}

pages = pytest.mark.parametrize("name", PAGES)


def _recorded(name: str) -> dict[str, dict[str, str]]:
    recorded: dict[str, dict[str, str]] = json.loads(
        (PAGES[name][0] / "build.json").read_text("utf-8")
    )
    return recorded


def _digests(folder: Path, paths: list[Path]) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


@pages
def test_the_build_is_that_of_the_sources(name: str) -> None:
    sources = ROOT / "web" / name
    named = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
    files = [path for path in (sources / "src").rglob("*") if path.is_file()]
    digests = _digests(sources, [sources / name for name in named] + files)
    assert digests == _recorded(name)["sources"], "older than its sources; run: make page"


@pages
def test_built_files_are_as_they_were_built(name: str) -> None:
    built, most = PAGES[name]
    files = [p for p in built.rglob("*") if p.is_file() and p.name != "build.json"]
    assert _digests(built, files) == _recorded(name)["built"], "edited by hand; run: make page"
    assert sum(path.stat().st_size for path in files) <= most


@pages
def test_the_page_names_no_other_site(name: str) -> None:
    for path in PAGES[name][0].rglob("*.*"):
        if path.suffix in (".packed", ".txt"):
            continue
        found = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}/", path.read_text("utf-8")))
        assert found <= NO_ADDRESSES, path.name


@pages
def test_versions_of_the_sources_are_locked(name: str) -> None:
    package = json.loads((ROOT / "web" / name / "package.json").read_text("utf-8"))
    lock = json.loads((ROOT / "web" / name / "package-lock.json").read_text("utf-8"))
    wanted = package["dependencies"] | package["devDependencies"]
    assert all(re.fullmatch(r"[\d.]+", version) for version in wanted.values())
    found = {name: lock["packages"][f"node_modules/{name}"]["version"] for name in wanted}
    assert found == wanted
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)
