"""Published weight files: their releases, where to find them, and strict loading.

In:   published.toml, the releases; a folder that holds their files, or a Hub id with a pinned
      revision ("org/name@<40 hex>").
Out:  a folder with every file of the release, tensors by name, a filled network.

None of these files comes with the package, and none is downloaded unless a Hub id is given;
size, licence, checksum and terms are logged first. What not to get wrong: every stored tensor is
loaded or listed as not needed. Digests are given only where docs/guides/full-size.md names their
source.

No code in a file is ever run: files are safetensors, or read by torch's loader restricted to
tensors and plain NumPy arrays (PANNs and CLAP checkpoints hold counters of their training).
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import re
import tomllib
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from omni2sound.config import from_json
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, UserError
from omni2sound.files import cache_dir
from omni2sound.readers import check_regular, open_regular, read_tensors
from omni2sound.weights import misfits

_log = logging.getLogger(__name__)

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedFile:
    """One file of a release.

    Attributes:
        name: Published name.
        size_bytes: Length; None if no source for it is known.
        digest: "md5:...", "sha256:..." or the beginning of one; None if unknown.
    """

    name: str
    size_bytes: int | None = None
    digest: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """Files of one published network.

    Attributes:
        title: Common name.
        needed_for: Features that require it.
        files: Files, all of which are needed.
        licence: Licence of the weights.
        url: Page with the download.
        hub: Usual Hub id.
        gated: Whether terms must be accepted on the Hub first.
    """

    title: str
    needed_for: str
    files: tuple[PublishedFile, ...]
    licence: str
    url: str
    hub: str | None = None
    gated: bool = False

    def describe(self) -> str:
        """Describe it in one line: files, sizes, checksums, licence, gating."""
        parts = []
        for file in self.files:
            size = "size unknown" if file.size_bytes is None else f"{file.size_bytes / 1e6:,.0f} MB"
            parts.append(f"{file.name} ({size}, {file.digest or 'checksum unknown'})")
        terms = "gated: accept its terms on the Hub and log in" if self.gated else "not gated"
        return f"{self.title}: {', '.join(parts)}; licence {self.licence}; {terms}"


with Path(__file__).with_suffix(".toml").open("rb") as _file:
    RELEASES = {
        name: from_json(Release, data, where=f"release {name}")
        for name, data in tomllib.load(_file).items()
    }
FLAN_T5, CLIP, SYNCHFORMER = (RELEASES[n] for n in ("flan-t5", "clip", "synchformer"))
PANNS, PASST, VGGISH = (RELEASES[n] for n in ("panns", "passt", "vggish"))
CLAP, ROBERTA, IMAGEBIND = (RELEASES[n] for n in ("clap", "roberta", "imagebind"))
PE_AV, PE_A_FRAME = (RELEASES[n] for n in ("pe-av", "pe-a-frame"))
AESTHETICS = RELEASES["aesthetics"]


def resolve(release: Release, source: str | os.PathLike[str]) -> Path:
    """Find the folder of a release, and verify the known digests.

    Args:
        release: Release to find.
        source: A folder, or a Hub id "org/name@<40 hex digits>", which is downloaded into the
            cache after a description in the log.

    Raises:
        MissingPartError: A file is missing, or the Hub can't be reached or denies access.
        UserError: The Hub id has no pinned revision.
        IntegrityError: A file differs from the published one.
    """
    text = os.fspath(source)
    hub = re.fullmatch(r"([\w.-]+/[\w.-]+)@(.*)", text)
    if Path(text).is_dir():
        folder = Path(text)
    elif hub:
        folder = _from_hub(release, hub[1], hub[2])
    else:
        advice = f"{release.hub}@<40 hex digits>" if release.hub else "org/name@<40 hex digits>"
        raise MissingPartError(
            f"{release.title}: {text!r} is neither a folder nor a Hub id with its revision "
            f"({advice}); get it from {release.url}"
        )
    missing = [file.name for file in release.files if not (folder / file.name).is_file()]
    if missing:
        raise MissingPartError(
            f"{release.title}: {folder} lacks {', '.join(missing)}; get it from {release.url}"
        )
    for file in release.files:
        _check_digest(release, file, folder / file.name)
    return folder


def read_checkpoint(path: Path, *, inside: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a file by name, on the CPU, without running any code in it.

    Args:
        path: A safetensors file, or one of `torch.save`.
        inside: Key of the tensors, if the file holds more than them.

    Raises:
        ConfigError: The file is damaged, holds code, or is not a table of tensors.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    check_regular(path)
    try:
        # Mapped where the format allows it (older files are one pickle): unneeded tensors, such
        # as the half of CLIP that reads texts, then never reach memory.
        mapped = zipfile.is_zipfile(path)
        with torch.serialization.safe_globals(_plain_numpy()), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about old formats
            data: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ConfigError(
            f"{path} holds {named[1] if named else 'more than tensors and numbers'}; reading it "
            "could run code, and code in a checkpoint is never run. Get the published file, or "
            "save its state_dict alone as safetensors where you trust it"
        ) from None
    except Exception as error:  # damaged bytes end an unpickler in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path} can't be read: {reason}; get it again") from None
    if inside is not None and isinstance(data, Mapping) and inside in data:
        data = data[inside]
    if not isinstance(data, Mapping) or not data:
        raise ConfigError(f"{path} is not a table of tensors; is it the published file?")
    if odd := [str(name) for name, value in data.items() if not _is_plain(value)]:
        raise ConfigError(
            f"{path} is not a table of tensors: {', '.join(odd[:5])}; is it the published file?"
        )
    return {str(name): tensor for name, tensor in data.items()}


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor that holds its numbers one by one: not sparse or quantised."""
    if not isinstance(value, Tensor) or value.is_nested or value.is_quantized or value.is_meta:
        return False
    return value.layout == torch.strided


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    title: str,
    not_needed: Iterable[str] = (),
) -> None:
    """Load tensors strictly into a network, in the network's dtype.

    Args:
        network: Network with the names of the file.
        tensors: Tensors of the file.
        title: Name of the release, for errors.
        not_needed: Prefixes of stored names that are skipped.

    Raises:
        ConfigError: If tensors are missing, left over or of another shape; all are named.
    """
    unneeded = tuple(not_needed)
    stored = {
        name: v for name, v in tensors.items() if not (unneeded and name.startswith(unneeded))
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if problems := misfits(shapes, network.state_dict()):
        raise ConfigError(f"{title}: the file is not this network: {'; '.join(problems)}")
    network.load_state_dict(stored)


class PublishedNetwork(Generic[N]):
    """Base of frozen networks with published weights; subclasses set `release` and `build`."""

    release: ClassVar[Release]
    inside: ClassVar[str | None] = None
    """Key of the tensors, if the file holds more than them."""
    not_needed: ClassVar[tuple[str, ...]] = ()
    """Prefixes of stored names that are skipped."""

    def __init__(self, network: N, device: torch.device | str = "cpu") -> None:
        self._network = network.eval().requires_grad_(False).to(device)
        self.device = torch.device(device)

    @staticmethod
    def build() -> N:
        """Build the network with random weights."""
        raise NotImplementedError

    @staticmethod
    def adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename or verify stored tensors before they are loaded."""
        return tensors

    @classmethod
    def load(cls, source: str | os.PathLike[str], device: torch.device | str = "cpu") -> Self:
        """Load the published weights.

        Args:
            source: Folder of the release's files, or a Hub id with its revision.
            device: Device to run on.

        Raises:
            MissingPartError: A file is missing.
            ConfigError: Its tensors do not fit this network.
            IntegrityError: It differs from the published file.
        """
        path = resolve(cls.release, source) / cls.release.files[0].name
        network, tensors = cls.build(), cls.adapt(read_checkpoint(path, inside=cls.inside))
        fill(network, tensors, title=cls.release.title, not_needed=cls.not_needed)
        return cls(network, device)


def _plain_numpy() -> list[Any]:
    """Globals of pickled NumPy arrays and numbers, which run no code."""
    import numpy as np
    from numpy._core import multiarray

    kinds = (np.dtypes.Int64DType, np.dtypes.Float64DType, np.dtypes.Float32DType)
    return [
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        multiarray._reconstruct,
        multiarray.scalar,
        np.ndarray,
        np.dtype,
        *kinds,
    ]


def _check_digest(release: Release, file: PublishedFile, path: Path) -> None:
    if file.digest is None:
        return
    algorithm, _, expected = file.digest.partition(":")
    with open_regular(path) as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    if not found.startswith(expected):
        raise IntegrityError(
            f"{release.title}: {path} has {algorithm} {found[:12]}..., the published file "
            f"{expected[:12]}...; get it again from {release.url}"
        )


def _from_hub(release: Release, repository: str, revision: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"{release.title}: Hub id {repository!r} needs a pinned revision: "
            f"{repository}@<40 hex digits of a commit>, got {revision!r}"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    names = [file.name for file in release.files]
    target = cache_dir() / "hub"
    try:
        cached = Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=target,
                allow_patterns=names,  # the rest of the repository is not missed
                local_files_only=True,
            )
        )
        if all((cached / name).is_file() for name in names):
            return cached
    except (LocalEntryNotFoundError, OSError):
        pass
    _log.info("downloading from %s@%s: %s", repository, revision, release.describe())
    try:
        return Path(
            snapshot_download(repository, revision=revision, cache_dir=target, allow_patterns=names)
        )
    except GatedRepoError:
        raise MissingPartError(
            f"{release.title}: {repository} is gated; accept its terms at "
            f"https://huggingface.co/{repository}, run `hf auth login`, and try again"
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingPartError(
            f"{release.title}: could not fetch {repository}@{revision[:12]} from the Hub "
            f"({reason}); offline, give a folder with {', '.join(names)} from {release.url}"
        ) from None
