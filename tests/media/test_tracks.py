"""A video's own sound: what plays together is mixed, alternatives are chosen among, and said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import MediaError
from omni2sound.media import Audio, mux, read_audio
from omni2sound.media.copy.own_sound import read_own_sound
from omni2sound.media.copy.sound_tracks import SoundTrack, group_tracks, list_tracks
from omni2sound.media.layouts import channel_names
from omni2sound.media.long_sound import mix, to_audio
from tests.media.films import Sound, levels, stack, tone, write_film

DEFAULT = Disposition.default


def own(path: Path, caplog: pytest.LogCaptureFixture) -> tuple[Audio, str]:
    """The sound, and the warning about what is not in it."""
    with caplog.at_level(logging.WARNING, "omni2sound"):
        caplog.clear()
        sound = read_own_sound(path)
    return to_audio(sound.sound), caplog.text


def test_tracks_that_play_together_are_mixed_at_their_own_levels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = write_film(
        tmp_path / "obs.mkv",
        [
            Sound(audio=tone(300, level=0.2), title="game", disposition=DEFAULT),
            Sound(audio=tone(900, rate=44_100, level=0.1), title="microphone"),
            Sound(audio=stack(tone(1500, level=0.05), tone(1500, level=0.05)), title="chat"),
        ],
    )
    audio, warning = own(film, caplog)
    assert not warning
    assert (audio.sample_rate_hz, audio.num_channels) == (48_000, 2)
    for channel in levels(audio, 300, 900, 1500):
        assert channel == pytest.approx([0.2, 0.1, 0.05], rel=0.1)


def test_silent_tracks_are_no_sound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quiet = tone(300, level=0)
    film = write_film(
        tmp_path / "in.mp4",
        [
            Sound(audio=stack(quiet, quiet), disposition=DEFAULT, language="eng"),
            Sound(audio=tone(900), language="deu"),
        ],
    )
    audio, warning = own(film, caplog)
    assert not warning
    assert levels(audio, 900)[0] == pytest.approx([0.2], rel=0.1)
    all_silent = write_film(tmp_path / "silent.mp4", [Sound(audio=quiet), Sound(audio=quiet)])
    assert np.abs(own(all_silent, caplog)[0].samples_CN).max() < 1e-4


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("default", [0, 1, 2])
def test_of_languages_the_default_track_is_kept_and_the_others_are_named(
    tmp_path: Path, suffix: str, default: int, caplog: pytest.LogCaptureFixture
) -> None:
    frequencies, languages = (300, 900, 1500), ("eng", "spa", "fra")
    film = write_film(
        tmp_path / f"in{suffix}",
        [
            Sound(
                audio=tone(frequencies[i]), language=languages[i],
                disposition=DEFAULT if i == default else Disposition(0),
            )
            for i in range(3)
        ],
    )  # fmt: skip
    audio, warning = own(film, caplog)
    found = levels(audio, *frequencies)[0]
    assert found[default] == pytest.approx(0.2, rel=0.1)
    assert sum(found) - found[default] < 0.01
    assert warning.count("\n") == 1
    for i, language in enumerate(languages):
        assert (f"{i + 1} ({language})" in warning.split("beside")[0]) == (i != default)
    assert read_own_sound(film).language == languages[default]


def test_two_tracks_of_one_language_play_together_beside_a_third_of_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = write_film(
        tmp_path / "in.mkv",
        [
            Sound(audio=tone(300), language="deu"),
            Sound(audio=tone(900), language="eng", disposition=DEFAULT, title="film"),
            Sound(audio=tone(1500), language="eng", title="effects"),
        ],
    )
    audio, warning = own(film, caplog)
    assert levels(audio, 300, 900, 1500)[0] == pytest.approx([0, 0.2, 0.2], abs=0.02)
    assert "sound track 1 (deu) not kept" in warning


@pytest.mark.parametrize(
    "marked", [Disposition.comment, Disposition.visual_impaired, Disposition.hearing_impaired]
)
def test_commentaries_and_descriptions_are_no_part_of_the_film(
    tmp_path: Path, marked: Disposition, caplog: pytest.LogCaptureFixture
) -> None:
    film = write_film(
        tmp_path / "in.mkv",
        [
            Sound(audio=tone(300), language="eng", disposition=DEFAULT),
            Sound(audio=tone(900), language="eng", disposition=marked, title="the director"),
        ],
    )
    audio, warning = own(film, caplog)
    assert levels(audio, 300, 900)[0] == pytest.approx([0.2, 0], abs=0.02)
    assert "sound track 2 (the director, eng) not kept" in warning


@pytest.mark.parametrize(("language", "level"), [("eng", 0), ("", 0.2)])
def test_a_title_says_commentary_where_nobody_marked_it(
    tmp_path: Path, language: str, level: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a language it is a recording, in which the player's voice is part of the sound."""
    titled = Sound(audio=tone(900), language=language, title="Director's Commentary")
    main = Sound(audio=tone(300), language=language, disposition=DEFAULT)
    audio, warning = own(write_film(tmp_path / "in.mkv", [main, titled]), caplog)
    assert levels(audio, 300, 900)[0] == pytest.approx([0.2, level], abs=0.02)
    assert ("Director's Commentary" in warning) == (level == 0)


def test_a_default_track_that_is_not_the_first_was_chosen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = write_film(
        tmp_path / "in.mkv",
        [Sound(audio=tone(300)), Sound(audio=tone(900), disposition=DEFAULT)],
    )
    audio, warning = own(film, caplog)
    assert levels(audio, 300, 900)[0] == pytest.approx([0, 0.2], abs=0.02)
    assert "sound track 1 not kept: beside 2 it is an alternative" in warning


@pytest.mark.parametrize("other_codec", ["aac", "ac3", "flac"])
def test_a_sum_beside_its_parts_and_the_same_sound_twice_are_heard_once(
    tmp_path: Path, other_codec: str, caplog: pytest.LogCaptureFixture
) -> None:
    both = stack(tone(300, 900), tone(300, 900))
    stems = write_film(
        tmp_path / "stems.mkv",
        [
            Sound(audio=both, disposition=DEFAULT, title="all"),
            Sound(audio=stack(tone(300), tone(300)), codec=other_codec, title="game"),
            Sound(audio=stack(tone(900), tone(900)), codec=other_codec, title="voice"),
        ],
    )
    twice = write_film(
        tmp_path / "twice.mkv",
        [Sound(audio=both, disposition=DEFAULT), Sound(audio=both, codec=other_codec)],
    )
    for film in (stems, twice):
        audio, warning = own(film, caplog)
        assert levels(audio, 300, 900)[0] == pytest.approx([0.2, 0.2], rel=0.1)
        assert "not kept" in warning


@pytest.mark.parametrize("delay", [0, 130, 771])
@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_one_sound_in_two_codecs_is_heard_once_whatever_their_delays(
    tmp_path: Path, delay: int, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    generator = np.random.default_rng(delay)
    noise_N = np.convolve(generator.normal(0, 0.2, 96_000), np.hanning(33) / 16, "same")
    first = Audio(samples_CN=noise_N[None].astype(np.float32), sample_rate_hz=48_000)
    second = Audio(samples_CN=np.roll(0.8 * first.samples_CN, delay, axis=1), sample_rate_hz=48_000)
    film = write_film(
        tmp_path / f"in{suffix}",
        [Sound(audio=stack(first, first)), Sound(audio=stack(second, second), codec="ac3")],
        duration_s=2,
    )
    audio, warning = own(film, caplog)
    assert "sound track 2 not kept" in warning
    level = np.sqrt(np.mean(audio.samples_CN[0, 4000:90_000] ** 2))
    assert level == pytest.approx(np.sqrt(np.mean(noise_N[4000:90_000] ** 2)), rel=0.1)


def test_different_sounds_of_one_kind_are_both_heard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generator = np.random.default_rng(0)
    parts = [
        Audio(samples_CN=generator.normal(0, 0.1, (2, 48_000)).astype(np.float32),
              sample_rate_hz=48_000)
        for _ in range(2)
    ]  # fmt: skip
    film = write_film(tmp_path / "in.mkv", [Sound(audio=part, codec="flac") for part in parts])
    audio, warning = own(film, caplog)
    assert not warning
    assert np.abs(audio.samples_CN - parts[0].samples_CN - parts[1].samples_CN).max() < 1e-3


def test_mono_tracks_of_a_camera_are_left_and_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pcm = [Sound(audio=tone(f), codec="pcm_s16le") for f in (300, 900, 1500, 2100)]
    audio, warning = own(write_film(tmp_path / "two.mov", pcm[:2]), caplog)
    assert levels(audio, 300, 900) == [
        pytest.approx([0.2, 0], abs=0.01),
        pytest.approx([0, 0.2], abs=0.01),
    ]
    audio, _ = own(write_film(tmp_path / "four.mov", pcm), caplog)
    assert levels(audio, 300, 900, 1500, 2100) == [
        pytest.approx([0.2, 0, 0.2, 0], abs=0.01),
        pytest.approx([0, 0.2, 0, 0.2], abs=0.01),
    ]
    assert not warning
    # One microphone, its other channel silent: from the front, not from the left.
    quiet = Sound(audio=tone(900, level=0), codec="pcm_s16le")
    audio, _ = own(write_film(tmp_path / "one.mov", [pcm[0], quiet]), caplog)
    assert audio.num_channels == 1
    # The same microphone on both: equal halves are no duplicates.
    audio, warning = own(write_film(tmp_path / "same.mov", [pcm[0], pcm[0]]), caplog)
    assert levels(audio, 300) == [pytest.approx([0.2], abs=0.01)] * 2
    assert not warning


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".mp4"])
@pytest.mark.parametrize(
    ("spans_s", "groups"),
    [
        ([(0, 2), (0.5, 2)], [[1], [2]]),
        ([(0, 2), (0, 1)], [[1], [2]]),
        ([(0.5, 2), (0.5, 2)], [[1, 2]]),
        ([(0, 2), (0, 2), (0.8, 2)], [[1, 2], [3]]),
        ([(0, 2), (0, 2), (0.8, 2), (0.8, 2)], [[1, 2], [3, 4]]),
        ([(0, 2), (0.8, 2), (0, 2)], [[1], [2], [3]]),
        ([(0, 2)] * 3, [[1], [2], [3]]),
        ([(0, 2)] * 4 + [(0.8, 2), (0, 1)], [[1, 2], [3, 4], [5], [6]]),
    ],
)
def test_a_microphone_that_comes_late_or_stops_early_is_no_channel_of_another(
    tmp_path: Path,
    suffix: str,
    spans_s: list[tuple[float, float]],
    groups: list[list[int]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    codec = "aac" if suffix == ".mp4" else "pcm_s16le"
    sounds = [
        Sound(audio=tone(hz, duration_s=end - start), codec=codec, start_s=start)
        for hz, (start, end) in zip(SIX_HZ, spans_s, strict=False)
    ]
    film = write_film(tmp_path / f"in{suffix}", sounds, duration_s=2)
    found = group_tracks(list_tracks(film))
    assert [[track.number for track in group.tracks] for group in found] == groups
    audio, warning = own(film, caplog)
    assert not warning
    if all(len(group) == 1 for group in groups):
        assert audio.num_channels == 1
    middle_CN = audio.samples_CN[:, 44_000:48_000]  # from .92 s to 1 s all of them are heard
    middle = Audio(samples_CN=middle_CN, sample_rate_hz=48_000)
    for number, hz in enumerate(SIX_HZ[: len(spans_s)], 1):
        heard = [row[0] > 0.1 for row in levels(middle, hz)]
        (group,) = (group for group in groups if number in group)
        sides = [group.index(number) == side for side in (0, 1)]
        assert heard == (sides if len(group) == 2 else [True] * audio.num_channels)


SIX_HZ = (300, 600, 900, 1200, 1500, 1800)


def mono_tracks(names: list[str], **details: Any) -> list[Sound]:
    """PCM tracks of one channel, each with a tone of its own; "" states no loudspeaker."""
    return [
        Sound(audio=tone(hz), codec="pcm_s16le", layout=name, **details)
        for hz, name in zip(SIX_HZ, names, strict=False)
    ]


def heard_where(audio: Audio) -> dict[str, list[int]]:
    """The tones in each channel."""
    assert audio.layout is not None
    found = levels(audio, *SIX_HZ)
    return {
        name: [hz for hz, level in zip(SIX_HZ, row, strict=True) if level > 0.02]
        for name, row in zip(channel_names(audio.layout), found, strict=True)
    }


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["FL", "FR", "FC", "LFE", "SL", "SR"], "5.1(side)"),
        (["FL", "FC", "FR", "SL", "SR", "LFE"], "5.1(side)"),
        (["BL", "BR", "FL", "FR", "FC", "LFE"], "5.1"),
        (["FL", "FR", "FC"], "3.0"),
        (["FR", "FL"], "stereo"),
        (["DR", "DL"], "stereo"),
    ],
)
@pytest.mark.parametrize("title", ["", "a name"])
def test_a_track_of_one_channel_is_heard_where_it_says(
    tmp_path: Path, names: list[str], layout: str, title: str, caplog: pytest.LogCaptureFixture
) -> None:
    # mov has no name for a centre alone but mono; a mono track with a title is what the title says.
    tracks = mono_tracks(["" if name == "FC" else name for name in names])
    if title and "FC" not in names:
        tracks = mono_tracks(names, title=title)
    audio, warning = own(write_film(tmp_path / "in.mov", tracks), caplog)
    assert not warning
    assert audio.layout == layout
    by_name = {name.replace("D", "F"): [hz] for name, hz in zip(names, SIX_HZ, strict=False)}
    assert heard_where(audio) == by_name


def test_six_mono_tracks_that_say_nothing_are_surround(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    six = mono_tracks([""] * 6)
    audio, warning = own(write_film(tmp_path / "six.mov", six), caplog)
    assert not warning
    assert audio.layout == "5.1"
    assert list(heard_where(audio).values()) == [[hz] for hz in SIX_HZ]
    # A recorder with two of six inputs in use.
    quiet = Sound(audio=tone(300, level=0), codec="pcm_s16le")
    audio, _ = own(write_film(tmp_path / "two.mov", [*six[:2], *[quiet] * 4]), caplog)
    assert heard_where(audio) == {"FL": [300], "FR": [600]}
    audio, _ = own(write_film(tmp_path / "lfe.mov", [*six[:3], quiet, *six[4:]]), caplog)
    assert list(heard_where(audio).values()) == [[300], [600], [900], [], [1500], [1800]]


def test_sets_of_loudspeakers_are_told_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audio, _ = own(write_film(tmp_path / "a.mov", mono_tracks(["FL", "FR", "FR", "FL"])), caplog)
    assert heard_where(audio) == {"FL": [300, 1200], "FR": [600, 900]}
    # Of two mono tracks beside a left and a right one, neither is the centre.
    audio, _ = own(write_film(tmp_path / "b.mov", mono_tracks(["FL", "", "", "FR"])), caplog)
    assert heard_where(audio) == {"FL": [300, 600, 900], "FR": [600, 900, 1200]}
    # A left and a right one that sound the same are no duplicates.
    same = [Sound(audio=tone(300), codec="pcm_s16le", layout=name) for name in ("FL", "FR")]
    audio, warning = own(write_film(tmp_path / "c.mov", same), caplog)
    assert levels(audio, 300) == [pytest.approx([0.2], abs=0.01)] * 2
    assert not warning


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "", "FL", "FR", "LFE", "SL", "SR", "BL", "BR", "TFC"]),
            st.sampled_from(["", "", "", "voice"]),
            st.sampled_from([1, 1, 1, 2]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_each_track_is_in_one_group_and_has_one_channel_of_it(
    found: list[tuple[str, str, int]],
) -> None:
    tracks = [
        SoundTrack(
            index=i, number=i + 1, title=title, channels=channels,
            layout="mono" if channels == 1 else "stereo", speaker=speaker if channels == 1 else "",
        )
        for i, (speaker, title, channels) in enumerate(found)
    ]  # fmt: skip
    groups = group_tracks(tracks)
    assert sorted(t.number for group in groups for t in group.tracks) == [t.number for t in tracks]
    for group in groups:
        assert group.layout is not None
        names = channel_names(group.layout)
        assert len(names) == group.num_channels
        if len(group.tracks) > 1:
            stated = any(track.speaker for track in group.tracks)
            for name, track in zip(names, group.tracks, strict=True):
                assert track.speaker == name or not track.speaker
                assert track.speaker or name == "FC" or not stated


def test_a_voice_beside_surround_is_heard_from_the_front(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = tone(300, level=0)
    surround = stack(tone(300), quiet, quiet, quiet, quiet, tone(900))
    film = write_film(tmp_path / "in.mkv", [Sound(audio=surround, codec="flac"), Sound(
        audio=tone(1500), codec="flac", title="voice")])  # fmt: skip
    audio, _ = own(film, caplog)
    assert levels(audio, 300, 900, 1500) == [
        pytest.approx(wanted, abs=0.01)
        for wanted in ([0.2, 0, 0.2], [0, 0, 0.2], [0] * 3, [0] * 3, [0] * 3, [0, 0.2, 0])
    ]


def test_tracks_keep_their_places_in_time(tmp_path: Path) -> None:
    parts = [tone(300, duration_s=0.4), tone(300, duration_s=1.0)]
    mixed = to_audio(mix(*parts))
    assert mixed.samples_CN.shape == (1, 48_000)
    assert np.allclose(mixed.samples_CN[:, 20_000:], parts[1].samples_CN[:, 20_000:])
    with pytest.raises(MediaError, match="has no sound"):
        read_own_sound(write_film(tmp_path / "mute.mp4"))
    assert list_tracks(tmp_path / "mute.mp4") == []


def test_keep_audio_keeps_all_that_plays_together(tmp_path: Path) -> None:
    film = write_film(
        tmp_path / "in.mkv",
        [Sound(audio=tone(300), title="game"), Sound(audio=tone(900), title="microphone")],
    )
    for suffix in (".mkv", ".mp4"):
        out = tmp_path / f"out{suffix}"
        mux(film, tone(1500), out, keep_audio=True)
        assert levels(read_audio(out), 300, 900, 1500)[0] == pytest.approx([0.2] * 3, rel=0.1)
