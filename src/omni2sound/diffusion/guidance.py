"""Classifier-free guidance around a prediction function.

In:   predictions for (conditions, null or negative) stacked as one batch.
Out:  the guided prediction.

One network call per step serves both branches: conditions first, null second. A negative
prompt takes the null branch's place, so that guidance leads away from it. Scale 1 is the
conditional prediction itself and needs no second branch. With a scale of its own for the text a
third branch is asked that knows the video alone.
Sources: Ho & Salimans 2022, arXiv:2207.12598; two scales: Brooks et al. 2023, arXiv:2211.09800,
section 3.2.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Predict", "guided", "guided_apart"]

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


def guided_apart(predict_all: Predict, scale: float, text_scale: float) -> Predict:
    """Guidance towards the video, and from there towards the text, each with its own scale.

    Args:
        predict_all: Takes 3 B samples: video and text, video alone, null.
        scale: From null to the video.
        text_scale: From the video to both. Equal to `scale`, it is `guided`.

    Returns:
        A function of B samples.
    """

    def predict(x_BLC: Tensor, t_B: Tensor) -> Tensor:
        both, video, null = predict_all(torch.cat([x_BLC] * 3), torch.cat([t_B] * 3)).chunk(3)
        return null + scale * (video - null) + text_scale * (both - video)

    return predict
