"""The built page is that of its sources, small, and asks nobody else for anything."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "web" / "studio"
BUILT = ROOT / "src" / "omni2sound" / "serve" / "page"
MAX_BYTES = 400_000

RECORDED: dict[str, dict[str, str]] = json.loads((BUILT / "build.json").read_text("utf-8"))


def _digests(folder: Path, paths: list[Path]) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def test_the_build_is_that_of_the_sources() -> None:
    named = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
    files = [path for path in (SOURCES / "src").rglob("*") if path.is_file()]
    digests = _digests(SOURCES, [SOURCES / name for name in named] + files)
    assert digests == RECORDED["sources"], "the page is older than its sources; run: make page"


def test_built_files_are_as_they_were_built() -> None:
    files = [p for p in BUILT.rglob("*") if p.is_file() and p.name != "build.json"]
    assert _digests(BUILT, files) == RECORDED["built"], "edited by hand; run: make page"
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_the_page_names_no_other_site() -> None:
    known = {
        "http://www.w3.org/",  # names of SVG and HTML in scripts, not addresses
    }
    for path in BUILT.rglob("*.*"):
        found = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}/", path.read_text("utf-8")))
        assert found <= known, path.name


def test_versions_of_the_sources_are_locked() -> None:
    package = json.loads((SOURCES / "package.json").read_text("utf-8"))
    lock = json.loads((SOURCES / "package-lock.json").read_text("utf-8"))
    wanted = package["dependencies"] | package["devDependencies"]
    assert all(re.fullmatch(r"[\d.]+", version) for version in wanted.values())
    found = {name: lock["packages"][f"node_modules/{name}"]["version"] for name in wanted}
    assert found == wanted
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)
