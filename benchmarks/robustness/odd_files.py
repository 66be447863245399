"""Odd files through every reader: each is read, or refused in one line.

    python -m benchmarks.robustness.odd_files [--count 2000] [--seed 0] [--only NAME] [--show N]
    python -m benchmarks.robustness.odd_files --whole

`odd_readers` and `odd_more` list the readers, `odd_contents` makes the contents: those of the
file's kind, and changes of a valid file; or a pipe, a device or a folder is in its place. With
`--whole` they are those of `odd_whole`: a valid file that is changed throughout. Printed per
reader: files read, refused, tracebacks, refusals of several lines, hangs (more than 60 s); then the
first violations. Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import logging
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks.robustness.odd_contents import ODD_FILES, changed, fixed
from benchmarks.robustness.odd_more import ALL
from benchmarks.robustness.odd_readers import Reader, call_command
from benchmarks.robustness.odd_whole import whole

LIMIT_S = 60
OUTCOMES = ("read", "refused", "traceback", "not one line", "hang")


class TooLong(BaseException):
    """The limit of time is over."""


def _stop(signum: int, frame: object) -> None:
    raise TooLong


Make = Callable[[Path], object]


def cases(reader: Reader, valid: bytes, count: int, seed: int) -> Iterator[tuple[str, Make]]:
    """`count` odd files for a reader: one that is no file, fixed contents, changes of a valid one.

    Yields:
        Its name, and what makes it.
    """
    rng = random.Random(f"{seed} {reader.name}")
    other = _written(changed(valid, reader.kind, rng))
    if reader.kind == "name":  # the file holds an argument
        left = list(_written(fixed(reader.kind).items()))
        rng.shuffle(left)
        return itertools.islice(itertools.cycle(left), min(count, len(left)))
    left = [*_written(fixed(reader.kind).items()), *ODD_FILES.items()]
    rng.shuffle(left)
    left.insert(0, rng.choice(list(ODD_FILES.items())))
    # Every second file is a change of a valid one, while there are fixed contents.
    pairs = ((content, next(other)) for content in left)
    return itertools.islice(itertools.chain(itertools.chain.from_iterable(pairs), other), count)


def _written(contents: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, Make]]:
    for name, content in contents:
        yield name, functools.partial(Path.write_bytes, data=content)


def outcome_of(reader: Reader, folder: Path) -> tuple[str, str]:
    """What came of reading the folder's odd file, and what was said."""
    from omni2sound.errors import Omni2SoundError

    said, code = io.StringIO(), 0
    root = logging.getLogger()
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(LIMIT_S)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            if isinstance(reader.read, list):
                code = call_command(folder, reader.read)
            else:
                try:
                    reader.read(folder)
                except SystemExit as end:
                    code = int(end.code or 0)
                except (Omni2SoundError, OSError) as error:
                    code, _ = 2, said.write(f"{error}\n")
    except TooLong:
        return "hang", ""
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = (str(error).splitlines() or [""])[0][:90]
        return (
            "traceback",
            f"{type(error).__name__}: {reason} ({Path(at.filename).name}:{at.lineno})",
        )
    finally:
        signal.alarm(0)
        root.handlers.clear()
    text = said.getvalue()
    if code in (0, 1):  # 1: some of several items failed, each in one line
        return "read", text
    last = text.rstrip("\n").split("\n")[-1]
    # 3: the system's own failure, as that of /proc/self/mem, which opens and can't be read.
    good = code in (2, 3) and bool(last.strip()) and len(last) < 10_000 and "Traceback" not in text
    return ("refused" if good else "not one line"), f"exit {code}: {text[-300:]}"


def run_reader(
    reader: Reader, folder: Path, *, count: int, seed: int, as_whole: bool = False
) -> tuple[Counter[str], list[str]]:
    """Feed one reader; returns outcomes, and a line for each violation."""
    pristine, work = folder / "pristine", folder / "work"
    pristine.mkdir(parents=True)
    with contextlib.redirect_stdout(io.StringIO()):
        reader.write(pristine)
    target = pristine / reader.target
    valid = target.read_bytes() if target.is_file() else b"a\tb\n"
    counts: Counter[str] = Counter()
    violations = []
    changed_throughout = _written(whole(valid, reader.kind))
    for name, make in changed_throughout if as_whole else cases(reader, valid, count, seed):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(pristine, work)
        (work / reader.target).unlink(missing_ok=True)
        make(work / reader.target)
        outcome, said = outcome_of(reader, work)
        counts[outcome] += 1
        if outcome not in ("read", "refused"):
            violations.append(f"{reader.name}: {name}: {outcome}: {said}")
    shutil.rmtree(folder)
    return counts, violations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="files over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a reader's name")
    parser.add_argument("--whole", action="store_true", help="files that are changed throughout")
    parser.add_argument("--show", type=int, default=30, help="violations to print")
    args = parser.parse_args()
    readers = [reader for reader in ALL if args.only in reader.name]
    each = -(-args.count // len(readers))
    total: Counter[str] = Counter()
    violations: list[str] = []
    print(f"{'reader':42} " + " ".join(f"{name:>12}" for name in OUTCOMES))
    with tempfile.TemporaryDirectory() as folder:
        for number, reader in enumerate(readers):
            counts, found = run_reader(
                reader,
                Path(folder) / str(number),
                count=each,
                seed=args.seed,
                as_whole=args.whole,
            )
            total += counts
            violations += found
            print(f"{reader.name:42} " + " ".join(f"{counts[n]:12}" for n in OUTCOMES), flush=True)
    print(f"{'all':42} " + " ".join(f"{total[name]:12}" for name in OUTCOMES))
    for line in violations[: args.show]:
        print(" ".join(line.split())[:300])
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
