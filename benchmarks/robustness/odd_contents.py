"""Odd contents of files, by kind: what a stranger, a full disk or an unlucky copy may leave.

In:   a valid file, its kind, a random generator.
Out:  (name, bytes): fixed contents of each kind, then changes of the valid file without end.

All are harmless: texts of a few kilobytes, no known input that outside software mishandles.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

DEEP = 100_000
"""Brackets inside each other; CPython's parsers give up at about a thousand."""
ODD_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "huge": 10**26,
    "beyond float": 10**400,
    "large": 2**62,
    "tiny": 1e-300,
    "fraction": 0.5,
    "empty text": "",
    "text": "odd",
    "long text": "x" * 5000,
    "half a character": "\ud83d",
    "control characters": "a\x1b[31m\x07\n\u2028b",
    "path": "../../odd",
    "absolute path": "/odd/odd",
    "empty list": [],
    "list": [1, "a", None],
    "nested list": [[[[]]]],
    "empty object": {},
    "object": {"odd": {"odd": 1}},
    "deep": None,  # see `_with_deep`
}

COMMON: dict[str, bytes] = {
    "empty": b"",
    "one zero byte": b"\0",
    "zeros": bytes(4096),
    "blank": b" \n\n\t\n",
    "a line": b"this is no such file\n",
    "UTF-16": '{"a": 1}\n'.encode("utf-16"),
    "Latin-1": b'{"caf\xe9": "\xff"}\n',
    "byte order mark": b"\xef\xbb\xbf{}\n",
    "a web page": b"<!DOCTYPE html><html><body>Log in to the network</body></html>\n",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "random bytes": random.Random(0).randbytes(3000),
    "line of a megabyte": b"a" * 1_000_000,
    "only quotes": b'"""""""',
    "only commas": b",,,,\n,,,,\n",
    "cut in a character": "ä".encode()[:1],
}

JSON: dict[str, bytes] = {
    "null": b"null",
    "a number": b"1",
    "a text": b'"odd"',
    "a list": b"[]",
    "an object": b"{}",
    "a list of lists": b"[[1], [2]]",
    "a list of numbers": b"[1, 2, 3]",
    "unclosed": b'{"a": [1, 2',
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep, unclosed": b"[" * DEEP,
    "five hundred deep": b"[" * 500 + b"]" * 500,
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "1e999": b'{"a": 1e999}',
    "a number of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "half a character": b'{"a": "\\ud83d"}',
    "half a character as a name": b'{"\\ud83d": 1}',
    "the same name twice": b'{"a": 1, "a": 2}',
    "single quotes": b"{'a': 1}",
    "a comment": b'{"a": 1} // b',
    "two documents": b"{}\n{}\n",
}

TOML: dict[str, bytes] = {
    "unclosed": b"[a\nb = 1\n",
    "deep": b"a = " + b"[" * DEEP + b"]" * DEEP,
    "dotted": b".".join([b"a"] * 3000) + b" = 1\n",
    "nan": b"[embedded]\nroute_drop = nan\n",
    "a huge number": b"[embedded]\nroute_drop = " + b"9" * 5000 + b"\n",
    "a date": b"[embedded]\nroute_drop = 2026-01-01\n",
    "no tables": b"embedded = 1\n",
    "a list of tables": b"[[embedded]]\na = 1\n[[price]]\na = 1\n",
    "an empty table": b"[embedded]\n[[price]]\n",
    "control characters": b'a = "\x01"\n',
}

CSV: dict[str, bytes] = {
    "an open quote": b'a,b\n"odd,1\n2,3\n',
    "zero bytes inside": b"a,b\n1\0,2\n",
    "a short row": b"a,b,c\n1\n",
    "a long row": b"a,b\n" + b"1," * 10_000 + b"\n",
    "a huge cell": b"a,b\n" + b"x" * 300_000 + b",1\n",
    "only a header": b"a,b\n",
    "a carriage return": b"a,b\r1,2\r",
    "numbers of 5,000 digits": b"a,b\n" + b"9" * 5000 + b"," + b"9" * 5000 + b"\n",
    "not numbers": b"a,b\nnan,inf\n1e999,-1\n",
    "other digits": "a,b\n\u0661,\u00b2\n".encode(),
}

SRT: dict[str, bytes] = {
    "a time without an end": b"1\n00:00:01,000 -->\na dog\n",
    "an end before its begin": b"1\n00:00:09,000 --> 00:00:01,000\na dog\n",
    "hours of 30 digits": b"1\n" + b"9" * 30 + b":00:01,0 --> " + b"9" * 30 + b":00:02,0\na\n",
    "other digits": "1\n\u0660\u0660:\u0660\u0660:01,0 --> 00:00:02,0\na\n".encode(),
    "only numbers": b"1\n\n2\n\n3\n",
    "ten thousand cues": b"1\n00:00:01,000 --> 00:00:02,000\na dog\n\n" * 10_000,
    "fonts that are not closed": b"1\n00:00:01,000 --> 00:00:02,000\n" + b"<" * 5000 + b"\n",
}

SQLITE: dict[str, bytes] = {
    "the magic line": b"SQLite format 3\0",
    "the magic line and zeros": b"SQLite format 3\0" + bytes(4080),
}

TENSORS: dict[str, bytes] = {
    "no header": (0).to_bytes(8, "little"),
    "an empty header": (2).to_bytes(8, "little") + b"{}",
    "a header past the end": (1000).to_bytes(8, "little") + b"{}",
    "a header of a terabyte": (2**40).to_bytes(8, "little") + b"{}",
    "a header that is no JSON": (4).to_bytes(8, "little") + b"odd!",
    "an unknown type": (60).to_bytes(8, "little")
    + b'{"a":{"dtype":"ODD","shape":[1],"data_offsets":[0,4]}}'.ljust(60)
    + bytes(4),
    "offsets past the end": (64).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(64),
}

_COMMIT = b"0123456789abcdef0123456789abcdef01234567"
NAMES: dict[str, bytes] = {
    "a Hub id": b"org/name@" + _COMMIT,
    "a Hub id without a revision": b"org/name",
    "a Hub id with a branch": b"org/name@main",
    "a Hub id with two dashes": b"a/b--c@" + _COMMIT,
    "a Hub id that ends in .git": b"a/b.git@" + _COMMIT,
    "a Hub id that ends in a dot": b"a/b.@" + _COMMIT,
    "a Hub id with dots": b"a/..@" + _COMMIT,
    "a Hub id of 300 letters": b"a/" + b"b" * 300 + b"@" + _COMMIT,
    "a Hub id with another script": "\u00e4/\u4e16@".encode() + _COMMIT,
    "an address": b"https://127.0.0.1:9/org/name",
    "an address with a query": b"http://127.0.0.1:9/a?b=c#d",
    "an address of a Hub model": b"https://127.0.0.1:9/org/name/tree/main",
    "an address without a host": b"http://",
    "a broken address": b"http://[::1",
    "a file address": b"file:///dev/zero",
    "another scheme": b"hf://org/name@" + _COMMIT,
    "a concatenation": b"concat:a.mp4|b.mp4",
    "a pipe of FFmpeg": b"pipe:0",
    "a playlist": b"hls+http://127.0.0.1:9/a.m3u8",
    "a device": b"/dev/zero",
    "the terminal": b"/dev/stdin",
    "a folder": b".",
    "a folder above": b"../..",
    "the home folder": b"~",
    "a drive": b"C:\\models\\a",
    "a name in a share": b"\\\\server\\share",
    "blanks": b"   ",
    "an option": b"--help-me",
    "a long name": b"x" * 5000,
    "control characters": b"a\x1b[2Jb",
}

BY_KIND: dict[str, dict[str, bytes]] = {
    "name": NAMES,
    "json": JSON,
    "jsonl": JSON,
    "toml": TOML,
    "csv": CSV,
    "sqlite": SQLITE,
    "tensors": TENSORS,
    "parquet": {"magic at both ends": b"PAR1" + bytes(16) + b"PAR1"},
    "arrow": {"magic at both ends": b"ARROW1\0\0" + bytes(16) + b"ARROW1"},
    "srt": SRT,
    "tar": {},
    "text": {},
    "pickle": {},
    "binary": {},
    "media": {},
}


def fixed(kind: str) -> dict[str, bytes]:
    """Contents that do not depend on the valid file; a name is an argument, not a file."""
    return NAMES if kind == "name" else COMMON | BY_KIND[kind]


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


ODD_FILES: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a device": _device,
    "a folder": _folder,
    "a link to itself": _loop,
}
"""What is no regular file, by name; whoever waits for it waits for ever."""


_BYTES = ("parquet", "arrow", "pickle", "binary", "media", "tar")


def changed(valid: bytes, kind: str, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Changes of a valid file, without end: one value another, cut, bytes flipped."""
    while True:
        way = rng.random()
        if kind in ("json", "jsonl") and way < 0.7 and valid.strip():
            yield _other_value(valid, kind, rng)
        elif way < 0.85 or kind in _BYTES:
            at = rng.randrange(len(valid) + 1)
            yield f"cut after {at} bytes", valid[:at]
        else:
            at = rng.randrange(max(len(valid), 1))
            bit = 1 << rng.randrange(8)
            byte = valid[at : at + 1] or b"\0"
            yield f"bit of byte {at} flipped", valid[:at] + bytes([byte[0] ^ bit]) + valid[at + 1 :]


def _other_value(valid: bytes, kind: str, rng: random.Random) -> tuple[str, bytes]:
    """One value of a document, or of one line, replaced, removed or added."""
    lines = valid.decode().split("\n") if kind == "jsonl" else [valid.decode()]
    whole = [number for number, line in enumerate(lines) if line.strip()]
    number = rng.choice(whole)
    data = json.loads(lines[number])
    places = list(_places(data))
    name, value = rng.choice(list(ODD_VALUES.items()))
    data = copy.deepcopy(data)
    if not places or rng.random() < 0.05:
        data = value
        shown = "all"
    else:
        path = rng.choice(places)
        node = data
        for key in path[:-1]:
            node = node[key]
        shown = ".".join(map(str, path))
        if rng.random() < 0.15:
            del node[path[-1]]
            name = "removed"
        elif rng.random() < 0.1 and isinstance(node, dict):
            node["odd"] = value
            name = f"beside: {name}"
        else:
            node[path[-1]] = value
    text = json.dumps(data)
    if name == "deep":
        text = text.replace("null", "[" * 900 + "]" * 900, 1)
    lines[number] = text
    return f"line {number + 1}: {shown[:60]} is {name}", "\n".join(lines).encode()


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))
