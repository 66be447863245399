"""Where the parts of a model are while nobody needs them.

In:   a `Model`, the device that computes, an adapter or none, whether memory is scarce.
Out:  `use(part)`: a block inside which that part is on the device, ready to run.

With memory enough, every part is moved once and stays. With little, one part at a time is on
the device: beside a GPU the others wait in the machine's memory; on a CPU they wait on disk,
and are read again for each use. An adapter is merged in wherever the transformer comes from.
What not to get wrong: a part that waits on disk has shapes but no numbers (torch's meta
device), so whatever runs it must stand inside `use`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from omni2sound.errors import UserError
from omni2sound.generate.model import Model
from omni2sound.models.lora import Adapter, merge
from omni2sound.models.oobleck import Oobleck
from omni2sound.weights import ModelCard, load_part

__all__ = ["Part", "Residency"]

Part = Literal["dit", "autoencoder"]


class Residency:
    """See the module's text."""

    def __init__(
        self,
        model: Model,
        device: torch.device,
        dtype: torch.dtype,
        *,
        low_memory: bool = False,
        adapter: Adapter | None = None,
    ) -> None:
        """Move parts to where they stay, or where they wait.

        Args:
            model: Changed in place.
            device: That computes.
            dtype: Of the transformer.
            low_memory: One part at a time on the device.
            adapter: Merged into the transformer.

        Raises:
            UserError: Parts should wait on disk, and the model lies on none.
            ConfigError: The adapter belongs to another model.
        """
        self._model, self._adapter = model, adapter
        self.device = device
        self.dtype = dtype
        self._card: ModelCard | None = None
        self._parts: dict[Part, nn.Module] = {"dit": model.dit, "autoencoder": model.autoencoder}
        self._waiting: set[Part] = {"dit", "autoencoder"} if low_memory else set()
        for part in self._parts.values():
            part.eval().requires_grad_(False)
        if low_memory and device.type == "cpu":
            if model.card is None:
                raise UserError(
                    "low memory on a CPU reads parts from the model's folder when they are "
                    "needed, and this model was never saved; save it first"
                )
            self._card = model.card
            if not isinstance(model.autoencoder, Oobleck):
                self._waiting.discard("autoencoder")  # some megabytes, and partly computed
        if self._card is None:
            self._merge()
            model.dit.to(dtype)
        for name, part in self._parts.items():
            if name not in self._waiting:
                part.to(device)

    @contextmanager
    def use(self, name: Part) -> Iterator[None]:
        """The part is on the device inside the block."""
        if name not in self._waiting:
            yield
            return
        part = self._parts[name]
        if self._card is not None:
            load_part(self._card, name, part, dtype=self.dtype if name == "dit" else None)
            if name == "dit":
                self._merge()
        else:
            part.to(self.device)
        try:
            yield
        finally:
            part.to("meta" if self._card is not None else "cpu")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _merge(self) -> None:
        if self._adapter is not None:
            merge(self._model.dit, self._adapter, model_sha256=self._model.sha256)
