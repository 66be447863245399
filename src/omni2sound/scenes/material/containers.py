"""Readers for the archives that hold scene material.

In:   a Debian package as a file; a Qt resource, a SoundFont, a Gravis patch or an OpenTTD
      sound set as bytes.
Out:  members by name, as bytes, or `Samples` where the container stores bare samples.

All sizes and offsets are untrusted: each is checked, and `MediaError` is raised instead of reading
past the end. Nothing here writes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import shutil
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import soundfile

from omni2sound.errors import MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_MEMBER_BYTES = 1 << 31
"""Far above any file that is needed; a larger one is damage or an attack."""

_LINKS_DEEP = 4
"""Links to links that are followed; a circle ends there."""

_RCC_ZLIB, _RCC_DIRECTORY, _RCC_ZSTD = 1, 2, 4
_SF_COMPRESSED = 0x10
_PATCH_16_BIT, _PATCH_UNSIGNED = 1, 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Samples:
    """One channel of bare samples from an instrument file."""

    name: str
    samples_N: NDArray[np.float32]
    sample_rate_hz: int


def iter_deb(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield (name, content) of the wanted files of a Debian package.

    Those that are links to others of the package come last, with the content of what they name.

    Args:
        path: The .deb file.
        wanted: Names without leading slash, as in "usr/share/sounds/x.wav".

    Yields:
        A content can only be read forwards, before the next file is asked for.

    Raises:
        MediaError: If the file is not a Debian package or is damaged.
    """
    links: dict[str, str] = {}
    yield from _iter_deb(path, wanted, links)
    for _ in range(_LINKS_DEEP):
        if not links:
            return
        sought, links = links, {}
        for target, content in _iter_deb(path, set(sought.values()), links):
            data = read_whole(target, content)
            for name in [name for name, its in sought.items() if its == target]:
                del sought[name]
                yield name, io.BytesIO(data)
        links = {name: links[its] for name, its in sought.items() if its in links}


def _iter_deb(
    path: Path, wanted: Collection[str], links: dict[str, str]
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the wanted regular files in archive order; note the wanted ones that are links."""
    left = set(wanted)
    try:
        with path.open("rb") as file:
            name, size = _find_ar_member(file, prefix="data.tar")
            with (
                _decompress(name, _Slice(file, size)) as raw,
                tarfile.open(fileobj=raw, mode="r|") as tar,
            ):
                for member in tar:
                    key = member.name.removeprefix("./")
                    if key not in left:
                        continue
                    if member.issym():
                        target = posixpath.join("/", posixpath.dirname(key), member.linkname)
                        links[key] = posixpath.normpath(target).lstrip("/")
                    elif member.islnk():
                        links[key] = member.linkname.removeprefix("./")
                    elif member.isfile() and (content := tar.extractfile(member)) is not None:
                        yield key, content
                    else:
                        continue
                    left.discard(key)
                    if not left:
                        return
    except (OSError, EOFError, lzma.LZMAError, zlib.error, tarfile.TarError) as error:
        raise MediaError(f"{path} is not a readable Debian package: {error}") from error


def read_whole(name: str, content: IO[bytes]) -> bytes:
    """Read a file of a package into memory.

    Raises:
        MediaError: If it is larger than any file that is needed.
    """
    whole = content.read(MAX_MEMBER_BYTES + 1)
    _check_size(name, len(whole))
    return whole


def read_rcc(data: bytes) -> dict[str, bytes]:
    """Read all files of a Qt binary resource ("qres"), by path inside it.

    Files compressed with zstd are left out where Python has no decoder for it.

    Raises:
        MediaError: If the bytes are no such resource or are damaged.

    Source:
        Qt's `rcc` tool, format versions 1 to 3: a tree of fixed-size nodes, a table of
        UTF-16 names and a block of length-prefixed contents.
    """
    try:
        magic, version, tree, contents, names = struct.unpack_from(">4sIIII", data)
        if magic != b"qres" or not 1 <= version <= 3:
            raise MediaError(f"not a Qt resource of version 1 to 3: {magic!r}, {version}")
        node_bytes = 14 if version == 1 else 22
        files: dict[str, bytes] = {}
        queue = [(0, "")]
        visited: set[int] = set()
        while queue:
            node, prefix = queue.pop()
            if node in visited:
                raise MediaError(f"damaged Qt resource: node {node} is in two folders")
            visited.add(node)
            at = tree + node * node_bytes
            name_at, flags, first, second = struct.unpack_from(">IHII", data, at)
            path = prefix
            if node:  # the root has no name
                (length,) = struct.unpack_from(">H", data, names + name_at)
                start = names + name_at + 6
                path = f"{prefix}/{data[start : start + 2 * length].decode('utf-16-be')}"
            if flags & _RCC_DIRECTORY:
                if first > len(data) // node_bytes:
                    raise MediaError(f"damaged Qt resource: folder of {first} entries")
                queue += [(second + i, path) for i in range(first)]
                continue
            (size,) = struct.unpack_from(">I", data, contents + second)
            start = contents + second + 4
            content = data[start : start + size]
            if len(content) != size:
                raise MediaError(f"damaged Qt resource: {path} is cut off")
            if flags & _RCC_ZSTD:
                continue
            files[path.removeprefix("/")] = (
                _inflate(path, content) if flags & _RCC_ZLIB else content
            )
    except (struct.error, UnicodeDecodeError, zlib.error) as error:
        raise MediaError(f"damaged Qt resource: {error}") from error
    return files


def read_cat(data: bytes) -> list[bytes]:
    """Read the wave files of an OpenTTD sound set, in order.

    Raises:
        MediaError: If the table points outside the file.

    Source:
        The first entry's offset tells how many 8-byte entries (offset, size) there are;
        bit 31 of an offset is a flag. Before each wave file stands its length-prefixed title.
    """
    try:
        (first,) = struct.unpack_from("<I", data)
        table = struct.unpack_from(f"<{(first & 0x7FFFFFFF) // 8 * 2}I", data)
    except struct.error as error:
        raise MediaError(f"damaged OpenTTD sound set: {error}") from error
    sounds = []
    for offset, size in zip(table[::2], table[1::2], strict=True):
        start = offset & 0x7FFFFFFF
        start += 1 + data[start] if start < len(data) else 0
        if start + size > len(data):
            raise MediaError(f"damaged OpenTTD sound set: entry at {start} is cut off")
        sounds.append(data[start : start + size])
    return sounds


def read_soundfont(data: bytes) -> list[Samples]:
    """Read the samples of a SoundFont 2 bank, in the order of its table.

    Raises:
        MediaError: If the bytes are no SoundFont or are damaged.

    Source:
        SoundFont 2.04 specification: chunk `smpl` holds 16-bit samples of all, `shdr`
        46-byte records that say where each begins. Version 3 keeps an Ogg file each.
    """
    chunks = dict(_riff_chunks(data))
    if b"smpl" not in chunks or b"shdr" not in chunks:
        raise MediaError("not a SoundFont: no smpl or shdr chunk")
    pool, table = chunks[b"smpl"], chunks[b"shdr"]
    found = []
    for name, start, end, _, _, rate, _, _, _, kind in struct.iter_unpack(
        "<20sIIIIIBbHH", table[: len(table) // 46 * 46]
    ):
        label = name.split(b"\0")[0].decode("latin-1").strip()
        if label == "EOS" or end <= start or not 4_000 <= rate <= 200_000:
            continue
        if kind & _SF_COMPRESSED:
            samples, rate = _decode(pool[start:end], label)
        else:
            if 2 * end > len(pool):
                raise MediaError(f"damaged SoundFont: sample {label!r} is cut off")
            raw = np.frombuffer(pool, "<i2", end - start, 2 * start)
            samples = raw.astype(np.float32) / np.float32(32768)
        found.append(Samples(name=label, samples_N=samples, sample_rate_hz=rate))
    return found


def read_patch(data: bytes) -> list[Samples]:
    """Read the samples of a Gravis Ultrasound patch (first instrument, first layer).

    Raises:
        MediaError: If the bytes are no patch or are damaged.

    Source:
        Gravis UltraSound SDK: headers of 129, 63 and 47 bytes, then 96 bytes before each
        sample's data.
    """
    if data[:8] != b"GF1PATCH":
        raise MediaError("not a Gravis patch")
    try:
        count = data[129 + 63 + 6]
        at = 129 + 63 + 47
        found = []
        for _ in range(count):
            name, size, rate, modes = (
                *struct.unpack_from("<7sxI8xH", data, at),
                data[at + 55],
            )
            raw = data[at + 96 : at + 96 + size]
            if len(raw) != size:
                raise MediaError("damaged Gravis patch: a sample is cut off")
            bits, signed = (16, "<i2") if modes & _PATCH_16_BIT else (8, "i1")
            if modes & _PATCH_UNSIGNED:
                signed = signed.replace("i", "u")
            samples = np.frombuffer(raw[: size // (bits // 8) * (bits // 8)], signed)
            samples = samples.astype(np.float32) / 2 ** (bits - 1)
            if modes & _PATCH_UNSIGNED:
                samples -= 1
            label = name.split(b"\0")[0].decode("latin-1").strip()
            found.append(Samples(name=label, samples_N=samples, sample_rate_hz=rate))
            at += 96 + size
    except (struct.error, IndexError) as error:
        raise MediaError(f"damaged Gravis patch: {error}") from error
    return found


class _Slice(io.RawIOBase):
    """Read-only view of the next `size` bytes of a file: one member of an ar archive."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        block = self._file.read(min(len(buffer), self._left))
        self._left -= len(block)
        buffer[: len(block)] = block
        return len(block)


def _find_ar_member(file: IO[bytes], prefix: str) -> tuple[str, int]:
    if file.read(8) != b"!<arch>\n":
        raise MediaError("not a Debian package: no ar archive")
    while header := file.read(60):
        if len(header) != 60 or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            raise MediaError("damaged Debian package: bad ar header")
        name = header[:16].decode("ascii", "replace").strip().rstrip("/")
        size = int(header[48:58])
        if name.startswith(prefix):
            return name, size
        file.seek(size + size % 2, io.SEEK_CUR)
    raise MediaError(f"damaged Debian package: no member {prefix}")


def _decompress(name: str, member: io.RawIOBase) -> IO[bytes]:
    buffered = io.BufferedReader(member, 1 << 20)
    if name.endswith(".gz"):
        return gzip.GzipFile(fileobj=buffered)  # type: ignore[return-value]
    if name.endswith(".bz2"):
        return bz2.BZ2File(buffered)
    if name.endswith((".xz", ".lzma")):
        return lzma.LZMAFile(buffered)
    if name.endswith(".tar"):
        return buffered
    if name.endswith(".zst") and shutil.which("zstd"):
        done = subprocess.run(
            ["zstd", "-dc"], input=buffered.read(), capture_output=True, check=False
        )
        if done.returncode:
            raise MediaError(f"zstd could not unpack {name}")
        return io.BytesIO(done.stdout)
    known = "gz, bz2, xz, lzma, and zst with the program zstd"
    raise MediaError(f"cannot unpack {name}; known: {known}")


def _riff_chunks(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    end = len(data) if end is None else end
    while at + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, at)
        stop = at + 8 + size
        if stop > end:
            raise MediaError(f"damaged SoundFont: chunk {name!r} is cut off")
        if name in (b"RIFF", b"LIST"):
            yield from _riff_chunks(data, at + 12, stop)
        else:
            yield name, data[at + 8 : stop]
        at = stop + size % 2


def _decode(data: bytes, label: str) -> tuple[NDArray[np.float32], int]:
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise MediaError(f"damaged SoundFont: sample {label!r}: {error}") from error
    return samples[:, 0], int(rate)


def _inflate(name: str, content: bytes) -> bytes:
    (size,) = struct.unpack_from(">I", content)
    _check_size(name, size)
    return zlib.decompressobj().decompress(content[4:], max(size, 1))


def _check_size(name: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise MediaError(f"{name} claims {size} bytes; refused above {MAX_MEMBER_BYTES}")
