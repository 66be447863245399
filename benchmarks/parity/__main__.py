"""Run every row of this folder's modules, or those that are named, and print one table.

    python -m benchmarks.parity [PART ...] [--list]

Reference packages are looked for behind the environment's own, in ``.cache/parity`` (or
``$OMNI2SOUND_PARITY``), where `make parity` installs `requirements.txt`.
Exit code 1 if any row exceeds its limit; a row whose reference is not installed is
printed as unverified and changes nothing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
from pathlib import Path

from benchmarks.parity import __path__ as FOLDER
from benchmarks.parity._table import Row, print_table
from benchmarks.parity._upstream import originals


def find_rows() -> list[Row]:
    names = sorted(m.name for m in pkgutil.iter_modules(FOLDER) if not m.name.startswith("_"))
    modules = [importlib.import_module(f"benchmarks.parity.{name}") for name in names]
    return [row for module in modules for row in module.ROWS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="rows whose part holds one of these words")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    arguments = parser.parse_args()
    every = find_rows()  # first: a reference ships a package `tests`, which would hide our own
    # Behind everything else: a reference must not replace what the package itself runs on.
    sys.path.append(os.environ.get("OMNI2SOUND_PARITY", str(Path(".cache", "parity").resolve())))
    rows = [
        row
        for row in every
        if not arguments.parts or any(p.lower() in row.part.lower() for p in arguments.parts)
    ]
    if arguments.list:
        for row in rows:
            print(f"{row.part}: {row.what}")
        return 0
    if not rows:
        parser.error(f"no row's part holds one of {arguments.parts}")
    with originals():
        return print_table(rows)


if __name__ == "__main__":
    sys.exit(main())
