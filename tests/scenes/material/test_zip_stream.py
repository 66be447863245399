"""Zip archives read forwards: what `zipfile` wrote comes out, and damage is one kind of error."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import MediaError
from omni2sound.scenes.material.zip_stream import iter_zip

FILES = {"audio/a.ogg": b"sound" * 100, "audio/b.ogg": bytes(range(256)), "map.txt": b""}


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


@given(
    st.dictionaries(st.from_regex(r"[a-zé/]{1,12}", fullmatch=True), st.binary(max_size=3000)),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    st.randoms(),
)
def test_the_wanted_members_come_out(files: dict[str, bytes], how: int, random: object) -> None:
    wanted = random.sample(sorted(files), len(files) // 2)  # type: ignore[attr-defined]
    found = dict(iter_zip(io.BytesIO(packed(files, how)), wanted))
    assert found == {name: files[name] for name in wanted}


def test_nothing_is_read_beyond_the_last_wanted_member() -> None:
    content = packed(FILES, zipfile.ZIP_STORED)
    stream = io.BytesIO(content)
    assert dict(iter_zip(stream, ["audio/a.ogg"])) == {"audio/a.ogg": FILES["audio/a.ogg"]}
    assert stream.tell() < content.index(b"audio/b.ogg")


def test_a_member_that_is_not_there_is_left_out() -> None:
    assert list(iter_zip(io.BytesIO(packed(FILES)), ["none"])) == []


# Ids by name: an archive holds the time at which it was made, and workers of xdist compare ids.
@pytest.mark.parametrize(
    "content",
    [b"", b"Rar!" + bytes(40), packed(FILES)[:60]],
    ids=["nothing", "another archive", "cut off"],
)
def test_what_is_no_archive_or_is_cut_off_is_refused(content: bytes) -> None:
    with pytest.raises(MediaError, match="zip"):
        list(iter_zip(io.BytesIO(content), FILES))


def test_a_changed_byte_is_found() -> None:
    content = bytearray(packed(FILES, zipfile.ZIP_STORED))
    content[content.index(b"sound") + 2] ^= 1
    with pytest.raises(MediaError, match="checksum"):
        list(iter_zip(io.BytesIO(bytes(content)), FILES))


def test_a_member_whose_size_stands_behind_it_is_refused() -> None:
    class Pipe(io.RawIOBase):
        """What can't be sought makes `zipfile` write sizes behind members."""

        def __init__(self) -> None:
            self.written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.written += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:  # type: ignore[arg-type]
        archive.writestr("a", b"x")
    with pytest.raises(MediaError, match="size at its end"):
        list(iter_zip(io.BytesIO(pipe.written), ["a"]))
