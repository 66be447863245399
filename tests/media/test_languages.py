"""Languages of sound tracks: one code each, and which of two are the same."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from omni2sound.media import mux
from omni2sound.media.copy.languages import language_code
from omni2sound.media.copy.sound_tracks import list_tracks
from tests.media.clips import write_video
from tests.media.films import Sound, levels, stack, tone, write_film
from tests.media.test_tracks import own


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ("ger", ("deu", "")),
        ("deu", ("deu", "")),
        ("DE", ("deu", "")),
        ("en-US", ("eng", "us")),
        ("EN_gb", ("eng", "gb")),
        ("zh-Hant-TW", ("zho", "hant-tw")),
        ("chi", ("zho", "")),
        ("fre-CA", ("fra", "ca")),
        ("tlh", ("tlh", "")),
        (" und ", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_language_has_one_code(stated: str, code: tuple[str, str]) -> None:
    assert language_code(stated) == code


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("ger", "deu", True),
        ("eng", "en", True),
        ("en", "en-US", True),
        ("en-US", "EN-us", True),
        ("fra", "fr-CA", True),
        ("pt-BR", "pt-PT", False),
        ("ger", "dut", False),
    ],
)
def test_two_codes_of_one_language_are_one_language(
    tmp_path: Path, first: str, second: str, is_one: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tracks = [
        Sound(audio=stack(tone(hz), tone(hz)), language=language)
        for hz, language in ((300, first), (900, second))
    ]
    film = write_film(tmp_path / "in.mkv", tracks)
    audio, warning = own(film, caplog)
    assert ("sound track 2" in warning) != is_one
    assert levels(audio, 300, 900)[0] == pytest.approx([0.2, 0.2 * is_one], abs=0.02)
    mux(film, tone(1500), tmp_path / "out.mp4", keep_audio=True)
    (kept,) = list_tracks(tmp_path / "out.mp4")
    assert kept.language == language_code(first)[0]


@pytest.mark.parametrize(
    "language",
    [
        "fra",
        "fre",
        "ces",
        "cze",
        "ron",
        "slo",
        "deu",
        "zho",
        "ell",
        "swe",
        "hrv",
        "srp",
        "eng",
        "jpn",
    ],
)
def test_quicktime_has_names_of_its_own(tmp_path: Path, language: str) -> None:
    def named(stream: Any) -> None:
        stream.metadata["language"] = language

    write_video(tmp_path / "in.mkv", ticks=range(3), time_base=Fraction(1, 25), prepare=named)
    for before, after in (("in.mkv", "a.mov"), ("a.mov", "b.mp4"), ("a.mov", "b.mkv")):
        report = mux(tmp_path / before, tone(440), tmp_path / after)
        assert report.lost == ()
        with av.open(str(tmp_path / after)) as container:
            found = container.streams.video[0].metadata["language"]
        assert language_code(found) == language_code(language)
    assert len(found) == 3
    assert found != "sve"
