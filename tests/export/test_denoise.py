"""The exported step of the transformer equals `DiT.denoise`, whatever the transformer's options."""

from __future__ import annotations

import pytest
import torch

from omni2sound.export.denoise import DenoiseGraph
from omni2sound.models.dit import DiT, DiTConfig, PreparedConditions
from omni2sound.models.layers import rope_table

_BATCH, _FRAMES, _TOKENS = 2, 11, 5


@pytest.mark.parametrize("time_in_modulation", [True, False])
@pytest.mark.parametrize("head_norm", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [0, 3, _TOKENS])
def test_a_step_equals_the_transformers(
    time_in_modulation: bool, head_norm: bool, bias: bool, tokens: int
) -> None:
    config = DiTConfig(
        latent_dim=6,
        width=32,
        depth=2,
        num_heads=4,
        time_in_modulation=time_in_modulation,
        head_norm=head_norm,
        feed_forward_bias=bias,
        norm_out=head_norm,
    )
    torch.manual_seed(0)
    dit = DiT(config).eval().requires_grad_(False)
    for parameter in dit.parameters():  # many begin as zero
        parameter.copy_(0.2 * torch.randn(parameter.shape))
    x_BLC, t_B = torch.randn(_BATCH, _FRAMES, config.latent_dim), torch.rand(_BATCH)
    context = (_BATCH, config.depth, config.num_heads, _TOKENS, config.width // config.num_heads)
    mask_B11T = (torch.arange(_TOKENS) < tokens).expand(_BATCH, 1, 1, -1)
    keys, values = torch.randn(context), torch.randn(context) * mask_B11T[..., None]
    sync_BLM = torch.randn(_BATCH, _FRAMES, 6 * config.width)
    duration_BD = torch.randn(_BATCH, config.width)
    rotary_dim = config.width // config.num_heads // 2
    prepared = PreparedConditions(
        keys_values=tuple(zip(keys.unbind(1), values.unbind(1), strict=True)),
        context_mask_B11T=mask_B11T,
        sync_modulation_BLM=sync_BLM,
        null_modulation_M=None,
        duration_BD=duration_BD,
        rope=rope_table(_FRAMES + 1, rotary_dim, device=x_BLC.device),
    )
    expected_BLC = dit.denoise(x_BLC, t_B, prepared)
    step = DenoiseGraph(dit)
    made_BLC = step(x_BLC, t_B, keys, values, mask_B11T, sync_BLM, duration_BD)
    torch.testing.assert_close(made_BLC, expected_BLC, rtol=1e-4, atol=1e-5)
