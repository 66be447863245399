"""Downloads one pinned Debian package, without root, and verifies it.

In:   a `Package` of `packages.json`, and a folder, a mirror or apt to get it from.
Out:  the path of a file whose SHA-256 is the pinned one.

A file is opened only after its checksum matched. Downloads have a temporary name until then, so a
broken one never looks whole.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from importlib import resources
from pathlib import Path

from omni2sound.config import from_json
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, UserError
from omni2sound.files import file_sha256

logger = logging.getLogger(__name__)

DEFAULT_MIRROR = "https://deb.debian.org/debian"
TIMEOUT_S = 60
"""Timeout of one read from the network, not of the whole package."""
APT_TIMEOUT_S = 3600
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One version of one Debian package."""

    name: str
    version: str
    pool_path: str
    """Path below the mirror's root: "pool/main/s/scratch/scratch_1.4_all.deb"."""
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Name of the file in the pool, without the epoch."""
        return self.pool_path.rsplit("/", 1)[-1]


def load_packages(text: str | None = None) -> tuple[Package, ...]:
    """Read the pinned packages of the committed `packages.json`, or of `text`.

    Raises:
        ConfigError: If the text does not hold such a list.
    """
    if text is None:
        text = (resources.files(__package__) / "packages.json").read_text(encoding="utf-8")
    try:
        return from_json(tuple[Package, ...], json.loads(text), where="packages")
    except (json.JSONDecodeError, ConfigError) as error:
        raise ConfigError(f"this is not a list of pinned packages: {error}") from error


def obtain(
    package: Package,
    folder: Path,
    *,
    mirror: str = DEFAULT_MIRROR,
    from_folder: Path | None = None,
) -> Path:
    """Return the package's verified file; download it into `folder` if necessary.

    Args:
        package: Package to get.
        folder: Folder of downloads; created if missing.
        mirror: Root of a Debian mirror, http or https.
        from_folder: Folder to take it from, without network.

    Raises:
        UserError: If `mirror` is not an http(s) address.
        MissingPartError: If it is not in `from_folder`, or cannot be downloaded.
        IntegrityError: If the file is not the pinned one.
    """
    if from_folder is not None:
        return _from_folder(package, from_folder)
    if urllib.parse.urlsplit(mirror).scheme not in ("http", "https"):
        raise UserError(f"expected http:// or https://, got {mirror!r}", field="mirror")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / package.file_name
    if target.is_file():
        _verify(target, package)
        return target
    try:
        _download(f"{mirror.rstrip('/')}/{package.pool_path}", target, package)
        logger.info("%s: downloaded from %s", package.name, mirror)
    except (urllib.error.URLError, HTTPException, OSError) as http_error:
        logger.info("%s: no download from %s (%s); trying apt", package.name, mirror, http_error)
        _apt_download(package, target, http_error)
        logger.info("%s: downloaded by apt-get", package.name)
    return target


def _from_folder(package: Package, folder: Path) -> Path:
    # apt writes the epoch's colon as %3a, the pool leaves the epoch out: match by name.
    found = sorted(folder.glob(f"{package.name}_*.deb"))
    for path in found:
        if path.stat().st_size == package.size_bytes and file_sha256(path) == package.sha256:
            return path
    if not found:
        raise MissingPartError(
            f"no {package.name}_*.deb in {folder}; needed: version {package.version}; "
            "put it there, or leave out `from_folder`"
        )
    raise IntegrityError(
        f"{found[0]} is not version {package.version} of {package.name}: "
        f"expected sha256 {package.sha256[:16]}... of {package.size_bytes} bytes, "
        f"got {file_sha256(found[0])[:16]}... of {found[0].stat().st_size}"
    )


def _download(url: str, target: Path, package: Package) -> None:
    part = target.with_suffix(".part")
    done = part.stat().st_size if part.is_file() else 0
    if done >= package.size_bytes:
        part.unlink()
        done = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
        go_on = done > 0 and reply.status == 206
        with part.open("ab" if go_on else "wb") as file:
            while block := reply.read(BLOCK_BYTES):
                file.write(block)
                if file.tell() > package.size_bytes:
                    break  # longer than pinned: the checksum below refuses it
            if block == b"" and reply.length:  # cut short; the next try resumes here
                raise ConnectionError(f"connection closed after {file.tell()} bytes")
    _verify(part, package)
    part.replace(target)


def _apt_download(package: Package, target: Path, http_error: Exception) -> None:
    if shutil.which("apt-get") is None:
        raise MissingPartError(
            f"cannot download {package.name}: {http_error}, and there is no apt-get; "
            f"get {package.file_name} elsewhere and give its folder as `from_folder`"
        ) from http_error
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        done = subprocess.run(
            ["apt-get", "download", f"{package.name}={package.version}"],
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
            check=False,
        )
        found = list(Path(scratch).glob("*.deb"))
        if done.returncode or len(found) != 1:
            reason = (done.stderr.strip() or "no file").splitlines()[-1]
            raise MissingPartError(
                f"cannot download {package.name} {package.version}: by HTTP: {http_error}; "
                f"by apt-get: {reason}; get it elsewhere and give its folder as `from_folder`"
            ) from http_error
        _verify(found[0], package)
        found[0].replace(target)


def _verify(path: Path, package: Package) -> None:
    actual = file_sha256(path)
    if actual != package.sha256:
        path.unlink()
        raise IntegrityError(
            f"{package.file_name}: sha256 is {actual[:16]}..., pinned is "
            f"{package.sha256[:16]}...; the file was deleted, fetch again"
        )
