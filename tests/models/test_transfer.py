"""Laws of a transformer that moves from one autoencoder's latents to another's."""

from __future__ import annotations

import pytest
import torch

from omni2sound.errors import ConfigError
from omni2sound.models.autoencoder import MelPcaAutoencoder, MelPcaConfig
from omni2sound.models.conditioning import ConditionerConfig, Conditions
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.models.transfer import transfer_weights

SMALL = DiTConfig(
    latent_dim=8,
    width=16,
    depth=1,
    num_heads=2,
    conditioner=ConditionerConfig(text_dim=5, vision_dim=7, sync_dim=4),
)


def fitted(latent_dim: int, seed: int = 0) -> MelPcaAutoencoder:
    generator = torch.Generator().manual_seed(seed)
    model = MelPcaAutoencoder(MelPcaConfig(latent_dim=latent_dim))
    model.fit_pca(
        torch.randn(16_000, generator=generator) * torch.rand(1, generator=generator)
        for _ in range(12)
    )
    return model


def random_dit(latent_dim: int) -> DiT:
    torch.manual_seed(1)
    dit = DiT(DiTConfig(**{**_fields(SMALL), "latent_dim": latent_dim})).eval()
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return dit


def _fields(config: DiTConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in DiTConfig.__dataclass_fields__}


def conditions() -> Conditions:
    return Conditions(seconds_start_B=torch.zeros(2), seconds_total_B=torch.full((2,), 0.4))


@torch.no_grad()
def test_the_same_latents_leave_the_transformer_as_it_was() -> None:
    vae, dit = fitted(8), random_dit(8)
    x, t = torch.randn(2, 10, 8), torch.rand(2)
    before = dit(x, t, conditions())
    dit.load_state_dict(transfer_weights(dit.state_dict(), vae, vae))
    torch.testing.assert_close(dit(x, t, conditions()), before, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_more_components_of_the_same_fit_are_added_as_zeros() -> None:
    few, many, dit = fitted(8), fitted(12), random_dit(8)
    wider = random_dit(12)
    wider.load_state_dict(transfer_weights(dit.state_dict(), few, many))
    x, t = torch.randn(2, 10, 12), torch.rand(2)
    made = wider(x, t, conditions())
    torch.testing.assert_close(
        made[..., :8], dit(x[..., :8], t, conditions()), atol=2e-3, rtol=2e-3
    )
    assert float(made[..., 8:].abs().max()) < 2e-3


@torch.no_grad()
def test_latents_of_another_fit_are_read_as_the_old_ones() -> None:
    """What the way in makes of new latents is what it made of the old ones of the same sound."""
    old, new, dit = fitted(8), fitted(60, seed=5), random_dit(8)
    weights = transfer_weights(dit.state_dict(), old, new)
    sound = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(9)) * 0.3
    z_old, z_new = old.encode(sound), new.encode(sound)
    read_old = (z_old + z_old @ dit.pre.weight.T) @ dit.proj_in.weight.T
    read_new = z_new @ weights["proj_in.weight"].T
    # Up to a constant (the difference of the means) and what few components lose.
    read_old, read_new = (r - r.mean(dim=1, keepdim=True) for r in (read_old, read_new))
    assert float((read_old - read_new).norm() / read_old.norm()) < 0.35


def test_other_blocks_are_refused() -> None:
    other = MelPcaAutoencoder(MelPcaConfig(latent_dim=8, num_bands=40))
    with pytest.raises(ConfigError, match="blocks of 320 values, the other one of 160"):
        transfer_weights(random_dit(8).state_dict(), fitted(8), other)
