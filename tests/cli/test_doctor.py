"""What `omni2sound doctor` says of a whole and of an incomplete installation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer

from omni2sound.bundled import BundledPackage
from omni2sound.cli import doctor as doctor_module
from omni2sound.cli.doctor import Check, doctor
from omni2sound.files import write_json
from omni2sound.generate.onnx.folder import CARD, default_folder
from omni2sound.media import Audio, read_audio
from omni2sound.weights import load_card, resolve_model


def _absent(needed_by: str) -> BundledPackage:
    return BundledPackage(
        part="text encoder",
        what="a network",
        needed_by=needed_by,
        name="omni2sound-absent",
        version="1.0",
        sha256="0" * 64,
    )


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "bundled_packages", lambda: ())
    monkeypatch.setattr(
        doctor_module, "_model", lambda: Check(name="default model", ok=True, found="x")
    )


def test_a_whole_installation_is_ok(whole: None, capsys: pytest.CaptureFixture[str]) -> None:
    doctor(as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    names = {check["name"] for check in report["checks"]}
    assert {
        "python",
        "torch",
        "device",
        "reading media",
        "a video of ours",
        "default model",
        "cache",
    } <= names
    assert all(check["fix"] == "" for check in report["checks"] if check["ok"])


def test_a_missing_network_fails_and_names_the_command(
    whole: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor_module, "bundled_packages", lambda: (_absent("generate"),))
    with pytest.raises(typer.Exit) as end:
        doctor(as_json=False)
    assert end.value.exit_code == 1
    lines = capsys.readouterr().out.splitlines()
    (at,) = [at for at, line in enumerate(lines) if "MISSING" in line]
    assert lines[at].startswith("MISSING  text encoder ")
    assert lines[at + 1].strip() == "for generate, run: omni2sound setup"


def test_what_only_the_benchmark_needs_is_no_failure(
    whole: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor_module, "bundled_packages", lambda: (_absent("bench"),))
    doctor(as_json=False)
    assert "for bench, run: omni2sound setup" in capsys.readouterr().out


def test_an_export_that_generate_leaves_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNI2SOUND_CACHE", str(tmp_path))
    monkeypatch.setattr("omni2sound.generate.onnx.folder.has_runtime", lambda: True)
    folder = default_folder(load_card(resolve_model("embedded")).sha256)
    folder.mkdir(parents=True)
    write_json(folder / CARD, {"format": 0})
    check = doctor_module._export()
    assert (check.ok, check.fix) == (False, "omni2sound setup")
    assert "generate loads torch" in check.found


def _open_of_another_pyav(*args: object, **options: object) -> None:
    raise TypeError("open() got an unexpected keyword argument 'metadata_errors'")


def _sound_that_is_late(path: Path) -> Audio:
    audio = read_audio(path)
    late_1N = np.pad(audio.samples_CN, ((0, 0), (audio.sample_rate_hz // 100, 0)))
    return Audio(samples_CN=late_1N, sample_rate_hz=audio.sample_rate_hz)


@pytest.mark.parametrize(
    ("name", "broken", "found"),
    [
        ("av.open", _open_of_another_pyav, "TypeError: open() got an"),
        ("omni2sound.media.read_audio", _sound_that_is_late, "sound +10 ms"),
    ],
)
def test_a_media_library_that_does_not_work_is_found(
    whole: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    broken: Callable[..., object],
    found: str,
) -> None:
    monkeypatch.setattr(name, broken)
    with pytest.raises(typer.Exit) as end:
        doctor(as_json=False)
    assert end.value.exit_code == 1
    before, _, row = capsys.readouterr().out.partition("a video of ours")
    assert before.endswith("MISSING  ")
    assert found in " ".join(row.split())
    assert "for generate, run: pip install 'av" in row
