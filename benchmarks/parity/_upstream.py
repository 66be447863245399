"""What it takes to import the originals, and inputs and weights that make them listen.

The originals are research code: they greet, download, look for a home folder, and pull in
compiled parts that nothing here uses. What not to get wrong: only the import is helped;
what is compared is theirs, unchanged.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.parity._table import randomise

__all__ = ["av_benchmark", "heard", "laion_clap", "make_listen", "originals", "sound"]

AV_BENCHMARK = "OMNI2SOUND_AV_BENCHMARK"
"""Environment variable: path of a clone of hkchengrex/av-benchmark at commit 050a5cd."""


@contextlib.contextmanager
def originals() -> Iterator[None]:
    """Run the whole table inside: quietly, with a temporary home folder.

    torchaudio and torchvision from PyPI are compiled for CUDA builds of torch. Beside a CPU
    build their compiled parts can't be loaded, so they are told that they have none; filters,
    bands and resizing are Python in both. transformers imports them too once they are there.
    """
    find, fake = Path.glob, torch.library.register_fake

    def glob(self: Path, pattern: str, **options: Any) -> Any:
        return iter(()) if pattern.startswith("_torchaudio") else find(self, pattern, **options)

    def register_fake(operator: Any, *rest: Any, **options: Any) -> Any:
        if str(operator).startswith("torchvision::"):
            return lambda function: function
        return fake(operator, *rest, **options)

    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(mock.patch.dict(os.environ, {"HOME": home}))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        # pytorchvideo asks for a module that torchvision has renamed since.
        moved = "torchvision.transforms.functional_tensor"
        sys.modules[moved] = types.ModuleType(moved)
        stack.callback(sys.modules.pop, moved)
        if torch.version.cuda is None:
            stack.enter_context(mock.patch.object(Path, "glob", glob))
            stack.enter_context(mock.patch.object(torch.library, "register_fake", register_fake))
        yield


@contextlib.contextmanager
def av_benchmark() -> Iterator[None]:
    """Import av-benchmark's networks from a clone inside.

    Its spectrogram transformer was cut out of an old transformers and still names three
    helpers that later ones dropped; they prune and mask heads, which nobody asks of it here.

    Raises:
        ModuleNotFoundError: There is no clone.
    """
    folder = os.environ.get(AV_BENCHMARK, "")
    if not (Path(folder) / "av_bench").is_dir():
        raise ModuleNotFoundError(name=f"av-benchmark clone (set {AV_BENCHMARK})")
    if folder not in sys.path:
        sys.path.append(folder)
    from transformers import PreTrainedModel, pytorch_utils

    def no_masks(_: object, masks: object, num_layers: int) -> list[None]:
        assert masks is None
        return [None] * num_layers

    with contextlib.ExitStack() as stack:
        for name in ("find_pruneable_heads_and_indices", "prune_linear_layer"):
            stack.enter_context(mock.patch.object(pytorch_utils, name, None, create=True))
        stack.enter_context(
            mock.patch.object(PreTrainedModel, "get_head_mask", no_masks, create=True)
        )
        yield


@contextlib.contextmanager
def laion_clap() -> Iterator[None]:
    """Import `clap_module` of laion-clap inside, with a small RoBERTa instead of a download.

    The package around it imports what reads its training data; the module alone does not.
    """
    found = importlib.util.find_spec("laion_clap")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(name="laion_clap")
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=300,
        num_hidden_layers=2,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    network = RobertaModel(config)
    sys.path.append(found.submodule_search_locations[0])
    try:
        with mock.patch.object(RobertaModel, "from_pretrained", return_value=network):
            yield
    finally:
        sys.path.remove(found.submodule_search_locations[0])


def sound(samples: int, *, batch: int = 2, seed: int = 0) -> Tensor:
    """Clips of tones that glide over noise, so that every band and every moment differs."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples) / samples
    start = torch.rand(batch, 1, generator=generator) + 0.5
    glide = torch.sin(2 * torch.pi * 900 * start * (time + 2 * time**2))
    noise = torch.randn(batch, samples, generator=generator)
    return 0.3 * glide + 0.05 * noise * (1 + torch.cos(9 * time))


@torch.no_grad()
def make_listen(network: nn.Module, *, skip: Callable[[str], bool] = lambda _: False) -> None:
    """Random weights under which outputs depend on inputs.

    Norms stay near one, and running statistics are drawn: a norm that scales to a quarter in
    each layer leaves only biases at the end.
    """
    generator = torch.Generator().manual_seed(1)
    for name, module in network.named_modules():
        if skip(name):
            continue
        own = list(module.named_parameters(recurse=False))
        if not own:
            continue
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            for parameter_name, parameter in own:
                noise = 0.2 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise + (parameter_name == "weight"))
            if not isinstance(module, nn.LayerNorm):
                assert module.running_mean is not None
                assert module.running_var is not None
                mean = torch.randn(module.running_mean.shape, generator=generator)
                module.running_mean.copy_(0.2 * mean)
                spread = torch.rand(module.running_var.shape, generator=generator)
                module.running_var.copy_(0.5 + spread)
        elif not list(module.children()):
            randomise(module, seed=len(name), gain=1.4)
        else:
            for parameter_name, parameter in own:
                # Matrices by fan-in; tokens, positions and biases as large as what they meet.
                matrix = parameter.ndim == 2
                size = 1.4 * parameter.shape[1] ** -0.5 if matrix else 0.4
                size = 0.3 if "bias" in parameter_name else size
                parameter.copy_(size * torch.randn(parameter.shape, generator=generator))


def heard(output_B: Tensor) -> Tensor:
    """The output itself, once it is clear that it depends on the input.

    Raises:
        ValueError: Two clips of the batch give the same.
    """
    spread = float((output_B[0] - output_B[1]).abs().max() / output_B.abs().max())
    if not spread > 0.01:
        raise ValueError(f"the reference does not listen: two clips differ by {spread:.1e}")
    return output_B
