"""Tiny archives of every kind that the stage reads, made in code."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from omni2sound.scenes.material.packages import Package

_PACK: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "gz": gzip.compress,
    "bz2": bz2.compress,
}


def deb(
    files: Mapping[str, bytes],
    *,
    compression: str = "xz",
    links: Sequence[tuple[str, str, bytes]] = (),
) -> bytes:
    """A Debian package: ar with debian-binary, control.tar and data.tar.

    `links` are (name, what it names, `tarfile.SYMTYPE` or `LNKTYPE`), before the files.
    """
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w") as tar:
        for name, target, kind in links:
            info = tarfile.TarInfo(f"./{name}")
            info.type, info.linkname = kind, target
            tar.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data = tar_bytes.getvalue()
    name = "data.tar" if compression == "" else f"data.tar.{compression}"
    body = _PACK.get(compression, bytes)(data)
    out = b"!<arch>\n"
    for member, content in (("debian-binary", b"2.0\n"), ("control.tar", b"odd"), (name, body)):
        out += f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    return out


def rcc(files: Mapping[str, bytes], *, version: int = 3, compress: bool = False) -> bytes:
    """A Qt resource with every file in the folder "sub"."""
    names, name_at = b"", {}
    for name in ("sub", *files):
        name_at[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    contents, nodes = b"", []
    time = b"" if version == 1 else bytes(8)
    nodes.append(struct.pack(">IHII", 0, 2, 1, 1) + time)
    nodes.append(struct.pack(">IHII", name_at["sub"], 2, len(files), 2) + time)
    for name, content in files.items():
        nodes.append(
            struct.pack(">IHHHI", name_at[name], int(compress), 0, 0, len(contents)) + time
        )
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if compress else content
        contents += struct.pack(">I", len(stored)) + stored
    head = 20 if version < 3 else 24
    tree = b"".join(nodes)
    return (
        struct.pack(
            ">4sIIII",
            b"qres",
            version,
            head + len(contents) + len(names),
            head,
            head + len(contents),
        )
        + (b"" if version < 3 else bytes(4))
        + contents
        + names
        + tree
    )


def soundfont(sounds: Mapping[str, np.ndarray], rate_hz: int) -> bytes:
    """A bank of 16-bit samples."""
    pool, table, at = b"", b"", 0
    for name, samples in sounds.items():
        pool += (samples * 32767).astype("<i2").tobytes()
        end = at + len(samples)
        table += struct.pack("<20sIIIIIBbHH", name.encode(), at, end, at, end, rate_hz, 60, 0, 0, 1)
        at = end
    table += struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    body = b"sfbk"
    body += chunk(b"LIST", b"sdta" + chunk(b"smpl", pool))
    body += chunk(b"LIST", b"pdta" + chunk(b"shdr", table))
    return chunk(b"RIFF", body)


def patch(sounds: Mapping[str, np.ndarray], rate_hz: int, *, modes: int = 1) -> bytes:
    """A Gravis patch; `modes` has bit 0 for 16-bit and bit 1 for unsigned samples."""
    out = bytearray(b"GF1PATCH110\0".ljust(129 + 63 + 47, b"\0"))
    out[129 + 63 + 6] = len(sounds)
    for name, samples in sounds.items():
        if modes == 3:
            raw = (samples * 32767 + 32768).astype("<u2").tobytes()
        elif modes == 1:
            raw = (samples * 32767).astype("<i2").tobytes()
        else:
            raw = (samples * 127).astype("i1").tobytes()
        head = struct.pack("<7sxI8xH", name.encode(), len(raw), rate_hz).ljust(96, b"\0")
        out += head[:55] + bytes([modes]) + head[56:] + raw
    return bytes(out)


def cat(sounds: list[bytes]) -> bytes:
    """An OpenTTD sound set."""
    at, table, body = 8 * len(sounds), b"", b""
    for i, sound in enumerate(sounds):
        title = f"sound {i}\0".encode()
        table += struct.pack("<II", at + len(body) | (1 << 31), len(sound))
        body += bytes([len(title)]) + title + sound
    return table + body


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tone(seconds: float, rate_hz: int, *, hertz: float = 440.0) -> np.ndarray:
    """A decaying tone that begins at once."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.cos(2 * np.pi * hertz * time_s) * np.exp(-4 * time_s)).astype(np.float32)


def wav(samples: np.ndarray, rate_hz: int) -> bytes:
    """An encoded wave file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV")
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """An encoded picture."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def pinned(name: str, content: bytes, folder: Path) -> Package:
    """Writes a package file and returns its pin."""
    (folder / f"{name}_1%3a1.0_all.deb").write_bytes(content)
    return Package(
        name=name,
        version="1:1.0",
        pool_path=f"pool/main/m/{name}/{name}_1.0_all.deb",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
