"""Long files through every reader: seconds and peak memory of each.

    python -m benchmarks.robustness.big_files [--mb 60] [--only NAME ...] [--state FILE]

Each reader of `odd_readers` and `odd_more` gets files of 60 MB whose parts are as small as its kind
allows, or that are one endless part, or its own valid file again and again; in a forked process
each, whose peak memory the system counts. Exit code 1 if one takes more than 1.2 GB, or a minute of
processor time, or ends in a traceback. With `--state` each result is a line of a file, and the next
run goes on from there. Media: see `big_claims`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Set
from pathlib import Path

from benchmarks.robustness import odd_files
from benchmarks.robustness.odd_files import outcome_of
from benchmarks.robustness.odd_more import ALL
from benchmarks.robustness.odd_readers import Reader

MAX_GB = 1.2
MAX_S = 60
_CODES = {"read": 0, "refused": 2, "traceback": 3, "not one line": 4, "hang": 5}


def _fill(part: bytes, size: int, before: bytes = b"", after: bytes = b"") -> Callable[[], bytes]:
    return lambda: before + part * ((size - len(before) - len(after)) // len(part)) + after


def _keys(size: int, line: str) -> Callable[[], bytes]:
    return lambda: "".join(line % n for n in range(size // len(line % 10**7))).encode()


def contents(kind: str, valid: bytes, size: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name and maker of each long file of a kind."""
    lines = valid.splitlines(keepends=True)
    if kind == "json":
        for part in (b"{},", b"[],", b"0,", b'"",', b'{"a":1},'):
            yield f"a list of {part.decode()}", _fill(part, size, b"[", b"0]")
        yield "one text", _fill(b"x", size, b'"', b'"')
        yield (
            "an object of many names",
            lambda: b"{" + _keys(size, '"k%07d":0,')() + b'"k":0}',
        )
    elif kind == "jsonl":
        yield "lines of {}", _fill(b"{}\n", size, *lines[:1])
        yield "lines of 1", _fill(b"1\n", size)
        yield "empty lines", _fill(b"\n", size)
        yield "one line", _fill(b"x", size, b'{"a": "', b'"}\n')
        yield "one line of {}", _fill(b"{},", size, b"[", b"0]\n")
    elif kind == "csv":
        yield "lines of a", _fill(b"a\n", size, *lines[:1])
        yield "one line of commas", _fill(b",", size)
        yield "one cell", _fill(b"x", size)
        yield "open quotes", _fill(b'"a\n', size, *lines[:1])
        yield "pairs of quotes", _fill(b'""\n', size, (lines or [b""])[0] + b'"x\n')
    elif kind == "toml":
        yield "a list", _fill(b"1,", size, b"a=[", b"1]\n")
        yield "many names", _keys(size, "k%07d=0\n")
    elif kind == "tensors":
        yield (
            "a long header",
            lambda: (
                (size - 8).to_bytes(8, "little") + _fill(b'"a":{},', size - 8, b"{", b'"b":{}}')()
            ),
        )
    elif kind in ("sqlite", "arrow", "pickle", "binary", "parquet"):
        yield "zeros behind", lambda: valid + bytes(size)
    if kind in ("jsonl", "csv") and len(lines) > 1:
        last = lines[-1] if lines[-1].endswith(b"\n") else lines[-1] + b"\n"
        yield "its last line again", _fill(last, size, b"".join(lines[:-1]))


def measure(reader: Reader, work: Path) -> tuple[str, float, float, str]:
    """Outcome, processor time in s, peak memory in GB, what was said: in a forked process."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        code = 6
        with contextlib.suppress(BaseException):
            os.close(out)
            signal.alarm(0)
            outcome, said = outcome_of(reader, work)
            os.write(into, " ".join(said.split()).encode(errors="replace")[-400:])
            code = _CODES[outcome]
        os._exit(code)
    os.close(into)
    with os.fdopen(out, errors="replace") as file:
        said = file.read()
    _, status, usage = os.wait4(child, 0)
    took_s = usage.ru_utime + usage.ru_stime
    names = {code: name for name, code in _CODES.items()}
    outcome = names.get(os.waitstatus_to_exitcode(status), "ended")
    return outcome, took_s, usage.ru_maxrss * 1024 / 1e9, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=float, default=60, help="size of each file")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of readers' names")
    parser.add_argument("--state", type=Path, help="file of results, from which a run goes on")
    args = parser.parse_args()
    import torch

    odd_files.LIMIT_S = 10 * MAX_S  # by the clock, on a busy machine
    torch.set_num_threads(1)  # the readers run in forked processes
    resource.setrlimit(resource.RLIMIT_AS, (8 * 10**9, 8 * 10**9))
    done: dict[tuple[str, str], tuple[bool, float]] = {}
    if args.state is not None and args.state.exists():
        for line in args.state.read_text().splitlines():
            by, name, wrong, peak_gb = json.loads(line)
            done[by, name] = (wrong, peak_gb)
    with tempfile.TemporaryDirectory() as folder:
        for reader in ALL:
            if any(part in reader.name for part in args.only):
                for name, wrong, peak_gb in results_of(reader, Path(folder), args.mb, set(done)):
                    done[reader.name, name] = (wrong, peak_gb)
                    if args.state is not None:
                        with args.state.open("a") as target:
                            target.write(json.dumps([reader.name, name, wrong, peak_gb]) + "\n")
    bad = sum(wrong for wrong, _ in done.values())
    most_gb, where = max((peak_gb, ": ".join(key)) for key, (_, peak_gb) in done.items())
    print(f"{len(done)} files, {bad} over {MAX_GB} GB, {MAX_S} s or with a traceback; most memory: "
          f"{most_gb:.2f} GB ({where})")  # fmt: skip
    return 1 if bad else 0


def results_of(
    reader: Reader, folder: Path, mb: float, done: Set[tuple[str, str]]
) -> Iterator[tuple[str, bool, float]]:
    """Name of each long file of a reader that is not done, whether it is wrong, peak GB."""
    pristine, work = folder / "pristine", folder / "work"
    pristine.mkdir()
    reader.write(pristine)
    target = pristine / reader.target
    valid = target.read_bytes() if target.is_file() else b""
    for name, make in contents(reader.kind, valid, int(mb * 1e6)):
        if (reader.name, name) in done:
            continue
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(pristine, work)
        (work / reader.target).write_bytes(make())
        outcome, took_s, peak_gb, said = measure(reader, work)
        wrong = outcome not in ("read", "refused") or peak_gb > MAX_GB or took_s > MAX_S
        print(
            f"{reader.name[:40]:40} {name[:26]:26} {outcome:9} {took_s:6.1f} s "
            f"{peak_gb:5.2f} GB{'  <-- ' + said[-200:] if wrong else ''}",
            flush=True,
        )
        yield name, wrong, peak_gb
    shutil.rmtree(pristine)


if __name__ == "__main__":
    sys.exit(main())
