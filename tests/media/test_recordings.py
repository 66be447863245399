"""Recordings of broadcasts and discs: they begin within a group, their clocks jump and wrap."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from omni2sound.media import mux, probe, read_audio
from omni2sound.media.video import iter_pictures
from tests.media.clips import LEVELS, clicks, packets_of, write_video
from tests.media.test_timeline import FPS, RATE, shown, silence


def joined(path: Path, parts: Sequence[Path]) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def ts_part(
    path: Path, first_s: int, seconds: int = 3, *, sound: bool = True, codec: str = ""
) -> Path:
    first = first_s * FPS
    rate_hz = 48_000 if codec == "ac3" else RATE
    with_sound: dict[str, Any] = {}
    if sound:
        with_sound = {
            "sound": clicks([1.0], duration_s=seconds, sample_rate_hz=rate_hz),
            "sound_codec": codec or ("aac" if path.suffix == ".ts" else "mp2"),
            "sound_first_sample": first_s * rate_hz,
        }
    return write_video(
        path, ticks=range(first, first + seconds * FPS), time_base=Fraction(1, FPS),
        codec="libx264" if path.suffix == ".ts" else "mpeg2video",
        options={"g": "25", "bf": "0"}, **with_sound,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "firsts_s", "sound"),
    [
        (".ts", [0, 0], True),  # the clock starts again
        (".ts", [0, 0, 0], True),
        (".ts", [100, 0], True),  # it goes back
        (".ts", [0, 63], True),  # it jumps ahead by a minute
        (".ts", [0, 63, 0], True),
        (".ts", [0, 0], False),
        (".ts", [0, 63], False),
        (".mpg", [0, 0], True),  # program streams: VOB
        (".mpg", [0, 63], True),
    ],
)
def test_parts_joined_byte_by_byte_follow_each_other(
    tmp_path: Path, suffix: str, firsts_s: list[int], sound: bool
) -> None:
    parts = [
        ts_part(tmp_path / f"{i}{suffix}", first, sound=sound) for i, first in enumerate(firsts_s)
    ]
    path = joined(tmp_path / f"joined{suffix}", parts)
    count = len(parts)
    assert probe(path).duration_s == pytest.approx(3 * count, abs=0.15 * count)
    times = [float(time) for time, _ in iter_pictures(path)]
    assert len(times) >= 75 * count - 2 * count
    assert max(np.diff(times)) < 0.2
    out = tmp_path / "out.mp4"
    mux(path, silence(path), out)
    copied = [float(time) for time, _ in iter_pictures(out)]
    assert len(copied) == len(times)
    assert np.allclose(np.diff(copied), np.diff(times), atol=0.001)
    if sound:
        heard = np.abs(read_audio(path).samples_CN[0]) > 0.1
        onsets = np.flatnonzero(heard) / read_audio(path).sample_rate_hz
        onsets = onsets[np.insert(np.diff(onsets) > 0.5, 0, True)]
        assert len(onsets) == count
        # The click of each part is heard with its 26th picture.
        begins = [times[len(times) // count * part] for part in range(count)]
        assert onsets == pytest.approx([begin + 1 for begin in begins], abs=0.05)


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
@pytest.mark.parametrize("codec", ["aac", "mp2", "ac3", "libmp3lame"])
@pytest.mark.parametrize("order", ["-s", "s-s", "--s", "-ss"])
def test_sound_that_begins_in_a_later_part_stands_beside_its_pictures(
    tmp_path: Path, suffix: str, codec: str, order: str
) -> None:
    if suffix == ".mpg" and codec == "aac":
        pytest.skip("program streams hold no AAC")
    silent = ts_part(tmp_path / f"silent{suffix}", 0, sound=False)
    sounding = ts_part(tmp_path / f"sounding{suffix}", 0, codec=codec)
    path = joined(
        tmp_path / f"joined{suffix}", [sounding if kind == "s" else silent for kind in order]
    )
    info, audio = probe(path), read_audio(path)
    assert info.duration_s == pytest.approx(3 * len(order), abs=0.15 * len(order))
    assert info.audio is not None
    begin_s = 3 * order.index("s")
    assert info.audio.start_s - info.timeline.start_s == pytest.approx(begin_s, abs=0.1)
    alone = np.flatnonzero(np.abs(read_audio(sounding).samples_CN[0]) > 0.1)
    place = alone[0] / audio.sample_rate_hz - float(next(iter_pictures(sounding))[0])
    times = [float(time) for time, _ in iter_pictures(path)]
    begins = [times[len(times) // len(order) * n] for n, kind in enumerate(order) if kind == "s"]
    heard = np.flatnonzero(np.abs(audio.samples_CN[0]) > 0.1)
    onsets = heard[np.insert(np.diff(heard) > audio.sample_rate_hz / 2, 0, True)]
    expected = [begin + place for begin in begins]
    assert onsets / audio.sample_rate_hz == pytest.approx(expected, abs=0.042)


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        (".ts", "libx264", {"bf": "2", "sc_threshold": "0"}),
        (".ts", "mpeg2video", {"bf": "2", "flags": "-cgop", "b": "2000000"}),
        (".mkv", "libx264", {"bf": "2", "sc_threshold": "0"}),
        (".mkv", "libvpx-vp9", {}),
        (".mp4", "libx264", {"bf": "2", "sc_threshold": "0"}),
    ],
)
@pytest.mark.parametrize("num_lost", [1, 7, 24])
def test_pictures_before_the_first_key_frame_are_not_shown(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str], num_lost: int
) -> None:
    """A recording of a broadcast begins anywhere."""
    whole = write_video(
        tmp_path / "whole.mp4", ticks=range(100), time_base=Fraction(1, FPS), codec=codec,
        options={**options, "g": "25", "keyint_min": "25"},
    )  # fmt: skip
    path = tmp_path / f"in{suffix}"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number >= num_lost:
                packet.stream = track
                target.mux(packet)
    decoded: list[Fraction] = []
    with av.open(str(path)) as container:
        track = container.streams.video[0]
        for packet in container.demux(track):
            with suppress(av.FFmpegError):  # what can't be decoded
                decoded += [f.pts * packet.time_base for f in packet.decode()]  # type: ignore[operator]
    video = probe(path).video
    assert video is not None
    assert video.num_frames == len(decoded) >= 73
    assert video.start_s == decoded[0]
    assert video.duration_s == pytest.approx(len(decoded) / FPS, abs=0.001)
    for out in (tmp_path / "out.mp4", tmp_path / "out.mkv"):
        mux(path, silence(path), out)
        assert next(is_key for _, _, is_key, _ in packets_of(out))
        assert len(packets_of(out)) == len(decoded)
        assert shown(out) == shown(path) == [n % LEVELS for n in range(100 - len(decoded), 100)]


def test_a_clock_of_33_bits_wraps_behind_a_join(tmp_path: Path) -> None:
    """Pictures are stored in another order than they are shown, so both times wrap apart."""
    parts = []
    for number, first in enumerate((0, 2**33 * FPS // 90_000 - 2 * FPS)):
        parts.append(
            write_video(
                tmp_path / f"{number}.ts", ticks=range(first, first + 5 * FPS),
                time_base=Fraction(1, FPS), options={"g": "25", "bf": "2"},
                sound=clicks([1.0], duration_s=5, sample_rate_hz=RATE),
                sound_first_sample=first * RATE // FPS,
            )
        )  # fmt: skip
    path = joined(tmp_path / "joined.ts", parts)
    times = [float(time) for time, _ in iter_pictures(path)]
    assert len(times) == 10 * FPS
    steps = np.delete(np.diff(times), 5 * FPS - 1)  # at the join, sound may end later
    assert np.allclose(steps, 1 / FPS, atol=0.001)
    assert probe(path).duration_s == pytest.approx(10, abs=0.15)


def test_lossless_sound_has_no_padding(tmp_path: Path) -> None:
    for codec, suffix in (("flac", ".mkv"), ("pcm_s16le", ".mkv"), ("alac", ".mov")):
        path = write_video(
            tmp_path / f"{codec}{suffix}", ticks=range(2, 25), time_base=Fraction(1, FPS),
            sound=clicks([0.0], duration_s=1.09, sample_rate_hz=RATE), sound_codec=codec,
        )  # fmt: skip
        info = probe(path)
        assert info.timeline.start_s == 0
        assert info.duration_s == pytest.approx(1.09, abs=0.002)
        assert read_audio(path).duration_s == pytest.approx(1.09, abs=0.002)
