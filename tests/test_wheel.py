"""The wheel, installed where no clone is, does what the clone does."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

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
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(scripts / "python"), "-m", "pip", "install", "--quiet", "--prefer-binary"]
    pip += ["--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
    # The same build of torch as here: the index's default one may bring gigabytes of CUDA.
    torch = f"torch=={importlib.metadata.version('torch')}"
    index = ["--extra-index-url", CPU_INDEX, "--retries", "0"] if "+cpu" in torch else []
    for arguments in ([*index, "--no-deps", torch], [str(wheel)]):
        done = subprocess.run([*pip, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return scripts


def _run(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
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
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())

    done = _run(omni2sound, "setup", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    healthy = _run(omni2sound, "doctor", "--json", cwd=tmp_path)
    assert json.loads(healthy.stdout)["ok"], healthy.stdout

    done = _run(omni2sound, "demo", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"demo.mp4", "demo_t2a.wav", "demo.png"} <= made
    with av.open(tmp_path / "out" / "demo.mp4") as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
