"""The diffusion transformer: one network for video, text, or both to sound.

In:   noised latents x_BLC, noise time t_B in [0, 1], `Conditions`.
Out:  the network's prediction (v, or the flow's velocity), same shape as x_BLC.

`prepare` computes once what is constant over sampling steps: keys and values of cross-attention,
the modulation of the sync features, rotary tables. Training calls `forward`, which is
``denoise(prepare(...))``.

Each block: per-frame modulated self-attention (when), cross-attention (what), per-frame
modulated feed-forward. Gates are ``sigmoid(1 - g)``, so that g = 0 leaves a branch mostly
open. Source: Omni2Sound, arXiv:2601.02731; block details follow the stable-audio family
and the sibling release's per-frame AdaLN (unverified for Omni2Sound itself). The same
network, with the options of `RELEASED`, is the released full-size one (`released`).

Shape suffixes: B batch, L latent frames, C latent channels, D width, T context tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from omni2sound.config import added
from omni2sound.errors import ConfigError, ShapeError
from omni2sound.models.conditioning import Conditioner, ConditionerConfig, Conditions
from omni2sound.models.layers import (
    CrossAttention,
    GatedFeedForward,
    ScalarEmbedding,
    SelfAttention,
    init_linear,
    rope_table,
)
from omni2sound.models.released import (
    FourierTime,
    ReleasedConditioner,
    ReleasedConditionerConfig,
)

_MOST = {
    "latent_dim": 8192,
    "width": 65_536,
    "depth": 1024,
    "num_heads": 1024,
    "feed_forward_expansion": 64,
}
"""Largest sizes, far above any model: a slip of a digit must not fill the memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiTConfig:
    """Shape of the transformer. Nothing here depends on a dataset or a machine."""

    latent_dim: int = 64
    """Channels of a latent frame; a training run replaces it by the autoencoder's."""
    width: int = 256
    """Model dimension D."""
    depth: int = 8
    """Number of blocks."""
    num_heads: int = 4
    """Attention heads; width / num_heads must be a multiple of 4 (half of it is rotary)."""
    feed_forward_expansion: int = 4
    """Inner width of the gated feed-forward, in widths."""
    time_in_modulation: bool = True
    """Also add the noise time to the per-frame modulation. The released full-size model has
    it in the prepended token only; small models learn faster with both (chosen)."""
    conditioner: ConditionerConfig | ReleasedConditionerConfig = field(
        default_factory=ConditionerConfig
    )
    """Sizes and layout of the conditions."""
    head_norm: bool = added(True)
    """Whether queries and keys are normalised."""
    scaled_norms: bool = added(False)
    """Whether norms before modulation have a learned scale (no norm has a bias then)."""
    feed_forward_bias: bool = added(False)
    """Whether the two layers of the feed-forward have biases."""
    norm_out: bool = added(True)
    """Whether the last block's output is normalised before the output projection."""
    fourier_time: bool = added(False)
    """Whether the noise time is embedded at learned frequencies instead of fixed ones."""

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"expected 1 to {most}, got {getattr(self, name)}", field=name)
        if self.width % (4 * self.num_heads):
            raise ConfigError(
                f"width must be a multiple of 4 * num_heads, got width={self.width}, "
                f"num_heads={self.num_heads}"
            )

    @property
    def modulated(self) -> bool:
        """Whether blocks are modulated, by sync features or the noise time."""
        return self.conditioner.sync_dim > 0 or self.time_in_modulation


RELEASED = DiTConfig(
    latent_dim=64,
    width=1536,
    depth=24,
    num_heads=24,
    time_in_modulation=False,
    conditioner=ReleasedConditionerConfig(),
    head_norm=False,
    scaled_norms=True,
    feed_forward_bias=True,
    norm_out=False,
    fourier_time=True,
)
"""The full-size transformer: 1.17 G parameters. Sizes follow the sibling release (unverified);
the options are those of stable-audio-tools' DiffusionTransformer."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedConditions:
    """Tensors that are constant over sampling steps; built by `DiT.prepare`."""

    keys_values: tuple[tuple[Tensor, Tensor], ...]
    context_mask_B11T: Tensor | None
    sync_modulation_BLM: Tensor | None
    null_modulation_M: Tensor | None
    duration_BD: Tensor
    rope: tuple[Tensor, Tensor]

    def null(self) -> PreparedConditions:
        """Conditions of the null branch of guidance: no context, no sync, equal durations."""
        return replace(
            self,
            keys_values=tuple(
                (torch.zeros_like(k), torch.zeros_like(v)) for k, v in self.keys_values
            ),
            sync_modulation_BLM=(
                None
                if self.sync_modulation_BLM is None
                else _null_like(self.sync_modulation_BLM, self.null_modulation_M)
            ),
        )

    def stack(self, other: PreparedConditions) -> PreparedConditions:
        """Concatenate two batches, padding contexts to the longer one.

        Raises:
            ShapeError: If the two have no common number of latent frames.
        """
        if self.rope[0].shape != other.rope[0].shape:
            raise ShapeError("prepared conditions must cover the same latent frames to be stacked")
        num_tokens = max(self.keys_values[0][0].shape[2], other.keys_values[0][0].shape[2])
        pairs = zip(self.keys_values, other.keys_values, strict=True)
        return PreparedConditions(
            keys_values=tuple(
                (
                    torch.cat([_pad_tokens(ka, num_tokens), _pad_tokens(kb, num_tokens)]),
                    torch.cat([_pad_tokens(va, num_tokens), _pad_tokens(vb, num_tokens)]),
                )
                for (ka, va), (kb, vb) in pairs
            ),
            context_mask_B11T=self._stacked_mask(other, num_tokens),
            sync_modulation_BLM=_stack_modulation(self, other),
            null_modulation_M=self.null_modulation_M,
            duration_BD=torch.cat([self.duration_BD, other.duration_BD]),
            rope=self.rope,
        )

    def _stacked_mask(self, other: PreparedConditions, num_tokens: int) -> Tensor | None:
        unmasked = self.context_mask_B11T is None and other.context_mask_B11T is None
        if unmasked and all(p.keys_values[0][0].shape[2] == num_tokens for p in (self, other)):
            return None
        return torch.cat([self._mask(num_tokens), other._mask(num_tokens)])

    def _mask(self, num_tokens: int) -> Tensor:
        keys_BNTH = self.keys_values[0][0]
        batch, present = keys_BNTH.shape[0], keys_BNTH.shape[2]
        mask = torch.zeros(batch, 1, 1, num_tokens, dtype=torch.bool, device=keys_BNTH.device)
        mask[..., :present] = True if self.context_mask_B11T is None else self.context_mask_B11T
        return mask


def _pad_tokens(x_BNTH: Tensor, num_tokens: int) -> Tensor:
    return nn.functional.pad(x_BNTH, (0, 0, 0, num_tokens - x_BNTH.shape[2]))


def _stack_modulation(a: PreparedConditions, b: PreparedConditions) -> Tensor | None:
    given = a.sync_modulation_BLM if a.sync_modulation_BLM is not None else b.sync_modulation_BLM
    if given is None:
        return None

    def full(p: PreparedConditions) -> Tensor:
        if p.sync_modulation_BLM is not None:
            return p.sync_modulation_BLM
        empty = given.new_empty(p.duration_BD.shape[0], *given.shape[1:])
        return _null_like(empty, p.null_modulation_M)

    return torch.cat([full(a), full(b)])


def _null_like(modulation_BLM: Tensor, null_M: Tensor | None) -> Tensor:
    if null_M is None:
        return torch.zeros_like(modulation_BLM)
    return null_M.expand_as(modulation_BLM)


class DiTBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward; the first and last modulated per frame."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, heads, scaled = config.width, config.num_heads, config.scaled_norms
        self.norm_self = nn.LayerNorm(width, elementwise_affine=scaled, bias=False)
        self.self_attention = SelfAttention(width, heads, head_norm=config.head_norm)
        self.norm_cross = nn.LayerNorm(width, bias=not scaled)
        self.cross_attention = CrossAttention(width, heads, head_norm=config.head_norm)
        self.norm_ff = nn.LayerNorm(width, elementwise_affine=scaled, bias=False)
        self.feed_forward = GatedFeedForward(
            width, config.feed_forward_expansion, bias=config.feed_forward_bias
        )
        self.modulation = nn.Parameter(torch.zeros(6 * width)) if config.modulated else None

    def forward(
        self,
        x_BLD: Tensor,
        modulation_BLM: Tensor | None,
        keys_values: tuple[Tensor, Tensor],
        context_mask_B11T: Tensor | None,
        frame_mask_B11L: Tensor | None,
        rope: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Apply self-attention, cross-attention and feed-forward to (B, L, D)."""
        if modulation_BLM is None or self.modulation is None:
            h_BLD = self.norm_self(x_BLD)
            x_BLD = x_BLD + self.self_attention(h_BLD, rope, frame_mask_B11L)
            h_BLD = self.norm_cross(x_BLD)
            x_BLD = x_BLD + self.cross_attention(h_BLD, keys_values, context_mask_B11T)
            return x_BLD + self.feed_forward(self.norm_ff(x_BLD))  # type: ignore[no-any-return]
        scale1, shift1, gate1, scale2, shift2, gate2 = (
            modulation_BLM + self.modulation.to(modulation_BLM.dtype)
        ).chunk(6, dim=-1)
        h_BLD = torch.addcmul(shift1, self.norm_self(x_BLD), 1 + scale1)
        h_BLD = self.self_attention(h_BLD, rope, frame_mask_B11L)
        x_BLD = torch.addcmul(x_BLD, h_BLD, torch.sigmoid(1 - gate1))
        x_BLD = x_BLD + self.cross_attention(self.norm_cross(x_BLD), keys_values, context_mask_B11T)
        h_BLD = torch.addcmul(shift2, self.norm_ff(x_BLD), 1 + scale2)
        return torch.addcmul(x_BLD, self.feed_forward(h_BLD), torch.sigmoid(1 - gate2))


class DiT(nn.Module):
    """Diffusion transformer for video, text, or both to sound."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conditioner: Conditioner | ReleasedConditioner
        if isinstance(config.conditioner, ReleasedConditionerConfig):
            self.conditioner = ReleasedConditioner(config.conditioner, width)
        else:
            self.conditioner = Conditioner(config.conditioner, width)
        self.time = (
            FourierTime(width) if config.fourier_time else ScalarEmbedding(width, scale=1000.0)
        )
        self.time_modulation = nn.Linear(width, 6 * width) if config.time_in_modulation else None
        # 1x1 convolutions around the stack, as residuals, written as linear layers.
        self.pre = nn.Linear(config.latent_dim, config.latent_dim, bias=False)
        self.proj_in = nn.Linear(config.latent_dim, width, bias=False)
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(width) if config.norm_out else nn.Identity()
        self.proj_out = nn.Linear(width, config.latent_dim, bias=False)
        self.post = nn.Linear(config.latent_dim, config.latent_dim, bias=False)
        self._init_weights()

    def _init_weights(self) -> None:
        """Draw scaled normals; outputs of all branches and of the network start at zero."""
        for name, module in self.named_modules():
            if not name.startswith("conditioner.sync"):  # has its own small start
                init_linear(module)
        for layer in (self.pre, self.proj_out, self.post):
            nn.init.zeros_(layer.weight)
        if self.time_modulation is not None:
            nn.init.zeros_(self.time_modulation.weight)

    def prepare(
        self, conditions: Conditions, num_frames: int, *, drop_B: Tensor | None = None
    ) -> PreparedConditions:
        """Compute all that does not depend on the noised latents or the noise time.

        Args:
            conditions: Encoded conditions of the batch.
            num_frames: Latent frames L to be generated.
            drop_B: True where a sample takes the null branch (training only).

        Raises:
            ShapeError: If sync features are not one per latent frame.
        """
        context_BTD, mask_BT = self.conditioner.context(conditions, drop_B)
        blocks = [b for b in self.blocks if isinstance(b, DiTBlock)]
        rotary_dim = self.config.width // self.config.num_heads // 2
        return PreparedConditions(
            keys_values=tuple(b.cross_attention.keys_values(context_BTD) for b in blocks),
            context_mask_B11T=None if mask_BT is None else mask_BT[:, None, None],
            sync_modulation_BLM=self.conditioner.modulation(conditions, num_frames, drop_B),
            null_modulation_M=self.conditioner.null_modulation(),
            duration_BD=self.conditioner.prepended(conditions),
            rope=rope_table(num_frames + 1, rotary_dim, device=context_BTD.device),
        )

    def denoise(
        self,
        x_BLC: Tensor,
        t_B: Tensor,
        prepared: PreparedConditions,
        *,
        frame_mask_BL: Tensor | None = None,
    ) -> Tensor:
        """Predict (B, L, C) at noise time `t_B`; comments on the right give shapes.

        Args:
            x_BLC: Noised latents.
            t_B: Noise time in [0, 1], 1 is pure noise.
            prepared: Result of `prepare` for the same batch and number of frames.
            frame_mask_BL: True at real frames, where clips of a batch differ in length.
        """
        time_BD = self.time(t_B)
        token_BD = time_BD + prepared.duration_BD
        x_BLC = x_BLC + self.pre(x_BLC)  # B L C
        h_BLD = self.proj_in(x_BLC)  # B L D
        h_BLD = torch.cat([token_BD[:, None], h_BLD], dim=1)  # B 1+L D
        modulation_BLM = self._modulation(time_BD, prepared, h_BLD)  # B 1+L 6D
        mask_B11L = None
        if frame_mask_BL is not None:
            mask_B11L = nn.functional.pad(frame_mask_BL, (1, 0), value=True)[:, None, None]
        for block, keys_values in zip(self.blocks, prepared.keys_values, strict=True):
            h_BLD = block(
                h_BLD,
                modulation_BLM,
                keys_values,
                prepared.context_mask_B11T,
                mask_B11L,
                prepared.rope,
            )
        y_BLC = self.proj_out(self.norm_out(h_BLD[:, 1:]))  # B L C
        return y_BLC + self.post(y_BLC)  # type: ignore[no-any-return]

    def forward(
        self,
        x_BLC: Tensor,
        t_B: Tensor,
        conditions: Conditions,
        *,
        drop_B: Tensor | None = None,
        frame_mask_BL: Tensor | None = None,
    ) -> Tensor:
        """Prepare and denoise in one call, for training; arguments as in the two methods."""
        prepared = self.prepare(conditions, x_BLC.shape[1], drop_B=drop_B)
        return self.denoise(x_BLC, t_B, prepared, frame_mask_BL=frame_mask_BL)

    def _modulation(
        self, time_BD: Tensor, prepared: PreparedConditions, h_BLD: Tensor
    ) -> Tensor | None:
        if not self.config.modulated:
            return None
        sync_BLM = prepared.sync_modulation_BLM
        if sync_BLM is None:
            modulation = h_BLD.new_zeros(1, 1, 6 * self.config.width)
        else:  # the prepended token has no sync features
            token_B1M = _null_like(sync_BLM[:, :1], prepared.null_modulation_M)
            modulation = torch.cat([token_B1M, sync_BLM], dim=1)
        if self.time_modulation is not None:
            modulation = modulation + self.time_modulation(nn.functional.silu(time_BD))[:, None]
        return modulation
