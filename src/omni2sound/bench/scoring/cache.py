"""Cache of measurements: an entry for each sound, video or caption and what was asked of it.

In:   everything that decides what is in an entry; its bytes.
Out:  the entry's path, named by their digest.

A stopped extraction thus resumes, systems that share sounds share entries, and the folder can be
deleted at any time. Workers write entries themselves: on a cluster all must see the folder.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

import torch

from omni2sound.files import writing

_VERSION = 1
"""Version of the definitions behind an entry; a changed one needs a new number."""


def entry_key(**what: object) -> str:
    """Digest of `what`, of the definitions' version and of torch's."""
    asked = {**what, "version": _VERSION, "torch": torch.__version__}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def entry_path(folder: Path, key: str) -> Path:
    """Path of an entry in the cache folder."""
    return folder / key[:2] / f"{key}.safetensors"


def put_entry(path: Path, data: bytes) -> None:
    """Write an entry whole or not at all. Not flushed: what a power cut spoils is made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with writing(path):
            temporary.write_bytes(data)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
