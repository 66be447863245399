"""A transformer of one autoencoder's latents, made to read and write another's.

In:   the weights of a transformer, the autoencoder that it was trained with, another one.
Out:  weights of a transformer for the other one's latents, to be trained on.

Latents of `MelPcaAutoencoder` are linear in blocks of log-mel bands, so those of one fit are
nearly a linear function of those of another: ``z_old = M z_new + b``. The way in is multiplied by M
and the way out by its pseudo-inverse; all between stays. What not to get wrong: this is a start,
not an equal model. b is left out (it would have to follow the noise level), noise is white in
one of the two spaces only, and components that the old fit did not have start at zero.

Shape suffixes: C latent channels (O old, N new), K values of a block, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import MelPcaAutoencoder

__all__ = ["transferred"]


def transferred(
    weights: Mapping[str, Tensor], old: MelPcaAutoencoder, new: MelPcaAutoencoder
) -> dict[str, Tensor]:
    """Weights of the same transformer for `new`'s latents.

    Args:
        weights: State of a `DiT` that was trained with `old`.
        old: With fitted components.
        new: With fitted components of blocks of the same size.

    Raises:
        ConfigError: If the two cut sound into different blocks.
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
