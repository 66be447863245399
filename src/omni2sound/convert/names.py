"""Names of tensors in released checkpoints and here: one table for both directions.

In:   sizes of our components.
Out:  links: a released name, our name, and the change of shape.

Tensors without a counterpart here are links without a target: norms' `beta` (zeros) and rotary
frequencies (a closed form). They are verified when reading and restored when writing.

What not to get wrong: the only reshaping is an axis of length 1, at the place that the link
names. A tensor of any other shape is refused.

Layout: stable-audio-tools 0.0.19 (MIT) and diffusers. UNVERIFIED: names of the sync path, of
picture positions and of learned absence follow the sibling release CineDub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from omni2sound.errors import ConfigError
from omni2sound.models.dit import DiTConfig
from omni2sound.models.oobleck import OobleckConfig
from omni2sound.models.released import ReleasedConditionerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One tensor of the released layout, and its counterpart here.

    Attributes:
        source: Name in the released layout.
        target: Our name; empty if there is no counterpart.
        extra_axis: "end": the source is (..., 1). "ends": a vector is (1, K, 1) there.
        constant: Value of a tensor without a target.
    """

    source: str
    target: str = ""
    extra_axis: Literal["", "end", "ends"] = ""
    constant: Tensor | None = None

    def shape_there(self, shape: torch.Size) -> torch.Size:
        """Shape of the source for a shape of the target."""
        if self.extra_axis == "end":
            return torch.Size([*shape, 1])
        if self.extra_axis == "ends":
            return torch.Size([1, *shape, 1])
        return shape


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionNames:
    """Names of the conditions, which are free in that family."""

    text: str = "text_prompt"
    vision: str = "clip_feature"
    sync: str = "sync_feature"
    seconds_start: str = "seconds_start"
    seconds_total: str = "seconds_total"


def dit_links(config: DiTConfig, names: ConditionNames) -> list[Link]:
    """Links of the transformer and its conditioner.

    Raises:
        ConfigError: If this transformer is not of the released layout.
    """
    conditioner = config.conditioner
    if not isinstance(conditioner, ReleasedConditionerConfig):
        raise ConfigError(
            "only a transformer of the released layout can be written in it; "
            "this one has another conditioner"
        )
    return [
        *_conditioner_links(conditioner, names),
        *_transformer_links(config, conditioner),
        *(link for i in range(config.depth) for link in _block_links(config, i)),
    ]


def _conditioner_links(config: ReleasedConditionerConfig, names: ConditionNames) -> Iterator[Link]:
    at, ours = "conditioner.conditioners.", "conditioner."
    projected = [("text", names.text, config.text_dim)]
    if config.vision_dim:
        projected.append(("vision", names.vision, config.vision_dim))
        yield Link(
            source=f"{at}{names.vision}.abs_pos_emb.emb.weight", target=f"{ours}vision_position"
        )
    if config.sync_dim:
        projected.append(("sync", names.sync, config.sync_dim))
    for part, name, dim in projected:
        if dim != config.token_dim:
            yield from _linear(f"{at}{name}.proj_out", f"{ours}{part}")
        if part != "text" and config.learned_absence:
            yield Link(source=f"{at}{name}.mask_token", target=f"{ours}{part}_absent")
    for part in ("seconds_start", "seconds_total"):
        embedding = f"{at}{getattr(names, part)}.embedder.embedding"
        yield Link(source=f"{embedding}.0.weights", target=f"{ours}{part}.frequency")
        yield from _linear(f"{embedding}.1", f"{ours}{part}.out")


def _transformer_links(config: DiTConfig, conditioner: ReleasedConditionerConfig) -> Iterator[Link]:
    at, ours = "model.model.", "conditioner."
    for there, here in (("to_cond_embed", "tokens"), ("to_global_embed", "duration")):
        yield from _pair(f"{at}{there}", f"{ours}{here}")
    if conditioner.sync_dim:
        yield from _pair(f"{at}to_additional_embed", f"{ours}frames")
        for i in (0, 2):
            yield from _linear(f"{at}transformer.global_cond_embedder.{i}", f"{ours}modulate.{i}")
    yield Link(source=f"{at}timestep_features.weight", target="time.frequency")
    for i in (0, 2):
        yield from _linear(f"{at}to_timestep_embed.{i}", f"time.mlp.{i}")
    yield Link(source=f"{at}preprocess_conv.weight", target="pre.weight", extra_axis="end")
    yield Link(source=f"{at}postprocess_conv.weight", target="post.weight", extra_axis="end")
    yield Link(source=f"{at}transformer.project_in.weight", target="proj_in.weight")
    yield Link(source=f"{at}transformer.project_out.weight", target="proj_out.weight")
    rotary = config.width // config.num_heads // 2
    frequency = 1.0 / (10_000 ** (torch.arange(0, rotary, 2).float() / rotary))
    yield Link(source=f"{at}transformer.rotary_pos_emb.inv_freq", constant=frequency)


def _block_links(config: DiTConfig, index: int) -> Iterator[Link]:
    at, ours = f"model.model.transformer.layers.{index}.", f"blocks.{index}."
    zeros = torch.zeros(config.width)
    for there, here in (
        ("pre_norm", "norm_self"),
        ("cross_attend_norm", "norm_cross"),
        ("ff_norm", "norm_ff"),
    ):
        yield Link(source=f"{at}{there}.gamma", target=f"{ours}{here}.weight")
        yield Link(source=f"{at}{there}.beta", constant=zeros)
    for there, here in (
        ("self_attn.to_qkv", "self_attention.qkv"),
        ("self_attn.to_out", "self_attention.out"),
        ("cross_attn.to_q", "cross_attention.q"),
        ("cross_attn.to_kv", "cross_attention.kv"),
        ("cross_attn.to_out", "cross_attention.out"),
    ):
        yield Link(source=f"{at}{there}.weight", target=f"{ours}{here}.weight")
    yield from _linear(f"{at}ff.ff.0.proj", f"{ours}feed_forward.up")
    yield from _linear(f"{at}ff.ff.2", f"{ours}feed_forward.down")
    if config.modulated:
        yield Link(source=f"{at}to_scale_shift_gate", target=f"{ours}modulation")


def _linear(there: str, here: str) -> Iterator[Link]:
    for name in ("weight", "bias"):
        yield Link(source=f"{there}.{name}", target=f"{here}.{name}")


def _pair(there: str, here: str) -> Iterator[Link]:
    for i in (0, 2):
        yield Link(source=f"{there}.{i}.weight", target=f"{here}.{i}.weight")


def oobleck_links(
    config: OobleckConfig, *, naming: Literal["stable-audio-tools", "diffusers"], prefix: str = ""
) -> list[Link]:
    """Links of the autoencoder in a library's names, all after `prefix` (with its dot)."""
    return list(_oobleck_links(config, sat=naming == "stable-audio-tools", prefix=prefix))


def _oobleck_links(config: OobleckConfig, *, sat: bool, prefix: str) -> Iterator[Link]:
    last = len(config.strides) + 1
    for side in ("encoder", "decoder"):
        encoding = side == "encoder"
        at, ours = f"{prefix}{side}.", f"{side}."
        yield from _conv(f"{at}layers.0" if sat else f"{at}conv1", f"{ours}first")
        for i in range(len(config.strides)):
            block = f"{at}layers.{i + 1}.layers." if sat else f"{at}block.{i}."
            here = f"{ours}blocks.{i}."
            # Encoder: units, activation, convolution; decoder: the other way round.
            first_unit, snake, conv = (0, 3, 4) if encoding else (2, 0, 1)
            yield from _snake(f"{block}{snake}" if sat else f"{block}snake1", f"{here}snake", sat)
            name = "conv1" if encoding else "conv_t1"
            yield from _conv(f"{block}{conv}" if sat else f"{block}{name}", f"{here}conv")
            for unit in range(3):
                there = f"{block}{first_unit + unit}" if sat else f"{block}res_unit{unit + 1}"
                yield from _unit_links(there, f"{here}units.{unit}", sat)
        yield from _snake(f"{at}layers.{last}" if sat else f"{at}snake1", f"{ours}snake", sat)
        there = f"{at}layers.{last + 1}" if sat else f"{at}conv2"
        yield from _conv(there, f"{ours}last", bias=encoding)


def _unit_links(there: str, here: str, sat: bool) -> Iterator[Link]:
    for i, name in enumerate(("snake1", "conv1", "snake2", "conv2")):
        source = f"{there}.layers.{i}" if sat else f"{there}.{name}"
        if name.startswith("snake"):
            yield from _snake(source, f"{here}.{name}", sat)
        else:
            yield from _conv(source, f"{here}.{name}")


def _snake(there: str, here: str, sat: bool) -> Iterator[Link]:
    for name, ours in (("alpha", "log_a"), ("beta", "log_b")):
        yield Link(
            source=f"{there}.{name}", target=f"{here}.{ours}", extra_axis="" if sat else "ends"
        )


def _conv(there: str, here: str, *, bias: bool = True) -> Iterator[Link]:
    for name, ours in (("weight_g", "original0"), ("weight_v", "original1")):
        yield Link(source=f"{there}.{name}", target=f"{here}.parametrizations.weight.{ours}")
    if bias:
        yield Link(source=f"{there}.bias", target=f"{here}.bias")


def from_released(
    tensors: Mapping[str, Tensor], links: list[Link], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Convert the tensors of one component; other tensors are ignored.

    Args:
        tensors: All tensors of the source.
        links: Links of the component.
        wanted: State of the component, for its shapes (may be on the meta device).

    Returns:
        Tensors by our names, as views of the source's; problems, one line each.
    """
    found, problems = {}, []
    for link in links:
        tensor = tensors.get(link.source)
        if tensor is None:
            problems.append(f"missing {link.source}")
            continue
        if link.constant is not None:
            expected = link.constant.to(tensor.dtype)
            if tensor.shape != expected.shape or not torch.equal(tensor, expected):
                problems.append(
                    f"{link.source} does not hold the expected values: {_describe(expected)}"
                )
            continue
        shape = link.shape_there(wanted[link.target].shape)
        if tensor.shape != shape:
            problems.append(f"{link.source} is {tuple(tensor.shape)}, expected {tuple(shape)}")
            continue
        found[link.target] = tensor.reshape(wanted[link.target].shape)
    unreached = sorted(set(wanted) - {link.target for link in links})
    assert not unreached, unreached  # the table is complete, whatever the source holds
    return found, problems


def _describe(expected: Tensor) -> str:
    return "zeros" if not expected.any() else "the frequencies of rotary positions"


def to_released(
    tensors: Mapping[str, Tensor],
    links: list[Link],
    *,
    constant_types: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Convert our tensors back to the source's, bit for bit, and restore constants.

    Args:
        tensors: Tensors of a component, by our names.
        links: Links of the component.
        constant_types: Types of constants by name, such as "float32"; others have the type of
            the component's first tensor.

    Raises:
        ConfigError: A type is unknown.
    """
    usual = next(iter(tensors.values())).dtype
    released = {}
    for link in links:
        if link.constant is not None:
            named = (constant_types or {}).get(link.source)
            dtype = usual if named is None else getattr(torch, named, None)
            if not isinstance(dtype, torch.dtype):
                raise ConfigError(f"the card says that {link.source} is of type {named!r}")
            released[link.source] = link.constant.to(dtype, copy=True)
        else:
            tensor = tensors[link.target]
            released[link.source] = tensor.reshape(link.shape_there(tensor.shape)).contiguous()
    return released


def constant_types(tensors: Mapping[str, Tensor], links: list[Link]) -> dict[str, str]:
    """Types of constants that differ from the component's, for `to_released`."""
    usual = {tensors[link.source].dtype for link in links if link.constant is None}
    return {
        link.source: str(tensors[link.source].dtype).removeprefix("torch.")
        for link in links
        if link.constant is not None and usual != {tensors[link.source].dtype}
    }
