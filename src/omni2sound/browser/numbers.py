"""Numbers of an exported graph, smaller: fewer bits where that can't be heard, bytes by their rank.

    first bytes of all numbers of a kind | second bytes | ... ; kind after kind       (gzip)

In:   a graph and its file of numbers.
Out:  packed bytes, and spans that say what of the file is stored how.

The highest byte has the sign and most of the exponent, of which few values are common: together
they pack to half and less, lower bytes hardly. Arrays that a kind can't hold (too large, not
finite) and what is no float stay as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import IntegrityError
from omni2sound.protobuf import read_fields

Span = tuple[int, int, str]
"""Offset and length in bytes, and how it is stored: a key of `KEPT`, or "raw"."""

KEPT = {"float16": 2, "half": 2, "fine": 3}
"""Bytes of each number: a float16 of the file, a float32 rounded to float16, or a float32 without
its lowest byte (rounded, to 2^-17)."""
_GRAPH, _INITIALIZER = 7, 5
"""Fields of ONNX's messages (onnx.proto): the graph of a model, the arrays of a graph."""
_DATA_TYPE, _EXTERNAL, _KEY, _VALUE = 2, 13, 1, 2
_FLOAT, _FLOAT16 = 1, 10
_GZIP = 31


def gzipped(data: bytes) -> bytes:
    """Bytes as gzip packs them, without a time or a name."""
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()


def pack(graph: Path, numbers: Path, *, halved: bool) -> tuple[bytes, list[Span]]:
    """Pack a graph's file of numbers; not yet with gzip.

    Args:
        graph: The ONNX file.
        numbers: Its file of numbers.
        halved: Whether arrays of float32 are rounded to float16, not only to three bytes.

    Raises:
        IntegrityError: The graph is no ONNX file, or its numbers lie outside of the file.
    """
    data = numbers.read_bytes()
    spans: list[Span] = []
    stored: dict[str, list[NDArray[np.uint8]]] = {kind: [] for kind in KEPT}
    raw, at = b"", 0
    for offset, length, data_type in sorted(_float_arrays(graph.read_bytes())):
        size = 2 if data_type == _FLOAT16 else 4
        if offset < at or offset % size or length % size or offset + length > len(data):
            raise IntegrityError(f"{graph}: its numbers are not those of {numbers.name}")
        kind = "float16" if size == 2 else "half" if halved else "fine"
        kept = _kept(np.frombuffer(data, f"<f{size}", length // size, offset), kind)
        if kept is None:
            continue
        if offset > at:
            spans.append((at, offset - at, "raw"))
            raw += data[at:offset]
        spans.append((offset, length, kind))
        stored[kind].append(kept)
        at = offset + length
    if at < len(data):
        spans.append((at, len(data) - at, "raw"))
        raw += data[at:]
    planes = [np.concatenate(rows).T.tobytes() for rows in stored.values() if rows]
    return b"".join([*planes, raw]), spans


def _kept(values: NDArray[np.floating], kind: str) -> NDArray[np.uint8] | None:
    """Bytes (N, kept) of numbers, highest first; None: this kind can't hold them."""
    limit = np.finfo(np.float16 if kind == "half" else np.float32).max
    if not (np.abs(values) < limit).all():  # NaN, too
        return None
    if kind == "fine":
        bits = (values.view("<u4").astype(np.uint64) + 0x80).astype("<u4")
        return bits.view(np.uint8).reshape(-1, 4)[:, :0:-1]
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)[:, ::-1]


def _float_arrays(model: bytes) -> Iterator[tuple[int, int, int]]:
    """Offset, length and type of each array of floats that a graph keeps in its file of numbers."""
    for number, graph in read_fields(model):
        if number != _GRAPH or isinstance(graph, int):
            continue
        for field, tensor in read_fields(graph):
            if field == _INITIALIZER and not isinstance(tensor, int):
                yield from _float_array(tensor)


def _float_array(tensor: memoryview) -> Iterator[tuple[int, int, int]]:
    kind, place = 0, {}
    for number, value in read_fields(tensor):
        if number == _DATA_TYPE and isinstance(value, int):
            kind = value
        elif number == _EXTERNAL and not isinstance(value, int):
            entry = {n: bytes(v) for n, v in read_fields(value) if not isinstance(v, int)}
            place[entry.get(_KEY, b"")] = entry.get(_VALUE, b"")
    if kind in (_FLOAT, _FLOAT16) and b"length" in place:
        yield int(place.get(b"offset", b"0")), int(place[b"length"]), kind
