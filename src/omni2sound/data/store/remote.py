"""Where a store is: a folder, or object storage behind fsspec with a cache on the local disk.

In:   a path, or a URL such as "s3://bucket/features" (fsspec and the package of its scheme); either
      may have a name in front, NAME=FOLDER.
Out:  `StoreFolder`: a local folder with the store's small files, and its shards on demand.

A remote shard is fetched whole when the first of its clips is drawn, into `shards/` of the cache
(`OMNI2SOUND_CACHE`: a fast local disk), under the name of its SHA-256. All ranks and runs of a
machine share it. When it grows beyond `CACHE_BYTES`, what was not used for longest is deleted.

What not to get wrong: samples are drawn from the whole store, so a store larger than the cache is
fetched again and again. Give the cache a disk that holds it.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from omni2sound.errors import IntegrityError, MissingPartError
from omni2sound.files import atomic_path, cache_dir, file_sha256
from omni2sound.weights import ATTRIBUTION_FILE

CACHE_BYTES = 2**40
"""Size of the cache of shards."""
_SMALL_FILES = ("store.json", "index.json", "clips.feather", ATTRIBUTION_FILE)


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """A store's folder; of a remote store, the local copy of its small files."""

    path: Path
    url: str | None = None
    files: Any = None
    """File system of fsspec."""
    name: str = ""
    """NAME of NAME=FOLDER, or the last part of the path or URL."""

    @property
    def is_remote(self) -> bool:
        """Whether shards have to be fetched."""
        return self.url is not None

    def __str__(self) -> str:
        return self.url or str(self.path)

    def fetch(self, shard: Path, sha256: str | None) -> Path:
        """Return the local file of a shard, which is fetched if it is remote and new.

        Raises:
            MissingPartError: If the shard is not there.
            IntegrityError: If what was fetched is not what the index lists.
        """
        if self.url is None:
            return shard
        cache = cache_dir() / "shards"
        cache.mkdir(parents=True, exist_ok=True)
        local = cache / f"{sha256}.arrow"
        with FileLock(cache / f".{sha256}.lock"):  # of several ranks one fetches
            if local.is_file():
                os.utime(local)
                return local
            with atomic_path(local) as temporary:
                _get(self.files, f"{self.url}/{shard.name}", temporary)
                if file_sha256(temporary) != sha256:
                    raise IntegrityError(
                        f"{self.url}/{shard.name} is damaged: its checksum is not that of the "
                        "index; copy the store there again"
                    )
        _tidy(cache, keep=local)
        return local


def store_folder(where: Path | str) -> StoreFolder:
    """Open a store's folder; of a URL, the small files are fetched.

    Raises:
        MissingPartError: If there is no store at a URL, or no package for its scheme.
    """
    given = re.fullmatch(r"([A-Za-z][\w.-]*)=(.+)", str(where))
    if given is not None and Path(where).exists():  # a folder with such a name
        given = None
    text = str(where) if given is None else given[2]
    name = text.rstrip("/").rpartition("/")[2] if given is None else given[1]
    if "://" not in text:
        return StoreFolder(Path(text), name=name)
    import fsspec

    url = text.rstrip("/")
    try:
        files, _ = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise MissingPartError(f"{url} can't be opened: {error}") from error
    key = hashlib.sha256(url.encode()).hexdigest()
    local = cache_dir() / "stores" / key
    local.mkdir(parents=True, exist_ok=True)
    with FileLock(local.with_name(f".{key}.lock")):
        for small in _SMALL_FILES:
            (local / small).unlink(missing_ok=True)
            if files.exists(f"{url}/{small}"):
                with atomic_path(local / small) as temporary:
                    _get(files, f"{url}/{small}", temporary)
    return StoreFolder(local, url, files, name)


def _get(files: Any, url: str, target: Path) -> None:
    try:
        files.get_file(url, str(target))
    except OSError as error:
        raise MissingPartError(f"{url} can't be read: {error}") from error


def _tidy(cache: Path, *, keep: Path) -> None:
    """Delete the shards that were not used for longest; what is mapped stays readable."""
    found = sorted(((p.stat(), p) for p in cache.glob("*.arrow")), key=lambda e: e[0].st_mtime)
    total = sum(stat.st_size for stat, _ in found)
    for stat, path in found:
        if total <= CACHE_BYTES or path == keep:
            return
        path.unlink(missing_ok=True)
        total -= stat.st_size
