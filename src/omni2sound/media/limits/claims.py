"""What headers claim, checked before FFmpeg allocates memory for it.

In:   a path.
Out:  nothing, or a `MediaError`.

A table of an mp4 says in twelve bytes that a track has a billion samples, a fragment in eight, a
compressed header or text in a few kilobytes that it is gigabytes long. FFmpeg allocates first and
finds out afterwards. What not to get wrong: FFmpeg looks for these boxes wherever a container box
may stand, not only where the standard puts them, so this walks all of them: in a compressed
header, behind any first box, and in the descriptions of samples, whose ends hold boxes, too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from omni2sound.errors import MediaError
from omni2sound.media.headers import ebml, mp4
from omni2sound.media.limits.budgets import (
    MAX_COMPRESSED_BYTES,
    MAX_EDITED_SAMPLES,
    MAX_PACKETS,
    MAX_PICTURE_BYTES,
    MAX_TAGS,
    MAX_ZEROS_BYTES,
    TooMuch,
)
from omni2sound.media.limits.file_bytes import FileBytes
from omni2sound.media.limits.worker import check_in_worker
from omni2sound.readers import open_regular

Data = FileBytes | bytes

_CONTAINERS = frozenset(
    (
        *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"dinf", b"wave"),
        *(b"moof", b"traf", b"mvex", b"meta", b"ilst", b"sinf", b"schi", b"tref", b"iprp"),
        *(b"ipco", b"mfra", b"cmov"),
    )
)
_TAG_BOXES = frozenset((b"udta", b"ilst", b"meta"))
_FIRST_BOXES = frozenset(
    (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp", b"uuid")
)
_COUNTED = (b"stsz", b"stz2", b"stts", b"ctts", b"stsc", b"trun", b"elst", b"keys")
_MAX_BOXES = 2_000_000
_MAX_ELEMENTS = 4_000_000
"""Elements of a segment; a live recording may have its blocks there, for twelve hours."""
_MAX_DEPTH, _MAX_ID_BYTES = 16, 4
_PNG = b"\x89PNG\r\n\x1a\n"
_SEEK_POSITION, _SIMPLE_TAG = b"\x53\xac", b"\x67\xc8"
_UNCODED = (b"RIFF", b"RF64", b"riff", b"FORM", b".snd", b"caff")
"""Beginnings of sound files that hold plain samples."""
_TABLES = (
    f"its tables claim more than {MAX_PACKETS} samples; it is damaged, or has to be cut in parts"
)
_BLOCK_BYTES = 2**20
_SMALL_BYTES = 2**16
"""As much metadata holds too few tags to matter."""
_PLAIN = (b"\xff", b"GIF8", b"BM", b"\x47", b"\0\0\1\xba")
"""Beginnings of kinds with neither tables nor many tags: mp3, aac, jpeg, gif, bmp, ts, ps."""
_BINARY_FRAMES = (b"APIC", b"GEOB", b"PRIV", b"MCDI", b"UFID", b"PIC\0")
"""Frames of an ID3 tag that hold pictures and the like."""


def check_claims(path: Path, name: str, *, demuxers: str) -> None:
    """Refuse a file whose header claims more than `media.limits.budgets` allows.

    Args:
        path: A regular file that is not empty.
        name: What it is called in an error.
        demuxers: FFmpeg's names of the formats that are read.

    Raises:
        MediaError: It does.
        OSError: It can't be read.
    """
    status = path.stat()
    refused = _refusal(path, demuxers, status.st_size, status.st_mtime_ns)
    if refused:
        raise MediaError(f"{name}: {refused}")


@lru_cache(maxsize=256)
def _refusal(path: Path, demuxers: str, _size: int, _mtime_ns: int) -> str:
    """Return why a file is refused; empty if it is not. A file is opened several times."""
    with open_regular(path) as file:
        data = FileBytes(file)
        head = data[:16]
        try:
            if head.startswith(_PNG):
                _check_zeros(data)
                _check_png(data)
            elif head.startswith(ebml.EBML):
                _check_matroska(data)
            elif _has_boxes(data):
                _Boxes(data).check(0, len(data), 0)
                if head[4:8] not in _FIRST_BOXES:
                    check_in_worker(path, demuxers)
            else:
                _check_zeros(data)
                if _metadata_bytes(data) > _SMALL_BYTES:
                    check_in_worker(path, demuxers)
        except TooMuch as error:
            return str(error)
    return ""


def _has_boxes(data: Data) -> bool:
    """Whether a file may be taken for mp4 or mov, whatever box comes first."""
    at = 0
    for _ in range(_MAX_BOXES):
        header = mp4.read_header(data, at, len(data))
        if header is None:
            break
        kind, _, size = header
        if kind in _FIRST_BOXES:
            return True
        at += size
    return False


def _check_tags(num_tags: int) -> None:
    if num_tags > MAX_TAGS:
        raise TooMuch(f"more than {MAX_TAGS} tags; copy it without its metadata")


class _Boxes:
    """Counts what the boxes of one mp4 or mov file claim."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.num_boxes = self.num_tags = self.num_inflated = 0
        self.num_samples = 0
        self.track = _Track()

    def check(self, start: int, end: int, depth: int, *, in_tags: bool = False) -> None:
        """Go through the boxes of a range."""
        for kind, at, stop in self._children(start, end):
            if kind == b"trak":
                self.track = _Track()
            self.num_tags += in_tags
            _check_tags(self.num_tags)
            if kind in _CONTAINERS and depth < _MAX_DEPTH:
                # `meta` is a full box, with 4 bytes before its first child, in mp4 but not in mov.
                skipped = 4 if kind == b"meta" and self.data[at + 4 : at + 8] != b"hdlr" else 0
                self.check(at + skipped, stop, depth + 1, in_tags=kind in _TAG_BOXES)
            elif kind == b"stsd":
                self._search(at, stop)
            elif kind == b"cmvd":
                self._inflate(at, stop, depth)
            else:
                self._claim(kind, at, stop)
            if kind == b"trak":
                self.num_samples += self.track.indexed
            if self.num_samples > MAX_PACKETS or self.track.edited > MAX_EDITED_SAMPLES:
                raise TooMuch(_TABLES)

    def _children(self, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield (kind, start of the body, end) of boxes; too long ones end with their parent."""
        while start + 8 <= end:
            self._count_box()
            header = mp4.read_header(self.data, start, end)
            if header is None:
                return
            kind, length, size = header
            stop = min(start + size, end)
            yield kind, start + length, stop
            start = stop

    def _count_box(self) -> None:
        self.num_boxes += 1
        if self.num_boxes > _MAX_BOXES:
            raise TooMuch(f"more than {_MAX_BOXES} boxes; re-encode it")

    def _search(self, start: int, stop: int) -> None:
        """Count what looks like a table among the descriptions of samples, wherever it begins."""
        for kind in _COUNTED:
            at = start
            while (at := self.data.find(kind, at, stop)) >= 0:
                self._count_box()
                at += 4
                self._claim(kind, at, stop)

    def _inflate(self, at: int, stop: int, depth: int) -> None:
        """Go through the boxes of a compressed header."""
        num_bytes = self._number(at, stop)
        self.num_inflated += num_bytes
        if max(self.num_inflated, stop - at) > MAX_COMPRESSED_BYTES:
            raise TooMuch(f"a compressed header of {num_bytes} bytes; re-encode it")
        try:
            inflated = zlib.decompressobj().decompress(self.data[at + 4 : stop], num_bytes or 1)
        except zlib.error:
            return  # damaged for everybody
        outer, self.data = self.data, inflated
        self.check(0, len(inflated), depth + 1)
        self.data = outer

    def _claim(self, kind: bytes, at: int, stop: int) -> None:
        track = self.track
        if kind in (b"stsz", b"stz2"):
            track.num_sizes = max(track.num_sizes, self._number(at + 8, stop))
        elif kind in (b"stts", b"ctts"):
            num = self._number(at + 4, stop)
            if num > MAX_PACKETS:
                raise TooMuch(_TABLES)
            num_times, has_unit_steps = self._times(at + 8, min(stop, at + 8 + 8 * num))
            track.num_times = max(track.num_times, num_times)
            if kind == b"stts":
                track.has_unit_steps = has_unit_steps
        elif kind == b"hdlr":
            track.handlers.add(self.data[at + 8 : at + 12])  # QuickTime has one for data, too
        elif kind == b"stsc":
            track.num_chunks = max(track.num_chunks, self._number(at + 4, stop))
        elif kind == b"trun":
            self.num_samples += self._number(at + 4, stop)
        elif kind == b"elst":
            track.num_edits += self._number(at + 4, stop)
        elif kind == b"keys":
            self.num_tags += self._number(at + 4, stop)

    def _number(self, at: int, stop: int) -> int:
        return int.from_bytes(self.data[at : at + 4], "big") if at + 4 <= stop else 0

    def _times(self, at: int, stop: int) -> tuple[int, bool]:
        """Return the samples of a table of times, and whether all are in one entry of step 1."""
        stop = at + max(0, stop - at) // 8 * 8
        num_times = 0
        for start in range(at, stop, _BLOCK_BYTES):
            entries = np.frombuffer(self.data[start : min(start + _BLOCK_BYTES, stop)], ">u4")
            num_times += int(np.sum(entries[::2], dtype=np.uint64))
        return num_times, stop - at == 8 and self._number(at + 4, stop) == 1


@dataclass(slots=True)
class _Track:
    """Claims of one track."""

    num_sizes: int = 0
    num_times: int = 0
    num_chunks: int = 0
    num_edits: int = 0
    handlers: set[bytes] = field(default_factory=set)
    has_unit_steps: bool = False

    @property
    def indexed(self) -> int:
        """Entries of FFmpeg's index."""
        is_sound = b"soun" in self.handlers and b"vide" not in self.handlers
        if is_sound and self.has_unit_steps:  # PCM is indexed by the thousand
            return self.num_sizes // 1024 + self.num_chunks
        return max(self.num_sizes, self.num_times)

    @property
    def edited(self) -> int:
        """Entries of its index after the edit list."""
        return self.num_edits * max(1, self.indexed) if self.num_edits > 1 else 0


def _check_matroska(data: Data) -> None:
    """Count the tags of a Matroska file, also those that only its table of contents names."""
    at = _element(data, 0)[2]  # behind the EBML header
    kind, segment, stop = _element(data, at)
    if kind != ebml.SEGMENT:
        return
    seen: set[int] = set()
    num_tags = 0
    seek_heads: list[tuple[int, int]] = []
    num_elements = 0
    at = segment
    while at < stop:
        num_elements += 1
        if num_elements > _MAX_ELEMENTS:
            raise TooMuch(f"more than {_MAX_ELEMENTS} elements in a row; remux it")
        kind, body, end = _element(data, at)
        if kind == ebml.CLUSTER and end >= len(data):  # of unknown length: go on inside it
            end = body
        elif kind == ebml.TAGS:
            seen.add(at)
            num_tags = _count_tags(data, body, end, num_tags)
        elif kind == ebml.SEEK_HEAD:
            seek_heads.append((body, end))
            if len(seek_heads) > MAX_TAGS:
                raise TooMuch(f"more than {MAX_TAGS} tables of contents; re-encode it")
        elif not kind:  # damage: FFmpeg looks for the next element that it knows
            end = data.find(ebml.TAGS, at + 1)
        if end <= at:
            break
        at = end
    for start, stop in seek_heads:
        for at in _positions(data, start, stop, segment):
            kind, body, end = _element(data, at)
            if kind == ebml.TAGS and at not in seen:
                seen.add(at)
                num_tags = _count_tags(data, body, end, num_tags)


def _count_tags(data: Data, at: int, end: int, num_tags: int) -> int:
    """Add the tags of an element, which counts as one itself, to those before; stop at the limit.

    Nothing is copied: the element may be as long as the file.
    """
    num_tags += 1
    _check_tags(num_tags)
    while (at := data.find(_SIMPLE_TAG, at, end) + len(_SIMPLE_TAG)) >= len(_SIMPLE_TAG):
        num_tags += 1
        _check_tags(num_tags)
    return num_tags


def _element(data: Data, at: int) -> tuple[bytes, int, int]:
    """Return id, start of the body and end of an element; it ends with the file.

    Without an id: there is none.
    """
    header = ebml.read_header(data, at)
    if header is None or len(header[0]) > _MAX_ID_BYTES:
        return b"", at + 1, at + 1
    kind, body, size = header
    return kind, body, len(data) if size is None else min(body + size, len(data))


def _positions(data: Data, at: int, stop: int, segment: int) -> Iterator[int]:
    """Yield the positions in the file that a table of contents names."""
    while (at := data.find(_SEEK_POSITION, at, stop)) >= 0:
        width = data[at + 2] & 0x7F if at + 2 < stop else 0
        if width <= 8:
            yield segment + int.from_bytes(data[at + 3 : min(at + 3 + width, stop)], "big")
        at += 1


def _check_png(data: Data) -> None:
    """Refuse texts and colour profiles that grow beyond their limit."""
    _check_png_size(data[len(_PNG) + 8 : len(_PNG) + 18])
    at, num_texts = len(_PNG), 0
    while at + 12 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        start, stop, at = at + 8, min(at + 8 + size, len(data)), at + 12 + size
        if kind not in (b"zTXt", b"iTXt", b"iCCP", b"tEXt"):
            continue
        num_texts += 1
        _check_tags(num_texts)
        if stop - start > MAX_COMPRESSED_BYTES:
            raise TooMuch(
                f"a text or profile of {stop - start} bytes, of at most {MAX_COMPRESSED_BYTES}; "
                "save it without metadata"
            )
        body = data[start:stop]
        end = body.find(b"\0")
        packed = zlib.decompressobj()
        # zTXt and iCCP have one byte before the data; iTXt has two and two more names.
        skipped = body[end + 2 :] if kind != b"iTXt" else body[end + 3 :].split(b"\0", 2)[-1]
        try:
            packed.decompress(skipped, MAX_COMPRESSED_BYTES)
        except zlib.error:
            continue  # not compressed, or damaged
        if packed.unconsumed_tail:
            raise TooMuch(
                f"a compressed text or profile of more than {MAX_COMPRESSED_BYTES} bytes; save it "
                "without metadata"
            )


def _check_png_size(head: bytes) -> None:
    """Refuse a picture that would be too large once it is decoded."""
    if len(head) < 10:
        return
    width, height, bits, colour = struct.unpack(">IIBB", head)
    num_channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 4)  # 3: a palette
    num_bytes = width * height * num_channels * (2 if bits == 16 else 1)
    if num_bytes > MAX_PICTURE_BYTES:
        raise TooMuch(too_large(width, height, num_bytes))


def too_large(width_px: int, height_px: int, num_bytes: int) -> str:
    """Say that a picture takes more memory than there may be for one."""
    return (
        f"{width_px}x{height_px} pixels of {num_bytes / 1e6:.0f} MB, the limit is "
        f"{MAX_PICTURE_BYTES / 1e6:.0f} MB; scale it down, or save it with 8 bits"
    )


def _check_zeros(data: Data) -> None:
    """Refuse a file with an end of zeros, which some parsers collect as one packet.

    Disks and downloads that break off leave them. Sound without a codec may end in silence; but
    behind the sound of a WAV, FFmpeg takes every eight zeros for a part.
    """
    begin = 0
    if data[:4] in _UNCODED and data[8:12] != b"AVI ":
        if data[:4] not in (b"RIFF", b"RF64"):
            return
        begin = _end_of_chunks(data)
    end = len(data)
    while end > begin and not data[max(0, end - _BLOCK_BYTES) : end].strip(b"\0"):
        end = max(0, end - _BLOCK_BYTES)
        if len(data) - end > MAX_ZEROS_BYTES:
            raise TooMuch("ends in megabytes of zeros; it is incomplete: download it again")


def _metadata_bytes(data: Data) -> int:
    """Count the bytes that hold tags; more than `_SMALL_BYTES` for a kind that is not known."""
    at = num_bytes = num_id3 = 0
    while data[at : at + 3] == b"ID3":
        num_id3 += 1
        _check_tags(num_id3)
        of_tag, at = _id3_bytes(data, at)
        num_bytes += of_tag
    head = data[at : at + 12]
    if not head or head.startswith(_PLAIN):
        return num_bytes
    if head.startswith((b"RIFF", b"RF64")):
        chunks = _riff_chunks(data, at + 12)
        no_tags = (b"data", b"movi", b"idx1")
        return num_bytes + sum(size for kind, size in chunks if kind not in no_tags)
    if head.startswith(b"fLaC"):
        return num_bytes + _flac_bytes(data, at + 4)
    if head.startswith(b"OggS"):
        return num_bytes + _ogg_bytes(data, at)
    return max(len(data), _SMALL_BYTES + 1)


def _id3_bytes(data: Data, at: int) -> tuple[int, int]:
    """Return the bytes of text frames, and where the tag ends."""
    size = 0
    for byte in data[at + 6 : at + 10]:
        size = size << 7 | byte & 0x7F
    end = min(at + 10 + size, len(data))
    frame, binary, num_frames = at + 10, 0, 0
    while frame + 10 < end and data[frame] and data[at + 3] > 2:
        length = int.from_bytes(data[frame + 4 : frame + 8], "big")
        if data[frame : frame + 4] in _BINARY_FRAMES:
            binary += length
        frame += 10 + length
        num_frames += 1
        _check_tags(num_frames)
    return max(0, end - at - binary), max(end, at + 10)


def _counted(num_parts: int, most: int) -> int:
    """Count one more part of a file; there is an end to that."""
    if num_parts >= most:
        raise TooMuch(f"more than {most} parts; convert it to mkv, mp4 or wav")
    return num_parts + 1


def _riff_chunks(data: Data, at: int) -> Iterator[tuple[bytes, int]]:
    """Yield kind and size of chunks; that of a list is the kind of list."""
    num_chunks = 0
    while at + 12 <= len(data):
        num_chunks = _counted(num_chunks, _MAX_BOXES)
        kind, size = struct.unpack("<4sI", data[at : at + 8])
        if not size and kind == bytes(4):  # zeros behind the last one
            return
        is_list = kind in (b"LIST", b"RIFF")
        yield data[at + 8 : at + 12] if is_list else kind, min(size, len(data) - at)
        at += 8 + size + size % 2


def _end_of_chunks(data: Data) -> int:
    """Return where the last chunk ends; that of a recording of unknown length is the file's."""
    at = 12
    for kind, size in _riff_chunks(data, at):
        if kind == b"data" and size in (0, len(data) - at):
            return len(data)
        at += 8 + size + size % 2
    return at


def _flac_bytes(data: Data, at: int) -> int:
    num_bytes = num_blocks = 0
    while at + 4 <= len(data):
        num_blocks = _counted(num_blocks, _MAX_BOXES)
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        if kind & 0x7F == 4:
            num_bytes += size
        if kind & 0x80:
            break
        at += 4 + size
    return num_bytes


def _ogg_bytes(data: Data, at: int) -> int:
    """Count the bytes of header pages; they have no position in time."""
    num_bytes = num_pages = 0
    while at + 27 <= len(data) and data[at : at + 4] == b"OggS":
        num_pages = _counted(num_pages, _MAX_ELEMENTS)
        num_segments = data[at + 26]
        size = sum(data[at + 27 : at + 27 + num_segments])
        if data[at + 6 : at + 14] in (bytes(8), b"\xff" * 8):
            num_bytes += size
        at += 27 + num_segments + size
    return num_bytes
