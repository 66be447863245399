"""What ships with the package says truly what it was made from."""

from __future__ import annotations

from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.weights import load_card, resolve_model


def rows() -> list[list[str]]:
    text = load_card(resolve_model("embedded")).attribution
    return [line.split("\t") for line in text.splitlines()][1:]


def test_every_source_is_listed_once() -> None:
    ids = [row[0] for row in rows()]
    assert len(set(ids)) == len(ids) > 500


def test_licences_and_authors_are_those_of_the_catalogue() -> None:
    catalogue = Catalogue.load()
    known = {r.recording_id: r for r in catalogue.recordings}
    known |= {p.picture_id: p for p in catalogue.pictures}  # type: ignore[misc]
    for source, licence, attribution, *_ in rows():
        if source in known:
            assert (licence, attribution) == (
                known[source].licence,
                " ".join(known[source].attribution.split()),
            )


def test_nothing_of_validation_or_test_is_listed() -> None:
    listed = {row[0] for row in rows()}
    held_out = {r.recording_id for r in Catalogue.load().recordings if r.split != "train"}
    assert not listed & held_out
