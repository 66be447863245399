"""Files that are changed throughout: all texts long, all columns of another type, all tensors half.

In:   a valid file and its kind.
Out:  (name, bytes): each change of the whole file that the kind allows.

`odd_contents` changes one value, or writes a file of its own; a stranger's tool changes all of a
file in one way: it adds a byte order mark, writes numbers as texts, columns as structs.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sqlite3
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Change = Callable[[Any], Any]


def _each(change: Change, name: Change = lambda name: name) -> Change:
    """Apply a change to each value that is no list or object."""

    def changed(data: Any) -> Any:
        if isinstance(data, dict):
            return {name(key): changed(value) for key, value in data.items()}
        return [changed(value) for value in data] if isinstance(data, list) else change(data)

    return changed


def _lists(change: Change) -> Change:
    """Apply a change to each list."""

    def changed(data: Any) -> Any:
        if isinstance(data, dict):
            return {key: changed(value) for key, value in data.items()}
        return change([changed(value) for value in data]) if isinstance(data, list) else data

    return changed


def _numbers(change: Change) -> Change:
    return _each(lambda v: change(v) if type(v) in (int, float) else v)


def _texts(change: Change) -> Change:
    return _each(lambda v: change(v) if isinstance(v, str) else v)


JSON: dict[str, Change] = {
    "texts of 70,000 letters": _texts(lambda text: "ä" * 70_000),
    "texts empty": _texts(lambda text: ""),
    "texts numbers": _texts(lambda text: 7),
    "texts with directions and a C1 control": _texts(lambda text: f"\u202e{text}\x9b31m\u2066"),
    "texts with a zero byte": _texts(lambda text: text + "\0"),
    "texts far above": _texts(lambda text: "../" * 400 + text),
    "texts of combining characters": _texts(lambda text: "e\u0301" * 100),
    "numbers texts": _numbers(str),
    "numbers negative": _numbers(lambda number: -number - 1),
    "numbers large": _numbers(lambda number: 2**62),
    "numbers beyond": _numbers(lambda number: 1e300),
    "numbers zero": _numbers(lambda number: 0),
    "numbers true": _numbers(lambda number: True),
    "all null": _each(lambda value: None),
    "names upper case": _each(lambda value: value, str.upper),
    "names with a blank": _each(lambda value: value, lambda name: name + " "),
    "lists a hundredfold": _lists(lambda items: (items * 100)[:500]),
    "lists empty": _lists(lambda items: []),
    "lists objects": _lists(lambda items: {str(n): item for n, item in enumerate(items)}),
}


def _document(valid: bytes, kind: str) -> Iterator[tuple[str, bytes]]:
    lines = [valid] if kind == "json" else [line for line in valid.splitlines() if line.strip()]
    for name, change in JSON.items():
        made = [json.dumps(change(json.loads(line))).encode() for line in lines]
        yield name, b"\n".join(made) + b"\n"


def _text(valid: bytes) -> Iterator[tuple[str, bytes]]:
    """As editors, other systems and full disks leave a text."""
    yield "a byte order mark", b"\xef\xbb\xbf" + valid
    yield "CR LF", valid.replace(b"\n", b"\r\n")
    yield "CR", valid.replace(b"\n", b"\r")
    yield "zeros behind", valid + bytes(4096)
    yield "Ctrl-Z behind", valid + b"\x1a"
    yield "twice", valid + valid
    yield "UTF-16 without a mark", valid.decode().encode("utf-16-le")
    yield "UTF-32", valid.decode().encode("utf-32")
    yield "line separators", valid.decode().replace("\n", "\u2028").encode()


_CELLS = ("", " ", "0", "-1", "1e308", "=1+1", "x" * 70_000, '"a\nb"', "\u202ea\x9b", "../" * 300)


def _csv(valid: bytes) -> Iterator[tuple[str, bytes]]:
    head, *rows = valid.decode().rstrip("\n").split("\n")
    separator = "\t" if "\t" in head else ","
    names = head.split(separator)
    for other in ";\t|":
        yield f"separated by {other!r}", valid.replace(separator.encode(), other.encode())
    heads = {
        "no head": [],
        "the head twice": [head, head],
        "an upper head": [head.upper()],
        "names with blanks": [separator.join(name + " " for name in names)],
        "one name for all": [separator.join("a" for _ in names)],
    }
    for name, lines in heads.items():
        yield name, "\n".join([*lines, *rows]).encode()
    for cell in _CELLS:
        row = separator.join(cell for _ in names)
        yield f"cells {cell[:9]!r}", "\n".join([head, *(row for _ in rows)]).encode()
    more = separator.join(f"c{n}" for n in range(5000))
    yield "5,000 columns more", "\n".join(row + separator + more for row in (head, *rows)).encode()


def _toml(valid: bytes) -> Iterator[tuple[str, bytes]]:
    text = valid.decode()
    for value in ("0xff", "inf", "nan", '"odd"', "true", "[1, 2]", "{a = 1}", "07:32:00", "-0.0"):
        yield f"numbers {value}", re.sub(r"= *-?[\d.]+", f"= {value}", text).encode()
    for value in ("1", '""', f'"{"x" * 70_000}"'):
        yield f"texts {value[:5]}", re.sub(r"= *(['\"]).*?\1", f"= {value}", text).encode()
    yield "lists of tables", re.sub(r"^\[([^\[\]]+)\]", r"[[\1]]", text, flags=re.M).encode()


def _columns(valid: bytes, kind: str) -> Iterator[tuple[str, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def written(table: pa.Table) -> bytes:
        out = io.BytesIO()
        if kind == "parquet":
            pq.write_table(table, out)
        else:
            with pa.ipc.new_file(out, table.schema) as writer:
                writer.write_table(table)
        return out.getvalue()

    source = io.BytesIO(valid)
    table = pq.read_table(source) if kind == "parquet" else pa.ipc.open_file(source).read_all()
    names = table.column_names
    columns = {
        "structs": pa.array([{"a": 1}, None]),
        "maps": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
        "null": pa.nulls(2),
        "bytes": pa.array([b"\xff\xfe\xfd", b""]),
        "dictionaries": pa.array(["a", "b"]).dictionary_encode(),
        "lists": pa.array([[1, None], None]),
        "truths": pa.array([True, None]),
        "times": pa.array([0, None], pa.timestamp("ns", "Europe/Berlin")),
        "decimals": pa.array([1, None], pa.decimal128(9, 2)),
    }
    for name, column in columns.items():
        yield f"all {name}", written(pa.table([column] * len(names), names=names))
    yield "no rows", written(table.slice(0, 0))
    yield "no columns", written(table.select([]))
    yield "one name for all", written(pa.table([table.column(0)] * 2, names=[names[0]] * 2))
    yield "many batches", written(pa.concat_tables([table] * 500))
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    yield "a stream of Arrow", out.getvalue()


def _sqlite(valid: bytes) -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(valid)
        with contextlib.closing(sqlite3.connect(path)) as base:
            tables = (
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
            columns = {
                table: [row[1] for row in base.execute(f'PRAGMA table_info("{table}")')]
                for (table,) in base.execute(tables).fetchall()
            }
        cells = [(table, name) for table, names in columns.items() for name in names]
        changes = {
            f"cells {value}": [f'UPDATE OR IGNORE "{t}" SET "{c}" = {value}' for t, c in cells]
            for value in ("x'ff00'", "'odd'", "NULL", "9e999", "-1")
        }
        changes["no rows"] = [f'DELETE FROM "{table}"' for table in columns]
        changes["a column less"] = [
            f'ALTER TABLE "{table}" DROP COLUMN "{names[-1]}"' for table, names in columns.items()
        ]
        changes["views"] = [
            line
            for table in columns
            for line in (
                f'ALTER TABLE "{table}" RENAME TO "{table}_x"',
                f'CREATE VIEW "{table}" AS SELECT * FROM "{table}_x"',
            )
        ]
        changes["triggers"] = [
            f'CREATE TRIGGER "{table}{way}" BEFORE {way} ON "{table}" '
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
            for table in columns
            for way in ("INSERT", "UPDATE", "DELETE")
        ]
        changes["another version"] = ["PRAGMA user_version = 2147483647"]
        changes["a log of writes"] = ["PRAGMA journal_mode = WAL"]
        for name, lines in changes.items():
            path.write_bytes(valid)
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as base:
                for line in lines:
                    with contextlib.suppress(sqlite3.Error):
                        base.execute(line)
            yield name, path.read_bytes()


def _tensors(valid: bytes) -> Iterator[tuple[str, bytes]]:
    size = 8 + int.from_bytes(valid[:8], "little")
    head, body = json.loads(valid[8:size]), valid[size:]
    head.pop("__metadata__", None)

    def written(head: dict[str, Any], body: bytes = body) -> bytes:
        text = json.dumps(head).encode()
        return len(text).to_bytes(8, "little") + text + body

    def each(change: Change) -> bytes:
        return written({name: entry | change(entry) for name, entry in head.items()})

    sizes = {"F16": 2, "BF16": 2, "I32": 4, "F64": 8, "BOOL": 1, "F8_E4M3": 1, "C64": 8, "F32": 4}
    for dtype, width in sizes.items():
        yield (
            f"all {dtype}, flat",
            each(lambda entry, dtype=dtype, width=width: {
                "dtype": dtype,
                "shape": [(entry["data_offsets"][1] - entry["data_offsets"][0]) // width],
            }),
        )  # fmt: skip
    yield "a dimension more", each(lambda entry: {"shape": [1, *entry["shape"]]})
    yield "transposed", each(lambda entry: {"shape": entry["shape"][::-1]})
    for shape in ([0], [2**40, 0]):
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        yield f"all {shape}", written(dict.fromkeys(head, entry), b"")
    yield "odd names", written({f"../{name}\n\x1b": entry for name, entry in head.items()})
    yield "odd metadata", written(head | {"__metadata__": {"format": "x" * 100_000}})
    yield "all NaN", written(head, b"\xff" * len(body))
    yield "all infinite", written(head, b"\x00\x00\x80\x7f" * (len(body) // 4))
    yield "none", written({}, b"")


def _pickle(valid: bytes) -> Iterator[tuple[str, bytes]]:
    import torch

    def saved(data: Any) -> bytes:
        out = io.BytesIO()
        torch.save(data, out)
        return out.getvalue()

    data = torch.load(io.BytesIO(valid), map_location="cpu", weights_only=True)
    changes: dict[str, Change] = {
        "sparse": lambda t: t.float().to_sparse(),
        "complex": lambda t: t.to(torch.complex64),
        "half": lambda t: t.half(),
        "on no device": lambda t: t.to("meta"),
        "of 8 bits": lambda t: t.float().to(torch.float8_e4m3fn),
        "truths": lambda t: t.bool(),
        "scalars": lambda t: torch.tensor(1.0),
        "empty": lambda t: t.flatten()[:0],
        "NaN": lambda t: t.float() * float("nan"),
        "expanded": lambda t: t.flatten()[:1].expand(3, 5),
        "deeper": lambda t: {"a": {"b": t}},
        "texts": lambda t: "odd",
    }
    for name, change in changes.items():
        tensors = _each(lambda v, change=change: change(v) if isinstance(v, torch.Tensor) else v)
        with contextlib.suppress(RuntimeError), warnings.catch_warnings(action="ignore"):
            yield f"all {name}", saved(tensors(data))
    for whole in ([1, 2], None, torch.zeros(3), 5, {}, {(1, 2): torch.zeros(1)}):
        yield f"only {whole!r:.20}", saved(whole)


def _tar(valid: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(valid)) as source:
        files = [(m.name, source.extractfile(m).read()) for m in source if m.isfile()]  # type: ignore[union-attr]

    def made(change: Callable[[tarfile.TarInfo], None], mode: Any = "w") -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as target:
            for name, data in files:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                change(member)
                target.addfile(member, io.BytesIO(data) if member.isreg() else None)
        return out.getvalue()

    def typed(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
        def change(member: tarfile.TarInfo) -> None:
            member.type, member.size, member.linkname = kind, 0, "/etc/hostname"

        return change

    def named(change: Callable[[str], str]) -> Callable[[tarfile.TarInfo], None]:
        return lambda member: setattr(member, "name", change(member.name))

    kinds = {"links": tarfile.SYMTYPE, "hard links": tarfile.LNKTYPE, "devices": tarfile.CHRTYPE,
             "folders": tarfile.DIRTYPE, "pipes": tarfile.FIFOTYPE}  # fmt: skip
    for name, kind in kinds.items():
        yield name, made(typed(kind))
    yield "names above", made(named(lambda name: f"../../{name}"))
    yield "absolute names", made(named(lambda name: f"/{name}"))
    yield "long names", made(named(lambda name: "a" * 5000 + name))
    yield "names with controls", made(named(lambda name: f"\x1b[2J\n{name}"))
    yield "no bytes", made(lambda member: setattr(member, "size", 0))
    yield "twice", made(lambda member: None)[:-10240] + made(lambda member: None)
    yield "compressed", made(lambda member: None, "w:gz")


def _srt(valid: bytes) -> Iterator[tuple[str, bytes]]:
    text = valid.decode()
    yield "WebVTT", ("WEBVTT\n\n" + text.replace(",", ".")).encode()
    yield "times before zero", text.replace("00:00:01", "-00:00:01").encode()
    yield "no numbers", text.partition("\n")[2].encode()
    yield "no hours", text.replace("00:00:0", "00:0").encode()
    yield "99 minutes", text.replace("00:00:0", "00:99:9").encode()
    yield "settings", text.replace("\n<i>", " X1:0 X2:9 position:50%\n<i>").encode()
    yield "controls", text.replace("a dog", "\x1b]8;;http://x\x07a\u202e\x9b dog\0").encode()


_NAMES = (
    *("a\nb", "\u202egnp.mp4", "name ", " name", "%s%n", "{0}", "$HOME/a", "$(id)", "con"),
    *("a.mp4?x=1", "a.mp4#t=1", "//", "a/", "a//b", "clip.mp4/", "-", "--", "-o", "/dev/fd/99"),
    *("/proc/self/mem", "/proc/self/environ", "~nobody/x", "*.mp4", "[a]", "a\\b", "unix:/x"),
    *("file:clip.mp4", "subfile,,start,0,end,9,,:clip.mp4", "data:video/mp4;base64,AAAA"),
    *("cache:clip.mp4", "crypto:clip.mp4", "md5:", "tee:x", "rtp://127.0.0.1:9", "http:/a"),
    *("HTTP://127.0.0.1:9/a", "@", "a@b", "org/name@" + "g" * 40, "org/name@" + "A" * 40),
    *("../" * 2000, "a/" * 2100, "0", "embedded@x", "EMBEDDED", "embedded ", "\ufeffembedded"),
)

_OF_KIND: dict[str, Callable[[bytes], Iterator[tuple[str, bytes]]]] = {
    "csv": _csv,
    "toml": _toml,
    "sqlite": _sqlite,
    "tensors": _tensors,
    "pickle": _pickle,
    "tar": _tar,
    "srt": _srt,
}


def whole(valid: bytes, kind: str) -> Iterator[tuple[str, bytes]]:
    """Each change of a whole valid file; none for an empty one."""
    if kind == "name":
        yield from ((name[:40], name.encode()) for name in _NAMES)
    elif valid:
        if kind in ("json", "jsonl"):
            yield from _document(valid, kind)
        if kind in ("json", "jsonl", "csv", "toml", "srt", "text"):
            yield from _text(valid)
        if kind in ("parquet", "arrow"):
            yield from _columns(valid, kind)
        if kind in _OF_KIND:
            yield from _OF_KIND[kind](valid)
