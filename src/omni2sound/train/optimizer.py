"""The transformer's optimizer: AdamW, or Muon for the blocks' matrices and AdamW for the rest.

In:   a `DiT`, the kind of optimizer.
Out:  one `torch.optim.Optimizer` with state keyed by parameter, for either kind.

Muon steps along the nearest orthogonal matrix to the momentum, scaled to AdamW's step size, so
that both share one learning rate. Sources: Jordan et al. 2024, kellerjordan.github.io/posts/muon;
the scale: Liu et al. 2025, arXiv:2502.16982, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from omni2sound.models.dit import DiT

OptimizerKind = Literal["adamw", "muon"]

Betas = tuple[float, float]


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for `matrices`, AdamW without weight decay for `others`, as one optimizer."""

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        *,
        weight_decay: float,
        betas: Betas,
    ) -> None:
        self._inner: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                matrices, lr=0.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(
                # Apart, because matrices may be sharded.
                [{"params": [p for p in others if (p.ndim < 2) == flat]} for flat in (False, True)],
                lr=0.0,
                betas=betas,
                weight_decay=0.0,
                foreach=True,
            ),
        )
        # Groups and state are shared, not copied: a learning rate that is set here holds for the
        # inner optimizers, and no parameter belongs to both.
        super().__init__([g for optimizer in self._inner for g in optimizer.param_groups], {})
        for optimizer in self._inner:
            optimizer.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse: it would replace the shared groups; `train.state` fills `state` instead."""
        raise NotImplementedError("fill `state` parameter by parameter, as train.state does")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter once; closures are not supported."""
        if closure is not None:
            raise NotImplementedError("the training loop computes gradients once a step")
        for optimizer in self._inner:
            optimizer.step()


def make_optimizer(
    model: DiT,
    *,
    kind: OptimizerKind = "adamw",
    weight_decay: float,
    betas: Betas = (0.9, 0.99),
) -> torch.optim.Optimizer:
    """Build the optimizer of a run; only matrices have weight decay, `betas` are AdamW's."""
    if kind == "muon":
        inner = [p for block in model.blocks for p in block.parameters() if p.ndim == 2]
        taken = {id(p) for p in inner}
        others = [p for p in model.parameters() if id(p) not in taken]
        return MuonWithAdamW(inner, others, weight_decay=weight_decay, betas=betas)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, foreach=True)


def moment_names(optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, tuple[str, ...]]:
    """Names of the moments that the optimizer keeps of each parameter after a step."""
    adam, muon = ("exp_avg", "exp_avg_sq", "step"), ("momentum_buffer",)
    return {
        parameter: muon if "ns_steps" in group else adam
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
