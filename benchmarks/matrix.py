"""Run fast tests with each Python and with the lowest and the highest allowed dependencies.

    make test-matrix

In:   `pyproject.toml`; Pythons that uv finds.
Out:  one environment, lock file and log per cell in .cache/matrix; a table on stdout; exit code 1
      if a cell failed.

"lowest" is the lowest version of each package that `pyproject.toml` names, and whatever those need;
"highest" is what a plain `pip install` takes today. Each environment is made anew from uv's cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

RESOLUTIONS = {"lowest": "lowest-direct", "highest": "highest"}
PYTHONS = ("3.11", "3.12", "3.13")
SHOWN = ("av", "torch", "transformers", "diffusers", "numpy")
BUNDLED = Path("src/omni2sound/bundled/bundled.txt")


@dataclass(kw_only=True)
class Cell:
    """One environment: where it is, what is in it, what its tests said."""

    python: str
    deps: str
    folder: Path
    versions: dict[str, str] = field(default_factory=dict)
    result: str = ""
    ok: bool = False
    failed: list[str] = field(default_factory=list)

    @property
    def lock(self) -> Path:
        return self.folder.with_suffix(self.folder.suffix + ".txt")

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(self.folder.suffix + ".log")

    def uv(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "uv", *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def install(self, more: list[str]) -> None:
        self.uv(
            "pip", "compile", "-q", "pyproject.toml", "--extra", "dev", "-o", self.lock, "-U",
            "--resolution", RESOLUTIONS[self.deps], "--python-version", self.python,
            "--only-binary", ":all:", "--no-annotate", "--no-header", *more,
        )  # fmt: skip
        lines = self.lock.read_text(encoding="utf-8").splitlines()
        self.versions = dict(line.split("==") for line in lines if "==" in line)
        self.uv("venv", "-q", "--clear", "--seed", "--python", self.python, self.folder)
        install = ("pip", "install", "-q", "--python", self.folder, "--no-deps")
        self.uv(*install, "-r", self.lock, *more)
        self.uv(*install, "-r", BUNDLED)
        self.uv(*install, "-e", ".")

    def test(self, tests: list[str]) -> None:
        report = self.folder / "tests.xml"
        command = [
            str(self.folder / "bin" / "python"), "-m", "pytest", "-q", "-m", "not slow",
            "-n", "auto", "--maxprocesses", "8", "-p", "no:cacheprovider",
            f"--junitxml={report}", *tests,
        ]  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment["OMP_NUM_THREADS"] = "1"
        start = time.monotonic()
        with self.log.open("w", encoding="utf-8") as log:
            code = subprocess.run(command, stdout=log, stderr=log, env=environment).returncode
        seconds = time.monotonic() - start
        self.ok = code == 0
        if not report.is_file():
            self.result = f"no test ran, see {self.log}"
            return
        cases = list(ET.parse(report).getroot().iter("testcase"))
        self.failed = [
            ".".join(filter(None, (case.get("classname"), case.get("name"))))
            for case in cases
            if case.find("failure") is not None or case.find("error") is not None
        ]
        skipped = sum(case.find("skipped") is not None for case in cases)
        passed = len(cases) - len(self.failed) - skipped
        self.result = f"{passed} passed, {len(self.failed)} failed, {skipped} skipped"
        self.result += f" in {seconds:.0f} s"

    def row(self) -> str:
        versions = " | ".join(f"{self.versions.get(name, '?'):>12}" for name in SHOWN)
        return f"| {self.python:>6} | {self.deps:>7} | {versions} | {self.result}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", nargs="+", help="Files and folders for pytest.")
    parser.add_argument("--out", type=Path, default=Path(".cache/matrix"), help="Folder.")
    parser.add_argument("--python", action="append", help="May be repeated. Default: all.")
    parser.add_argument("--deps", action="append", choices=RESOLUTIONS, help="Default: both.")
    parser.add_argument(
        "--torch-backend", help="Build of torch, as uv names it (cpu, cu130). Default: the index's."
    )
    args = parser.parse_args()
    more = ["--torch-backend", args.torch_backend] if args.torch_backend else []
    args.out.mkdir(parents=True, exist_ok=True)
    cells = [
        Cell(python=python, deps=deps, folder=args.out.absolute() / f"{python}-{deps}")
        for python in args.python or PYTHONS
        for deps in args.deps or RESOLUTIONS
    ]
    titles = " | ".join(f"{name:>12}" for name in SHOWN)
    print(f"| {'python':>6} | {'deps':>7} | {titles} | tests", flush=True)
    for cell in cells:
        try:
            cell.install(more)
            cell.test(args.tests)
        except subprocess.CalledProcessError as error:
            cell.result = f"cannot be installed: {' '.join(error.cmd[2:5])} failed"
        print(cell.row(), flush=True)
    for cell in cells:
        for name in cell.failed:
            print(f"{cell.python} {cell.deps}: FAILED {name}")
    return int(not all(cell.ok for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
