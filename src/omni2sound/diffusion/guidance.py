"""Classifier-free guidance around a prediction function.

In:   predictions for (conditions, null or negative) stacked as one batch.
Out:  the guided prediction.

One network call per step serves both branches: conditions first, null second. A negative prompt
replaces the null branch, so that guidance leads away from it. Scale 1 is the conditional
prediction itself and needs no second branch. A separate scale for the text needs a third branch,
with the video alone.
Sources: Ho & Salimans 2022, arXiv:2207.12598; two scales: Brooks et al. 2023, arXiv:2211.09800,
section 3.2.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]
"""(x_BLC, t_B) to the network's prediction, same shape as x_BLC."""


def guide(predict_both: Predict, scale: float) -> Predict:
    """Turn a prediction over 2 B samples, [conditional, null], into a guided one over B.

    Scale 1 is no guidance; a larger one follows the conditions more closely.
    """

    def predict(x_BLC: Tensor, t_B: Tensor) -> Tensor:
        both = predict_both(torch.cat([x_BLC, x_BLC]), torch.cat([t_B, t_B]))
        conditional, null = both.chunk(2)
        return null + scale * (conditional - null)

    return predict


def guide_separately(predict_all: Predict, scale: float, text_scale: float) -> Predict:
    """Guide from null to the video by `scale`, and from there to video and text by `text_scale`.

    `predict_all` takes 3 B samples: video and text, video alone, null. Equal scales do as `guide`.
    """

    def predict(x_BLC: Tensor, t_B: Tensor) -> Tensor:
        both, video, null = predict_all(torch.cat([x_BLC] * 3), torch.cat([t_B] * 3)).chunk(3)
        return null + scale * (video - null) + text_scale * (both - video)

    return predict
