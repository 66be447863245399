"""Tracks of boxes: laws of joining, and of the crops that are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.recognise.tracks import Edges, Sight, Track, Tracker, crop, iou

PICTURE = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)


@st.composite
def edges(draw: st.DrawFn) -> Edges:
    left, top = draw(st.floats(0, 0.9)), draw(st.floats(0, 0.9))
    return left, top, left + draw(st.floats(0.01, 0.1)), top + draw(st.floats(0.01, 0.1))


def sight(time_s: float, where: Edges = (0.1, 0.1, 0.5, 0.5)) -> Sight:
    return Sight(look=int(time_s), time_s=time_s, edges=where, moved=0.0)


@given(a=edges(), b=edges())
def test_overlap_is_symmetric_and_whole_only_with_itself(a: Edges, b: Edges) -> None:
    assert iou(a, b) == pytest.approx(iou(b, a))
    assert 0 <= iou(a, b) <= 1
    assert iou(a, a) == pytest.approx(1)


@given(speed=st.floats(-0.02, 0.02), count=st.integers(2, 20))
def test_what_moves_slowly_is_one_track(speed: float, count: int) -> None:
    tracker = Tracker(2, 40)
    for i in range(count):
        x = 0.4 + speed * i
        tracker.add(sight(i / 4, (x, 0.4, x + 0.2, 0.6)), PICTURE)
    (track,) = tracker.tracks
    assert len(track.sights) == count


def test_two_things_are_two_tracks_and_a_long_gap_begins_a_new_one() -> None:
    tracker = Tracker(2, 40)
    left, right = (0.0, 0.0, 0.3, 0.3), (0.6, 0.6, 0.9, 0.9)
    for time_s in (0.0, 1.0, 4.0):
        tracker.add(sight(time_s, left), PICTURE)
        tracker.add(sight(time_s, right), PICTURE)
    assert [len(track.sights) for track in tracker.tracks] == [2, 2, 1, 1]


@given(count=st.integers(1, 300), wanted=st.integers(1, 6))
def test_few_crops_of_a_long_track_are_kept_and_spread(count: int, wanted: int) -> None:
    track = Track([])
    for i in range(count):
        track.sights.append(sight(i / 4))
        track.keep(np.full((8, 8, 3), i % 256, np.uint8))
    crops = [int(c[0, 0, 0]) for c in track.spread(wanted)]
    assert 1 <= len(crops) <= min(wanted, count)
    if count <= 256:
        assert crops == sorted(set(crops))
        if len(crops) >= 3:
            steps = np.diff(crops)
            assert steps.max() <= 3 * steps.min()


@given(where=edges())
def test_a_crop_holds_its_pixels(where: Edges) -> None:
    left, top, right, bottom = where
    part = crop(PICTURE, where)
    np.testing.assert_array_equal(part[0, 0], PICTURE[int(top * 40), int(left * 60)])
    assert part.shape[0] >= max(1, int((bottom - top) * 40))
    assert part.shape[1] >= max(1, int((right - left) * 60))


def test_a_large_crop_is_made_smaller() -> None:
    assert crop(np.zeros((400, 600, 3), np.uint8), (0, 0, 1, 1)).shape == (280, 280, 3)


def labelled(time_s: float, where: Edges, label: int, score: float = 0.9) -> Sight:
    return replace(sight(time_s, where), label=label, score=score)


def test_a_rider_and_his_motorcycle_are_two_tracks() -> None:
    """They overlap by .38 in every picture."""
    rider, motorcycle = (0.3, 0.1, 0.6, 0.7), (0.25, 0.35, 0.65, 0.9)
    assert 0.3 < iou(rider, motorcycle) < 0.5
    tracker = Tracker(2, 40)
    for second in range(8):
        tracker.add(labelled(second, rider, 1), PICTURE)
        tracker.add(labelled(second, motorcycle, 4, 0.8), PICTURE)
    assert [{s.label for s in track.sights} for track in tracker.tracks] == [{1}, {4}]


def test_one_thing_is_seen_once_in_a_picture() -> None:
    """Its motion, and a second guess of the detector, are the same thing."""
    where, nearly = (0.1, 0.1, 0.5, 0.5), (0.1, 0.1, 0.5, 0.52)
    tracker = Tracker(2, 40)
    tracker.add(labelled(0, where, 3), PICTURE)
    tracker.add(labelled(0, nearly, 8, 0.4), PICTURE)
    tracker.add(replace(sight(0, nearly), moved=0.5), PICTURE)
    (track,) = tracker.tracks
    assert [(s.label, s.moved) for s in track.sights] == [(3, 0.5)]


def test_a_cut_ends_all_tracks() -> None:
    tracker = Tracker(2, 40)
    tracker.add(sight(0), PICTURE)
    tracker.cut()
    tracker.add(sight(0.25), PICTURE)
    assert len(tracker.tracks) == 2


def test_a_long_film_keeps_few_crops_and_the_largest_tracks() -> None:
    tracker = Tracker(1, 5)
    for i in range(60):
        side = 0.1 + 0.01 * (i % 30)
        seen = sight(3.0 * i, (0.1, 0.1, 0.1 + side, 0.1 + side))
        tracker.add(replace(seen, label=3) if i % 10 == 0 else seen, PICTURE)
    with_crops = [track for track in tracker.tracks if track.spread(1)]
    assert len(with_crops) <= 2 * 5 + 1
    largest = sorted((track.prominence for track in with_crops), reverse=True)[:2]
    assert largest == pytest.approx([0.39, 0.39])
    labelled_ones = [track for track in tracker.tracks if track.sights[0].label == 3]
    assert len(labelled_ones) == 6
    assert len(tracker.tracks) <= 2 * 5 + 1 + 6
