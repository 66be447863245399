"""What lies beside the packets: kept where the container holds it, else named in one line."""

from __future__ import annotations

import logging
import struct
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.media import mux, probe
from omni2sound.media.copy.boxes import boxes_of_entry, quicktime_tags, read_moov
from omni2sound.media.copy.containers import default_suffix
from omni2sound.media.copy.tags import facts_tag, kept_tags
from tests.media.clips import packets_of, write_video
from tests.media.films import (
    DOLBY_8_4,
    LIGHT,
    LINES,
    MASTERING,
    SPHERE,
    STEREO,
    TO_ENTRY,
    add_subtitles,
    box,
    grow,
    subtitles_of,
    tone,
    write_film,
)

SUFFIXES = (".mp4", ".mov", ".mkv")
COMFY = {
    "prompt": '{"3": {"class_type": "KSampler"}}',
    "workflow": '{"nodes": [{"id": 3}], "links": []}',
}


def hevc(path: Path, *, tag: str = "hvc1") -> Path:
    def prepare(stream: Any) -> None:
        stream.codec_context.codec_tag = tag

    return write_video(
        path, ticks=range(0, 600, 60), codec="libx265", size=(64, 64), rate=Fraction(10),
        options={"x265-params": "log-level=none"},
        prepare=prepare if path.suffix in (".mp4", ".mov") else None,
    )  # fmt: skip


def copied(
    source: Path, suffix: str, caplog: pytest.LogCaptureFixture | None = None, **more: Any
) -> tuple[Path, str]:
    """The copy, and what is said to be lost in it."""
    out = source.with_name(f"{source.stem}.{source.suffix[1:]}.out{suffix}")
    if caplog is None:
        mux(source, tone(440), out, overwrite=True, **more)
        return out, ""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "omni2sound"):
        mux(source, tone(440), out, overwrite=True, **more)
    return out, caplog.text


def beside(path: Path) -> dict[bytes, bytes]:
    """Boxes of the picture as an mp4 has them: a copy in Matroska is copied once more."""
    if path.suffix == ".mkv":
        path, _ = copied(path, ".mp4")
    return boxes_of_entry(read_moov(path), 1)


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {key.lower(): value for key, value in container.metadata.items()}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("source_suffix", [".mp4", ".mov"])
def test_dolby_vision_and_hdr_stay(
    tmp_path: Path, source_suffix: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    film = grow(
        hevc(tmp_path / f"in{source_suffix}"), (*TO_ENTRY, b"hvc1"), DOLBY_8_4 + MASTERING + LIGHT
    )
    out, warning = copied(film, suffix, caplog)
    found = beside(out)
    assert found[b"dvvC"] == DOLBY_8_4
    assert found[b"clli"] == LIGHT
    assert found[b"mdcv"] == MASTERING
    assert not warning
    assert [p[0] for p in packets_of(out)] == pytest.approx(
        [p[0] for p in packets_of(film)], abs=0.001
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_projection_and_stereo_stay(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    film = grow(
        write_video(tmp_path / "in.mp4", ticks=range(0, 600, 60)),
        (*TO_ENTRY, b"avc1"), STEREO + SPHERE,
    )  # fmt: skip
    out, warning = copied(film, suffix, caplog)
    found = beside(out)
    assert {b"st3d", b"sv3d"} <= set(found)
    assert b"equi" in found[b"sv3d"]
    assert found[b"st3d"][12] == 1
    assert not warning


def test_boxes_that_ffmpeg_does_not_know_are_copied_and_named_where_they_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    second_view = box(b"lhvC", b"\1" + bytes(30))
    film = grow(hevc(tmp_path / "in.mov"), (*TO_ENTRY, b"hvc1"), second_view)
    for suffix in (".mp4", ".mov"):
        out, warning = copied(film, suffix, caplog)
        assert beside(out)[b"lhvC"] == second_view
        assert not warning
    _, warning = copied(film, ".mkv", caplog)
    assert "not kept in .mkv: second view" in warning
    assert warning.count("\n") == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("source", ["hvc1.mp4", "hev1.mp4", "in.mkv", "in.ts", "dvh1.mp4"])
def test_hevc_is_tagged_as_apples_players_want_it(tmp_path: Path, source: str, suffix: str) -> None:
    stem = source.split(".")[0]
    film = hevc(tmp_path / source, tag=stem if stem != "dvh1" else "hvc1")
    if stem == "dvh1":
        film.write_bytes(film.read_bytes().replace(b"hvc1", b"dvh1"))
    out, _ = copied(film, suffix)
    with av.open(str(out)) as container:
        wanted = "dvh1" if stem == "dvh1" else "hvc1"
        assert container.streams.video[0].codec_context.codec_tag == wanted
        assert sum(1 for _ in container.decode(video=0)) == 10


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".webm"])
@pytest.mark.parametrize("source", ["in.mp4", "in.mov", "in.mkv", "in.webm"])
def test_workflows_and_comments_of_others_stay(
    tmp_path: Path, source: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    codec = "libvpx-vp9" if source == "in.webm" or suffix == ".webm" else "libx264"
    if (codec == "libvpx-vp9" and ".mov" in (source[2:], suffix)) or (
        codec != "libvpx-vp9" and suffix == ".webm"
    ):
        return
    wanted = {**COMFY, "title": "shot 7", "comment": '{"workflow": 1}', "artist": "somebody"}

    def prepare(stream: Any) -> None:
        stream.container.metadata.update(wanted)

    film = write_video(
        tmp_path / source, ticks=range(0, 600, 60), codec=codec, prepare=prepare,
        container_options={"movflags": "use_metadata_tags"},
    )  # fmt: skip
    assert facts_tag(film) == "omni2sound"
    facts = '{"software": "omni2sound 0.1.0", "seed": 1}'
    out, warning = copied(film, suffix, caplog, metadata={facts_tag(film): facts})
    found = tags_of(out)
    assert found | wanted | {"omni2sound": facts} == found
    assert not warning
    if suffix in (".mp4", ".mov"):  # ComfyUI looks for keys, in small letters, in udta/meta
        moov = read_moov(out)
        assert moov.index(b"udta") < moov.index(b"mdtaprompt")
    # Once more: facts about the sound that is replaced go, the comment stays.
    again, _ = copied(out, suffix, metadata={facts_tag(out): facts.replace("1}", "2}")})
    assert tags_of(again)["comment"] == wanted["comment"]
    assert tags_of(again)["omni2sound"].endswith("2}")


@pytest.mark.parametrize("suffix", [*SUFFIXES])
def test_facts_about_an_earlier_sound_are_replaced(tmp_path: Path, suffix: str) -> None:
    film = write_film(tmp_path / "in.mp4")
    out = film
    for seed in range(3):
        assert facts_tag(out) == "comment"
        facts = f'{{"software": "omni2sound 0.1.0", "seed": {seed}}}'
        out, _ = copied(out, suffix, metadata={facts_tag(out): facts})
        assert tags_of(out)["comment"] == facts
        assert "omni2sound" not in tags_of(out)


def test_quicktime_tags_stay_where_quicktime_reads_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {
        b"com.apple.quicktime.location.ISO6709": (1, b"+48.2082+016.3738+190/"),
        b"com.apple.quicktime.creationdate": (1, b"2026-11-29T10:00:00+0100"),
        b"com.apple.quicktime.live-photo.auto": (22, b"\1"),
        b"com.android.capture.fps": (23, struct.pack(">f", 240)),
    }
    names = b"".join(box(b"mdta", key) for key in keys)
    items = b"".join(
        box(struct.pack(">I", i), box(b"data", struct.pack(">II", kind, 0) + value))
        for i, (kind, value) in enumerate(keys.values(), 1)
    )
    meta = box(
        b"meta",
        box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
        + box(b"keys", struct.pack(">II", 0, len(keys)) + names)
        + box(b"ilst", items),
    )
    film = grow(write_film(tmp_path / "in.mov"), (b"moov",), meta)
    for suffix in (".mov", ".mp4", ".mkv"):
        out, warning = copied(film, suffix, caplog, metadata={"comment": "{}"})
        assert not warning
        if suffix != ".mkv":
            assert quicktime_tags(read_moov(out)) == quicktime_tags(read_moov(film))
        assert {key.decode().lower() for key in keys} <= set(tags_of(out))
        assert tags_of(out)["comment"] == "{}"


@settings(max_examples=25, deadline=None)
@given(
    tags=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_. ]{0,20}[a-z0-9]", fullmatch=True).filter(
            lambda key: key in kept_tags({key: ""}) and not key.startswith("creation")
            and key not in ("language", "location", "timecode", "stereo_mode", "rotate")
        ),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60),
        max_size=6,
    ),
    suffix=st.sampled_from(SUFFIXES),
)  # fmt: skip
def test_any_tag_survives(tags: dict[str, str], suffix: str) -> None:
    with TemporaryDirectory() as folder:

        def prepare(stream: Any) -> None:
            stream.container.metadata.update(tags)

        film = write_video(Path(folder) / "in.mkv", ticks=[0, 300], prepare=prepare)
        out, _ = copied(film, suffix)
        found = tags_of(out)
        before = tags_of(film)
        assert {key: found.get(key) for key in before if key in kept_tags(before)} == kept_tags(
            before
        )


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".webm"])
@pytest.mark.parametrize(
    ("source", "subtitles"),
    [("in.mkv", "subrip"), ("in.mkv", "ass"), ("in.mp4", "mov_text"), ("in.webm", "webvtt")],
)
def test_subtitles_chapters_and_languages_stay(
    tmp_path: Path, source: str, subtitles: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    is_web = source == "in.webm" or suffix == ".webm"
    if is_web and suffix == ".mov":
        return
    codec = "libvpx-vp9" if is_web else "libx264"
    film = add_subtitles(write_film(tmp_path / source, codec=codec), LINES, subtitles)
    out, warning = copied(film, suffix, caplog)
    found = subtitles_of(out)
    assert [text for *_, text in found] == [text for *_, text in LINES]
    assert [time for row in found for time in row[:2]] == pytest.approx(
        [time for row in LINES for time in row[:2]], abs=0.002
    )
    with av.open(str(out)) as container:
        languages = ("deu", "ger")  # two codes of one standard
        assert container.streams.subtitles[0].language in languages
        assert [c["metadata"]["title"] for c in container.chapters()] == ["part 0", "part 1"]
        ends = [c["end"] * c["time_base"] for c in container.chapters()]
        assert [float(e) for e in ends] == pytest.approx([0.5, 1.0], abs=0.002)
    styled = subtitles == "ass" and suffix != ".mkv"
    assert ("styling of subtitles (deu, ass); .mkv keeps it" in warning) == styled
    assert warning.count("\n") == styled


def test_alpha_beside_the_packets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def prepare(stream: Any) -> None:
        stream.metadata["alpha_mode"] = "1"

    film = write_video(
        tmp_path / "in.webm", ticks=range(0, 600, 60), codec="libvpx-vp9", prepare=prepare
    )
    assert default_suffix(film) == ".webm"
    for suffix in (".webm", ".mkv"):
        assert not copied(film, suffix, caplog)[1]
    assert "not kept in .mp4: alpha; .mkv keeps it" in copied(film, ".mp4", caplog)[1]


@pytest.mark.parametrize(
    ("source", "codec", "pix_fmt", "wanted"),
    [
        ("in.mp4", "libx264", "yuv420p", ".mp4"),
        ("in.mkv", "libx264", "yuv420p", ".mkv"),
        ("in.webm", "libvpx-vp9", "yuv420p", ".webm"),
        ("in.webm", "libvpx", "yuv420p", ".webm"),
        ("in.mov", "prores_ks", "yuva444p10le", ".mov"),
        ("in.mkv", "prores_ks", "yuv422p10le", ".mkv"),
        ("in.mov", "qtrle", "argb", ".mov"),
    ],
)
def test_the_default_container_holds_the_picture(
    tmp_path: Path, source: str, codec: str, pix_fmt: str, wanted: str
) -> None:
    film = write_video(
        tmp_path / source, ticks=range(10), time_base=Fraction(1, 25), codec=codec, pix_fmt=pix_fmt
    )
    assert default_suffix(film) == wanted
    out, _ = copied(film, default_suffix(film))
    before, after = probe(film).video, probe(out).video
    assert before is not None
    assert after is not None
    assert after.codec == before.codec
    with av.open(str(film)) as source_film, av.open(str(out)) as container:
        # FFmpeg decodes 10 bits of ap4h to 12.
        shown = source_film.streams.video[0].codec_context.pix_fmt
        assert shown is not None
        assert shown.replace("12le", "10le") == pix_fmt
        assert container.streams.video[0].codec_context.pix_fmt == shown


def test_dnxhr_from_an_editor_stays_in_mov(tmp_path: Path) -> None:
    film = write_video(
        tmp_path / "in.mov", ticks=range(10), time_base=Fraction(1, 25), codec="dnxhd",
        pix_fmt="yuv422p", options={"profile": "dnxhr_sq"}, size=(144, 256),
        sound=tone(440), sound_codec="pcm_s24le",
    )  # fmt: skip
    assert default_suffix(film) == ".mov"
    out, _ = copied(film, ".mov")
    info = probe(out)
    assert info.video is not None and info.video.codec == "dnxhd"
    assert info.audio is not None and info.audio.codec == "pcm_s24le"


@pytest.mark.parametrize("source", ["in.avi", "in.mov"])
@pytest.mark.parametrize("pix_fmt", ["bgr24", "yuv420p"])
def test_raw_pictures_would_come_out_in_other_colours(
    tmp_path: Path, source: str, pix_fmt: str
) -> None:
    film = write_video(
        tmp_path / source, ticks=range(10), time_base=Fraction(1, 25), codec="rawvideo",
        pix_fmt=pix_fmt,
    )  # fmt: skip
    for suffix in SUFFIXES:
        with pytest.raises(UserError, match=r"cannot hold rawvideo|no picture"):
            mux(film, tone(440), tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == [film]


def test_the_default_container_keeps_subtitles(tmp_path: Path) -> None:
    plain = add_subtitles(write_film(tmp_path / "in.mkv"), LINES, "subrip")
    assert default_suffix(plain) == ".mkv"
    styled = add_subtitles(write_film(tmp_path / "in.mkv"), LINES, "ass")
    assert default_suffix(styled) == ".mkv"


def test_cover_attached_files_and_further_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = write_video(
        tmp_path / "cover.png", ticks=[0], codec="png", pix_fmt="rgb24", size=(8, 8),
        container_format="image2pipe",
    ).read_bytes()  # fmt: skip
    film = tmp_path / "in.mkv"
    with av.open(str(film), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        container.add_attachment("cover.png", "image/png", picture)
        container.add_attachment("a.ttf", "application/x-truetype-font", b"font")
        container.start_encoding()
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for stream in streams:
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    out, warning = copied(film, ".mkv", caplog)
    assert "not kept in .mkv: video track 2" in warning
    with av.open(str(out)) as container:
        kinds = [
            (s.type, bool(s.disposition & Disposition.attached_pic)) for s in container.streams
        ]
        assert sorted(kinds) == sorted(
            [("video", False), ("audio", False), ("video", True), ("attachment", False)]
        )
    out, warning = copied(film, ".mp4", caplog)
    assert "not kept in .mp4: video track 2, attached file a.ttf; .mkv keeps more" in warning
    with av.open(str(out)) as container:
        covers = [s for s in container.streams if s.disposition & Disposition.attached_pic]
        assert len(covers) == 1
    assert "cover picture" in copied(film, ".mov", caplog)[1]
    # From mp4 back into Matroska.
    assert not copied(out, ".mkv", caplog)[1]


def test_a_cover_that_the_muxer_leaves_out_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """FFmpeg writes no cover where tags are keys."""
    picture = write_video(
        tmp_path / "cover.png", ticks=[0], codec="png", pix_fmt="rgb24", size=(8, 8),
        container_format="image2pipe",
    ).read_bytes()  # fmt: skip

    def prepare(stream: Any) -> None:
        stream.container.add_attachment("cover.png", "image/png", picture)
        stream.container.metadata.update(COMFY)

    film = write_video(tmp_path / "in.mkv", ticks=[0, 300, 600], prepare=prepare)
    _, warning = copied(film, ".mp4", caplog)
    assert "not kept in .mp4: cover picture; .mkv keeps it" in warning


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_titles_of_tracks_stay(tmp_path: Path, suffix: str) -> None:
    def prepare(stream: Any) -> None:
        stream.metadata["title"] = "left eye"

    film = write_video(tmp_path / "in.mkv", ticks=[0, 300, 600], prepare=prepare)
    out, _ = copied(film, suffix)
    with av.open(str(out)) as container:
        tags = container.streams.video[0].metadata
    assert "left eye" in (tags.get("title"), tags.get("handler_name"))


MARKS = {
    Disposition.forced: "forced",
    Disposition.hearing_impaired: "hearing-impaired",
    Disposition.visual_impaired: "visual-impaired",
    Disposition.original: "original",
    Disposition.comment: "commentary",
}


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".webm"])
@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("subtitles", ["subrip", pytest.param("ass", marks=pytest.mark.slow)])
def test_marks_and_titles_of_subtitles_stay_or_are_named(
    tmp_path: Path,
    subtitles: str,
    mark: Disposition,
    suffix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    film = add_subtitles(
        write_film(tmp_path / "in.mkv", codec=codec), LINES, subtitles, title="signs", marks=mark
    )
    out, warning = copied(film, suffix, caplog)
    with av.open(str(out)) as container:
        track = container.streams.subtitles[0]
        is_there, tags = bool(track.disposition & mark), track.metadata
    assert is_there != (f'mark "{MARKS[mark]}" of subtitles (signs deu' in warning)
    assert "title of" not in warning
    assert "signs" in (tags.get("title"), tags.get("handler_name"))
    if suffix == ".mkv":
        assert is_there
    if is_there:
        assert not copied(out, ".mkv", caplog)[1]
        with av.open(str(copied(out, ".mkv")[0])) as container:
            again = container.streams.subtitles[0]
            assert again.metadata["title"] == "signs"
            assert again.disposition & mark
