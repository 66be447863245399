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
from typing import TYPE_CHECKING, get_args

from omni2sound.errors import ConfigError, IntegrityError, MissingPartError, UserError
from omni2sound.generate.onnx.folder import (
    RUNTIME,
    default_folder,
    has_runtime,
    how_to_export,
    is_exported,
    read_card,
    ships_graphs,
)
from omni2sound.generate.request import EngineName, precision_name
from omni2sound.runtime import (
    INSTALL_TORCH,
    choose_deterministic,
    has_accelerator,
    has_torch,
    packages_missing_for_torch,
    set_num_threads,
)
from omni2sound.stages import enter
from omni2sound.weights import ModelCard, load_card, resolve_model

if TYPE_CHECKING:
    from omni2sound.generate.onnx.pipeline import OnnxPipeline
    from omni2sound.generate.pipeline import Omni2SoundPipeline
    from omni2sound.generate.torch_pipeline import TorchPipeline


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
class _Exported:
    """An exported folder to generate from."""

    folder: Path
    model: ModelCard | None
    """Of the model that it has to stand for; None: the folder itself was given."""


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
    engine: EngineName = "auto"

    def __post_init__(self) -> None:
        if self.engine not in get_args(EngineName):
            known = ", ".join(get_args(EngineName))
            raise UserError(f"expected one of {known}, got {self.engine!r}", field="engine")
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
        exported = self._exported()
        if exported is not None and exported.model is None:
            export = read_card(exported.folder)
            return ModelIdentity(
                sha256=export.sha256,
                recognises=export.defaults.recognise,
                places=export.defaults.stereo,
            )
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

    def load(self, *, once: bool = False) -> Omni2SoundPipeline:
        """Load the pipeline; the time of imports counts as loading in its first result.

        Args:
            once: Whether it is for one request: ONNX Runtime then has a network in memory only
                while it is used.

        Raises:
            MissingPartError: There is no such model.
            ConfigError: The model or the adapter folder is malformed.
            IntegrityError: A file's bytes are not those that the model's card recorded.
            UserError: This machine has no such device, or it can't compute in that precision.
        """
        exported = self._exported()  # refuses an unknown model before torch is imported
        if exported is not None:
            try:
                return self._load_onnx(exported, once=once)
            except (ConfigError, IntegrityError, OSError) as error:
                if exported.model is None or self.engine == "onnx" or not has_torch():
                    raise
                again = f"; run: {how_to_export(exported.model.folder, self.model)}"
                logger.warning(
                    "torch generates, as its export can't be used: %s%s",
                    str(error).removesuffix(again),
                    again,
                )
        return self.load_torch()

    def _load_onnx(self, exported: _Exported, *, once: bool) -> OnnxPipeline:
        enter("loading the model")
        begin = time.perf_counter()
        from omni2sound.generate.onnx.pipeline import OnnxPipeline

        import_s = time.perf_counter() - begin
        num_threads = 1 if self.deterministic else None
        pipeline = OnnxPipeline.load(
            exported.folder, num_threads=num_threads, once=once, model=exported.model
        )
        pipeline.dtype_name = self.precision
        pipeline.pending_load_s += import_s
        logger.debug(
            "model %s (sha256 %s...) on cpu by ONNX Runtime, %s, %d threads, loaded in %.1f s",
            pipeline.facts.name,
            pipeline.sha256[:12],
            pipeline.dtype_name,
            pipeline.model.num_threads,
            pipeline.pending_load_s,
        )
        return pipeline

    def load_torch(self) -> TorchPipeline:
        """Load the pipeline that computes in torch; see `load`.

        Raises:
            MissingPartError: There is no such model, or torch or what it needs is not installed.
            ConfigError: The model or the adapter folder is malformed.
            IntegrityError: A file's bytes are not those that the model's card recorded.
            UserError: This machine has no such device, or it can't compute in that precision.
        """
        folder = self.torch_folder()  # refuses an unknown model before torch is imported
        if not has_torch():
            if self.engine == "auto" and ships_graphs(folder) and not self._what_needs_torch():
                raise MissingPartError(
                    "the default model's networks are missing; run: omni2sound setup"
                )
            raise MissingPartError(f"this needs torch; run: {INSTALL_TORCH}")
        if missing := packages_missing_for_torch():
            raise MissingPartError(f"this needs {', '.join(missing)}, too; run: {INSTALL_TORCH}")
        enter("loading the model")
        begin = time.perf_counter()
        from omni2sound.generate.torch_pipeline import TorchPipeline

        import_s = time.perf_counter() - begin
        pipeline = TorchPipeline.load(
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

    def torch_folder(self) -> Path:
        """The model folder that torch loads.

        Raises:
            MissingPartError: There is no such model.
            UserError: It is exported, and torch can't load it.
        """
        folder = resolve_model(self.model, component="dit")
        if is_exported(folder):
            raise UserError(
                f"{folder}: is exported, and this needs torch; give the model that it was made "
                "from",
                field="model",
            )
        return folder

    def _exported(self) -> _Exported | None:
        """The exported folder to generate from; None: torch generates.

        Raises:
            MissingPartError: There is no such model, no export of it, or no ONNX Runtime.
            UserError: ONNX was asked for together with what only torch can do.
        """
        folder = resolve_model(self.model, component="dit")
        given = is_exported(folder)
        if given and self.engine == "torch":
            raise UserError(
                f"{folder}: is exported; give the model that it was made from, or engine onnx",
                field="engine",
            )
        if self.engine == "torch":
            return None
        needs_torch = self._what_needs_torch()
        if given or self.engine == "onnx":
            if needs_torch:
                raise UserError(
                    f"an exported model has no {needs_torch}; leave it out, or use engine torch "
                    "with the model that it was made from",
                    field=needs_torch,
                )
        elif needs_torch or not has_runtime() or (has_torch() and has_accelerator(self.device)):
            return None
        model = None if given else load_card(folder)
        exported = folder if model is None else default_folder(model.sha256)
        if not is_exported(exported):
            if self.engine == "auto":
                return None
            raise MissingPartError(
                f"no export of model {str(self.model)!r}; run: {how_to_export(folder, self.model)}"
            )
        if not has_runtime():
            raise MissingPartError(f"an exported model needs {RUNTIME}; run: pip install {RUNTIME}")
        return _Exported(folder=exported, model=model)

    def _what_needs_torch(self) -> str:
        """The first option that only torch follows; "" if none."""
        if self.device not in ("auto", "cpu"):
            return "device"
        if self.dtype not in ("auto", "float32"):
            return "dtype"
        wanted = {"encoders": self.encoders, "low_memory": self.low_memory, "lora": self.lora}
        return next((name for name, value in wanted.items() if value), "")
