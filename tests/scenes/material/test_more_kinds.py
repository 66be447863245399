"""The kinds that only training uses: beside the benchmark's, never in their place."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.generate.words.kinds import all_kinds
from omni2sound.scenes.material.catalogue import DISTRACTOR, SPLITS, Catalogue
from omni2sound.scenes.material.synthesis import SYNTHESIS

BASE, WHOLE = Catalogue.load(), Catalogue.load_all()
NEW = WHOLE.classes[len(BASE.classes) :]
ADDED = WHOLE.recordings[len(BASE.recordings) :]
STEPS = {f"step_{surface}" for surface in ("gravel", "grass", "snow", "wood", "metal", "stone")}
WANTED = STEPS | {
    *("door", "wind", "applause", "crowd", "kettle", "dishes", "keyboard", "hooves"),
    *("engine", "traffic", "splash"),
}
TRAINING_ONLY = {"keyboard", "kettle", "frying", "fireworks", "cat"}
"""Kinds with fewer than three families of real recordings: none of them can be test material."""


def test_there_are_seventy_kinds_and_those_that_were_missing() -> None:
    assert len(WHOLE.classes) >= 70
    assert set(WHOLE.class_ids) >= WANTED


def test_the_benchmark_kinds_come_first_and_unchanged() -> None:
    assert WHOLE.classes[: len(BASE.classes)] == BASE.classes
    assert WHOLE.recordings[: len(BASE.recordings)] == BASE.recordings
    assert WHOLE.pictures[: len(BASE.pictures)] == BASE.pictures


def test_known_kinds_gain_training_material_only() -> None:
    known = set(BASE.class_ids)
    assert {r.split for r in ADDED if r.class_id in known} == {"train"}
    pictures = WHOLE.pictures[len(BASE.pictures) :]
    assert not {p.class_id for p in pictures} & {*known, DISTRACTOR}


def test_every_kind_is_trained_on_and_those_with_three_families_are_tested() -> None:
    untested = set()
    for kind in NEW:
        families = {
            split: {r.family for r in WHOLE.recordings_of(kind.class_id, split)}
            for split in ("train", "test")
        }
        assert families["train"], kind.class_id
        if not families["test"]:
            untested.add(kind.class_id)
    assert untested == TRAINING_ONLY


def test_synthetic_sounds_serve_training_only() -> None:
    made = [r for r in ADDED if r.package == SYNTHESIS]
    assert {r.class_id for r in made} == {"frying", "heartbeat", "kettle"}
    assert {r.split for r in made} == {"train"}


def test_no_file_and_no_family_is_in_two_splits() -> None:
    for places in (
        {((r.package, r.path), r.split) for r in WHOLE.recordings},
        {(r.family, r.split) for r in WHOLE.recordings},
        {((p.package, p.path), p.split) for p in WHOLE.pictures},
    ):
        assert max(Counter(what for what, _ in places).values()) == 1


def test_cuts_fit_into_a_scene() -> None:
    assert all(0.05 <= r.duration_s <= 8 for r in ADDED)


@pytest.mark.parametrize("field", ["names", "verbs"])
def test_wordings_of_the_test_are_trained_on_by_no_kind(field: str) -> None:
    trained = {w for c in WHOLE.classes for w in getattr(c, field)}
    held_out = {w for c in WHOLE.classes for w in getattr(c, f"held_out_{field}")}
    assert not trained & held_out


def test_names_do_not_say_two_kinds() -> None:
    for field in ("names", "held_out_names"):
        names = Counter(name for c in WHOLE.classes for name in getattr(c, field))
        assert max(names.values()) == 1


def test_the_documented_tables_are_those_of_the_catalogue() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "scene-material.md"
    text = page.read_text(encoding="utf-8")
    kinds = text.split("<!-- more kinds: generated -->")[1].split("<!-- end -->")[0]
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in kinds.splitlines()[3:]]
    rows = [row for row in rows if row]
    assert [row[0] for row in rows] == [c.class_id for c in NEW]
    for class_id, kind, numbers, *_ in rows:
        counts = [len(WHOLE.recordings_of(class_id, split)) for split in SPLITS]
        assert numbers == " / ".join(map(str, counts)), class_id
        assert kind == WHOLE.sound_class(class_id).kind
    licences = text.split("<!-- more licences: generated -->")[1].split("<!-- end -->")[0]
    used = {(r.licence, r.attribution, r.package) for r in ADDED}
    assert all(f"| {' | '.join(row)} |" in licences for row in used)


def test_the_tagger_knows_every_label() -> None:
    known = set(YamNet.load().class_names)
    assert {label for c in NEW for label in c.yamnet_classes} <= known


def test_the_shipped_model_is_said_to_know_what_it_was_trained_on() -> None:
    assert tuple(k.class_id for k in all_kinds()) == BASE.class_ids
