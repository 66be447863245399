"""The committed catalogue keeps its promises, and nothing gets past its checks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omni2sound.bench.quick.score import QUICK_CLASSES
from omni2sound.errors import ConfigError, MissingPartError, ShapeError
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import (
    DISTRACTOR,
    SPLITS,
    Catalogue,
    Recording,
    SoundClass,
)
from omni2sound.scenes.material.licences import licence_rows, licences_json, licences_markdown
from omni2sound.scenes.material.packages import load_packages
from omni2sound.scenes.material.synthesis import SYNTHESIS, synthesise


@pytest.fixture(scope="module")
def committed() -> Catalogue:
    return Catalogue.load()


def families(items: tuple[object, ...]) -> set[str]:
    return {item.family for item in items}  # type: ignore[attr-defined]


def test_there_are_enough_classes_with_pictures_and_impacts(committed: Catalogue) -> None:
    seen = [c for c in committed.classes if c.pictures]
    assert len(committed.classes) >= 40
    assert len(seen) >= 24
    assert sum(c.kind == "impulsive" for c in seen) >= 5


def test_every_class_has_enough_families_to_train_and_to_test(committed: Catalogue) -> None:
    for c in committed.classes:
        train, test = (committed.recordings_of(c.class_id, s) for s in ("train", "test"))
        assert len(families(train)) >= 6, c.class_id
        assert len(families(test)) >= 2, c.class_id


def test_classes_with_pictures_have_them_on_both_sides_and_can_move(committed: Catalogue) -> None:
    for c in committed.classes:
        train, test = (committed.pictures_of(c.class_id, s) for s in ("train", "test"))
        if c.pictures:
            assert len(families(train)) >= 2, c.class_id
            assert len(families(test)) >= 2, c.class_id
            assert c.motions, c.class_id
        else:
            assert not train, c.class_id
            assert not test, c.class_id


def test_there_are_silent_things_on_both_sides(committed: Catalogue) -> None:
    train, test = (committed.pictures_of(DISTRACTOR, s) for s in ("train", "test"))
    assert len(families(train)) >= 40
    assert len(families(test)) >= 20


def test_synthetic_sounds_are_marked_and_serve_training_only(committed: Catalogue) -> None:
    made = [r for r in committed.recordings if r.package == SYNTHESIS]
    assert made
    assert {r.split for r in made} == {"train"}
    assert all(r.family == f"synthesis/{r.path}" and "synth" in r.recording_id for r in made)
    assert {r.attribution for r in made} == {"omni2sound, synthesised"}
    for recording in made[::7]:
        sound = synthesise(recording.path)
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() == pytest.approx(0.9)


def test_what_the_quick_check_measures_has_not_changed(committed: Catalogue) -> None:
    part = committed.of_classes(QUICK_CLASSES)
    ids = [r.recording_id for r in part.recordings if r.split == "test"]
    ids += [p.picture_id for p in part.pictures if p.split == "test"]
    assert part.class_ids == QUICK_CLASSES
    assert len(ids) == 254
    assert hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16] == "63b418055ec2bb0e"


def test_no_family_is_in_two_splits(committed: Catalogue) -> None:
    for items in (committed.recordings, committed.pictures):
        splits = Counter(family for family, _ in {(i.family, i.split) for i in items})
        assert max(splits.values()) == 1


def test_no_file_is_in_two_splits(committed: Catalogue) -> None:
    for items in (committed.recordings, committed.pictures):
        splits = Counter(file for file, _ in {((i.package, i.path), i.split) for i in items})
        assert max(splits.values()) == 1


def test_cuts_are_long_enough_to_hear_and_short_enough_for_a_scene(committed: Catalogue) -> None:
    assert all(0.05 <= r.duration_s <= 8 for r in committed.recordings)


def test_wordings_for_the_test_are_trained_on_by_no_class(committed: Catalogue) -> None:
    trained = {name for c in committed.classes for name in c.names}
    held_out = {name for c in committed.classes for name in c.held_out_names}
    assert not trained & held_out


def test_verbs_for_the_test_are_trained_on_by_no_class(committed: Catalogue) -> None:
    trained = {verb for c in committed.classes for verb in c.verbs}
    held_out = {verb for c in committed.classes for verb in c.held_out_verbs}
    assert not trained & held_out


def test_names_do_not_say_two_classes(committed: Catalogue) -> None:
    for kind in ("names", "held_out_names"):
        names = Counter(name for c in committed.classes for name in getattr(c, kind))
        assert max(names.values()) == 1


def test_classes_share_no_class_of_the_judge_unless_both_ring(committed: Catalogue) -> None:
    owners: dict[str, list[str]] = {}
    for c in committed.classes:
        for name in c.yamnet_classes:
            owners.setdefault(name, []).append(c.class_id)
    shared = {name: ids for name, ids in owners.items() if len(ids) > 1}
    assert shared == {
        "Clang": ["hammer", "cowbell"],
        "Guitar": ["guitar", "bass"],
        "Plucked string instrument": ["guitar", "bass"],
        "Wind instrument, woodwind instrument": ["flute", "saxophone"],
    }


def test_every_package_is_pinned_and_used() -> None:
    whole = Catalogue.load_all()
    used = {item.package for item in (*whole.recordings, *whole.pictures)}
    packages = load_packages()
    assert {p.name for p in packages} == used - {SYNTHESIS}
    for package in packages:
        assert len(package.sha256) == 64
        assert package.size_bytes > 0
        assert package.file_name.startswith(f"{package.name}_")


def test_the_licence_list_counts_everything(committed: Catalogue) -> None:
    rows = licence_rows(committed)
    assert sum(r.num_recordings for r in rows) == len(committed.recordings)
    assert sum(r.num_pictures for r in rows) == len(committed.pictures)
    assert all(r.licence in licences_markdown(committed) for r in rows)
    items = json.loads(licences_json(committed))["items"]
    assert len(items) == len(committed.recordings) + len(committed.pictures)


def test_json_and_back_is_the_same(committed: Catalogue) -> None:
    again = Catalogue.from_json(committed.to_json())
    assert again == committed
    assert again.digest == committed.digest


def test_a_licence_filter_keeps_only_what_it_names(committed: Catalogue) -> None:
    part = committed.only(["GPL-2.0-only", "CC0-1.0"])
    assert {r.licence for r in part.recordings} == {"GPL-2.0-only", "CC0-1.0"}
    heard = {r.class_id for r in part.recordings}
    assert set(part.class_ids) == heard
    assert {p.class_id for p in part.pictures} <= heard | {DISTRACTOR}
    assert part.digest != committed.digest


def test_an_unknown_licence_is_refused_with_the_known_ones(committed: Catalogue) -> None:
    with pytest.raises(ConfigError, match=r"CC0-1\.0"):
        committed.only(["WTFPL"])


def test_a_family_in_two_splits_is_refused(committed: Catalogue) -> None:
    first = committed.recordings[0]
    other = next(s for s in SPLITS if s != first.split)
    clone = replace(first, recording_id="clone", split=other)
    with pytest.raises(ConfigError, match="one split"):
        Catalogue(classes=committed.classes, recordings=(*committed.recordings, clone), pictures=())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_id": "yeti"}, "unknown class"),
        ({"licence": ""}, "no licence"),
        ({"split": "dev"}, "split"),
        ({}, "used twice"),
    ],
)
def test_a_wrong_recording_is_refused(
    committed: Catalogue, change: dict[str, str], message: str
) -> None:
    bad: Recording = replace(committed.recordings[0], **change)  # type: ignore[arg-type]
    rest = committed.recordings if not change else committed.recordings[1:]
    with pytest.raises(ConfigError, match=message):
        Catalogue(classes=committed.classes, recordings=(*rest, bad), pictures=())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"yamnet_classes": ()}, "at least one"),
        ({"yamnet_classes": ("A", "B", "C", "D")}, "at most 3"),
        ({"motions": ("dance",)}, "unknown motions"),
        ({"kind": "loud"}, "kind"),
        ({"held_out_names": ("a drum",), "names": ("a drum",)}, "held out"),
    ],
)
def test_a_wrong_class_is_refused(
    committed: Catalogue, change: dict[str, object], message: str
) -> None:
    drum: SoundClass = committed.sound_class("drum")
    with pytest.raises(ConfigError, match=message):
        replace(drum, **change)  # type: ignore[arg-type]


def test_a_cut_must_have_a_length(committed: Catalogue) -> None:
    with pytest.raises(ConfigError, match="start_s < end_s"):
        replace(committed.recordings[0], start_s=1.0, end_s=1.0)


def test_an_unknown_class_is_named_with_the_known_ones(committed: Catalogue) -> None:
    with pytest.raises(ConfigError, match="drum"):
        committed.sound_class("yeti")


@pytest.mark.parametrize("text", ["", "[]", '{"version": "1"}', "not json"])
def test_what_is_no_catalogue_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="catalogue"):
        Catalogue.from_json(text)


def test_assets_are_read_only(assets: SceneAssets) -> None:
    waveform = assets.waveform(assets.catalogue.recordings[0].recording_id)
    pixels = assets.rgba(assets.catalogue.pictures[0].picture_id)
    with pytest.raises(ValueError, match="read-only"):
        waveform[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0] = 1


def test_assets_without_a_store_say_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="scenes fetch"):
        SceneAssets.open(tmp_path)


def test_assets_from_arrays_must_be_complete_and_well_shaped(assets: SceneAssets) -> None:
    catalogue = assets.catalogue
    waveforms = {r.recording_id: assets.waveform(r.recording_id) for r in catalogue.recordings}
    pictures = {p.picture_id: assets.rgba(p.picture_id) for p in catalogue.pictures}
    with pytest.raises(ConfigError, match="no array"):
        SceneAssets.from_arrays(catalogue, {}, pictures)
    first = catalogue.recordings[0].recording_id
    with pytest.raises(ShapeError, match="float32"):
        SceneAssets.from_arrays(catalogue, {**waveforms, first: np.zeros((2, 5))}, pictures)  # type: ignore[dict-item]


def test_an_item_that_no_store_has_is_named(assets: SceneAssets) -> None:
    with pytest.raises(MissingPartError, match="nothing-of-that-name"):
        assets.waveform("nothing-of-that-name")
    with pytest.raises(MissingPartError, match="nothing-of-that-name"):
        assets.rgba("nothing-of-that-name")


def generated(name: str) -> str:
    page = Path(__file__).parents[3] / "docs" / "reference" / "scene-material.md"
    text = page.read_text(encoding="utf-8")
    return text.split(f"<!-- {name}: generated -->\n")[1].split("<!-- end -->")[0]


def test_the_page_lists_the_licences_of_this_catalogue(committed: Catalogue) -> None:
    assert generated("licences") == licences_markdown(committed)


def test_the_page_counts_this_catalogue(committed: Catalogue) -> None:
    rows = [row.strip("| ").split(" | ") for row in generated("classes").splitlines()[2:]]
    for class_id, _, num_recordings, num_sound_families, num_pictures, _ in rows:
        recordings = [committed.recordings_of(class_id, s) for s in SPLITS]
        pictures = [committed.pictures_of(class_id, s) for s in SPLITS]
        expected = {
            "recordings": " / ".join(str(len(r)) for r in recordings),
            "families": " / ".join(str(len(families(r))) for r in recordings),
            "pictures": " / ".join(str(len(p)) for p in pictures),
        }
        found = {
            "recordings": num_recordings.replace("-", "0 / 0 / 0"),
            "families": num_sound_families.replace("-", "0 / 0 / 0"),
            "pictures": num_pictures.replace("-", "0 / 0 / 0"),
        }
        assert found == expected, class_id
    assert [row[0] for row in rows] == [*committed.class_ids, DISTRACTOR]
