"""Transfer of a transformer to the latents of another embedded autoencoder.

In:   weights of a transformer, the autoencoder that it was trained with, another one.
Out:  initial weights for training on the latents of the other one.

Latents of `MelPcaAutoencoder` are linear in blocks of log-mel bands, so the latents of one fit
are nearly linear in those of another: ``z_old = M z_new + b``. The input layer is multiplied by
M and the output layer by its pseudo-inverse. What not to get wrong: the result is only a start.
b is left out (it would depend on the noise level), noise is white in only one of the spaces, and
components that the old fit lacks start at zero.

Shape suffixes: C latent channels (O old, N new), K values of a block, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import MelPcaAutoencoder


def transfer_weights(
    weights: Mapping[str, Tensor], old: MelPcaAutoencoder, new: MelPcaAutoencoder
) -> dict[str, Tensor]:
    """Map the state of a `DiT` that was trained with `old` to the latents of `new`.

    Raises:
        ConfigError: If the block sizes differ.
    """
    if old.basis_CK.shape[1] != new.basis_CK.shape[1]:
        raise ConfigError(
            f"the model's autoencoder has blocks of {old.basis_CK.shape[1]} values, the other one "
            f"of {new.basis_CK.shape[1]}; only fits of the same log-mel blocks can be mapped"
        )
    map_ON = (old.basis_CK @ new.basis_CK.T) * new.scale_C / old.scale_C[:, None]
    back_NO = torch.linalg.pinv(map_ON)
    eye_OO = torch.eye(len(map_ON))
    into_DO = weights["proj_in.weight"] @ (eye_OO + weights["pre.weight"])
    out_OD = (eye_OO + weights["post.weight"]) @ weights["proj_out.weight"]
    nothing_NN = torch.zeros(len(back_NO), len(back_NO))
    return {
        **weights,
        "pre.weight": nothing_NN,
        "proj_in.weight": into_DO @ map_ON,
        "proj_out.weight": back_NO @ out_OD,
        "post.weight": nothing_NN.clone(),
    }
