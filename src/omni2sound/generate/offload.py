"""Offloading: which components are on the device, in host memory, or on disk.

In:   a `Model`, the device that computes, an adapter or none, whether memory is scarce.
Out:  `use(component)`: a block inside which that component is on the device, ready to run.

With enough memory every component is moved to the device once. With `low_memory` only one at a
time is there: beside a GPU the others wait in host memory; on a CPU they wait on disk and are
read again for each use. An adapter is merged in whenever the transformer is read.
What not to get wrong: a component on disk has shapes but no numbers (torch's meta device), so
whatever runs it must stand inside `use`. Threads that share a model with `low_memory` wait for
each other there: a component that one of them sends away is not computing in another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from omni2sound.errors import UserError
from omni2sound.generate.model import Model
from omni2sound.models.lora import Adapter, merge
from omni2sound.models.oobleck import Oobleck
from omni2sound.runtime import LoadedHere
from omni2sound.weights import ModelCard, load_part

Component = Literal["dit", "autoencoder"]


class Offloader(LoadedHere):
    """Moves the components of one model to the device and away from it."""

    def __init__(
        self,
        model: Model,
        device: torch.device,
        dtype: torch.dtype,
        *,
        low_memory: bool = False,
        adapter: Adapter | None = None,
    ) -> None:
        """Move each component to the device, or to where it waits.

        Args:
            model: The model; changed in place.
            device: The device that computes.
            dtype: Precision of the transformer.
            low_memory: Keep one component at a time on the device.
            adapter: Adapter to merge into the transformer.

        Raises:
            UserError: Components should wait on disk, and the model was never saved.
            ConfigError: The adapter belongs to another model.
        """
        super().__init__()
        self._model, self._adapter = model, adapter
        self._one_at_a_time = threading.RLock()
        self.device = device
        self.dtype = dtype
        self._card: ModelCard | None = None
        self._components: dict[Component, nn.Module] = {
            "dit": model.dit,
            "autoencoder": model.autoencoder,
        }
        if model.band is not None:  # a megabyte: never offloaded
            model.band.eval().requires_grad_(False).to(device)
        self._waiting: set[Component] = {"dit", "autoencoder"} if low_memory else set()
        for component in self._components.values():
            component.eval().requires_grad_(False)
        if low_memory and device.type == "cpu":
            if model.card is None:
                raise UserError(
                    "on a CPU, components are read from the model's folder when they are needed, "
                    "and this model was never saved; save it first",
                    field="low_memory",
                )
            self._card = model.card
            if not isinstance(model.autoencoder, Oobleck):
                self._waiting.discard("autoencoder")  # some megabytes, and partly computed
        if self._card is None:
            self._merge()
            model.dit.to(dtype)
        for name, component in self._components.items():
            if name not in self._waiting:
                component.to(device)

    @contextmanager
    def use(self, name: Component) -> Iterator[None]:
        """Keep a component on the device in the block; a moved one serves one thread at a time."""
        self.check_process()
        if name not in self._waiting:
            yield
            return
        with self._one_at_a_time:
            yield from self._moved(name)

    def _moved(self, name: Component) -> Iterator[None]:
        component = self._components[name]
        if self._card is not None:
            load_part(self._card, name, component, dtype=self.dtype if name == "dit" else None)
            if name == "dit":
                self._merge()
        else:
            component.to(self.device)
        try:
            yield
        finally:
            component.to("meta" if self._card is not None else "cpu")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _merge(self) -> None:
        if self._adapter is not None:
            merge(self._model.dit, self._adapter, model_sha256=self._model.sha256)
