"""Languages of sound tracks: one code each, and which of two are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni2sound.media import mux
from omni2sound.media.copy.languages import language_code
from omni2sound.media.copy.sound_tracks import list_tracks
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
