"""Reader of the protocol-buffer wire format, as far as weights of TensorFlow and ONNX need it.

In:   one message as bytes.
Out:  its fields, in order: (number, whole number or bytes).

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from omni2sound.errors import IntegrityError


def read_fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Read the fields of a message; embedded messages and texts come as bytes.

    Raises:
        IntegrityError: The bytes do not follow the format.
    """
    view, pos = memoryview(message), 0
    while pos < len(view):
        tag, pos = read_varint(view, pos)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, pos = read_varint(view, pos)
            yield number, value
            continue
        if wire_type == 2:
            size, pos = read_varint(view, pos)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise IntegrityError(f"unknown protocol-buffer wire type {wire_type}")
        if pos + size > len(view):
            raise IntegrityError("a protocol-buffer message ends inside a field")
        yield number, view[pos : pos + size]
        pos += size


def read_varint(buffer: bytes | memoryview, pos: int) -> tuple[int, int]:
    """Decode a number of seven bits per byte, lowest first, and return the position after it.

    Raises:
        IntegrityError: The bytes end inside the number.
    """
    value = shift = 0
    while True:
        if pos >= len(buffer):
            raise IntegrityError("a protocol-buffer message ends inside a number")
        byte = buffer[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, pos
