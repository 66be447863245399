"""Pieces of the transformer with gradients written by hand, for training on a CPU.

In:   activations in bfloat16, as autocast leaves them.
Out:  what the same lines in `layers` and `dit` give, to bfloat16's rounding, with gradients.

Half of a training step on a CPU is element-wise work: norms of heads, rotary positions, gates.
Autograd keeps and writes an array for each operation of them. These functions keep what
the gradient needs, write parts where they belong, and copy nothing to split or join.

Shape suffixes: B batch, L latent frames, N heads, H head dimension, F rotary pairs, D width,
E inner width, M six modulations of D, K parts of one projection (queries, keys, values).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-6


def applies_to(x: Tensor) -> bool:
    """Whether gradients will be computed of this tensor, on a CPU in bfloat16, uncompiled."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and x.requires_grad
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


def split_and_normalise(
    x_BLP: Tensor,
    num_heads: int,
    weights: Sequence[Tensor | None],
    *,
    rope: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Split a projection (B, L, K * N * H) into parts (B, N, L, H), each contiguous.

    Args:
        x_BLP: The projection.
        num_heads: N.
        weights: Scale of the root-mean-square norm of each part; None leaves a part as it is.
        rope: Rotary table for the parts that are normalised.
    """
    apply = _SplitAndNormalise.apply
    return apply(x_BLP, num_heads, rope, *weights)  # type: ignore[no-untyped-call, no-any-return]


def gated(up_BLE: Tensor) -> Tensor:
    """First half times SiLU of the second half."""
    return _Gated.apply(up_BLE)  # type: ignore[no-untyped-call, no-any-return]


def _heads(x_BLP: Tensor, num_parts: int, num_heads: int) -> Tensor:
    """View (K, B, N, L, H) of a projection."""
    batch, length, _ = x_BLP.shape
    return x_BLP.view(batch, length, num_parts, num_heads, -1).permute(2, 0, 3, 1, 4)


def _rotate_(to: Tensor, x: Tensor, sin_LF: Tensor, *, back: bool = False) -> None:
    """Add the sine terms of a rotation of `x` to `to`, which has the cosine terms."""
    half = sin_LF.shape[-1]
    sign = -1 if back else 1
    to[..., :half].addcmul_(x[..., half : 2 * half], sin_LF, value=-sign)
    to[..., half : 2 * half].addcmul_(x[..., :half], sin_LF, value=sign)


def _cosines(cos_LF: Tensor, head_dim: int) -> Tensor:
    """Cosine of each dimension of a head (L, H): both halves, then ones."""
    rest = cos_LF.new_ones(len(cos_LF), head_dim - 2 * cos_LF.shape[-1])
    return torch.cat([cos_LF, cos_LF, rest], dim=-1)


class _SplitAndNormalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BLP: Tensor,
        num_heads: int,
        rope: tuple[Tensor, Tensor] | None,
        *weights: Tensor | None,
    ) -> tuple[Tensor, ...]:
        x_KBNLH = _heads(x_BLP, len(weights), num_heads)
        ctx.num_heads, ctx.rope, ctx.shape = num_heads, rope, x_BLP.shape
        made, kept = [], []
        for x_BNLH, weight_H in zip(x_KBNLH, weights, strict=True):
            to_BNLH = x_BLP.new_empty(x_BNLH.shape)
            made.append(to_BNLH)
            if weight_H is None:
                to_BNLH.copy_(x_BNLH)
                continue
            weight_H = weight_H.to(x_BLP.dtype)
            norm = torch.linalg.vector_norm(x_BNLH, dim=-1, keepdim=True, dtype=torch.float32)
            rate = (norm.square() / x_BNLH.shape[-1] + EPSILON).rsqrt().to(x_BLP.dtype)
            unit_BNLH = torch.mul(x_BNLH, rate, out=torch.empty_like(to_BNLH))
            kept += [unit_BNLH, rate, weight_H]
            if rope is None:
                torch.mul(unit_BNLH, weight_H, out=to_BNLH)
                continue
            scaled_BNLH = unit_BNLH * weight_H
            cos_LH = _cosines(rope[0], x_BNLH.shape[-1]).to(x_BLP.dtype)
            torch.mul(scaled_BNLH, cos_LH, out=to_BNLH)
            _rotate_(to_BNLH, scaled_BNLH, rope[1].to(x_BLP.dtype))
        ctx.save_for_backward(*kept)
        ctx.normalised = [weight is not None for weight in weights]
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        x_grad_BLP = gradients[0].new_empty(ctx.shape)
        x_grads = _heads(x_grad_BLP, len(gradients), ctx.num_heads)
        weight_grads: list[Tensor | None] = []
        kept = iter(ctx.saved_tensors)
        for grad_BNLH, to_BNLH, normalised in zip(gradients, x_grads, ctx.normalised, strict=True):
            if not normalised:
                to_BNLH.copy_(grad_BNLH)
                weight_grads.append(None)
                continue
            unit_BNLH, rate, weight_H = next(kept), next(kept), next(kept)
            size, grad_BNLH = grad_BNLH.shape[-1], grad_BNLH.contiguous()
            if ctx.rope is not None:
                cos_LF, sin_LF = (table.to(grad_BNLH.dtype) for table in ctx.rope)
                turned_BNLH = grad_BNLH * _cosines(cos_LF, size)
                _rotate_(turned_BNLH, grad_BNLH, sin_LF, back=True)
                grad_BNLH = turned_BNLH
            product_PH = torch.mul(grad_BNLH, unit_BNLH).reshape(-1, size)
            weight_grads.append(product_PH.sum(dim=0, dtype=torch.float32))
            along = (product_PH @ weight_H[:, None] / size).view(rate.shape)
            grad_BNLH = grad_BNLH * weight_H
            torch.mul(grad_BNLH.addcmul_(unit_BNLH, along, value=-1), rate, out=to_BNLH)
        return x_grad_BLP, None, None, *weight_grads


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, up_BLE: Tensor) -> Tensor:
        value, gate = up_BLE.chunk(2, dim=-1)
        opened = F.silu(gate)
        ctx.save_for_backward(up_BLE, opened)
        return opened * value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        up_BLE, opened = ctx.saved_tensors
        grad_BLE = torch.empty_like(up_BLE)
        value, gate = up_BLE.chunk(2, dim=-1)
        to_value, to_gate = grad_BLE.chunk(2, dim=-1)
        torch.mul(gradient, opened, out=to_value)
        torch.ops.aten.silu_backward.grad_input(gradient * value, gate, grad_input=to_gate)
        return grad_BLE
