"""Networks (and one video) that packages of the Python index contain, unpacked into the cache.

In:   `bundled.txt`, requirements with exact versions, SHA-256 sums, and what of each is kept.
Out:  those files under `networks_dir()`, laid out as in their packages.

The packages are not installed: their dependencies are large, old and not needed, and only their
files are read. A package that is installed is read where it is.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from omni2sound.errors import MissingPartError
from omni2sound.files import cache_dir

_ENTRY = re.compile(
    r"# (?P<part>[^:\n]+): (?P<what>[^;\n]+); "
    r"(?:needed by: (?P<needed_by>\w+)|only with: (?P<option>\w+)); "
    r"(?:keep: (?P<keep>[^;\n]+)|(?P<library>a library))\n"
    r"(?P<name>[\w-]+)==(?P<version>[\w.]+) --hash=sha256:(?P<sha256>[0-9a-f]{64})\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BundledPackage:
    """One entry of `bundled.txt`.

    Attributes:
        part: Role in this program ("text encoder").
        what: Network, licence and download size.
        needed_by: The command that cannot run without it; "" if none.
        option: Fetched only with `--with OPTION`; "" if always.
        keep: The file or folder inside that is kept; "" for a library, which is installed.
        name: Package name on the index.
        version: The only accepted version.
        sha256: Digest of the wheel.
    """

    part: str
    what: str
    needed_by: str
    option: str = ""
    keep: str = ""
    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The line that pip reads."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def folder(self) -> Path:
        """Where it is unpacked: one folder for each version."""
        return networks_dir() / f"{self.name}-{self.version}"

    @property
    def is_installed(self) -> bool:
        """Whether this very version is unpacked, or installed in this environment."""
        if self.keep and self.folder.is_dir():
            return True
        try:
            return importlib.metadata.version(self.name) == self.version
        except importlib.metadata.PackageNotFoundError:
            return False


def bundled_packages() -> tuple[BundledPackage, ...]:
    """Read all entries of `bundled.txt`, in file order."""
    text = files("omni2sound.bundled").joinpath("bundled.txt").read_text(encoding="utf-8")
    found = []
    for match in _ENTRY.finditer(text):
        values = match.groupdict(default="")
        values.pop("library")
        found.append(BundledPackage(**values))
    return tuple(found)


def networks_dir() -> Path:
    """Folder of unpacked networks: `OMNI2SOUND_NETWORKS` if set, else one in the cache."""
    chosen = os.environ.get("OMNI2SOUND_NETWORKS")
    return Path(chosen).expanduser() if chosen else cache_dir() / "networks"


def bundled_path(package: str, relative: str) -> Path:
    """Locate the file or folder `relative` of a package: unpacked, or where it is installed.

    Installed packages are located, never imported: importing one may load other libraries or run
    code.

    Raises:
        MissingPartError: It is neither unpacked nor installed, or the path is not in it.
    """
    entries = [e for e in bundled_packages() if e.keep.split("/")[0] == package]
    for entry in entries:
        path = entry.folder / package / relative
        if path.exists():
            return path
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / relative
        if path.exists():
            return path
    part = next((entry.part for entry in entries), package)
    option = next((entry.option for entry in entries), "")
    command = f"omni2sound setup --with {option}" if option else "omni2sound setup"
    raise MissingPartError(f"{part} missing; run: {command}")
