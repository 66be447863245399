"""Options of a pipeline, and its loading once it is needed.

In:   a model by name, folder or Hub id; device, precision, memory and adapter options.
Out:  an `Omni2SoundPipeline`, or only the digest of its model.

No torch at import: a batch whose jobs are all done ends without loading it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omni2sound.errors import UserError
from omni2sound.generate.request import precision_name
from omni2sound.runtime import choose_deterministic, set_num_threads
from omni2sound.stages import enter
from omni2sound.weights import load_card, resolve_model

if TYPE_CHECKING:
    from omni2sound.generate.pipeline import Omni2SoundPipeline


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelIdentity:
    """What of a model decides its sounds.

    The defaults may change without the weights, so the digest has no part of them.
    """

    sha256: str
    """Digest of the weights, together with the adapter's."""
    recognises: bool
    """Whether it looks into videos where the request does not say."""
    places: bool
    """Whether sound for a video is stereo where the request does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineOptions:
    """Arguments of `Omni2SoundPipeline.from_pretrained`, which describes them."""

    model: str | Path = "embedded"
    device: str = "auto"
    dtype: str = "auto"
    encoders: Path | None = None
    low_memory: bool = False
    lora: Path | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.deterministic:
            device, dtype = choose_deterministic(self.device, self.dtype)
            object.__setattr__(self, "device", device)
            object.__setattr__(self, "dtype", dtype)
        if self.encoders is not None and not self.encoders.is_dir():
            raise UserError(
                f"{self.encoders}: no such folder; give one of published encoders, or leave it out",
                field="encoders",
            )
        if self.low_memory and self.dtype == "auto":
            object.__setattr__(self, "dtype", "bfloat16")

    @property
    def precision(self) -> str:
        """What a digest of a request says of the precision."""
        return precision_name(self.dtype, deterministic=self.deterministic)

    def identity(self) -> ModelIdentity:
        """Digest of the model together with the adapter, and the defaults that matter.

        Raises:
            MissingPartError: There is no such model.
            ConfigError: The model or the adapter folder is malformed.
            IntegrityError: A file's bytes are not those that the model's card recorded.
        """
        card = load_card(resolve_model(self.model, component="dit"))
        sha256 = card.sha256
        if self.lora is not None:
            from omni2sound.models.lora import load_adapter

            sha256 = load_adapter(self.lora).sha256
        return ModelIdentity(
            sha256=sha256,
            recognises=bool(card.defaults.get("recognise", False)),
            places=bool(card.defaults.get("stereo", False)),
        )

    def load(self) -> Omni2SoundPipeline:
        """Load the pipeline; the time of imports counts as loading in its first result.

        Raises:
            MissingPartError: There is no such model.
            ConfigError: The model or the adapter folder is malformed.
            IntegrityError: A file's bytes are not those that the model's card recorded.
            UserError: This machine has no such device, or it can't compute in that precision.
        """
        folder = resolve_model(
            self.model, component="dit"
        )  # refuses an unknown model before torch is imported
        enter("loading the model")
        begin = time.perf_counter()
        from omni2sound.generate.pipeline import Omni2SoundPipeline

        import_s = time.perf_counter() - begin
        pipeline = Omni2SoundPipeline.from_pretrained(
            folder,
            device=self.device,
            dtype=self.dtype,
            encoders=self.encoders,
            low_memory=self.low_memory,
            lora=self.lora,
            deterministic=self.deterministic,
        )
        pipeline.pending_load_s += import_s
        logger.debug(
            "model %s (sha256 %s...) on %s, %s, %d threads, loaded in %.1f s",
            pipeline.model.name,
            pipeline.sha256[:12],
            pipeline.device,
            str(pipeline.dtype).removeprefix("torch."),
            set_num_threads(None),
            pipeline.pending_load_s,
        )
        return pipeline
