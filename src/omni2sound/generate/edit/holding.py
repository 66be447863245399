"""Holding latents: what is kept of a sound is held at each noise level while the rest is made.

In:   a network's prediction, clean latents, which frames are new, the noise of the seed.
Out:  a prediction that leads the kept frames back to their latents, whatever the solver.

What not to get wrong: the network has to see the kept frames with the noise of the level at which
it is asked, or it takes clean context for an answer. Noise and clean latents of the kept frames
are known, so both their noised values and the exact prediction for them are, too.

Shape suffixes: B batch, L latent frames, C latent channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from omni2sound.diffusion.guidance import Predict
from omni2sound.diffusion.objective import Objective


def held(
    predict: Predict,
    objective: Objective,
    given_BLC: Tensor,
    noise_BLC: Tensor,
    is_new_L: Tensor,
) -> Predict:
    """Wrap a prediction function so that frames are kept.

    Args:
        predict: (Guided) prediction of the network.
        objective: Its path and target.
        given_BLC: Clean latents of all frames.
        noise_BLC: Standard normal noise from which sampling starts.
        is_new_L: Whether each frame is made anew.
    """
    is_new_1L1 = is_new_L[None, :, None]

    def predict_held(x_BLC: Tensor, t_B: Tensor) -> Tensor:
        kept_BLC = objective.add_noise(given_BLC, noise_BLC, t_B).to(x_BLC.dtype)
        seen_BLC = torch.where(is_new_1L1, x_BLC, kept_BLC)
        made_BLC = predict(seen_BLC, t_B)
        # At the solver's own point, which rounding and its first step may have moved.
        known_BLC = objective.prediction_of(x_BLC, given_BLC, t_B).to(made_BLC.dtype)
        return torch.where(is_new_1L1, made_BLC, known_BLC)

    return predict_held
