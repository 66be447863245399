"""Copies a feature store: into shards of another size, or to tar files and back.

In:   a store, or a folder of tar files that `to_tars` wrote.
Out:  a store with `clips_per_shard` clips a shard, or WebDataset tar files for sequential reading.

    FOLDER/
      store.json, attribution.tsv   as in the store
      00000.tar                     for each clip NUMBER.json (what describes it), NUMBER.sound.npy,
                                    .latents.npy, .vision.npy, .sync.npy, .text0.npy, ... as they
                                    are in the store

What not to get wrong: a copy holds the same rows in the same order, so that a seed draws the same
clips. Its shards have other checksums, so a run that began on the one does not resume on the other.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.config import from_json
from omni2sound.data.store.builder import BuildReport, build_store
from omni2sound.data.store.index import DESCRIPTION, read_description
from omni2sound.data.store.rows import ClipFeatures, FeatureStore, TextFeatures
from omni2sound.data.workers import Workers
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import atomic_path, write_text
from omni2sound.readers import as_object, interpreting, loads, open_regular, read_text, real_path
from omni2sound.weights import ATTRIBUTION_FILE

CLIPS_PER_SHARD = 1024
_MATRICES = ("latents_LC", "vision_TV", "sync_LS")
_MAX_CLIP_BYTES = 2**28
"""Of the arrays of one clip; ten minutes of sound and features have a tenth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Text:
    role: str
    text: str
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    """What describes a clip, as JSON beside its arrays."""

    clip_id: str
    duration_s: float
    texts: tuple[_Text, ...]
    classes: tuple[str, ...] = ()
    pictured: tuple[str, ...] = ()
    valid_s: float | None = None
    quality: float | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One shard of the copy."""

    name: str
    source: str
    """Store, or tar file."""
    first: int = 0
    last: int = 0


def repack(
    source: Path | str,
    out: Path,
    *,
    clips_per_shard: int = CLIPS_PER_SHARD,
    workers: Workers = Workers(),
    on_shard: Callable[[int, int], None] | None = None,
) -> BuildReport:
    """Copy a store or a folder of tar files into a store.

    Args:
        source: Store (folder or URL), or folder of tar files, each of which becomes a shard.
        out: Store folder; created if missing.
        clips_per_shard: Clips of a shard, if the source is a store.
        workers: Copy the shards.
        on_shard: Called with (shards done, number of shards).

    Raises:
        UserError: If a shard would have no clips.
        MissingPartError: If the source is neither.
        ConfigError: If a tar file is malformed, or `out` holds other features.
    """
    if clips_per_shard < 1:
        raise UserError(f"expected 1 or more, got {clips_per_shard}", field="clips_per_shard")
    tars = sorted(Path(source).glob("*.tar"))
    if tars:
        description, attribution = read_description(Path(source)), Path(source) / ATTRIBUTION_FILE
        listed = read_text(attribution) if attribution.is_file() else ""
        jobs = [_Job(name=tar.stem, source=str(real_path(tar))) for tar in tars]
    else:
        store = FeatureStore([source])
        (description,), (listed,) = store.description, store.attribution
        where = str(source) if "://" in str(source) else str(real_path(Path(source)))
        jobs = [
            _Job(
                name=f"{first // clips_per_shard:05d}",
                source=where,
                first=first,
                last=min(len(store), first + clips_per_shard),
            )
            for first in range(0, len(store), clips_per_shard)
        ]
        description = {**description, "clips_per_shard": clips_per_shard}
    return build_store(
        out,
        description={k: v for k, v in description.items() if k != "format"},
        jobs=jobs,
        make=_from_tar if tars else _from_store,
        attribution=listed,
        workers=workers,
        on_shard=on_shard,
    )


def _from_store(job: _Job) -> Iterator[ClipFeatures]:
    store = FeatureStore([job.source])
    yield from (store[i] for i in range(job.first, job.last))


def to_tars(
    source: Path | str,
    out: Path,
    *,
    clips_per_shard: int = CLIPS_PER_SHARD,
    on_shard: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write a store as tar files; those that exist stay as they are.

    Raises:
        UserError: If a file would have no clips, or the folder holds another store's files.
        MissingPartError: If there is no store.
    """
    if clips_per_shard < 1:
        raise UserError(f"expected 1 or more, got {clips_per_shard}", field="clips_per_shard")
    store = FeatureStore([source])
    (description,), (listed,) = store.description, store.attribution
    description = {**description, "clips_per_shard": clips_per_shard}
    out.mkdir(parents=True, exist_ok=True)
    if (out / DESCRIPTION).exists() and read_description(out) != description:
        raise UserError(f"{out} holds another store's files; choose another folder")
    write_text(out / DESCRIPTION, json.dumps(description, indent=2, sort_keys=True) + "\n")
    if listed:
        write_text(out / ATTRIBUTION_FILE, listed)
    written = []
    firsts = range(0, len(store), clips_per_shard)
    for number, first in enumerate(firsts):
        path = out / f"{number:05d}.tar"
        if not path.exists():
            with atomic_path(path) as temporary, tarfile.open(temporary, "w") as tar:
                for index in range(first, min(len(store), first + clips_per_shard)):
                    _add_clip(tar, index, store)
        written.append(path)
        if on_shard is not None:
            on_shard(number + 1, len(firsts))
    return written


def _add_clip(tar: tarfile.TarFile, index: int, store: FeatureStore) -> None:
    clip = store.row(index)
    head = _Head(
        clip_id=clip.clip_id,
        duration_s=clip.duration_s,
        texts=tuple(
            _Text(
                role=t.role,
                text=t.text,
                token_ids=None if t.token_ids_T is None else tuple(t.token_ids_T.tolist()),
            )
            for t in clip.texts
        ),
        classes=clip.classes,
        pictured=clip.pictured,
        valid_s=clip.valid_s,
        quality=clip.quality,
        source=clip.source,
    )
    arrays: dict[str, NDArray[Any] | None] = {
        "sound": clip.pcm_N,
        **{name.partition("_")[0]: getattr(clip, name) for name in _MATRICES},
        **{f"text{k}": text.states_TE for k, text in enumerate(clip.texts)},
    }
    _add(tar, f"{index:09d}.json", json.dumps(asdict(head)).encode())
    for name, array in arrays.items():
        if array is not None:
            file = io.BytesIO()
            np.save(file, array, allow_pickle=False)
            _add(tar, f"{index:09d}.{name}.npy", file.getvalue())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # without times or owners: the same bytes for the same store
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _from_tar(job: _Job) -> Iterator[ClipFeatures]:
    path = Path(job.source)
    key, files = "", dict[str, bytes]()
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                found, _, name = member.name.partition(".")
                if found != key and files:
                    yield _clip_of(files, path)
                    files = {}
                key = found
                num_bytes = member.size + sum(map(len, files.values()))
                data = tar.extractfile(member)
                if data is None or member.issparse() or num_bytes > _MAX_CLIP_BYTES:
                    raise ConfigError(
                        f"{path}: {member.name[:80]!r} is no plain file, or its clip has more than "
                        f"{_MAX_CLIP_BYTES} bytes"
                    )
                files[name] = data.read()
        if files:
            yield _clip_of(files, path)
    except tarfile.TarError as error:
        raise ConfigError(f"{path}: not a tar file ({error})") from None


def _array(data: bytes) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except MemoryError:
        raise ValueError("an array that claims more than it holds") from None
    return array


def _clip_of(files: dict[str, bytes], path: Path) -> ClipFeatures:
    with interpreting(path, "a tar file of features"):
        data = as_object(loads(files["json"].decode()), path)
        head = from_json(_Head, data, where=str(path))
        arrays = {
            name.removesuffix(".npy"): _array(data)
            for name, data in files.items()
            if name.endswith(".npy")
        }
        texts = tuple(
            TextFeatures(
                role=t.role,
                text=t.text,
                states_TE=arrays[f"text{k}"],
                token_ids_T=None if t.token_ids is None else np.array(t.token_ids, np.int32),
            )
            for k, t in enumerate(head.texts)
        )
        return ClipFeatures(
            clip_id=head.clip_id,
            duration_s=head.duration_s,
            sound_N=arrays["sound"].astype(np.float32) / np.float32(32767),
            texts=texts,
            vision_TV=arrays.get("vision"),
            sync_LS=arrays.get("sync"),
            latents_LC=arrays.get("latents"),
            classes=head.classes,
            pictured=head.pictured,
            valid_s=head.valid_s,
            quality=head.quality,
            source=head.source,
        )
