"""Clips of a manifest that are still to be annotated, a block of lines at a time.

In:   a manifest, the run's step store, the crew's stamps.
Out:  `SourceClip`s in order, without those that an earlier run with the same crew kept or dropped;
      the numbers of those.

Neither manifest nor clips are ever in memory as a whole. What takes long to compute and depends on
the manifest's bytes and the files' sizes and times alone (which clips a block has, which files,
which stamps their ends would have) is noted in the store, block by block. What not to get wrong: a
note says nothing of what has been done. Whether a clip has ended is asked of the store each time,
so a note may be lost or left behind without harm, and one of another manifest is not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omni2sound.annotate.roles import SourceClip
from omni2sound.annotate.runs import clip_files, fingerprint, source_clip
from omni2sound.annotate.steps import STEPS_FILE, StepStore
from omni2sound.data.corpora.manifest import Clip, count_clips, manifest_media, parse_clip
from omni2sound.errors import UserError
from omni2sound.files import Closing
from omni2sound.readers import open_regular

BLOCK = 500
"""Clips in a block; as many names are asked of the store at once. A part of the notes' key."""
_SIZE = -1
"""Number of the note that holds the number of clips of a checked manifest."""


@dataclass(frozen=True, slots=True)
class _Block:
    """What is known of a block before its lines are read."""

    names: list[str]
    files: list[list[str]]
    stamps: list[str]
    """Stamp of the end of each clip, if its files are what they were."""
    fingerprints: str
    """Digest of all clips' fingerprints."""
    end: int
    """Where the next block begins in the file."""


class PendingClips(Closing):
    """Clips that are left of a manifest; open with `PendingClips.open`, iterate once."""

    def __init__(self, path: Path, media: Path) -> None:
        """Open the manifest; see `open`."""
        self._path, self._media = path, media
        self._file = open_regular(path)
        # Before the digest, so that bytes which change after it was taken are never noted as its.
        self._state = _state(os.fstat(self._file.fileno()))
        self._sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
        self._num_clips = 0
        self.total = 0
        """Clips of the manifest, up to the limit."""
        self.ended = {"kept": 0, "dropped": 0}
        """Clips that an earlier run ended, of those that were iterated over."""

    @classmethod
    def open(cls, path: Path, run: Path, *, limit: int | None = None) -> PendingClips:
        """Open and check a manifest; one that the run has checked before is not checked again.

        Args:
            path: The manifest.
            run: Folder of the run; it may not exist.
            limit: Number of clips, the first ones; None takes all.

        Raises:
            UserError: If the file does not exist or is no manifest.
            ConfigError: If a line is malformed.
        """
        pending = cls(path, manifest_media(path))
        try:
            noted = b""
            if (run / STEPS_FILE).is_file():
                with StepStore.open(run / STEPS_FILE) as store:
                    noted = store.memo(_SIZE, pending._sha256) or b""
            pending._num_clips = int(noted) if noted.isdigit() else count_clips(path)
            pending.total = min(pending._num_clips, pending._num_clips if limit is None else limit)
            pending._check_unchanged(path.stat())
        except BaseException:
            pending.close()
            raise
        return pending

    def close(self) -> None:
        """Close the manifest."""
        self._file.close()

    def left(
        self, store: StepStore, steps: str, stamp: Callable[[SourceClip], str]
    ) -> Iterator[SourceClip]:
        """Yield the clips that no earlier run of these steps kept or dropped.

        Args:
            store: The run's store.
            steps: Digest of all steps.
            stamp: Computes the stamp of a clip's end (`workflow.stamps`).

        Raises:
            UserError: The manifest was changed meanwhile.
        """
        if store.memo(_SIZE, self._sha256) is None:
            store.put_memo(_SIZE, self._sha256, str(self._num_clips).encode())
        follows = f"{BLOCK} {self._sha256} {steps} {self._media}"  # all that a note follows from
        key = hashlib.sha256(follows.encode()).hexdigest()
        self._file.seek(0)
        place = len(self._file.readline())
        for number in range(-(-self.total // BLOCK)):
            block = _decoded(store.memo(number, key))
            if block is None or self._fingerprints(block) != block.fingerprints:
                block = self._made(number, place, stamp)
                store.put_memo(number, key, _encoded(block))
            wanted = min(BLOCK, self.total - number * BLOCK)
            left = self._not_ended(store, block, wanted)
            if left:
                lines = self._lines(place)
                for index in left:
                    yield source_clip(self._parsed(number, index, lines[index]), self._media)
            place = block.end

    def _not_ended(self, store: StepStore, block: _Block, wanted: int) -> list[int]:
        """Count the first clips of a block that have ended; return the places of the others."""
        names, left = block.names[:wanted], []
        ended = store.ended(names)
        for index, (name, stamp) in enumerate(zip(names, block.stamps, strict=False)):
            end, found = ended.get(name, ("", ""))
            if found == stamp and end in self.ended:
                self.ended[end] += 1
            else:
                left.append(index)
        return left

    def _made(self, number: int, place: int, stamp: Callable[[SourceClip], str]) -> _Block:
        lines = self._lines(place)
        read = [self._parsed(number, index, line) for index, line in enumerate(lines)]
        clips = [source_clip(clip, self._media) for clip in read]
        return _Block(
            names=[clip.name for clip in clips],
            files=[clip_files(clip) for clip in read],
            stamps=[stamp(clip) for clip in clips],
            fingerprints=_digest(clip.fingerprint for clip in clips),
            end=place + sum(map(len, lines)),
        )

    def _lines(self, place: int) -> list[bytes]:
        self._check_unchanged(os.fstat(self._file.fileno()))
        self._file.seek(place)
        return [line for _, line in zip(range(BLOCK), self._file, strict=False)]

    def _parsed(self, number: int, index: int, line: bytes) -> Clip:
        return parse_clip(line, f"{self._path}:{number * BLOCK + index + 2}")

    def _fingerprints(self, block: _Block) -> str:
        media = f"{self._media}{os.sep}"
        return _digest(fingerprint([media + name for name in files]) for files in block.files)

    def _check_unchanged(self, found: os.stat_result) -> None:
        if _state(found) != self._state:
            raise UserError(f"{self._path}: changed while it was read; start the command again")


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _digest(texts: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _encoded(block: _Block) -> bytes:
    fields = [block.names, block.files, block.stamps, block.fingerprints, block.end]
    return zlib.compress(json.dumps(fields).encode(), 1)


def _decoded(data: bytes | None) -> _Block | None:
    """Return a note; None if there is none, or a damaged one."""
    if data is None:
        return None
    try:
        return _Block(*json.loads(zlib.decompress(data)))
    except (zlib.error, ValueError, TypeError):
        return None
