"""Timecode: pictures counted, at rates that are not whole, too."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentimelineio.opentime import RationalTime, to_timecode

from omni2sound.errors import UserError
from omni2sound.generate.hand_over.timecode import own_start, parse_film_start, timecode_s
from tests.build import video_with_square

NTSC = Fraction(1000, 1001)
RATES = [Fraction(n) for n in (24, 25, 30, 50, 60)] + [n * NTSC for n in (24, 30, 60)]
DROP = [30 * NTSC, 60 * NTSC]


@given(
    st.integers(0, 2_000_000),
    st.sampled_from([(r, False) for r in RATES] + [(r, True) for r in DROP]),
)
def test_each_picture_has_its_timecode(number: int, kind: tuple[Fraction, bool]) -> None:
    fps, is_drop = kind
    text = to_timecode(RationalTime(number, float(fps)), float(fps), drop_frame=is_drop)
    assert timecode_s(text, fps) == number / fps


def test_an_hour_of_timecode() -> None:
    assert timecode_s("01:00:00:00", 24 * NTSC) == Fraction("3603.6")
    assert timecode_s("00:59:56:10", Fraction("23.976")) == pytest.approx(3600, abs=0.02)
    assert float(timecode_s("1:00:00;00", 30 * NTSC)) == pytest.approx(3600, abs=0.004)
    assert timecode_s("01:00:00:12", Fraction(24)) == Fraction("3600.5")


@pytest.mark.parametrize(
    ("text", "fps"),
    [("00:00:01:25", 25), ("01:00:00;00", 25), ("00:01:00;00", 30 * NTSC), ("01:00:00:00", 12.5)],
)
def test_there_is_no_such_timecode(text: str, fps: float) -> None:
    with pytest.raises(UserError, match=r"^film_start: there is no timecode"):
        timecode_s(text, Fraction(fps))


def test_a_timecode_needs_the_film(tmp_path: Path) -> None:
    film = video_with_square(tmp_path / "film.mp4", duration_s=1)
    assert parse_film_start("01:00:00:05", film) == 3600.2
    assert parse_film_start("1:00:00", None) == 3600
    for text, said in (("01:00:00:05", "give the film"), ("1:61:00:00", "expected")):
        with pytest.raises(UserError, match=f"^film_start: .*{said}"):
            parse_film_start(text, None)


def test_a_film_begins_at_its_own_timecode(tmp_path: Path) -> None:
    film = video_with_square(tmp_path / "film.mp4", duration_s=1)
    assert own_start(film) == (0, "")
    for name, text, wanted_s, said in (
        ("a.mov", "10:00:00:05", 36_000.2, "begins at 10:00:00:05"),
        ("b.mkv", "10:00:00:05", 36_000.2, "begins at 10:00:00:05"),
        ("c.mkv", "10:00:00:77", 0.0, "left out: there is no timecode 10:00:00:77"),
    ):
        with av.open(str(film)) as source, av.open(str(tmp_path / name), "w") as target:
            target.metadata["timecode"] = text
            copied = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = copied
                    target.mux(packet)
        start_s, words = own_start(tmp_path / name)
        assert start_s == wanted_s
        assert said in words
