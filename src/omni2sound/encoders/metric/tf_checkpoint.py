"""Reader of TensorFlow checkpoints, in NumPy alone.

In:   `<prefix>.index` and `<prefix>.data-00000-of-00001`.
Out:  a dictionary of float32 arrays by variable name.

The index is a LevelDB table: blocks of prefix-compressed keys; its last 48 bytes point at the
block that lists the blocks. Values are protocol-buffer messages with type, shape, offset and size
in the data file, whose numbers are raw and little-endian. Anything else (compression, several
shards, other types) is refused. Checksums inside the files are not verified, because the
installer has verified the package's.

Source: leveldb doc/table_format.md; tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.errors import IntegrityError
from omni2sound.protobuf import read_fields, read_varint
from omni2sound.readers import read_bytes

_TABLE_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_DT_FLOAT = 1
_VARIABLE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"  # names of Python objects, not a variable


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def read_checkpoint(prefix: Path) -> dict[str, NDArray[np.float32]]:
    """Read all float32 variables of a one-shard checkpoint, `PREFIX.index` and `PREFIX.data-...`.

    Arrays are in TensorFlow's layout; names lack the ending `/.ATTRIBUTES/VARIABLE_VALUE`.

    Raises:
        IntegrityError: If the files do not follow the format.
    """
    data = read_bytes(Path(f"{prefix}.data-00000-of-00001"))
    variables = {}
    for name, entry in _entries(Path(f"{prefix}.index")):
        if entry.dtype != _DT_FLOAT or entry.shard != 0 or entry.size != 4 * math.prod(entry.shape):
            raise IntegrityError(f"{prefix}: {name} is not float32 in one shard: {entry}")
        raw = data[entry.offset : entry.offset + entry.size]
        if len(raw) != entry.size:
            raise IntegrityError(f"{prefix}: the data file ends inside {name}")
        values = np.frombuffer(raw, dtype="<f4").reshape(entry.shape)
        variables[name.removesuffix(_VARIABLE_SUFFIX)] = values.astype(np.float32)
    return variables


def _entries(index: Path) -> list[tuple[str, _Entry]]:
    try:
        pairs = [(key.decode(), value) for key, value in _table(read_bytes(index))]
        # The empty key holds the header.
        return [(name, _parse_entry(v)) for name, v in pairs if name not in ("", _OBJECT_GRAPH_KEY)]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise IntegrityError(f"{index} is damaged: {error}") from error


def _table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = table[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _TABLE_MAGIC:
        raise IntegrityError("not a LevelDB table: wrong magic number at its end")
    _, pos = read_varint(footer, 0)  # offset and size of the meta index, unused
    _, pos = read_varint(footer, pos)
    for _, handle in _block(table, *_handle(footer, pos)):
        yield from _block(table, *_handle(handle, 0))


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if table[offset + size] != 0:
        raise IntegrityError("compressed LevelDB blocks are not supported")
    block = table[offset : offset + size]
    (num_restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 - 4 * num_restarts
    pos, key = 0, b""
    while pos < end:
        shared, pos = read_varint(block, pos)
        unshared, pos = read_varint(block, pos)
        value_size, pos = read_varint(block, pos)
        key = key[:shared] + block[pos : pos + unshared]
        pos += unshared
        yield key, block[pos : pos + value_size]
        pos += value_size


def _handle(buffer: bytes, pos: int) -> tuple[int, int]:
    offset, pos = read_varint(buffer, pos)
    size, _ = read_varint(buffer, pos)
    return offset, size


def _parse_entry(message: bytes) -> _Entry:
    """BundleEntryProto: 1 dtype, 2 shape, 3 shard_id, 4 offset, 5 size, 6 crc32c.

    Protocol buffers leave out zeros: a first variable has no offset field at all.
    """
    fields = dict(read_fields(message))
    shape = b"" if isinstance(s := fields.get(2, b""), int) else s
    return _Entry(
        dtype=_integer(fields.get(1, 0)),
        shape=tuple(_dim(dim) for number, dim in read_fields(shape) if number == 2),
        shard=_integer(fields.get(3, 0)),
        offset=_integer(fields.get(4, 0)),
        size=_integer(fields.get(5, 0)),
    )


def _dim(message: int | memoryview) -> int:
    fields = {} if isinstance(message, int) else dict(read_fields(message))
    return _integer(fields.get(1, 0))


def _integer(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise IntegrityError("a checkpoint entry holds bytes where a number belongs")
    return value
