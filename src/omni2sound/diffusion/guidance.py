"""Classifier-free guidance around a prediction function.

In:   predictions for (conditions, null or negative) stacked as one batch.
Out:  the guided prediction.

One network call per step serves both branches: conditions first, null second. A negative
prompt takes the null branch's place, so that guidance leads away from it. Scale 1 is the
conditional prediction itself and needs no second branch.
Source: Ho & Salimans 2022, arXiv:2207.12598.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Predict", "guided"]

Predict = Callable[[Tensor, Tensor], Tensor]
"""(x_BLC, t_B) to the network's prediction, same shape as x_BLC."""


def guided(predict_both: Predict, scale: float) -> Predict:
    """Wrap a prediction over [conditional, null] halves into a guided one.

    Args:
        predict_both: Takes 2 B samples, first half conditional, second half null.
        scale: 1 is no guidance; larger follows the conditions more closely.

    Returns:
        A function of B samples.
    """

    def predict(x_BLC: Tensor, t_B: Tensor) -> Tensor:
        both = predict_both(torch.cat([x_BLC, x_BLC]), torch.cat([t_B, t_B]))
        conditional, null = both.chunk(2)
        return null + scale * (conditional - null)

    return predict
