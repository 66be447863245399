"""`omni2sound bench quick` from folders to a table, with a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from omni2sound.cli.bench.commands import app
from omni2sound.scenes.material.assets import SceneAssets
from tests.bench.conftest import assets, tonal_assets  # noqa: F401 (fixtures)
from tests.build import tiny_model_folder


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory,
    tonal_assets: SceneAssets,  # noqa: F811
) -> tuple[Path, Path]:
    """A prepared corpus and a model."""
    store = tmp_path_factory.mktemp("store")
    (store / "catalogue.json").write_text(tonal_assets.catalogue.to_json(), encoding="utf-8")
    (store / "recordings").mkdir()
    (store / "pictures").mkdir()
    for recording in tonal_assets.catalogue.recordings:
        name = recording.recording_id
        soundfile.write(store / "recordings" / f"{name}.flac", tonal_assets.waveform(name), 16_000)
    for picture in tonal_assets.catalogue.pictures:
        name = picture.picture_id
        Image.fromarray(tonal_assets.rgba(name)).save(store / "pictures" / f"{name}.png")
    return store, tiny_model_folder(tmp_path_factory.mktemp("model") / "tiny")


def run(folders: tuple[Path, Path], *more: str) -> tuple[int, str]:
    store, model = folders
    arguments = ["quick", "--corpus", store, "--model", model, "--scenes", 3, "--prompts", 4]
    settings = ["--duration", 1.6, "--steps", 1, "--batch", 2, "--device", "cpu", *more]
    result = CliRunner().invoke(app, [str(a) for a in arguments + settings])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


@pytest.fixture(scope="module")
def told(folders: tuple[Path, Path]) -> tuple[int, str]:
    return run(folders, "--json", "--seed", "7")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_report(
    folders: tuple[Path, Path], told: tuple[int, str]
) -> None:
    assert run(folders, "--json", "--seed", "7") == told


def test_json_holds_rows_checks_and_where_they_come_from(told: tuple[int, str]) -> None:
    code, stdout = told
    report = json.loads(stdout)
    assert code == (0 if report["passed"] else 1)
    assert [(r["task"], r["system"]) for r in report["rows"]] == [
        ("V2A", "generated"),
        ("V2A", "generated, shuffled"),
        ("V2A", "oracle"),
        ("V2A", "motion-energy"),
        ("V2A", "silence"),
        ("V2A", "generated minus motion-energy"),
        ("T2A", "generated"),
        ("T2A", "generated, shuffled"),
        ("T2A", "oracle"),
        ("T2A", "oracle, shuffled"),
        ("T2A", "silence"),
    ]
    assert report["rows"][2]["rate"]["value"] == 1
    assert len(report["checks"]) == 4
    facts = report["facts"]
    # The tagger knows neither the tones nor the noise, so it has no rows here.
    assert {"bell", "drum"} <= set(facts["classes_left_out_2nd"])
    assert (facts["seed"], facts["steps"], facts["guidance"]) == (7, 1, 2.0)
    assert len(facts["model_sha256"]) == 64


@pytest.mark.slow
def test_a_random_model_fails_and_the_table_says_so(folders: tuple[Path, Path]) -> None:
    code, stdout = run(folders)
    assert code == 1
    assert "motion-energy" in stdout
    assert "FAIL" in stdout


def test_both_taggers_are_shown_beside_each_other(folders: tuple[Path, Path]) -> None:
    store, _ = folders
    result = CliRunner().invoke(app, ["taggers", "--corpus", str(store), "--json"])
    assert result.exception is None, result.exception
    rates = json.loads(result.stdout)
    assert set(rates) == {"yamnet", "tagger"}
    assert set(rates["yamnet"]) == set(rates["tagger"])
    assert all(0 <= rate <= 1 for tagger in rates.values() for rate in tagger.values())
    shown = CliRunner().invoke(app, ["taggers", "--corpus", str(store)]).stdout
    assert shown.splitlines()[0].split() == [
        "class", "recordings", "yamnet", "yamnet,", "others", "tagger", "tagger,", "others",
    ]  # fmt: skip
    assert "left out" in shown
