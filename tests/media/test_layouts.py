"""Channel layouts: each channel stays what it was, through reading, mixing and every format."""

from __future__ import annotations

import itertools
import logging
import sys
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import MediaError, ShapeError, UserError
from omni2sound.generate.output import OutputOptions, check_output_of
from omni2sound.media import Audio, mux, probe, read_audio, write_audio
from omni2sound.media.layouts import (
    ASSUMED,
    channel_names,
    layout_held,
    mixed_layout,
    named_layout,
    place,
    safe,
    stated_layout,
)
from omni2sound.media.long_sound import mix as mix_long
from omni2sound.media.long_sound import to_audio, to_layout
from tests.media.clips import write_video

RATE = 48_000


def mix(*sounds: Audio) -> Audio:
    return to_audio(mix_long(*sounds))


LAYOUTS = (
    *("mono", "stereo", "2.1", "3.0", "3.0(back)", "4.0", "quad", "quad(side)", "3.1", "4.1"),
    *("5.0", "5.0(side)", "5.1", "5.1(side)", "6.0", "6.1", "7.0", "7.1", "7.1(wide)"),
)
HELD_BY = {
    ".wav": LAYOUTS,
    ".flac": LAYOUTS,
    ".m4a": (
        *("mono", "stereo", "2.1", "3.0", "3.0(back)", "4.0", "quad", "quad(side)", "3.1"),
        *("5.0", "5.0(side)", "5.1", "5.1(side)", "7.0", "7.1"),
    ),
    ".opus": (
        *("mono", "stereo", "2.1", "3.0", "quad", "quad(side)", "3.1"),
        *("5.0", "5.0(side)", "5.1", "5.1(side)", "7.0", "7.1"),
    ),
    ".mp3": ("mono", "stereo"),
}
"""Layouts whose every channel comes back from a format."""


def tones(layout: str, duration_s: float = 0.5) -> Audio:
    """A sound whose every channel has the pitch of its place."""
    time_s = np.arange(round(duration_s * RATE)) / RATE
    rows = [0.2 * np.sin(2 * np.pi * pitch_of(name) * time_s) for name in channel_names(layout)]
    return Audio(samples_CN=np.stack(rows).astype(np.float32), sample_rate_hz=RATE, layout=layout)


def pitch_of(name: str) -> int:
    """Low enough for a subwoofer; surrounds have one pitch by either name."""
    if name == "LFE":
        return 40
    order = ["FL", "FR", "FC", "BC", "BL", "BR", "SL", "SR", "FLC", "FRC"]
    return 300 + 170 * order.index(name)


def levels_of(audio: Audio) -> dict[str, dict[str, float]]:
    """How much of each pitch is in each channel; 1 as made."""
    names = channel_names(audio.assumed_layout or "")
    window_N = np.hanning(audio.samples_CN.shape[1])
    time_s = np.arange(len(window_N)) / audio.sample_rate_hz
    found: dict[str, dict[str, float]] = {}
    for name, samples_N in zip(names, audio.samples_CN, strict=True):
        found[name] = {}
        for other in ("FL", "FR", "FC", "LFE", "BC", "BL", "BR", "SL", "SR", "FLC", "FRC"):
            wave_N = np.exp(-2j * np.pi * pitch_of(other) * time_s)
            amplitude = 2 * abs(np.sum(samples_N * window_N * wave_N)) / window_N.sum()
            if amplitude > 0.05:
                found[name][other] = round(amplitude / 0.2, 1)
    return found


# --- the rules


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_named_by_its_channels(layout: str) -> None:
    names = channel_names(layout)
    assert named_layout(reversed(names)) == layout
    assert place(layout, layout) == tuple(range(len(names)))
    assert layout_held(layout, None) == layout_held(layout, [layout]) == layout


@given(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))
def test_a_mix_has_a_place_for_every_channel(one: str, other: str) -> None:
    layout = mixed_layout(one, other)
    assert layout == mixed_layout(other, one)
    assert layout is not None
    assert len(channel_names(layout)) >= max(map(len, map(channel_names, (one, other))))
    for part in (one, other):
        places = place(part, layout)
        assert len(set(places)) == len(places)
        assert -1 not in places or part == "mono"


@given(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))
def test_a_mix_is_the_sum_of_what_each_place_had(one: str, other: str) -> None:
    generator = np.random.default_rng(0)
    parts = [
        Audio(
            samples_CN=generator.standard_normal((len(channel_names(x)), 9)).astype(np.float32),
            sample_rate_hz=RATE,
            layout=x,
        )
        for x in (one, other)
    ]
    total = mix(*parts)
    if "mono" not in (one, other):
        expected = sum(part.samples_CN.sum() for part in parts)
        assert total.samples_CN.sum() == pytest.approx(expected, abs=1e-4)
    assert mix(parts[0]).samples_CN.tolist() == parts[0].samples_CN.tolist()


def test_three_channels_are_left_right_and_centre_unless_the_layout_says_so() -> None:
    assert ASSUMED[3] == "3.0"
    new, own = tones("mono"), tones("2.1")
    assert mix(own, new).layout == "2.1"
    unstated = Audio(samples_CN=own.samples_CN, sample_rate_hz=RATE)
    assert mix(unstated, new).layout == "3.0"


def test_one_channel_is_heard_from_left_and_right_in_a_mix() -> None:
    found = levels_of(mix(tones("5.1(side)"), tones("mono")))
    assert found["FL"] == {"FL": 1.0, "FC": 1.0}
    assert found["FR"] == {"FR": 1.0, "FC": 1.0}
    assert found["FC"] == {"FC": 1.0}
    assert found["LFE"] == {"LFE": 1.0}


def test_a_layout_that_names_other_channels_is_refused() -> None:
    samples_CN = np.zeros((3, 5), np.float32)
    for layout in ("5.1", "stereo", "no such", ""):
        with pytest.raises(ShapeError, match="layout"):
            Audio(samples_CN=samples_CN, sample_rate_hz=RATE, layout=layout)


def test_silent_channels_are_added_where_a_codec_needs_them() -> None:
    found = to_audio(to_layout(tones("5.0"), "5.1"))
    assert found.layout == "5.1"
    assert levels_of(found)["LFE"] == {}
    assert levels_of(found)["BR"] == {"BR": 1.0}


# --- files


COMMON = ("mono", "stereo", "quad", "5.1", "7.1(wide)")


@pytest.mark.parametrize(
    ("suffix", "layout"),
    [
        pytest.param(suffix, layout, marks=() if layout in COMMON else pytest.mark.slow)
        for suffix, layout in itertools.product(HELD_BY, LAYOUTS)
    ],
)
def test_each_format_gives_every_channel_back_or_refuses(
    tmp_path: Path, suffix: str, layout: str
) -> None:
    path = tmp_path / f"a{suffix}"
    if layout not in HELD_BY[suffix]:
        with pytest.raises(UserError, match=f"channel layout {layout.split('(')[0]}"):
            write_audio(path, tones(layout))
        assert not list(tmp_path.iterdir())
        return
    write_audio(path, tones(layout))
    found = read_audio(path)
    assert found.layout is not None
    assert len(channel_names(found.layout)) == found.num_channels
    back = {"SL": "BL", "SR": "BR"} if found.layout != layout else {}
    heard = {name: level for name, level in levels_of(found).items() if level}
    assert heard == {
        back.get(name, name) if layout != "7.0" else name: {name: 1.0}
        for name in channel_names(layout)
    }


@pytest.mark.parametrize(
    ("own", "codec", "source", "target", "expected"),
    [
        ("3.0", "ac3", ".mkv", ".mp4", "3.0"),
        ("3.0", "ac3", ".mkv", ".mkv", "3.0"),
        ("2.1", "ac3", ".mkv", ".mov", "2.1"),
        ("2.1", "ac3", ".mkv", ".webm", "5.1"),
        ("5.0(side)", "ac3", ".mkv", ".mkv", "5.1"),
        ("5.1(side)", "ac3", ".mkv", ".mp4", "5.1"),
        ("5.1", "aac", ".mp4", ".mkv", "5.1"),
        ("4.0", "ac3", ".mkv", ".mp4", "4.0"),
        ("7.1", "flac", ".mkv", ".mov", "7.1"),
        ("mono", "aac", ".mp4", ".mkv", "mono"),
    ],
)
def test_kept_sound_keeps_its_channels(
    tmp_path: Path, own: str, codec: str, source: str, target: str, expected: str
) -> None:
    path = write_video(
        tmp_path / f"in{source}", ticks=range(0, 300, 30), codec="libvpx-vp9" if target == ".webm"
        else "libx264", sound=tones(own), sound_codec=codec,
    )  # fmt: skip
    info = probe(path)
    assert info.audio is not None
    assert info.audio.layout == own
    output = tmp_path / f"out{target}"
    silence = Audio(samples_CN=np.zeros((1, RATE // 2), np.float32), sample_rate_hz=RATE)
    mux(path, silence, output, keep_audio=True)
    found = read_audio(output)
    assert found.layout == expected
    heard = {name: level for name, level in levels_of(found).items() if level}
    back = {} if expected == own else {"SL": "BL", "SR": "BR"}
    assert heard == {back.get(n, n): {n: 1.0} for n in channel_names(own)}


@pytest.mark.parametrize(
    ("own", "target"), [("4.0", ".mkv"), ("6.1", ".mp4"), ("6.1", ".webm"), ("7.1(wide)", ".mp4")]
)
def test_sound_that_no_container_can_keep_is_refused_before_any_work(
    tmp_path: Path, own: str, target: str
) -> None:
    path = write_video(
        tmp_path / "in.mkv", ticks=range(0, 300, 30), codec="libvpx-vp9" if target == ".webm"
        else "libx264", sound=tones(own), sound_codec="flac",
    )  # fmt: skip
    output = tmp_path / f"out{target}"
    with pytest.raises(UserError, match="mix them down"):
        check_output_of(path, output, OutputOptions(keep_audio=True))
    check_output_of(path, output, OutputOptions())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("own", ["3.1", "5.0(side)", "6.1(back)", "7.1(wide)", "octagonal"])
def test_a_mov_keeps_any_layout(tmp_path: Path, own: str) -> None:
    path = write_video(tmp_path / "in.mp4", ticks=range(0, 300, 30))
    mux(path, tones(own), tmp_path / "out.mov")
    found = read_audio(tmp_path / "out.mov")
    assert found.layout == own
    assert levels_of(found) == levels_of(tones(own))


def test_only_tracks_that_are_heard_have_to_fit(tmp_path: Path) -> None:
    """A silent 6.1 track beside a stereo one is no reason to refuse; a sounding one is."""
    for loudness, refused in ((0.0, False), (1.0, True)):
        parts = []
        for name, sound in (("a", tones("6.1")), ("b", tones("stereo"))):
            if name == "a":
                sound = replace(sound, samples_CN=sound.samples_CN * np.float32(loudness))
            parts.append(
                write_video(
                    tmp_path / f"{name}.mkv", ticks=range(0, 300, 30), sound=sound,
                    sound_codec="flac",
                )
            )  # fmt: skip
        path = tmp_path / "both.mkv"
        with av.open(str(path), "w") as target, ExitStack() as files:
            sources = [files.enter_context(av.open(str(part))) for part in parts]
            streams = [sources[0].streams.video[0], *(s.streams.audio[0] for s in sources)]
            copies = [target.add_stream_from_template(stream) for stream in streams]
            for stream, copied in zip(streams, copies, strict=True):
                stream.container.seek(0)
                for packet in stream.container.demux(stream):
                    if packet.size:
                        packet.stream = copied
                        target.mux(packet)
        options = OutputOptions(keep_audio=True)
        if refused:
            with pytest.raises(UserError, match="mix them down"):
                check_output_of(path, tmp_path / "out.mp4", options)
        else:
            check_output_of(path, tmp_path / "out.mp4", options)


def test_more_channels_than_have_names_are_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "in.mkv"
    write_frames(path, [("12 channels", np.zeros((12, 4800), np.float32))], picture=True)
    with pytest.raises(UserError, match="12 channels"):
        check_output_of(path, tmp_path / "out.mp4", OutputOptions(keep_audio=True))


@pytest.mark.parametrize(("num_channels", "assumed"), [(3, "3.0"), (4, "quad"), (6, "5.1")])
def test_a_file_that_does_not_say_is_taken_as_usual_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, num_channels: int, assumed: str
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "recorder.wav"
    write_frames(path, [(f"{num_channels} channels", np.ones((num_channels, 4800), np.float32))])
    assert read_audio(path).layout == assumed
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.endswith(f"what its {num_channels} channels are; they are taken as {assumed}")
    caplog.clear()
    assert read_audio(path, mono=True).num_channels == 1
    assert not caplog.records


def test_channels_in_another_order_are_put_in_the_standard_one() -> None:
    """QuickTime has a tag for left, right, centre, and one for centre, left, right."""
    names = ("FC", "FL", "FR")
    other = SimpleNamespace(
        name="3 channels (FC+FL+FR)", channels=[SimpleNamespace(name=name) for name in names]
    )
    layout, order = stated_layout(cast(Any, other))
    assert layout == "3.0"
    assert [names[c] for c in order] == ["FL", "FR", "FC"]


def test_a_layout_of_a_files_own_order_is_never_freed() -> None:
    """PyAV 18 frees what belongs to the stream; the guard is tried on what needs none."""
    own, standard = SimpleNamespace(name="3 channels (FC+FL+FR)"), SimpleNamespace(name="3.0")
    before = sys.getrefcount(own), sys.getrefcount(standard)
    assert safe(cast(Any, own)) is own
    assert safe(cast(Any, standard)) is standard
    assert (sys.getrefcount(own), sys.getrefcount(standard)) == (before[0] + 1, before[1])


def test_sound_that_changes_its_layout_keeps_the_first(tmp_path: Path) -> None:
    """Broadcasts go from stereo to 5.1 and back; FFmpeg's own downmix, not a mean of all."""
    path = tmp_path / "a.ac3"
    parts = []
    for layout in ("stereo", "5.1(side)", "stereo"):
        part = tmp_path / "part.ac3"
        write_frames(part, [(layout, tones(layout, 1.024).samples_CN)])
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    found = read_audio(path)
    assert found.layout == "stereo"
    middle = Audio(
        samples_CN=found.samples_CN[:, round(1.2 * RATE) : round(1.9 * RATE)],
        sample_rate_hz=RATE,
        layout="stereo",
    )
    heard = levels_of(middle)
    assert "FR" not in heard["FL"]
    assert "SR" not in heard["FL"]
    assert set(heard["FL"]) >= {"FL", "FC"}


def test_a_sound_without_any_layout_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        read_audio(write_video(tmp_path / "a.mp4", ticks=[0, 30]))


def write_frames(
    path: Path, blocks: list[tuple[str, np.ndarray]], *, picture: bool = False
) -> None:
    """Write sound with FFmpeg's own layout names, those that only count channels included."""
    codec = {".wav": "pcm_s16le", ".mov": "pcm_s16le", ".mkv": "pcm_s16le", ".ac3": "ac3"}
    with av.open(str(path), "w") as container:
        if picture:
            video = container.add_stream("libx264", rate=10)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
        stream = container.add_stream(codec[path.suffix], rate=RATE)
        stream.codec_context.layout = blocks[0][0]
        if picture:
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        pts = 0
        for layout, samples_CN in blocks:
            packed = np.ascontiguousarray(samples_CN.T).reshape(1, -1)
            sound = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
            sound.sample_rate, sound.pts, sound.time_base = RATE, pts, Fraction(1, RATE)
            pts += samples_CN.shape[1]
            container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
