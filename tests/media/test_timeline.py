"""What is seen and heard when: edit lists, clocks that jump, tracks of unequal length."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.media import Audio, iter_frames, mux, probe, read_audio
from omni2sound.media.files import open_input
from omni2sound.media.packets import copy_packets
from omni2sound.media.timing.timeline import join
from omni2sound.media.video import iter_pictures
from tests.media.clips import LEVELS, clicks, number_of, onset_s, packets_of, write_video

RATE = 16_000
FPS = 25
GROUP = 25
"""Pictures from one key frame to the next: one second."""
ONE_PICTURE_S = Fraction(1, FPS)


def film(path: Path, seconds: int, *, clicks_s: Sequence[float] = (), **more: Any) -> Path:
    """Numbered pictures at 25 a second with B-frames, and sound of the same length."""
    options = {"bf": "2", "g": str(GROUP), "keyint_min": str(GROUP), "sc_threshold": "0"}
    return write_video(
        path, ticks=range(seconds * FPS), time_base=Fraction(1, FPS), options=options,
        sound=clicks(clicks_s, duration_s=seconds, sample_rate_hz=RATE), **more,
    )  # fmt: skip


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start < end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        yield kind, start, size
        start += size


def edited(
    source: Path,
    target: Path,
    edits: Sequence[tuple[float | None, float]],
    *,
    sound: Sequence[tuple[float | None, float]] | None = None,
) -> Path:
    """Give every track of an mp4 an edit list of (start, length), None for a part with nothing.

    `moov` lies last; `sound` is for the sound tracks, if not the same.
    """
    picture = edits
    data = source.read_bytes()
    moov, size = next((a, n) for kind, a, n in boxes(data, 0, len(data)) if kind == b"moov")
    assert moov + size == len(data)
    scale, out = 0, b""
    for kind, a, n in boxes(data, moov + 8, moov + size):
        body = data[a : a + n]
        if kind == b"mvhd":
            scale = struct.unpack(">I", body[20:24])[0]
            whole = int(sum(length for _, length in edits) * scale)
            body = body[:24] + struct.pack(">I", whole) + body[28:]
        if kind == b"trak":
            edits = picture if sound is None or b"vide" in body else sound
            mdia = next(b for k, b, _ in boxes(body, 8, n) if k == b"mdia")
            mdhd = next(b for k, b, _ in boxes(body, mdia + 8, n) if k == b"mdhd")
            ticks = struct.unpack(">I", body[mdhd + 20 : mdhd + 24])[0]
            old = next(body[b : b + m] for k, b, m in boxes(body, 8, n) if k == b"edts")
            delay = struct.unpack(">i", old[28:32])[0]
            times = [(-1 if a is None else round(a * ticks) + delay, n) for a, n in edits]
            elst = struct.pack(">II", 0, len(edits)) + b"".join(
                struct.pack(">IiI", round(length * scale), media_time, 1 << 16)
                for media_time, length in times
            )
            edts = struct.pack(">I4sI4s", 16 + len(elst), b"edts", 8 + len(elst), b"elst") + elst
            parts = b"".join(
                edts if k == b"edts" else body[b : b + m] for k, b, m in boxes(body, 8, n)
            )
            body = struct.pack(">I4s", 8 + len(parts), b"trak") + parts
        out += body
    target.write_bytes(data[:moov] + struct.pack(">I4s", 8 + len(out), b"moov") + out)
    return target


def shown(path: Path) -> list[int]:
    return [number_of(picture) for picture in iter_frames(path, fps=FPS)]


def numbers(*spans_s: tuple[float, float]) -> list[int]:
    """Numbers of the pictures of (start, length) of a film."""
    return [
        number % LEVELS
        for start, length in spans_s
        for number in range(round(start * FPS), round((start + length) * FPS))
    ]


def silence(path: Path) -> Audio:
    num_samples = round(probe(path).duration_s * RATE)
    return Audio(samples_CN=np.zeros((1, num_samples), np.float32), sample_rate_hz=RATE)


# A: edit lists


TRIMS = {
    "head": [(2.4, 3.6)],
    "head at a key frame": [(2.0, 4.0)],
    "tail": [(0.0, 2.6)],
    "tail at a key frame": [(0.0, 3.0)],
    "both ends": [(1.6, 2.2)],
    "less than a group": [(2.2, 0.4)],
}


@pytest.mark.parametrize("name", TRIMS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_copy_of_a_trimmed_film_shows_what_the_film_shows(
    tmp_path: Path, name: str, suffix: str
) -> None:
    whole = film(tmp_path / "whole.mp4", 6, clicks_s=[2.5, 2.7])
    trimmed = edited(whole, tmp_path / "trimmed.mp4", TRIMS[name])
    (span,) = TRIMS[name]
    assert probe(trimmed).duration_s == pytest.approx(span[1], abs=0.001)
    assert shown(trimmed) == numbers(span)
    if span[0] <= 2.5 < sum(span):
        assert onset_s(read_audio(trimmed)) == pytest.approx(2.5 - span[0], abs=0.002)
    out = tmp_path / f"out{suffix}"
    mux(trimmed, silence(trimmed), out)
    assert shown(out) == numbers(span)
    assert probe(out).duration_s == pytest.approx(span[1], abs=0.001)
    with av.open(str(out)) as container:  # what FFmpeg shows, not only we
        decoded = [number_of(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert decoded == numbers(span)
    # What the trim cut away and no picture needs is not in the file at all.
    assert len(packets_of(out)) <= len(packets_of(trimmed))
    last_needed = round((span[0] + span[1]) * FPS) + 3  # references of B-frames
    assert len(packets_of(out)) <= last_needed


@pytest.mark.parametrize("name", ["head", "tail", "both ends"])
@pytest.mark.parametrize("codec", ["libx264"])
def test_matroska_has_no_edit_lists_and_says_so(tmp_path: Path, name: str, codec: str) -> None:
    trimmed = edited(
        film(tmp_path / "whole.mp4", 6, codec=codec), tmp_path / "trimmed.mp4", TRIMS[name]
    )
    with pytest.raises(UserError, match=r"out\.mkv: .* use \.mp4 or \.mov, or `reencode`$"):
        mux(trimmed, silence(trimmed), tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("first_s", [2.0, 1.999])  # editors round to 1 ms
def test_a_cut_at_a_key_frame_goes_into_matroska(tmp_path: Path, first_s: float) -> None:
    whole = film(tmp_path / "whole.mp4", 6)
    trimmed = edited(whole, tmp_path / "trimmed.mp4", [(first_s, 4.0)])
    mux(trimmed, silence(trimmed), tmp_path / "out.mkv")
    assert shown(tmp_path / "out.mkv") == numbers((2.0, 4.0))


@pytest.mark.parametrize(
    "edits", [[(0.0, 1.6), (3.4, 1.6)], [(1.0, 1.0), (4.4, 1.0)], [(3.4, 1.0), (0.0, 1.0)]]
)
def test_joined_parts_are_seen_and_not_copied(
    tmp_path: Path, edits: list[tuple[float, float]]
) -> None:
    joined = edited(film(tmp_path / "whole.mp4", 6), tmp_path / "joined.mp4", edits)
    seen = [number_of(f.to_ndarray(format="rgb24")) for _, f in iter_pictures(joined)]
    assert seen == numbers(*edits)
    with pytest.raises(UserError, match=r"use `reencode`$"):
        mux(joined, silence(joined), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    mux(joined, silence(joined), tmp_path / "out.mp4", reencode=True)
    seen = [number_of(f.to_ndarray(format="rgb24")) for _, f in iter_pictures(tmp_path / "out.mp4")]
    assert seen == numbers(*edits)


@pytest.mark.parametrize("part", [Fraction(1, 4), Fraction(1, 2), Fraction(9, 10)])
@pytest.mark.parametrize("group", [1, 2])
def test_a_cut_within_a_picture_keeps_sound_and_picture_together(
    tmp_path: Path, part: Fraction, group: int
) -> None:
    """FFmpeg hides the picture that is cut and shows the next one too early."""
    flash = 60
    whole = film(
        tmp_path / "whole.mp4", 4, clicks_s=[flash / FPS],
        container_options={"movie_timescale": "64000"},
    )  # fmt: skip
    begin_s = (group * GROUP + 4 + part) / FPS
    trimmed = edited(whole, tmp_path / "trimmed.mp4", [(float(begin_s), 4 - float(begin_s))])
    due_s = float(flash / FPS - begin_s)
    seen_s = next(
        float(time)
        for time, frame in iter_pictures(trimmed)
        if number_of(frame.to_ndarray(format="rgb24")) == flash % LEVELS and time > due_s - 0.5
    )
    assert seen_s == pytest.approx(due_s, abs=0.001)
    assert onset_s(read_audio(trimmed)) == pytest.approx(due_s, abs=0.002)


@pytest.mark.parametrize("span", [(0.0, 100.0), (0.0, 149.0), (0.0, 170.0)])
def test_a_slide_is_trimmed_to_less_than_its_stand(
    tmp_path: Path, span: tuple[float, float]
) -> None:
    slides = write_video(
        tmp_path / "slides.mp4", ticks=[0, 150, 300], time_base=Fraction(1), rate=Fraction(1)
    )
    trimmed = edited(slides, tmp_path / "trimmed.mp4", [span])
    info = probe(trimmed)
    assert info.duration_s == pytest.approx(span[1], abs=0.001)
    assert info.video is not None
    with open_input(trimmed) as source:
        copied = list(copy_packets(source, info, info.video, shift_s=Fraction(0)))
    assert (copied[-1].pts + copied[-1].duration) * copied[-1].time_base == info.duration_s


# C: an end that is asked for


ENDS_S = [Fraction(1, 5), Fraction(81, 100), Fraction(1), Fraction(133, 100), Fraction(7, 2)]


def write_talk(path: Path) -> Path:
    """Write numbered pictures of which most need a later one, with sound throughout."""
    return write_video(
        path, ticks=range(4 * FPS), time_base=Fraction(1, FPS),
        options={"bf": "3", "x264-params": "b-adapt=0:scenecut=0:keyint=250"},
        sound=clicks([0.1, 3.9], duration_s=4, sample_rate_hz=RATE),
    )  # fmt: skip


def decoded(path: Path) -> list[int]:
    """Numbers of the pictures that FFmpeg shows."""
    with av.open(str(path)) as container:
        return [number_of(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


@pytest.mark.parametrize("end_s", ENDS_S)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("reencode", [False, True])
def test_a_copy_ends_where_it_is_told_to(
    tmp_path: Path, suffix: str, end_s: Fraction, *, reencode: bool
) -> None:
    talk, out = write_talk(tmp_path / "talk.mp4"), tmp_path / f"out{suffix}"
    mux(talk, silence(talk), out, keep_audio=True, duration_s=end_s, reencode=reencode)
    due = numbers((0, -(-end_s * FPS // 1) / FPS))
    heard = read_audio(out)
    assert heard.duration_s == pytest.approx(end_s, abs=0.001)
    assert onset_s(heard) == pytest.approx(0.1, abs=0.002)
    if suffix == ".mkv" and not reencode:
        assert decoded(out)[: len(due)] == due
        return
    assert decoded(out) == due
    assert probe(out).duration_s == pytest.approx(end_s, abs=0.001)
    with av.open(str(out)) as container:
        assert container.duration == pytest.approx(end_s * av.time_base, abs=10_000)
    if suffix != ".mkv":
        assert len(packets_of(out)) <= len(due) + 3  # references of B-frames


@pytest.mark.parametrize("suffix", [".mkv"])
def test_pictures_that_stay_after_the_end_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    talk, out = write_talk(tmp_path / "talk.mp4"), tmp_path / f"out{suffix}"
    for end_s in ENDS_S:
        caplog.clear()
        mux(talk, silence(talk), out, duration_s=end_s, overwrite=True)
        num_past = len(decoded(out)) - -(-end_s * FPS // 1)
        assert 0 <= num_past <= 3
        said = [r.getMessage() for r in caplog.records if "after its end" in r.getMessage()]
        assert bool(said) == (num_past > 0)
        if said:
            words = "1 picture" if num_past == 1 else f"{num_past} pictures"
            assert f"shows {words} after its end" in said[0]
            assert "`reencode`" in said[0]


def test_an_end_in_a_trimmed_film_and_in_the_sound_behind_the_pictures(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", 6)
    trimmed = edited(whole, tmp_path / "trimmed.mp4", TRIMS["both ends"])
    mux(trimmed, silence(trimmed), tmp_path / "out.mp4", duration_s=1.2)
    assert decoded(tmp_path / "out.mp4") == numbers((1.6, 1.2))
    assert probe(tmp_path / "out.mp4").duration_s == pytest.approx(1.2, abs=0.001)
    song = write_video(
        tmp_path / "song.mp4", ticks=range(FPS), time_base=Fraction(1, FPS),
        sound=clicks([0.1, 4.9], duration_s=5, sample_rate_hz=RATE),
    )  # fmt: skip
    for suffix in (".mp4", ".mkv"):
        out = tmp_path / f"song{suffix}".replace("song", "cut")
        mux(song, silence(song), out, duration_s=3)
        assert decoded(out) == numbers((0, 1))
        assert probe(out).duration_s == pytest.approx(3, abs=0.002)


def test_an_end_before_the_first_picture_is_refused(tmp_path: Path) -> None:
    late = write_video(
        tmp_path / "late.mp4", ticks=range(2 * FPS, 3 * FPS), time_base=Fraction(1, FPS),
        sound=clicks([0.1], duration_s=3, sample_rate_hz=RATE),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"first picture is shown after 2\.000 s") as refused:
        mux(late, silence(late), tmp_path / "out.mp4", duration_s=1.5)
    assert refused.value.field == "duration_s"
    assert list(tmp_path.iterdir()) == [late]


@pytest.mark.parametrize("early_s", [Fraction(1, 25), Fraction(1, 2), Fraction(7, 5)])
@pytest.mark.parametrize("num_reordered", [0, 2])
def test_pictures_before_zero_in_matroska_are_seen_with_their_sound(
    tmp_path: Path, early_s: Fraction, num_reordered: int
) -> None:
    """FFmpeg gives such pictures no time at all (a cut with -avoid_negative_ts disabled)."""
    whole = write_video(
        tmp_path / "whole.mp4", ticks=range(3 * FPS), time_base=Fraction(1, FPS),
        options={"bf": str(num_reordered), "g": str(GROUP)},
        sound=clicks([2], duration_s=3, sample_rate_hz=48_000),
    )  # fmt: skip
    early = tmp_path / "early.mkv"
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(whole)) as source, av.open(str(early), "w", options=options) as target:
        copies = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.pts is None or packet.dts is None:
                continue
            ticks = round(early_s / packet.time_base)
            packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            packet.stream = copies[packet.stream.index]
            target.mux(packet)
    flash_s = next(
        time + probe(early).timeline.start_s
        for time, frame in iter_pictures(early)
        if number_of(frame.to_ndarray(format="rgb24")) == 2 * FPS % LEVELS and time > 1.5
    )
    assert flash_s == pytest.approx(2 - early_s, abs=0.002)
    assert probe(early).video.start_s == pytest.approx(-early_s, abs=0.002)  # type: ignore[union-attr]
    assert probe(early).duration_s == pytest.approx(3, abs=0.03)
    heard_s = onset_s(read_audio(early)) + float(probe(early).timeline.start_s)
    assert heard_s == pytest.approx(float(flash_s), abs=0.003)


# B: clocks


def test_uneven_pictures_with_b_frames_end_no_later_in_matroska(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = [n for n in range(100) if not 20 <= n <= 60 and n % 3 == 0]
    source = write_video(
        tmp_path / "vfr.mp4", ticks=ticks, time_base=Fraction(1, FPS), options={"bf": "2"}
    )
    mux(source, silence(source), tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        told_s = Fraction(container.duration or 0, av.time_base)
    assert told_s == pytest.approx(probe(source).duration_s, abs=0.05)
    assert "incomplete" not in caplog.text


def test_a_joined_part_begins_where_the_pictures_before_it_end(tmp_path: Path) -> None:
    """Delay and padding of each part's sound add nothing to the joint, as in FFmpeg's copy."""
    parts = [
        write_video(
            tmp_path / f"{number}.ts", ticks=range(4 * FPS), time_base=Fraction(1, FPS),
            sound=clicks([0.5, 3.5], duration_s=4, sample_rate_hz=48_000),
            options={"bf": "2", "g": "50"},
        )
        for number in range(3)
    ]  # fmt: skip
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert probe(path).duration_s == pytest.approx(12, abs=0.001)
    times, frames = zip(*iter_pictures(path), strict=True)
    assert np.array(times, float) == pytest.approx(np.arange(12 * FPS) / FPS, abs=0.001)
    seen = [number_of(frame.to_ndarray(format="rgb24")) for frame in frames]
    assert seen == numbers((0, 4)) * 3
    audio = read_audio(path)
    loud = np.flatnonzero(np.abs(audio.samples_CN[0]) > 0.1) / audio.sample_rate_hz
    onsets = loud[np.insert(np.diff(loud) > 0.5, 0, True)]
    first_s = onset_s(read_audio(parts[0]))
    assert onsets - first_s == pytest.approx([0, 3, 4, 7, 8, 11], abs=0.001)
    out = tmp_path / "out.mp4"
    mux(path, silence(path), out)
    copied, frames = zip(*iter_pictures(out), strict=True)
    assert np.array(copied, float) == pytest.approx(np.arange(12 * FPS) / FPS, abs=0.001)
    assert [number_of(frame.to_ndarray(format="rgb24")) for frame in frames] == seen


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("with_sound", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_slides_stand_as_long_as_they_stand(tmp_path: Path, suffix: str, with_sound: bool) -> None:
    path = write_video(
        tmp_path / f"slides{suffix}", ticks=[0, 150, 155, 330], time_base=Fraction(1),
        rate=Fraction(1), options={"bf": "0"},
        sound=clicks([152.0], duration_s=331, sample_rate_hz=RATE) if with_sound else None,
    )  # fmt: skip
    assert probe(path).duration_s == pytest.approx(331, abs=1)
    assert [number_of(p) for p in iter_frames(path, fps=Fraction(1, 50))] == [0, 0, 0, 2, 2, 2, 2]
    out = tmp_path / "out.mp4"
    quiet = Audio(samples_CN=np.zeros((1, 331 * 8000), np.float32), sample_rate_hz=8000)
    mux(path, quiet, out)
    assert [float(t) for t, _ in iter_pictures(out)] == pytest.approx([0, 150, 155, 330], abs=0.01)


def test_a_slide_in_a_transport_stream_is_no_jump_while_sound_goes_on(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "slides.ts", ticks=[0, 40, 45], time_base=Fraction(1), rate=Fraction(1),
        options={"bf": "0"}, sound=clicks([41.0], duration_s=46, sample_rate_hz=RATE),
    )  # fmt: skip
    # The writer stores all sound behind all pictures; players and this test want it in order.
    ordered = tmp_path / "ordered.ts"
    with av.open(str(path)) as source, av.open(str(ordered), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        packets = [p for p in source.demux() if p.size]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    assert probe(ordered).duration_s == pytest.approx(46, abs=0.2)


# C: ends


@pytest.mark.parametrize(
    ("source", "codec", "sound_codec", "target"),
    [
        (".mp4", "libx264", "aac", ".mp4"),
        (".mov", "libx264", "aac", ".mov"),
        (".mkv", "libx264", "libopus", ".mkv"),
        (".webm", "libvpx-vp9", "libopus", ".webm"),
        (".avi", "mpeg4", "pcm_s16le", ".mp4"),
        (".ts", "libx264", "aac", ".mp4"),
        (".flv", "libx264", "aac", ".mkv"),
    ],
)
@pytest.mark.parametrize("num_pictures", [1, 30])
def test_the_longest_track_decides(
    tmp_path: Path, source: str, codec: str, sound_codec: str, target: str, num_pictures: int
) -> None:
    """A screen recorder stops sending pictures while nothing moves; a song has one picture."""
    rate = 48_000 if sound_codec == "libopus" else 44_100
    path = write_video(
        tmp_path / f"in{source}", ticks=range(num_pictures), time_base=Fraction(1, FPS),
        codec=codec, sound=clicks([4.5], duration_s=5, sample_rate_hz=rate),
        sound_codec=sound_codec,
    )  # fmt: skip
    assert probe(path).duration_s == pytest.approx(5, abs=0.1)
    pictures = [number_of(picture) for picture in iter_frames(path, fps=FPS)]
    assert len(pictures) >= 124
    assert set(pictures[num_pictures:]) == {(num_pictures - 1) % LEVELS}
    out = tmp_path / f"out{target}"
    mux(path, silence(path), out, keep_audio=True)
    assert onset_s(read_audio(out)) == pytest.approx(onset_s(read_audio(path)), abs=0.003)
    with av.open(str(out)) as container:
        assert (container.duration or 0) / 1e6 == pytest.approx(5, abs=0.11)
    assert len(packets_of(out)) == num_pictures


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("late_s", [Fraction(12, 25), Fraction(2), Fraction(17, 5)])
def test_sound_before_the_first_picture_is_kept(
    tmp_path: Path, suffix: str, late_s: Fraction
) -> None:
    first = round(late_s * FPS)
    path = write_video(
        tmp_path / f"in{suffix}", ticks=range(first, 125), time_base=Fraction(1, FPS),
        sound=clicks([0.25], duration_s=5, sample_rate_hz=RATE),
        sound_codec="aac",
    )  # fmt: skip
    assert probe(path).duration_s == pytest.approx(5, abs=0.07)
    assert onset_s(read_audio(path)) == pytest.approx(0.25, abs=0.003)
    assert float(next(iter_pictures(path))[0]) == pytest.approx(float(late_s), abs=0.002)
    assert len(list(iter_frames(path, fps=10))) in (50, 51)
    out = tmp_path / f"out{suffix}"
    mux(path, silence(path), out, keep_audio=True)
    assert onset_s(read_audio(out)) == pytest.approx(0.25, abs=0.004)
    assert float(next(iter_pictures(out))[0]) == pytest.approx(float(late_s), abs=0.002)


def test_a_second_sound_track_can_be_the_longest(tmp_path: Path) -> None:
    short = write_video(
        tmp_path / "a.mkv", ticks=range(50), time_base=Fraction(1, FPS),
        sound=clicks([0.5], duration_s=2, sample_rate_hz=48_000), sound_codec="libopus",
    )  # fmt: skip
    long = write_video(
        tmp_path / "b.mkv", ticks=[0], time_base=Fraction(1, FPS),
        sound=clicks([3.5], duration_s=4, sample_rate_hz=48_000), sound_codec="libopus",
    )  # fmt: skip
    path = tmp_path / "both.mkv"
    with (
        av.open(str(short)) as first,
        av.open(str(long)) as second,
        av.open(str(path), "w") as target,
    ):
        tracks = [*first.streams, second.streams.audio[0]]
        copies = [target.add_stream_from_template(track) for track in tracks]
        for track, copied in zip(tracks, copies, strict=True):
            track.container.seek(0)
            for packet in track.container.demux(track):
                if packet.size:
                    packet.stream = copied
                    target.mux(packet)
    assert probe(path).duration_s == pytest.approx(4, abs=0.03)


SPANS = st.tuples(st.fractions(0, 5), st.fractions(6, 20))


@settings(max_examples=200)
@given(
    video=st.none() | SPANS,
    sounds=st.lists(SPANS, max_size=3),
    frame_s=st.fractions(0, Fraction(1, 10)),
)
def test_a_file_spans_its_tracks_up_to_a_codecs_padding(
    video: tuple[Fraction, Fraction] | None,
    sounds: list[tuple[Fraction, Fraction]],
    frame_s: Fraction,
) -> None:
    start, end = join(video, sounds, sound_frame_s=frame_s)
    assert start <= end
    if video is None:
        assert (start, end) == (sounds[0] if sounds else (0, 0))
        return
    assert start <= video[0]
    assert end >= video[1]
    margin = frame_s + Fraction(1, 500)
    for first, last in sounds:
        assert start - margin <= first
        assert last <= end + margin
