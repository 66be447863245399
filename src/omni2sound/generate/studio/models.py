"""Writing the model of a pipeline.

In:   a pipeline, whose transformer may be rounded to a lower precision.
Out:  a model folder with what was read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from omni2sound.errors import UserError
from omni2sound.generate.model import load_model

if TYPE_CHECKING:
    from omni2sound.generate.torch_pipeline import TorchPipeline


def save_model(pipeline: TorchPipeline, folder: str | os.PathLike[str], *, half: bool) -> None:
    """Write the model of a pipeline; see `Omni2SoundPipeline.save_pretrained`."""
    if any(
        tensor.is_meta for part in pipeline.model.tensors().values() for tensor in part.values()
    ):
        raise UserError("the model was loaded with `low_memory`; copy its folder instead")
    model = pipeline.model
    if pipeline.dtype != torch.float32 and model.card is not None:
        # The transformer here is rounded; what is written must be what was read.
        if pipeline.sha256 != model.sha256:
            raise UserError(
                f"a model with an adapter in {pipeline.dtype} is no longer exact; load it with "
                "float32 to save it",
                field="dtype",
            )
        model = load_model(model.card.folder)
    model.save(folder, half=half)
