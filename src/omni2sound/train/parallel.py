"""Several devices: ranks, sharding of the model, and joint decisions.

In:   the variables that `torchrun` sets (RANK, WORLD_SIZE, LOCAL_RANK), a model.
Out:  `World`; a model with sharded parameters (FSDP2), compiled or checkpointed on request.

Every rank draws the same batch and computes its slice, so any number of ranks computes the
same step. Matrices are sharded; vectors (biases, scales of norms) are whole on every rank, so that
blocks gather half-precision weights where autocast would round them and nowhere else. What not to
get wrong: a decision of one rank alone (time is over, Ctrl-C) leaves the others waiting for ever;
`World.any` and `World.flags` decide for all.

Source of the sharding: torch.distributed.fsdp.fully_shard.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard
from torch.utils.checkpoint import checkpoint

from omni2sound.errors import ConfigError
from omni2sound.models.dit import DiT, DiTBlock


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Ranks of a run; a single process is rank 0 of 1 and needs no process group."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the shared files."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            # Not a barrier of the default backend: on a GPU that would be one of its streams.
            self.sum(torch.zeros(1))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; the same answer everywhere."""
        return self.flags(flag)[0]

    def flags(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set on any rank; the same answer everywhere."""
        return tuple((self.sum(torch.tensor(flags, dtype=torch.float32)) > 0).tolist())

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a CPU tensor over ranks."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total


@contextmanager
def joined_world(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Join the ranks that `torchrun` started; without it, one rank and nothing to join.

    Args:
        device: Requested device; a CUDA device becomes the one of this rank.

    Yields:
        The world, and the device of this rank.

    Raises:
        ConfigError: If there are more ranks here than devices.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), device
        return
    backend = "gloo"
    if device.type == "cuda":
        index, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if index >= count:
            raise ConfigError(
                f"{os.environ.get('LOCAL_WORLD_SIZE', size)} ranks on a machine with {count} CUDA "
                "devices; start at most one rank a device (--nproc_per_node)"
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"  # decisions are summed on the CPU
    dist.init_process_group(backend)
    try:
        yield World(rank=dist.get_rank(), size=size), device
    finally:
        dist.destroy_process_group()


def prepare_model(
    model: DiT,
    world: World,
    device: torch.device,
    *,
    activation_checkpointing: bool = False,
    compiled: bool = False,
    replicas: int = 1,
    half: bool = False,
    backend: Callable[..., Any] | str = "inductor",
) -> None:
    """Move the model to the device, and shard, compile and checkpoint it in place.

    Args:
        model: Transformer, equal on every rank.
        world: Ranks to shard it over.
        device: Device of this rank.
        activation_checkpointing: Keep only each block's input for the backward pass.
        compiled: Compile each block on its own, so that one set of kernels serves all.
        replicas: Groups of ranks that each hold a sharded copy (HSDP); divides the ranks.
        half: Gather the blocks' matrices in bfloat16. What autocast computes stays the same.
        backend: What compiles.
    """
    model.to(device)
    blocks = [block for block in model.blocks if isinstance(block, DiTBlock)]
    for block in blocks:
        # Functions, not wrapper modules: names of tensors stay as they are. What is checkpointed is
        # the compiled function; around a checkpoint nothing would be compiled.
        forward: Callable[..., Any] = block.forward
        if compiled:
            forward = torch.compile(forward, backend=backend)
        if activation_checkpointing:
            forward = partial(checkpoint, forward, use_reentrant=False)
        if compiled or activation_checkpointing:
            block.forward = forward  # type: ignore[method-assign]
    if world.size == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    shape = (world.size,) if replicas == 1 else (replicas, world.size // replicas)
    names = ("replicate", "shard")[-len(shape) :]
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
    # Autocast decides what else is computed in half precision, as on one device.
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    vectors = {p for p in model.parameters() if p.ndim < 2}
    shard = partial(fully_shard, mesh=mesh, ignored_params=vectors)
    for block in blocks:
        # Keys and values are computed outside of the block's forward, once per request, so
        # their weights are gathered on their own.
        shard(block.cross_attention.kv, mp_policy=policy)
        shard(block, mp_policy=policy)
    shard(model)


def sync_gradients(model: nn.Module, sync: bool) -> None:
    """Set whether the next backward pass reduces gradients over ranks, or only adds them up."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(sync)


def average_whole_gradients(model: nn.Module, world: World) -> None:
    """Average over ranks the gradients of what every rank holds whole: one message a step."""
    gradients = [
        p.grad for p in model.parameters() if p.grad is not None and not isinstance(p, DTensor)
    ]
    if world.size == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat / world.size, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def forget_gathered(model: nn.Module) -> None:
    """Drop gathered weights; call it after changing weights by hand.

    FSDP2 keeps the root's gathered weights after a forward pass without a backward pass, and
    would use the old values again.
    """
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.reshard()


def local(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The full tensor on every rank; all ranks must call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def place_in_whole(tensor: Tensor) -> tuple[int | None, int]:
    """First row and number of rows of this rank's shard; the row is None if unsharded."""
    if not isinstance(tensor, DTensor):
        return None, tensor.shape[0] if tensor.ndim else 0
    *copies, last = tensor.placements
    assert last == Shard(0), tensor.placements  # what `prepare_model` makes
    rows, mesh, dim = tensor.shape[0], tensor.device_mesh, len(copies)
    per_rank = -(-rows // mesh.size(dim))
    start = min(rows, mesh.get_local_rank(dim) * per_rank)
    return start, min(rows, start + per_rank) - start


def is_first_copy(tensor: Tensor, world: World) -> bool:
    """Whether this rank's shard is the one to be saved, of all that are equal to it."""
    if not isinstance(tensor, DTensor):
        return world.is_first
    mesh = tensor.device_mesh
    return all(mesh.get_local_rank(dim) == 0 for dim in range(mesh.ndim - 1))
