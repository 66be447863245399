"""The wheel, installed where no clone is, does what the clone does.

What it depends on is not installed a second time, which takes minutes and gigabytes: the new
environment holds links to the packages of this one that the wheel asks for, directly or not, and
to no others. A dependency that is not declared, or not in the declared range, is therefore missed
there. Installation itself is what every `make` begins with.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import av
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a new environment that holds the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        asked = message_from_string(archive.read(metadata).decode()).get_all("Requires-Dist")
    for distribution in _needed([*asked, "pip"]):
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (packages / name).exists():
                (packages / name).symlink_to(str(distribution.locate_file(name)))
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    pip += ["--disable-pip-version-check", "--no-index", str(wheel)]
    done = subprocess.run(pip, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


def _needed(asked: list[str]) -> list[importlib.metadata.Distribution]:
    """What these requirements come to in this environment; each has to be in its range."""
    found: dict[str, importlib.metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(line, "") for line in asked]
    while waiting:
        line, extra = waiting.pop()
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        distribution = importlib.metadata.distribution(requirement.name)
        assert requirement.specifier.contains(distribution.version, prereleases=True), line
        found[requirement.name] = distribution
        for part in ("", *requirement.extras):
            if (requirement.name, part) not in seen:
                seen.add((requirement.name, part))
                waiting += [(needed, part) for needed in distribution.requires or ()]
    return list(found.values())


def _run(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "OMNI2SOUND_NETWORKS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["OMNI2SOUND_CACHE"] = str(cwd.parent / f"{cwd.name}-cache")
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


def test_it_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "src/omni2sound"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    expected = {path.removeprefix("src/") for path in tracked if (ROOT / path).exists()}
    assert expected <= packed
    assert any(path.endswith("card.json") for path in packed), "no model inside"
    assert any(path.endswith(".dist-info/licenses/LICENSE") for path in packed)


def test_it_says_what_is_missing_then_makes_sound(clean: Path, tmp_path: Path) -> None:
    omni2sound = clean / "omni2sound"
    sick = _run(omni2sound, "doctor", cwd=tmp_path)
    assert sick.returncode == 1, sick.stdout + sick.stderr
    assert "omni2sound setup" in sick.stdout
    refused = _run(omni2sound, "generate", "--prompt", "rain", "-o", "rain.wav", cwd=tmp_path)
    assert refused.returncode == 2
    assert "run: omni2sound setup" in refused.stderr
    said = refused.stderr.strip().splitlines()  # a slow start is told, every ten seconds
    assert len([line for line in said if not re.search(r", \d+ s$", line)]) == 1
    assert not list(tmp_path.iterdir())

    done = _run(omni2sound, "setup", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    healthy = _run(omni2sound, "doctor", "--json", cwd=tmp_path)
    assert json.loads(healthy.stdout)["ok"], healthy.stdout

    assert _run(clean / "python", "-m", "pip", "check", cwd=tmp_path).returncode == 0
    without = _run(clean / "python", "-c", "import torch", cwd=tmp_path)
    assert "No module named 'torch'" in without.stderr
    refused = _run(omni2sound, "bench", "quick", "--corpus", "x", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.strip()) == (
        2,
        'omni2sound: this needs torch; run: pip install "omni2sound[torch]"',
    )

    done = _run(omni2sound, "demo", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"demo.mp4", "demo_t2a.wav", "demo.png"} <= made
    with av.open(tmp_path / "out" / "demo.mp4") as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
