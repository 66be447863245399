"""Shards of a feature store: Arrow files, mapped when they are first needed.

In:   paths of shards that `rows.write_shard` wrote.
Out:  `Shard`: its rows as slices of record batches, whose bytes are read when they are used.

A shard holds thousands of clips in batches of `BATCH_CLIPS`; one of an older store has a batch for
each clip. Only the columns that are used are read: unless clips are small the mapping is random
access, so the kernel reads no pages around them, and a large value is asked for as a whole.

What not to get wrong: a node may hold more shards than a process may map, and a mapping keeps what
it has read in the process's memory. `OpenShards` bounds their number.
"""

from __future__ import annotations

import json
import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from omni2sound.errors import ConfigError
from omni2sound.readers import arrow_file

BATCH_CLIPS = 16
"""Clips in a record batch: few enough that what describes them is a page or two."""
ROWS = b"clips_per_batch"
"""Key in a shard's metadata; without it a batch has one clip."""
FAILED = b"failed"
"""Key of the failures in the metadata of a shard's last batch; in older shards, of its schema."""
MAX_OPEN = 64
"""Shards that one store keeps mapped."""
SMALL_CLIP = 2**16
"""Bytes of a clip up to which the kernel may read what lies around it: one read for several."""
_PAGE = mmap.PAGESIZE
_TEXT = pa.struct(
    [
        ("role", pa.string()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("states", pa.binary()),
    ]
)
SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("duration_s", pa.float64()),
        ("valid_s", pa.float64()),
        ("quality", pa.float32()),
        ("classes", pa.list_(pa.string())),
        ("pictured", pa.list_(pa.string())),
        ("source", pa.string()),
        ("text_dim", pa.int32()),
        ("vision_dim", pa.int32()),
        ("sync_dim", pa.int32()),
        ("latents_dim", pa.int32()),
        ("crc32", pa.list_(pa.uint32())),
        ("texts", pa.list_(_TEXT)),
        ("latents", pa.binary()),
        ("vision", pa.binary()),
        ("sync", pa.binary()),
        ("sound", pa.binary()),
    ],
    metadata={ROWS: str(BATCH_CLIPS).encode()},
)
"""Columns of a shard, small ones first: what describes a clip lies together, and what is large is
read apart."""
_ALWAYS = ("clip_id", "duration_s", "classes", "texts", "sync", "sound")
"""Columns that older stores have, too."""
_NOT_NULL = ("clip_id", "duration_s", "classes", "texts")
LARGE = ("latents", "vision", "sync", "sound")
"""Columns of many bytes; so are the states of texts."""


class Shard:
    """A mapped shard; it stays mapped as long as something of it is used.

    Attributes:
        path: The file.
        columns: Place of each column.
        is_current: Whether this release wrote it, so that its rows hold checksums.
    """

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            ConfigError: If it is not an Arrow file.
        """
        self.path = path
        with arrow_file(path, "a shard of features"), path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._advise("MADV_RANDOM")  # before the first page is read
            buffer = pa.py_buffer(self._mapped)
            self._start, self._size = buffer.address, buffer.size
            self._reader = pa.ipc.open_file(pa.BufferReader(buffer))
            found = (self._reader.schema.metadata or {}).get(ROWS)
            self.is_current = found is not None
            self._clips_per_batch = int(found or b"1")
            _check_columns(self._reader.schema)
            self.columns = {name: i for i, name in enumerate(self._reader.schema.names)}
            if self._clips_per_batch < 1:
                raise ValueError("no clips in a batch")
            clips = max(1, self._reader.num_record_batches * self._clips_per_batch)
            if self._size / clips <= SMALL_CLIP:
                self._advise("MADV_NORMAL")
        self._batches: dict[int, pa.RecordBatch] = {}
        self._large: dict[tuple[int, str], pa.Array] = {}

    @property
    def num_batches(self) -> int:
        """Number of record batches."""
        return int(self._reader.num_record_batches)

    def batch(self, number: int) -> pa.RecordBatch:
        """Return a batch, whose large columns are to be taken from `large`.

        Raises:
            ConfigError: If what describes the batch is damaged.
        """
        known = self._batches.get(number)
        if known is None:
            with self._reading():
                known = self._reader.get_batch(number)
                # Lengths and offsets lie within the file; values are compared by their checksums.
                for name, place in self.columns.items():
                    column = known.column(place)
                    if len(column) != known.num_rows:
                        raise ValueError(f"{len(column)} of {known.num_rows} in column {name}")
                    if name not in LARGE:
                        column.validate(full=True)
                for name in _NOT_NULL:
                    if known.column(name).null_count:
                        raise ValueError(f"a clip without {name}")
            self._batches[number] = known
        return known

    def large(self, number: int, name: str) -> pa.Array | None:
        """Return one of the columns `LARGE` of a batch, None if the shard does not have it.

        Where its values lie is read when it is asked for, a page that other tasks do without.

        Raises:
            ConfigError: If what describes it is damaged.
        """
        known = self._large.get((number, name))
        if known is None and name in self.columns:
            known = self.batch(number).column(self.columns[name])
            with self._reading():
                known.validate(full=True)
            self._large[number, name] = known
        return known

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise ConfigError(f"{self.path}: not a shard of features ({reason})") from None

    def place(self, row: int) -> tuple[int, int]:
        """Return the number of a row's batch, and the row's place in it."""
        return divmod(row, self._clips_per_batch)

    def num_clips(self) -> int:
        """Count the rows."""
        if not self.num_batches:
            return 0
        last = self.batch(self.num_batches - 1).num_rows
        return (self.num_batches - 1) * self._clips_per_batch + int(last)

    def failed(self) -> list[list[str]]:
        """Return [clip id, reason] of the clips without row."""
        found = (self._reader.schema.metadata or {}).get(FAILED)
        if found is None and self.num_batches:
            _, metadata = self._reader.get_batch_with_custom_metadata(self.num_batches - 1)
            found = (metadata or {}).get(FAILED)
        failures: list[list[str]] = json.loads(found or b"[]")
        return failures

    def _advise(self, name: str) -> None:
        if hasattr(mmap, name):  # not on every system
            self._mapped.madvise(getattr(mmap, name))

    def will_need(self, buffer: pa.Buffer) -> None:
        """Tell the kernel that all of a value will be read, so that it is read at once."""
        first = buffer.address - self._start
        if buffer.size <= _PAGE or not hasattr(mmap, "MADV_WILLNEED"):
            return
        if 0 <= first < self._size:
            begin = first - first % _PAGE
            self._mapped.madvise(mmap.MADV_WILLNEED, begin, first + buffer.size - begin)


def _check_columns(found: pa.Schema) -> None:
    """Refuse columns of other types than this or an older release writes, before they are read."""
    if found.equals(SCHEMA):  # a hundred times faster than the questions below
        return
    if missing := sorted(set(_ALWAYS) - set(found.names)):
        raise ValueError(f"no column {missing[0]}")
    if len(set(found.names)) < len(found.names):
        raise ValueError("two columns of one name")
    for column in found:
        if column.name in SCHEMA.names:
            expected = SCHEMA.field(column.name).type
            if column.type != expected and not _is_older_text(column):
                raise ValueError(f"column {column.name} is {column.type}, expected {expected}")


def _is_older_text(column: pa.Field) -> bool:
    """Whether these are texts of a store that does not have the ids of their tokens."""
    of = column.type
    if column.name != "texts" or not pa.types.is_list(of) or not pa.types.is_struct(of.value_type):
        return False
    return {*map(str, of.value_type)} == {*map(str, _TEXT)} - {str(_TEXT.field("token_ids"))}


class OpenShards:
    """The shards that are mapped, at most `MAX_OPEN`; threads may share it."""

    def __init__(self, open_shard: Callable[[int], Shard]) -> None:
        """`open_shard` maps the shard of a number."""
        self._open_shard = open_shard
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._shards)

    def get(self, number: int) -> Shard:
        """Return a shard; the one that was not used for longest is closed for it."""
        with self._lock:
            shard = self._shards.get(number)
            if shard is not None:
                self._shards.move_to_end(number)
                return shard
        shard = self._open_shard(number)  # not under the lock: it may be fetched first
        with self._lock:
            self._shards[number] = shard
            while len(self._shards) > MAX_OPEN:
                self._shards.popitem(last=False)
        return shard


ClipTable = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float32]]
"""Of each clip: length in seconds, whether it has pictures, quality (NaN without)."""


def table_of(shard: Shard) -> ClipTable:
    """Read what choices of a sampler depend on; nothing large."""
    durations, pictured, qualities = [], [], []
    for number in range(shard.num_batches):
        batch = shard.batch(number)
        durations.append(batch.column("duration_s").to_numpy(zero_copy_only=False))
        sync = shard.large(number, "sync")
        assert sync is not None  # a shard without it is refused
        pictured.append(sync.is_valid().to_numpy(zero_copy_only=False))
        if "quality" in shard.columns:
            values = batch.column("quality").to_numpy(zero_copy_only=False)
        else:  # older stores do not have the column
            values = np.full(batch.num_rows, np.nan)
        qualities.append(values.astype(np.float32))
    return joined_tables(list(zip(durations, pictured, qualities, strict=True)))


def joined_tables(tables: list[ClipTable]) -> ClipTable:
    """Join the tables of several shards or stores."""
    kinds = (np.float64, np.bool_, np.float32)
    if len(tables) == 1:  # it may be mapped, and a copy is not
        return tables[0]
    durations_s, has_video, qualities = (
        np.concatenate([np.zeros(0, kind), *(table[i] for table in tables)])
        for i, kind in enumerate(kinds)
    )
    return durations_s, has_video, qualities


@lru_cache(maxsize=1)
def _table_schema() -> pa.Schema:
    return pa.schema(
        [("duration_s", pa.float64()), ("has_video", pa.uint8()), ("quality", pa.float32())]
    )


def write_table(path: Path, tables: list[ClipTable]) -> None:
    """Write the table of all clips of a store, to be mapped."""
    durations_s, has_video, qualities = joined_tables(tables)
    columns = (durations_s, has_video.astype(np.uint8), qualities)
    batch = pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=_table_schema())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _table_schema()) as writer:
        writer.write_batch(batch)


def read_table(path: Path) -> ClipTable:
    """Map the table that `write_table` wrote.

    Raises:
        ConfigError: If it is none.
    """
    with arrow_file(path, "a table of clips"):
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batch = reader.get_batch(0)
        durations_s, has_video, qualities = (
            batch.column(name).to_numpy() for name in _table_schema().names
        )
        return durations_s, has_video.view(np.bool_), qualities
