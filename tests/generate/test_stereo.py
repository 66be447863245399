"""Laws of stereo by place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.generate.stereo import MOST_PAN, to_stereo, widened
from omni2sound.recognise.observe import Place, SeenThing
from omni2sound.recognise.things import load_things

RATE_HZ = 8000
SCENE = next(row.name for row in load_things().rows if row.place and row.sound)


def thing(
    place: Place = "centre",
    *,
    name: str = "dog",
    start_s: float = 0.0,
    end_s: float = 2.0,
    sounding: bool = True,
    prominence: float = 0.5,
) -> SeenThing:
    return SeenThing(
        name=name,
        sound="dog",
        place=place,
        start_s=start_s,
        end_s=end_s,
        moving=True,
        sounding=sounding,
        prominence=prominence,
        silent=None,
    )


THINGS = st.builds(
    thing,
    st.sampled_from(["left", "centre", "right"]),
    name=st.sampled_from(["dog", SCENE]),
    start_s=st.floats(0, 1),
    end_s=st.floats(1, 3),
    sounding=st.booleans(),
    prominence=st.floats(0.05, 1),
)


def noise(seconds: float = 2.0) -> NDArray[np.float32]:
    samples = np.random.default_rng(1).normal(size=round(seconds * RATE_HZ))
    return (0.1 * samples).astype(np.float32)


def level_db(samples_N: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(samples_N.astype(np.float64) ** 2)))


@given(things=st.lists(THINGS, max_size=4), seconds=st.sampled_from([0.01, 0.3, 2.0]))
@settings(max_examples=60, deadline=None)
def test_the_mean_of_the_channels_is_the_mono_sound(
    things: list[SeenThing], seconds: float
) -> None:
    mono_N = noise(seconds)
    stereo_CN = to_stereo(mono_N, RATE_HZ, things)
    assert stereo_CN.shape == (2, len(mono_N)) and stereo_CN.dtype == np.float32
    assert np.abs(stereo_CN.mean(axis=0) - mono_N).max() < 1e-6
    assert abs(level_db(stereo_CN) - level_db(mono_N)) < 1.5


@pytest.mark.parametrize(("place", "expected_db"), [("left", -6.0), ("centre", 0), ("right", 6.0)])
def test_a_thing_is_heard_where_it_is(place: Place, expected_db: float) -> None:
    left_N, right_N = to_stereo(noise(), RATE_HZ, [thing(place)])
    assert level_db(right_N) - level_db(left_N) == pytest.approx(expected_db, abs=0.1)


@pytest.mark.parametrize("things", [[], [thing("left", sounding=False)], [thing("centre")]])
def test_without_a_place_both_channels_are_the_mono_sound(things: list[SeenThing]) -> None:
    mono_N = noise()
    assert np.array_equal(to_stereo(mono_N, RATE_HZ, things), np.stack([mono_N, mono_N]))


def test_a_thing_on_each_side_is_in_the_middle_together_and_apart_one_after_another() -> None:
    mono_N = noise(4.0)
    both = to_stereo(mono_N, RATE_HZ, [thing("left", end_s=4.0), thing("right", end_s=4.0)])
    assert np.abs(both - mono_N).max() < 1e-6
    turns = to_stereo(mono_N, RATE_HZ, [thing("left"), thing("right", start_s=2.0, end_s=4.0)])
    first, last = turns[:, :RATE_HZ], turns[:, -RATE_HZ:]
    assert level_db(first[0]) - level_db(first[1]) == pytest.approx(6, abs=0.1)
    assert level_db(last[1]) - level_db(last[0]) == pytest.approx(6, abs=0.1)
    side_N = (turns[1] - turns[0]) / 2 / np.where(np.abs(mono_N) > 0.01, mono_N, np.inf)
    assert np.abs(side_N).max() <= MOST_PAN + 1e-3


def test_a_scene_is_wide_and_in_the_middle() -> None:
    left_N, right_N = to_stereo(noise(), RATE_HZ, [thing("right", name=SCENE)])
    assert 0.3 < float(np.corrcoef(left_N, right_N)[0, 1]) < 0.7
    assert abs(level_db(left_N) - level_db(right_N)) < 1.0


def test_a_bed_is_wide_whatever_is_seen_and_its_mean_is_itself() -> None:
    left_N, right_N = widened(noise(), RATE_HZ)
    assert 0.3 < float(np.corrcoef(left_N, right_N)[0, 1]) < 0.7
    assert abs(level_db(left_N) - level_db(right_N)) < 1.0
    assert np.abs((left_N + right_N) / 2 - noise()).max() < 1e-6


def test_a_thing_that_is_away_in_between_has_no_place_there() -> None:
    away = replace(thing("left", end_s=6.0), gaps_s=((2.0, 4.0),))
    stereo_CN = to_stereo(noise(6.0), RATE_HZ, [away])
    middle = stereo_CN[:, round(2.6 * RATE_HZ) : round(3.4 * RATE_HZ)]
    assert np.array_equal(middle[0], middle[1])
    assert level_db(stereo_CN[0, -RATE_HZ:]) - level_db(stereo_CN[1, -RATE_HZ:]) > 5
