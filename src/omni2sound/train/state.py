"""Checkpoints: weights, EMA weights, optimizer moments, progress, identity of the run.

In:   a model (on one device or sharded over several), its optimizer, the EMA weights.
Out:  a folder ``step-00001200/`` with a `state-<rank>of<ranks>.safetensors` for each rank and
      `state.json`.

Each rank copies its shards, and a thread writes them into a hidden folder while the run goes on;
it is renamed once all are on disk: a folder that exists is complete, whatever was killed when. A
shard records its place in the whole tensor, so the number of ranks may differ on loading. Loading
is strict: another recipe, other data or another set of tensors is refused, and the difference
named. Each file holds a digest of all that it says, `state.json` too, so that a damaged one is not
trained on. No pickles.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from omni2sound.config import from_json
from omni2sound.errors import ConfigError, IntegrityError
from omni2sound.files import flush_to_disk, save_tensors, writing
from omni2sound.readers import as_object, interpreting, loads, open_tensors, read_object
from omni2sound.train.optimizer import moment_names
from omni2sound.train.parallel import World, is_first_copy, local, place_in_whole
from omni2sound.weights import digest_tensors

_log = logging.getLogger(__name__)

KEEP_LAST = 2
"""Checkpoints kept in a run's folder."""
FORMAT = 2
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "lr": ("lr", "final_lr", "warmup_steps"),
    "data": ("data", "data_sha256", "validation_sha256"),
    "accumulate": ("accumulate",),
    "compile": ("compile",),
}
"""Changes that a resumed run may be allowed, and the names that differ then."""
_DIGEST = "sha256"
"""Key of a file's digest: of its tensors, their places and the step; in `state.json` of the rest of
it. Without the latter the checkpoint is of an earlier release, and the former of tensors alone."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainState:
    """Tensors that a step hands to the next.

    Attributes:
        model: The network in training.
        ema: Exponential moving average of its weights, by name; "average." in checkpoints.
        optimizer: Optimizer of all of the model's parameters.
    """

    model: nn.Module
    ema: dict[str, Tensor]
    optimizer: torch.optim.Optimizer


def _tensors(state: TrainState) -> dict[str, Tensor]:
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.ema.items()}
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    return tensors


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Saving:
    """A checkpoint on its way to the disk; `begin_saving` makes it.

    Attributes:
        target: Folder of the checkpoint.
        world: Ranks that write it.
        keep_every: Checkpoints of multiples of this many steps stay.
        writing: This rank's files, being written; None if the checkpoint was there before.
    """

    target: Path
    world: World
    keep_every: int | None
    writing: Future[None] | None

    @property
    def written(self) -> bool:
        """Whether this rank's files are on disk, or have failed."""
        return self.writing is None or self.writing.done()

    def finish(self) -> Path:
        """Wait for the files of all ranks, and make them a checkpoint; every rank must call this.

        Raises:
            OSError: If a file could not be written.
        """
        runs = self.target.parent
        if self.writing is not None:
            with writing(self.target):
                self.writing.result()
                self.world.wait()
                if self.world.is_first:
                    flush_to_disk(_staging(self.target))
                    _rename(_staging(self.target), self.target)
                    flush_to_disk(runs)
        if self.world.is_first:
            _tidy(runs, self.keep_every)  # a kill may have come right after the last rename
        self.world.wait()
        return self.target


def begin_saving(
    runs: Path,
    state: TrainState,
    *,
    step: int,
    identity: Mapping[str, Any],
    progress: Mapping[str, Any] | None = None,
    world: World | None = None,
    keep_every: int | None = None,
    again: bool = False,
) -> Saving:
    """Copy the state after `step` steps, and begin to write it; the state may change then.

    Every rank must call this at the same step, and finish what it began before. An existing
    checkpoint of this step belongs to the same run, so it is equal, and kept.

    Args:
        runs: Folder of the run, the same for all ranks.
        state: Tensors to write.
        step: Number of steps done.
        identity: JSON data that a resumed run must share.
        progress: JSON data that `load_state` returns.
        world: Ranks of this run; None is a single one.
        keep_every: Keep the checkpoints of multiples of this many steps, beside the newest
            `KEEP_LAST`.
        again: Replace an existing checkpoint of this step.
    """
    world = world or World()
    target = runs / f"step-{step:08d}"
    if again:
        world.wait()
        if world.is_first and target.exists():
            hidden = target.with_name(f".{target.name}.old")
            target.rename(hidden)
        world.wait()
    if world.any(target.exists()):
        return Saving(target=target, world=world, keep_every=keep_every, writing=None)
    description: dict[str, Any] = {
        "format": FORMAT,
        "step": step,
        "world_size": world.size,
        "identity": dict(identity),
        "progress": dict(progress or {}),
    }
    description[_DIGEST] = _description_sha256(description)
    with writing(target):
        staging = _staging(target)
        if world.is_first:
            shutil.rmtree(staging, ignore_errors=True)  # left by a run that was killed here
            staging.mkdir()
        world.wait()
    copied = _copied(state, world)
    said = json.dumps(description, indent=2) if world.is_first else None
    path = staging / _file_name(world.rank, world.size)
    pool = ThreadPoolExecutor(1)
    future = pool.submit(_write, path, copied, step, said)
    pool.shutdown(wait=False)
    return Saving(target=target, world=world, keep_every=keep_every, writing=future)


def save_state(
    runs: Path,
    state: TrainState,
    *,
    step: int,
    identity: Mapping[str, Any],
    progress: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint of one process, and wait for it; arguments as of `begin_saving`."""
    return begin_saving(runs, state, step=step, identity=identity, progress=progress).finish()


def _staging(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _tidy(runs: Path, keep_every: int | None) -> None:
    """Delete older checkpoints, and what killed runs left."""
    for old in checkpoints(runs)[:-KEEP_LAST]:
        if keep_every is not None and int(old.name.removeprefix("step-")) % keep_every == 0:
            continue
        # Hidden first: a folder that is half deleted must not look like a checkpoint.
        hidden = old.with_name(f".{old.name}.old")
        old.rename(hidden)
        shutil.rmtree(hidden)
    for left in [*runs.glob(".step-*.part"), *runs.glob(".step-*.old")]:
        shutil.rmtree(left, ignore_errors=True)


def _rename(staging: Path, target: Path) -> None:
    """Put a complete checkpoint in place."""
    staging.rename(target)


def _file_name(rank: int, size: int) -> str:
    return f"state-{rank}of{size}.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Copied:
    """A rank's shards in memory of the host, with their first rows and whole shapes."""

    pieces: dict[str, Tensor]
    starts: dict[str, int]
    shapes: dict[str, list[int]]


def _copied(state: TrainState, world: World) -> _Copied:
    copied = _Copied(pieces={}, starts={}, shapes={})
    for name, tensor in _tensors(state).items():
        start, _ = place_in_whole(tensor)
        piece = local(tensor).detach()
        if not is_first_copy(tensor, world) or (start is not None and piece.numel() == 0):
            continue  # held by another rank
        # Tensors that share memory (a tied weight) cannot be in one file.
        copied.pieces[name] = piece.to("cpu", copy=True).contiguous()
        copied.starts[name], copied.shapes[name] = start or 0, list(tensor.shape)
    return copied


def _write(path: Path, copied: _Copied, step: int, description: str | None) -> None:
    """Write a rank's file, and the description beside it if given."""
    metadata = {"starts": json.dumps(copied.starts), "shapes": json.dumps(copied.shapes)}
    metadata[_DIGEST] = _sha256(copied.pieces, (str(step), *metadata.values()))
    save_tensors(path, copied.pieces, metadata=metadata)
    flush_to_disk(path)
    if description is not None:
        path = path.with_name("state.json")
        path.write_text(description, encoding="utf-8")
        flush_to_disk(path)


def checkpoints(runs: Path) -> list[Path]:
    """List the complete checkpoints of a run, oldest first."""
    return sorted(p for p in runs.glob("step-*") if (p / "state.json").is_file())


def latest_state(runs: Path) -> Path | None:
    """Return the newest checkpoint of a run, if there is one."""
    found = checkpoints(runs)
    return found[-1] if found else None


def differences(before: object, now: object, *, where: str = "") -> Iterator[str]:
    """Yield the differences of two pieces of JSON data, as ``path: was 1, is 2``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in [*before, *(k for k in now if k not in before)]:
            at = f"{where}.{key}" if where else str(key)
            if key not in before:
                yield f"{at}: was not there, is {_short(now[key])}"
            elif key not in now:
                yield f"{at}: was {_short(before[key])}, is not there"
            else:
                yield from differences(before[key], now[key], where=at)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from differences(old, new, where=f"{where}.{i}")
    elif before != now:
        yield f"{where}: was {_short(before)}, is {_short(now)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_allowed(change: str, keys: Collection[str]) -> bool:
    """Whether a difference, as `differences` yields it, is of one of these keys of `ALLOWED`."""
    path = change.partition(":")[0].split(".")
    return any(name in path for key in keys for name in ALLOWED[key])


def load_state(
    folder: Path,
    state: TrainState,
    *,
    identity: Mapping[str, Any],
    world: World | None = None,
    allow: Collection[str] = (),
) -> dict[str, Any]:
    """Restore a checkpoint in place, bit for bit.

    Args:
        folder: The checkpoint.
        state: Tensors to restore.
        identity: What the run shares with the one that it continues.
        world: Ranks of this run; None is a single one.
        allow: Keys of `ALLOWED` whose differences are accepted.

    Returns:
        The `progress` that was saved, and "step", the number of steps done; "changes" has the
        accepted differences, after those of earlier resumes.

    Raises:
        ConfigError: If the checkpoint is of another run, or its tensors do not fit.
        IntegrityError: If it is not what was saved.
    """
    world = world or World()
    description = read_object(folder / "state.json", not_finite=True)
    if description.get("format") != FORMAT:
        raise ConfigError(
            f"{folder} has format {description.get('format', 1)}, this release reads {FORMAT}; "
            "finish that run with the release that began it, or start another with `init_from`"
        )
    has_digest = _DIGEST in description
    if has_digest and description.pop(_DIGEST) != _description_sha256(description):
        raise _damaged(folder)
    found = list(differences(description.get("identity"), json.loads(json.dumps(identity))))
    accepted = [change for change in found if is_allowed(change, allow)]
    changed = [change for change in found if change not in accepted]
    if changed:
        shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if changed[5:] else "")
        raise ConfigError(
            f"can't resume {folder.parent}: {shown}. Use the same recipe and data, "
            f"another `out` with `init_from`, or allow the change ({', '.join(ALLOWED)})"
        )
    with interpreting(folder / "state.json", "a checkpoint's description"):
        size, step = int(description["world_size"]), int(description["step"])
        progress = as_object(description["progress"], folder / "state.json")
    if size != world.size:
        _log.warning(
            "%d ranks before, %d now: same batches and noise, but sums in another order",
            size,
            world.size,
        )
    with ExitStack() as files:
        opened = [
            files.enter_context(open_tensors(folder / _file_name(rank, size)))
            for rank in range(size)
        ]
        own = opened[world.rank :: world.size]  # each rank reads a share of the files whole
        if world.any(any(_is_damaged(file, step if has_digest else None) for file in own)):
            raise _damaged(folder)
        with interpreting(folder, "a checkpoint"):
            pieces = _Pieces(opened)
        _restore(folder, state, pieces)
    if accepted:
        changes = [*progress.get("changes", []), *(f"step {step}: {c}" for c in accepted)]
        progress = {**progress, "changes": changes}
    return {"step": step, **progress}


def read_average(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint's description and its EMA weights, without a model to restore.

    Raises:
        ConfigError: If it is not a checkpoint of this format.
        IntegrityError: If it is not what was saved.
    """
    description = read_object(folder / "state.json", not_finite=True)
    if description.get("format") != FORMAT:
        raise ConfigError(f"{folder} has format {description.get('format', 1)}, expected {FORMAT}")
    has_digest = _DIGEST in description
    if has_digest and description.pop(_DIGEST) != _description_sha256(description):
        raise _damaged(folder)
    with ExitStack() as files, interpreting(folder, "a checkpoint"):
        size, step = int(description["world_size"]), int(description["step"])
        opened = [
            files.enter_context(open_tensors(folder / _file_name(rank, size)))
            for rank in range(size)
        ]
        if any(_is_damaged(file, step if has_digest else None) for file in opened):
            raise _damaged(folder)
        pieces = _Pieces(opened)
        weights = {}
        for name, shape in pieces.shapes.items():
            kind, _, own = name.partition(".")
            if kind == "average":
                weights[own] = torch.empty(shape)
                pieces.fill(name, weights[own])
    return description, weights


def _restore(folder: Path, state: TrainState, pieces: _Pieces) -> None:
    parameters = dict(state.model.named_parameters())
    targets = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    targets |= {f"average.{k}": v for k, v in state.ema.items()}
    # A run that stopped before its first update has no moments yet.
    untouched = not any(name.startswith("optimizer.") for name in pieces.shapes)
    moments = {} if untouched else moment_names(state.optimizer)
    wanted = {
        *targets,
        *(f"optimizer.{m}.{n}" for n, p in parameters.items() for m in moments.get(p, ())),
    }
    if difference := sorted(set(pieces.shapes) ^ wanted):
        raise ConfigError(
            f"checkpoint {folder} does not fit the model: {', '.join(difference[:5])}"
        )
    for name, parameter in parameters.items():
        for moment in moments.get(parameter, ()):
            # AdamW wants its moments where the parameter is, and its step count on the CPU.
            count = moment == "step"
            kept = torch.tensor(0.0) if count else torch.zeros_like(parameter).detach()
            state.optimizer.state[parameter][moment] = kept
            targets[f"optimizer.{moment}.{name}"] = kept
    for name, target in targets.items():
        pieces.fill(name, target)


def _sha256(pieces: Mapping[str, Tensor], texts: Sequence[str] = ()) -> str:
    digest = hashlib.sha256("".join(f"{text}\n" for text in texts).encode())
    digest_tensors(digest, pieces)
    return digest.hexdigest()


def _description_sha256(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _damaged(folder: Path) -> IntegrityError:
    return IntegrityError(
        f"{folder} is damaged: it is not what was saved; delete it, and the run continues from the "
        "checkpoint before"
    )


def _is_damaged(file: Any, step: int | None) -> bool:
    """Whether a file differs from its digest.

    Args:
        file: Reader of the file.
        step: The checkpoint's step; None if it is of an earlier release, which covered tensors
            alone, or had no digest.
    """
    metadata: dict[str, str] = file.metadata() or {}
    expected = metadata.get(_DIGEST)
    if expected is None:
        return step is not None
    said = (str(step), metadata.get("starts", ""), metadata.get("shapes", ""))
    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return _sha256(tensors, () if step is None else said) != expected


class _Pieces:
    """Tensors sharded over the files of several ranks."""

    def __init__(self, files: Sequence[Any]) -> None:
        self.shapes: dict[str, list[int]] = {}
        self._places: dict[str, list[tuple[Any, int]]] = {}
        for file in files:
            metadata = file.metadata() or {}
            shapes = from_json(dict[str, list[int]], loads(metadata["shapes"]), where="shapes")
            starts = from_json(dict[str, int], loads(metadata["starts"]), where="starts")
            for name in file.keys():  # noqa: SIM118 - not a mapping
                self.shapes[name] = shapes[name]
                self._places.setdefault(name, []).append((file, starts[name]))

    @torch.no_grad()
    def fill(self, name: str, target: Tensor) -> None:
        """Copy this rank's part of a tensor into `target`.

        Raises:
            ConfigError: If the shapes differ, or a part is in no file.
        """
        shape = self.shapes[name]
        if shape != list(target.shape):
            raise ConfigError(f"{name} is {shape} in the checkpoint, {list(target.shape)} here")
        into = local(target)
        if target.ndim == 0:
            into.copy_(self._places[name][0][0].get_tensor(name))
            return
        start = place_in_whole(target)[0] or 0
        filled = 0
        for file, piece_start in self._places[name]:
            piece = file.get_slice(name)
            first = max(start, piece_start)
            last = min(start + into.shape[0], piece_start + piece.get_shape()[0])
            if first < last:
                into[first - start : last - start].copy_(
                    piece[first - piece_start : last - piece_start]
                )
                filled += last - first
        if filled != into.shape[0]:
            raise ConfigError(f"{name}: {into.shape[0] - filled} rows are in no file")
