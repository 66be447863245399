"""Readers of files that anybody may have written, within limits.

In:   paths and texts: cards, manifests, tables, tensors, databases.
Out:  plain data, or `ConfigError` with the file and the reason, in one line.

What not to get wrong: a library's parser ends in many ways that are no `ValueError` (recursion,
overflow, its own classes), takes NaN, numbers of a thousand digits and halves of characters, and
waits for ever for a pipe. Whoever reads a file that the package did not bring does so here.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tokenize
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.errors import ConfigError, Omni2SoundError, UserError, naming

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    from torch import Tensor

MAX_DEPTH = 64
"""Objects and lists inside each other; our own files have at most ten."""
MAX_TEXT_BYTES = 2**26
"""One document."""
MAX_LINE_BYTES = 2**24
MAX_TOML_BYTES = 2**20
"""Settings that people write; parsing takes a second for each megabyte."""
MAX_PARSED_BYTES = 2**29
"""Memory of the values of a JSON document, as estimated from its punctuation."""
MAX_ROWS = 5_000_000
MAX_COLUMNS = 1000
MAX_UNPACKED_BYTES = 2**29
"""Of the columns of a Parquet file as they are encoded: more than AudioSet has."""
MAX_BATCH_BYTES = 2**26
"""Of `_BATCH_ROWS` rows, decoded; a cell that is repeated takes next to no room in the file."""
MAX_TABLE_BYTES = 2**31
"""A table that is read as a whole; the largest published one has 250 MB."""
_MAX_DIGITS = 19
"""Of a whole number: 64 bits."""
_BATCH_ROWS = 256
_BYTES_OF = {"{": 240, "[": 64, ":": 100, ",": 50}
"""What CPython takes for an object, a list, a pair and an item, about, beside its characters."""

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


def real_path(path: Path) -> Path:
    """Return a path without links; one that leads back to itself stays, and can't be opened."""
    return Path(os.path.realpath(path))


def check_regular(path: Path) -> None:
    """Refuse what is no regular file: reading a pipe or device may never end.

    Raises:
        FileNotFoundError: There is nothing.
        ConfigError: It is something else.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:  # a zero byte in the name
        raise ConfigError(f"{str(path)!r}: not a file name") from None
    _check_mode(path, mode)


def _check_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise ConfigError(f"{path}: expected a regular file, got {kind}; give a file")


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading bytes, without waiting for one that is none.

    Raises:
        FileNotFoundError: There is nothing.
        ConfigError: It is something else.
    """
    check_regular(path)

    def opener(name: str, flags: int) -> int:
        # It may have become a pipe since.
        descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
        try:
            _check_mode(path, os.fstat(descriptor).st_mode)
        except ConfigError:
            os.close(descriptor)
            raise
        return descriptor

    return open(path, "rb", opener=opener)


def read_bytes(path: Path, *, max_bytes: int = MAX_TABLE_BYTES) -> bytes:
    """Read a regular file of limited size.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is no regular file, or too large.
    """
    with open_regular(path) as file, naming(path):
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ConfigError(f"{path}: larger than {max_bytes:,} bytes; expected a smaller file")
    return data


def read_text(path: Path, *, max_bytes: int = MAX_TEXT_BYTES, encoding: str = "utf-8") -> str:
    """Read a UTF-8 text; `encoding="utf-8-sig"` allows a byte order mark.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is no regular file, too large, or not UTF-8.
    """
    try:
        text = read_bytes(path, max_bytes=max_bytes).decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def byte_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a regular file, with their ends (LF).

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is no regular file, or a line is longer than `MAX_LINE_BYTES`.
    """
    with open_regular(path) as file, naming(path):
        for number in count(1):
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_LINE_BYTES:
                raise ConfigError(
                    f"{path}:{number}: longer than {MAX_LINE_BYTES:,} bytes; expected shorter lines"
                )
            yield line


def text_lines(path: Path, *, encoding: str = "utf-8", errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a regular text file, with their ends (LF).

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is no regular file, not UTF-8, or a line is longer than `MAX_LINE_BYTES`.
    """
    for number, line in enumerate(byte_lines(path), start=1):
        try:
            yield line.decode(encoding if number == 1 else "utf-8", errors)
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path}:{number}: not UTF-8 text ({error.reason}); save it as UTF-8"
            ) from None


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is beyond the range of numbers")
    return number


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
"""Takes no number beyond 64 bits and no NaN."""
_OF_OURS = json.JSONDecoder(parse_int=_whole)


def loads(text: object, *, not_finite: bool = False) -> Any:
    """Parse JSON that any reader and database can hold.

    Args:
        text: JSON. A cell of a database may be no text at all.
        not_finite: Whether NaN and Infinity are accepted, as in scores of an empty set.

    Raises:
        ValueError: It is not JSON, is nested more than `MAX_DEPTH` deep, holds a number beyond
            64 bits or half of a character, or would take more than `MAX_PARSED_BYTES`.
    """
    if not isinstance(text, str):
        raise ValueError("no text")
    if len(text) > 2**20:
        num_bytes = len(text) + sum(size * text.count(mark) for mark, size in _BYTES_OF.items())
        if num_bytes > MAX_PARSED_BYTES:
            raise ValueError(f"its values would take {num_bytes / 1e6:.0f} MB of memory")
    try:
        data = (_OF_OURS if not_finite else DECODER).decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        check_depth(data)
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a character") from None
    return data


def check_depth(data: Any) -> None:
    """Refuse data in which containers lie more than `MAX_DEPTH` deep.

    Raises:
        ValueError: They do.
    """
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        level = [
            value
            for container in level
            for value in (container.values() if isinstance(container, dict) else container)
            if isinstance(value, dict | list)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def parse_json(text: str, where: object, *, not_finite: bool = False) -> Any:
    """Parse JSON as `loads` does; errors name `where` it stands.

    Raises:
        ConfigError: It is not such JSON.
    """
    try:
        return loads(text, not_finite=not_finite)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON ({error})") from None


def read_json(path: Path, *, not_finite: bool = False) -> Any:
    """Read a JSON document.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It is no such document.
    """
    return parse_json(read_text(path), path, not_finite=not_finite)


def read_object(path: Path, *, not_finite: bool = False) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It is no such document.
    """
    return as_object(read_json(path, not_finite=not_finite), path)


def as_object(data: Any, where: object) -> dict[str, Any]:
    """Return JSON data that is an object.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected an object, got {repr(data)[:80]}")
    return data


def read_toml(path: Path, *, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """Read a TOML document of at most `MAX_TOML_BYTES`.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It is no such document.
    """
    return parse_toml(read_text(path, max_bytes=MAX_TOML_BYTES), path, parse_float=parse_float)


def parse_toml(
    text: str, where: object, *, parse_float: Callable[[str], Any] = float
) -> dict[str, Any]:
    """Parse TOML; errors name `where` it stands.

    Raises:
        ConfigError: It is not TOML, nested more than `MAX_DEPTH` deep, or holds NaN or infinity.
    """

    def finite(number: str) -> Any:
        if not math.isfinite(parsed := parse_float(number)):
            raise ValueError(f"{number} is no number")
        return parsed

    try:
        data = tomllib.loads(text, parse_float=finite)
        check_depth(data)
    except (ValueError, RecursionError, ArithmeticError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{where}: expected TOML ({reason})") from None
    return data


_OF_ODD_DATA = (
    *(LookupError, TypeError, AttributeError, ValueError, ArithmeticError),
    RuntimeError,  # of torch: a layer of impossible size
    *(SyntaxError, tokenize.TokenError),  # of NumPy: the header of an array
)


@contextmanager
def interpreting(where: object, kind: str) -> Iterator[None]:
    """Report data of another shape than the block expects as "WHERE: not KIND (reason)".

    For the few lines that take apart plain data; nothing else belongs into the block.

    Raises:
        ConfigError: A field is missing, or a value is of another type or range.
    """
    try:
        yield
    except Omni2SoundError:
        raise
    except _OF_ODD_DATA as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        if isinstance(error, KeyError) and error.args:
            reason = f"{str(error.args[0])[:80]!r} is missing"
        raise ConfigError(f"{where}: not {kind} ({reason})") from None


@contextmanager
def open_tensors(path: Path, *, framework: str = "pt") -> Iterator[Any]:
    """Open a safetensors file.

    Yields:
        The reader of `safetensors.safe_open`.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is no such file, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    check_regular(path)
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise ConfigError(f"{path} is not a complete safetensors file: {error}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file, by name.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is no such file, or damaged.
    """
    with open_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def arrow_file(path: Path, kind: str) -> Iterator[None]:
    """Report errors of pyarrow in the block as "PATH: not KIND (reason)".

    Raises:
        FileNotFoundError: There is no such file.
        ConfigError: It is no such file, or damaged.
    """
    import pyarrow as pa

    check_regular(path)
    try:
        yield
    except UserError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: not {kind} ({reason})") from None


def parquet_rows(
    path: Path, *, columns: Sequence[str] | None = None, rows_at_once: int = _BATCH_ROWS
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file.

    Texts stay in dictionaries until their length is known: one cell may stand for millions.

    Args:
        path: The file.
        columns: Columns to read, of those that it has; "a.b" is a field of one. Default: all.
        rows_at_once: Rows that are decoded together; 1 where cells are files.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is no such file, is damaged, or claims more than `MAX_ROWS`, `MAX_COLUMNS`
            or, in these columns, `MAX_UNPACKED_BYTES` (if rows are read one by one, in a group of
            rows), or `rows_at_once` of its rows take more than `MAX_BATCH_BYTES`.
    """
    import pyarrow.parquet as pq

    with arrow_file(path, "a Parquet file"):
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = list(names if columns is None else columns)
            wanted = [n for n in wanted if n in names or n.partition(".")[0] in names]
            _check_parquet(path, file, wanted, rows_at_once > 1)
            leaves = [file.schema.column(k) for k in range(len(file.schema))]
            texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        texts = texts if rows_at_once > 1 else []  # a file of millions is no text
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            # Group by group: pyarrow can't join lists whose dictionaries differ.
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(rows_at_once, row_groups=[group], columns=wanted):
                    if (num_bytes := _decoded_bytes(batch)) > MAX_BATCH_BYTES:
                        raise ConfigError(
                            f"{path}: {batch.num_rows} rows take {num_bytes} bytes; expected at "
                            f"most {MAX_BATCH_BYTES}: shorten its cells"
                        )
                    yield from batch.to_pylist()


def _check_parquet(path: Path, file: pq.ParquetFile, wanted: Sequence[str], whole: bool) -> None:
    claims = file.metadata
    groups = [claims.row_group(k) for k in range(claims.num_row_groups)]
    chunks = [group.column(k) for group in groups for k in range(group.num_columns)]
    read = [c for c in chunks if any(f"{c.path_in_schema}.".startswith(f"{w}.") for w in wanted)]
    num_bytes = (sum if whole else max)([0, *(chunk.total_uncompressed_size for chunk in read)])
    num_values = sum(chunk.num_values for chunk in chunks)
    if not (
        0 <= claims.num_rows <= MAX_ROWS
        and 0 <= num_bytes <= MAX_UNPACKED_BYTES
        and 0 <= claims.num_columns <= MAX_COLUMNS
        and 0 <= num_values <= MAX_ROWS * 10
    ):
        raise ConfigError(
            f"{path}: {claims.num_rows} rows, {claims.num_columns} columns, {num_values} values, "
            f"{num_bytes} bytes; expected at most {MAX_ROWS} rows, {MAX_COLUMNS} columns, "
            f"{MAX_ROWS * 10} values and {MAX_UNPACKED_BYTES} bytes: split it"
        )


def _decoded_bytes(batch: Any) -> int:
    """Return the bytes that a batch takes once each cell has a text of its own."""
    return sum(_array_bytes(column) for column in batch.columns)


def _array_bytes(array: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.take(pc.binary_length(array.dictionary), array.indices)
        return (pc.sum(lengths).as_py() or 0) + 50 * len(array)
    if pa.types.is_struct(kind):
        return sum(_array_bytes(array.field(k)) for k in range(kind.num_fields))
    if pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _array_bytes(array.flatten()) + 100 * len(array)
    return int(array.nbytes) + 32 * len(array)


@contextmanager
def sqlite_file(path: Path, kind: str) -> Iterator[None]:
    """Report errors of SQLite in the block as one line with the file's name.

    Raises:
        UserError: The file is no such database, is damaged, or can't be written.
    """
    import sqlite3

    try:
        yield
    except sqlite3.OperationalError as error:  # a full disk, a lock, a table that is missing
        raise UserError(
            f"{path}: {error}; expected {kind} on a disk with space and rights to write"
        ) from None
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not {kind} ({error})") from None
