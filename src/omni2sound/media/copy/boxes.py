"""Boxes of mp4 and mov files that FFmpeg reads or writes in part only.

In:   a file, or the header that FFmpeg would write for a stream.
Out:  boxes of a sample entry and QuickTime tags, as bytes; a file with such boxes added.

FFmpeg drops Dolby Vision, 360-degree and HDR boxes when it writes mov, and puts QuickTime's own
tags where QuickTime does not look for them (`moov/udta/meta` instead of `moov/meta`). Both are
added to the closed file: its `moov` box lies last, so that nothing else moves.

Layout: ISO/IEC 14496-12 (boxes), Apple's QuickTime File Format (metadata), Dolby's and Google's
specifications (`dvcC`; `sv3d`, `st3d`).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import av
from av.video.stream import VideoStream

from omni2sound.media.headers.mp4 import top_boxes
from omni2sound.readers import open_regular

KINDS: Mapping[bytes, str] = {
    b"dvcC": "Dolby Vision",
    b"dvvC": "Dolby Vision",
    b"dvwC": "Dolby Vision",
    b"hvcE": "Dolby Vision's enhancement layer",
    b"avcE": "Dolby Vision's enhancement layer",
    b"sv3d": "360-degree projection",
    b"st3d": "stereo layout",
    b"vexu": "stereo layout",
    b"hfov": "field of view",
    b"lhvC": "second view",
    b"mdcv": "HDR mastering data",
    b"clli": "HDR light level",
    b"cclv": "HDR colour volume",
    b"amve": "ambient light",
}
"""Boxes of a visual sample entry that say how pictures are shown, with words for them."""

OF_THE_CODEC = frozenset((b"dvcC", b"dvvC", b"dvwC", b"hvcE", b"avcE", b"lhvC", b"vexu"))
"""Those of them that describe how the pictures are encoded."""
_MAX_MOOV_BYTES = 2**28
_MAX_BOX_BYTES = 2**20
_MAX_TOP_BOXES = 100_000
_ENTRY_HEADER_BYTES = 86
"""Of a visual sample entry, up to its first child box."""


def box(kind: bytes, body: bytes) -> bytes:
    """Return a box with its header."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def children(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of the boxes in a range; stop where they make no sense."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            return
        yield kind, start, start + size
        start += size


def read_moov(path: Path) -> bytes:
    """Return the `moov` box of a file; empty if it has none, or one too large to hold."""
    with open_regular(path) as file:
        for kind, at, size in islice(top_boxes(file), _MAX_TOP_BOXES):
            if kind == b"moov":
                file.seek(at)
                moov = file.read(size) if size <= _MAX_MOOV_BYTES else b""
                is_whole = len(moov) == size and moov[:4] == size.to_bytes(4, "big")
                return moov if is_whole else b""
    return b""


def boxes_of_entry(moov: bytes, track_id: int) -> dict[bytes, bytes]:
    """Return the boxes of `KINDS` in the first sample entry of a track, whole, by kind."""
    path = _path_to_entry(moov, track_id)
    if not path:
        return {}
    start, end = path[-1]
    return {
        kind: bytes(moov[a:b])
        for kind, a, b in children(moov, start + _ENTRY_HEADER_BYTES, end)
        if kind in KINDS and b - a <= _MAX_BOX_BYTES
    }


def boxes_of_stream(stream: VideoStream) -> dict[bytes, bytes]:
    """Return the boxes of `KINDS` that FFmpeg would write into mp4; none if mp4 can't hold it."""
    file = io.BytesIO()
    try:
        with av.open(
            file, "w", format="mp4",
            container_options={"strict": "unofficial", "movflags": "frag_custom+empty_moov"},
        ) as trial:  # fmt: skip
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return {}
    data = file.getvalue()
    for kind, start, end in children(data, 0, len(data)):
        if kind == b"moov":
            boxes = boxes_of_entry(data[start:end], 1)
            if b"st3d" in boxes:  # FFmpeg says the same once more for Apple, and can't read both
                boxes.pop(b"vexu", None)
            return boxes
    return {}


def quicktime_tags(moov: bytes) -> dict[str, bytes]:
    """Return QuickTime's tags (`moov/meta`): key to its value's `data` boxes."""
    meta = _child(moov, (0, len(moov)), b"meta")
    if meta is None:
        return {}
    # QuickTime's own meta box has no version; that of ISO files has.
    start = meta[0] if moov[meta[0] + 12 : meta[0] + 16] == b"hdlr" else meta[0] + 4
    parts = {kind: (a, b) for kind, a, b in children(moov, start + 8, meta[1])}
    if b"keys" not in parts or b"ilst" not in parts:
        return {}
    keys = [
        bytes(moov[a + 8 : b]).decode("utf-8", "replace")
        for _, a, b in children(moov, parts[b"keys"][0] + 16, parts[b"keys"][1])
    ]
    found = {}
    for kind, a, b in children(moov, parts[b"ilst"][0] + 8, parts[b"ilst"][1]):
        number = struct.unpack(">I", kind)[0]
        if 1 <= number <= len(keys) and b - a <= _MAX_BOX_BYTES:
            found[keys[number - 1]] = bytes(moov[a + 8 : b])
    return found


def text_value(text: str) -> bytes:
    """Return a `data` box with UTF-8 text, as QuickTime's tags hold it."""
    return box(b"data", struct.pack(">II", 1, 0) + text.encode("utf-8", "surrogateescape"))


def add_boxes(
    path: Path,
    *,
    track_id: int,
    entry_boxes: Mapping[bytes, bytes],
    entry_kind: bytes | None = None,
    tags: Mapping[str, bytes],
    is_quicktime: bool,
) -> None:
    """Add boxes to a closed mp4 or mov file whose `moov` box lies last.

    Args:
        path: The file; changed in place.
        track_id: Track whose sample entry gets `entry_boxes` that it lacks.
        entry_boxes: Whole boxes by kind.
        entry_kind: New name of the sample entry. Default: unchanged.
        tags: For `moov/meta`: key to `data` boxes.
        is_quicktime: The file is a mov.
    """

    def edit(moov: bytearray) -> None:
        _add_to_entry(moov, track_id, entry_boxes, entry_kind)
        if tags:
            replace_range(moov, [0], len(moov), len(moov), _meta(tags, is_quicktime=is_quicktime))

    change_moov(path, edit)


def change_moov(path: Path, edit: Callable[[bytearray], None]) -> None:
    """Change the `moov` box of a closed file, in which it lies last.

    Args:
        path: The file.
        edit: Called with the box; it may change its length.

    Raises:
        ValueError: The file has no such box, or it doesn't lie last.
    """
    moov = bytearray(read_moov(path))
    size = len(moov)
    with path.open("r+b") as file:
        at = file.seek(-size, io.SEEK_END) if size else 0
        if not size or file.read(8) != struct.pack(">I4s", size, b"moov"):
            raise ValueError("moov does not lie last")
        edit(moov)
        file.seek(at)
        file.write(moov)
        file.truncate()


def _add_to_entry(
    moov: bytearray, track_id: int, entry_boxes: Mapping[bytes, bytes], entry_kind: bytes | None
) -> None:
    entry = _path_to_entry(moov, track_id)
    there = boxes_of_entry(bytes(moov), track_id)
    added = b"".join(value for kind, value in entry_boxes.items() if kind not in there)
    if entry and entry_kind is not None:
        moov[entry[-1][0] + 4 : entry[-1][0] + 8] = entry_kind
    if entry and added:
        start, end = entry[-1]
        # FFmpeg reads st3d only before the vexu that it writes itself.
        boxes = children(moov, start + _ENTRY_HEADER_BYTES, end)
        at = next((a for kind, a, _ in boxes if kind == b"vexu"), end)
        replace_range(moov, [parent for parent, _ in entry], at, at, added)


def replace_range(data: bytearray, parents: list[int], start: int, end: int, new: bytes) -> None:
    """Replace bytes inside boxes, and correct the sizes of those boxes."""
    data[start:end] = new
    for parent in parents:
        size = struct.unpack_from(">I", data, parent)[0]
        struct.pack_into(">I", data, parent, size + len(new) - (end - start))


def _meta(tags: Mapping[str, bytes], *, is_quicktime: bool) -> bytes:
    handler = box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
    keys = b"".join(box(b"mdta", key.encode("utf-8", "surrogateescape")) for key in tags)
    items = b"".join(
        box(struct.pack(">I", number), value) for number, value in enumerate(tags.values(), 1)
    )
    body = handler + box(b"keys", struct.pack(">II", 0, len(tags)) + keys) + box(b"ilst", items)
    return box(b"meta", body if is_quicktime else bytes(4) + body)


def _child(data: bytes | bytearray, parent: tuple[int, int], kind: bytes) -> tuple[int, int] | None:
    found = children(data, parent[0] + 8, parent[1])
    return next(((a, b) for name, a, b in found if name == kind), None)


def _path_to_entry(moov: bytes | bytearray, track_id: int) -> list[tuple[int, int]]:
    """Ranges of all boxes from `moov` to the first sample entry of a track; empty if absent."""
    whole = (0, len(moov))
    for kind, start, end in children(moov, 8, len(moov)):
        if kind != b"trak" or _track_id(moov, (start, end)) != track_id:
            continue
        path = [whole, (start, end)]
        for name in (b"mdia", b"minf", b"stbl", b"stsd"):
            found = _child(moov, path[-1], name)
            if found is None:
                return []
            path.append(found)
        entry = next(children(moov, path[-1][0] + 16, path[-1][1]), None)
        return [] if entry is None else [*path, entry[1:]]
    return []


def _track_id(moov: bytes | bytearray, trak: tuple[int, int]) -> int | None:
    header = _child(moov, trak, b"tkhd")
    if header is None or header[1] - header[0] < 32:
        return None
    offset = 28 if moov[header[0] + 8] == 1 else 20
    return int(struct.unpack_from(">I", moov, header[0] + offset)[0])
