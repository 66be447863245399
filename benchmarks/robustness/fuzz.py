"""Odd files led by coverage: a change that reaches new code is kept, and changed again.

    python -m benchmarks.robustness.fuzz [--minutes 10] [--corpus FOLDER] [--only NAME]

The readers of `odd_files`, each in a process that atheris (libFuzzer) drives for 5 s or an equal
share of the time; where there is not enough for all, those that waited longest. It begins with the
contents of `odd_contents` and with what earlier runs kept in the corpus; a slow reader with as many
of them, drawn by chance, as half of its share lasts. JSON is changed value by
value, everything else byte by byte; branches of omni2sound are counted, not those of libraries.
Printed per reader: files read, branches reached by the contents at the start and at the end, files
kept, violations as in `odd_files`. A violation's file is kept in FOLDER/READER.finds, and belongs
into a test. Exit code 1 if there is one.

Needs atheris, which `make fuzz` installs (Linux, Python 3.11 to 3.13).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from benchmarks.robustness.odd_contents import changed, fixed
from benchmarks.robustness.odd_files import outcome_of
from benchmarks.robustness.odd_more import ALL
from benchmarks.robustness.odd_readers import Reader

_MAX_SEED_BYTES = 2**14
_MEMORY_MB = 3000
_LEAST_S = 5
_STRUCTURED = ("json", "jsonl")


def _instrumented() -> ModuleType:
    """Load atheris, and count branches of whatever omni2sound imports from now on."""
    try:
        import atheris
    except ImportError:
        raise SystemExit("atheris is missing: run `make fuzz`, which installs it") from None
    assert not any(name.startswith("omni2sound") for name in sys.modules)
    atheris.instrument_imports(include=["omni2sound"]).__enter__()  # modules load late, too
    module: ModuleType = atheris
    return module


class _Case:
    """A reader with its valid files, which are put back after each call."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.pristine, self.work = reader, folder / "pristine", folder / "work"
        self.pristine.mkdir(parents=True)
        with contextlib.redirect_stdout(io.StringIO()):
            reader.write(self.pristine)
        self.target = self.work / reader.target
        shutil.copytree(self.pristine, self.work)
        self.call_s = 0.0
        """Duration of a call with the valid content, once all is loaded."""
        self.times = {path: path.stat().st_mtime_ns for path in self.work.rglob("*")}
        is_there = (self.pristine / reader.target).is_file()
        self.valid = (self.pristine / reader.target).read_bytes() if is_there else b"a\tb\n"

    def call(self, content: bytes) -> tuple[str, str]:
        """Read a content; returns the outcome and what was said."""
        self.target.unlink(missing_ok=True)
        self.target.write_bytes(content)
        found = outcome_of(self.reader, self.work)
        self._put_back()
        return found

    def warm_up(self) -> None:
        """Load what the reader needs, for the processes after it, too."""
        for _ in range(2):
            begin = time.monotonic()
            self.call(self.valid)
            self.call_s = time.monotonic() - begin

    def write_seeds(self, corpus: Path, folder: Path, seconds: float) -> None:
        """Write the valid content, and as many of the others as can be read within `seconds`."""
        kept = [path.read_bytes() for path in corpus.iterdir() if path.is_file()]
        others = [*fixed(self.reader.kind).values(), *kept]
        most_bytes = max(_MAX_SEED_BYTES, len(self.valid))
        others = [content for content in others if len(content) <= most_bytes]
        random.shuffle(others)
        for content in (self.valid, *others[: max(2, int(seconds / self.call_s))]):
            (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)

    def _put_back(self) -> None:
        for path in sorted(self.work.rglob("*"), reverse=True):
            if path not in self.times:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            elif path.is_file() and path.stat().st_mtime_ns != self.times[path]:
                shutil.copy2(self.pristine / path.relative_to(self.work), path)
        self.target.unlink(missing_ok=True)
        if self.target in self.times and self.target.parent.is_dir():
            shutil.copy2(self.pristine / self.reader.target, self.target)
        if self.times.keys() - set(self.work.rglob("*")):  # a file was moved or removed
            shutil.rmtree(self.work)
            shutil.copytree(self.pristine, self.work)


def _mutator(atheris: ModuleType, kind: str) -> Callable[[bytes, int, int], bytes]:
    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if kind in _STRUCTURED and rng.random() < 0.6:
            with contextlib.suppress(ValueError, RecursionError, IndexError):
                return next(changed(data, kind, rng))[1][:max_bytes]
        result: bytes = atheris.Mutate(data, max_bytes)
        return result

    return mutate


def _drive(
    atheris: ModuleType, case: _Case, seeds: Path, finds: Path, seconds: float, log: Path
) -> None:
    """Read files until the time is over; ends the process."""
    seen: set[str] = set()

    def one_input(data: bytes) -> None:
        outcome, said = case.call(data)
        if outcome in ("read", "refused"):
            return
        place = re.sub(r"\d{2,}|'[^']*'", "", said)[-120:]
        if place not in seen:
            seen.add(place)
            finds.mkdir(exist_ok=True)
            name = hashlib.sha256(data).hexdigest()[:12]
            (finds / name).write_bytes(data)
            os.write(into, f"FIND {name} {outcome}: {' '.join(said.split())[-250:]}\n".encode())

    into = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(into, 1)
    os.dup2(into, 2)
    options = (
        *(f"-max_total_time={max(1, round(seconds))}", f"-rss_limit_mb={_MEMORY_MB}"),
        *("-timeout=0", f"-max_len={max(2**14, 2 * len(case.valid))}", "-print_final_stats=1"),
        f"-artifact_prefix={finds}-",
    )
    mutate = _mutator(atheris, case.reader.kind)
    atheris.Setup(["fuzz", *options, str(seeds)], one_input, custom_mutator=mutate)
    atheris.Fuzz()


def _report(name: str, log: Path, status: int) -> list[str]:
    """Print the line of a reader; returns its violations."""
    text = log.read_text(encoding="utf-8", errors="replace")
    finds = re.findall(r"^FIND (.*)$", text, re.MULTILINE)
    reached = [int(number) for number in re.findall(r"cov: (\d+)", text)] or [0]
    inited = re.search(r"INITED cov: (\d+)", text)
    runs = re.search(r"number_of_executed_units: (\d+)", text)
    kept = re.findall(r"corp: (\d+)", text) or ["0"]
    if status:
        finds.append(f"the process ended with {os.waitstatus_to_exitcode(status)}: {text[-300:]}")
    print(f"{name:42} {runs[1] if runs else '?':>8} {inited[1] if inited else '?':>8} "
          f"{max(reached):8} {kept[-1]:>6} {len(finds):6}", flush=True)  # fmt: skip
    return finds


def _corpus(folder: Path, reader: Reader) -> Path:
    return folder.absolute() / re.sub(r"[^\w.-]+", "-", reader.name)


def _last_time(corpus: Path) -> float:
    return corpus.stat().st_mtime if corpus.is_dir() else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--corpus", type=Path, default=Path(".cache/fuzz/corpus"))
    parser.add_argument("--only", default="", help="part of a reader's name")
    args = parser.parse_args()
    atheris = _instrumented()
    import torch

    torch.set_num_threads(1)  # the readers run in forked processes
    # A name is an argument, not a file.
    chosen = [one for one in ALL if args.only in one.name and one.kind != "name"]
    chosen.sort(key=lambda one: _last_time(_corpus(args.corpus, one)))
    chosen = chosen[: max(1, int(60 * args.minutes / _LEAST_S))]
    violations: list[str] = []
    print(f"{'reader':42} {'files':>8} {'branches':>8} {'at end':>8} {'kept':>6} {'finds':>6}")
    end = time.monotonic() + 60 * args.minutes
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=memory if memory.is_dir() else None, ignore_cleanup_errors=True
    ) as root:
        for number, reader in enumerate(chosen):
            case = _Case(reader, Path(root) / str(number))
            case.warm_up()
            corpus = _corpus(args.corpus, reader)
            corpus.mkdir(parents=True, exist_ok=True)
            seconds = (end - time.monotonic()) / (len(chosen) - number)
            seeds, log = Path(root) / f"{number}.seeds", Path(root) / f"{number}.log"
            seeds.mkdir()
            case.write_seeds(corpus, seeds, seconds / 2)
            child = os.fork()
            if child == 0:
                _drive(atheris, case, seeds, corpus.with_suffix(".finds"), seconds, log)
            _, status = os.waitpid(child, 0)
            shutil.copytree(seeds, corpus, dirs_exist_ok=True)
            os.utime(corpus)
            violations += [f"{reader.name}: {line}" for line in _report(reader.name, log, status)]
            for folder in (seeds, Path(root) / str(number)):
                shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(violations) or "no violation")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
