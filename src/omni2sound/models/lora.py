"""LoRA adapters: low-rank updates of the attention of a frozen transformer.

In:   a `DiT`, a rank, the names of linear layers inside its blocks.
Out:  a network in which each of those layers adds ``scale * up @ down @ x``; an adapter folder
      with these matrices alone; a network with the update merged in.

      ADAPTER/
        adapter.json           rank, scale, targets, digest of the model that it was trained on
        adapter.safetensors    blocks.0.self_attention.qkv.down, ....up, ...

What not to get wrong: floating-point addition can't be undone by subtraction, so `merge` keeps
the original weights, and `unmerge` restores them bit for bit. Frozen weights become buffers of
the same names, because an optimizer would still apply weight decay to parameters.

Source: Hu et al. 2021, arXiv:2106.09685.
Shape suffixes: O outputs, I inputs, R rank.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from omni2sound.config import from_json, to_json
from omni2sound.errors import ConfigError
from omni2sound.files import atomic_folder, save_tensors
from omni2sound.models.dit import DiT
from omni2sound.readers import read_json, read_tensors

ATTENTION = (
    "self_attention.qkv",
    "self_attention.out",
    "cross_attention.q",
    "cross_attention.kv",
    "cross_attention.out",
)
_SETTINGS, _TENSORS, _FORMAT = "adapter.json", "adapter.safetensors", 1


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """Target layers and size of an adapter."""

    rank: int = 16
    """Rank R of each update; a layer of O x I gets R (O + I) weights."""
    scale: float = 1.0
    """Factor of the update."""
    targets: tuple[str, ...] = ATTENTION
    """Names of linear layers inside a block."""

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets:
            raise ConfigError(f"LoRA needs rank >= 1 and targets, got {self.rank}, {self.targets}")


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained low-rank update, which starts at zero."""

    def __init__(self, base: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = config.scale
        down_RI = torch.randn(config.rank, base.in_features, generator=generator)
        self.down = nn.Parameter((down_RI / math.sqrt(base.in_features)).to(base.weight))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, config.rank))

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        update = nn.functional.linear(nn.functional.linear(x, self.down), self.up)
        return self.base(x) + self.scale * update  # type: ignore[no-any-return]


def add_lora(model: DiT, config: LoraConfig, *, seed: int = 0) -> None:
    """Freeze the model and add a trainable update to its target layers, in place.

    Its output does not change before training.

    Raises:
        ConfigError: A target is no linear layer of the model's blocks.
    """
    names = _target_names(model, config)
    _freeze(model)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        model.set_submodule(name, LoraLinear(layer, config, generator))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Adapter:
    """A trained adapter.

    Attributes:
        config: Target layers and rank.
        tensors: Two matrices per layer, by the layer's name.
        model_sha256: Digest of the model that it was trained on.
    """

    config: LoraConfig
    tensors: Mapping[str, Tensor]
    model_sha256: str

    @property
    def sha256(self) -> str:
        """Digest of the adapter and of its model."""
        whole = hashlib.sha256(f"{self.model_sha256} {self.config}".encode())
        for name in sorted(self.tensors):
            values = self.tensors[name].detach().cpu().float().contiguous().numpy()
            whole.update(name.encode() + values.tobytes())
        return whole.hexdigest()


def adapter_of(state: Mapping[str, Tensor], config: LoraConfig, *, model_sha256: str) -> Adapter:
    """Extract the adapter from the state of a model with `add_lora`."""
    # A feed-forward's own layer is called down too; only a wrapped layer has a base.
    names = [k.removesuffix(".base.weight") for k in state if k.endswith(".base.weight")]
    tensors = {f"{k}.{part}": state[f"{k}.{part}"] for k in names for part in ("down", "up")}
    return Adapter(
        config=config,
        tensors={k: v.detach().cpu().clone() for k, v in tensors.items()},
        model_sha256=model_sha256,
    )


def save_adapter(folder: Path, adapter: Adapter) -> None:
    """Write an adapter folder atomically, replacing another adapter there.

    Raises:
        UserError: The folder exists and is no adapter folder.
    """
    settings = {
        "format": _FORMAT,
        "lora": to_json(adapter.config),
        "model_sha256": adapter.model_sha256,
    }
    with atomic_folder(folder, marker=_SETTINGS, kind="adapter folder") as staging:
        save_tensors(staging / _TENSORS, adapter.tensors)
        (staging / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter folder.

    Raises:
        ConfigError: It is not an adapter folder, or is inconsistent.
    """
    try:
        data = read_json(folder / _SETTINGS)
        tensors = read_tensors(folder / _TENSORS)
    except (OSError, ConfigError) as error:
        missing = [n for n in (_SETTINGS, _TENSORS) if not (folder / n).is_file()]
        reason = f"it has no {', '.join(missing)}" if missing else f"{error}"
        reason = f"is no adapter folder: {reason}" if folder.exists() else "does not exist"
        raise ConfigError(f"{folder} {reason}; give an adapter that `train` wrote") from None
    if not isinstance(data, Mapping) or set(data) != {"format", "lora", "model_sha256"}:
        raise ConfigError(f"{folder / _SETTINGS} must have format, lora and model_sha256")
    if data["format"] != _FORMAT:
        raise ConfigError(f"{folder} has format {data['format']}, this release reads {_FORMAT}")
    config = from_json(LoraConfig, data["lora"], where="adapter.lora")
    return Adapter(config=config, tensors=tensors, model_sha256=str(data["model_sha256"]))


@torch.no_grad()
def merge(model: DiT, adapter: Adapter, *, model_sha256: str) -> Callable[[], None]:
    """Add an adapter to the weights of a plain model.

    Args:
        model: Changed in place; as fast as without an adapter.
        adapter: Adapter that was trained on this model.
        model_sha256: Digest of the model's folder.

    Returns:
        `unmerge`, which restores the original weights, bit for bit.

    Raises:
        ConfigError: The adapter belongs to another model, or its tensors do not fit.
    """
    if adapter.model_sha256 != model_sha256:
        raise ConfigError(
            f"this adapter was trained on model {adapter.model_sha256[:12]}..., "
            f"the model is {model_sha256[:12]}...; give the one that it belongs to"
        )
    rank, names = adapter.config.rank, _target_names(model, adapter.config)
    wanted = {}
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        wanted[f"{name}.down"] = (rank, layer.in_features)
        wanted[f"{name}.up"] = (layer.out_features, rank)
    found = {k: tuple(v.shape) for k, v in adapter.tensors.items()}
    if found != wanted:
        wrong = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        raise ConfigError(f"the adapter does not fit the model: {', '.join(wrong)}")
    originals = {}
    for name in names:
        weight_OI = model.get_parameter(f"{name}.weight")
        originals[name] = weight_OI.detach().clone()
        up_OR, down_RI = (adapter.tensors[f"{name}.{part}"] for part in ("up", "down"))
        change_OI = adapter.config.scale * (up_OR.float() @ down_RI.float())
        weight_OI.copy_(weight_OI.float() + change_OI.to(weight_OI.device))

    @torch.no_grad()
    def unmerge() -> None:
        for name, weight in originals.items():
            model.get_parameter(f"{name}.weight").copy_(weight)

    return unmerge


def _target_names(model: DiT, config: LoraConfig) -> list[str]:
    names = []
    for index, block in enumerate(model.blocks):
        layers = {k for k, module in block.named_modules() if isinstance(module, nn.Linear)}
        unknown = [target for target in config.targets if target not in layers]
        if unknown:
            raise ConfigError(
                f"LoRA targets {', '.join(unknown)} are no linear layers of a block; "
                f"known: {', '.join(sorted(layers))}"
            )
        names += [f"blocks.{index}.{target}" for target in config.targets]
    return names


def _freeze(model: nn.Module) -> None:
    """Turn every parameter into a buffer of the same name."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
