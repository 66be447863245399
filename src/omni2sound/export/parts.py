"""The parts of a model as they are exported: a module, examples of its inputs, free axes.

In:   a `Model`.
Out:  one `Part` for each graph of the folder.

Examples are drawn at one length; free axes take any other.

Shape suffixes: B batch, L latent frames, T tokens or pictures, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.errors import UserError
from omni2sound.export import graphs
from omni2sound.export.denoise import DenoiseGraph
from omni2sound.generate.model import Model
from omni2sound.models.autoencoder import MelPcaAutoencoder
from omni2sound.models.band import HOP_SAMPLES, LOW_HOP_SAMPLES
from omni2sound.models.conditioning import ConditionerConfig
from omni2sound.recognise.detector import Detector
from omni2sound.recognise.labeller import Labeller

_BATCH = 2
"""An axis of length 1 would be taken as fixed."""

Inputs = Callable[[int, torch.Generator], Mapping[str, Tensor]]
"""(latent frames, generator) to an example of each input, by name."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """One graph of an exported folder.

    Attributes:
        name: Name of its file.
        module: What is exported; takes and returns tensors by position.
        inputs: Makes an example of each input at a length, by name.
        outputs: Names of the outputs.
        axes: Free axes of each input that has some.
    """

    name: str
    module: nn.Module
    inputs: Inputs
    outputs: tuple[str, ...]
    axes: Mapping[str, tuple[int, ...]]


def check_exportable(model: Model) -> None:
    """Refuse a model whose components have no exported form.

    Raises:
        UserError: It has the full-size model's networks, another solver or another objective.
    """
    config, conditioner = model.config, model.config.dit.conditioner
    reasons = {
        "transformer": isinstance(conditioner, ConditionerConfig)
        and conditioner.masked
        and conditioner.sync_dim > 0,
        "autoencoder": isinstance(model.autoencoder, MelPcaAutoencoder),
        "sync encoder": model.sync is not None,
        "text encoder": config.text.encoder in ("minilm", "bge-small"),
        "picture encoder": config.vision.encoder == "mobilenetv2",
        "solver": config.sampler.kind == "dpmpp-2m" and config.objective.kind == "v",
    }
    if missing := [name for name, fits in reasons.items() if not fits]:
        raise UserError(
            f"model {model.name!r} can't be exported: its {missing[0]} has no ONNX form; use "
            "engine torch",
            field="model",
        )


def _pictures(name: str, side: int, count: int | None = None) -> Inputs:
    def inputs(length: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        shape = (count or length, side, side, 3)
        return {name: torch.randint(256, shape, generator=generator, dtype=torch.uint8)}

    return inputs


def model_parts(model: Model) -> Iterator[Part]:
    """Parts that are trained with a model: transformer, autoencoder, sync encoder, band."""
    sync = model.sync
    assert sync is not None
    yield from _transformer_parts(model)
    yield from _decoder_parts(model)
    yield Part(
        name="sync",
        module=graphs.SyncGraph(sync),
        inputs=_pictures("frames_THWK", sync.config.frame_px),
        outputs=("features_TS",),
        axes={"frames_THWK": (0,)},
    )


def _transformer_parts(model: Model) -> Iterator[Part]:
    config, dit = model.config, model.dit
    width, heads, depth = config.dit.width, config.dit.num_heads, config.dit.depth
    sizes = config.dit.conditioner

    def prepare(length: int, g: torch.Generator) -> Mapping[str, Tensor]:
        tokens, pictures = length // 5 + 2, length // 3 + 2
        return {
            "text_BTE": torch.randn(_BATCH, tokens, sizes.text_dim, generator=g),
            "text_mask_BT": torch.arange(tokens).expand(_BATCH, -1) < tokens - 1,
            "vision_BTV": torch.randn(_BATCH, pictures, config.vision.spec.dim, generator=g),
            "vision_mask_BT": torch.ones(_BATCH, pictures, dtype=torch.bool),
            "sync_BLS": torch.randn(_BATCH, length, config.sync.feature_dim, generator=g),
            "seconds_B": torch.full((_BATCH,), length / 25),
        }

    def denoise(length: int, g: torch.Generator) -> Mapping[str, Tensor]:
        tokens = length // 4 + 3
        context = (_BATCH, depth, heads, tokens, width // heads)
        return {
            "x_BLC": torch.randn(_BATCH, length, config.dit.latent_dim, generator=g),
            "t_B": torch.rand(_BATCH, generator=g),
            "keys": torch.randn(context, generator=g),
            "values": torch.randn(context, generator=g),
            "mask_B11T": torch.arange(tokens).expand(_BATCH, 1, 1, -1) < tokens - 1,
            "modulation_BLM": 0.1 * torch.randn(_BATCH, length, 6 * width, generator=g),
            "duration_BD": torch.randn(_BATCH, width, generator=g),
        }

    yield Part(
        name="prepare",
        module=graphs.PrepareGraph(dit),
        inputs=prepare,
        outputs=("keys", "values", "mask_B11T", "modulation_BLM", "duration_BD"),
        axes={
            **dict.fromkeys(("text_BTE", "text_mask_BT", "vision_BTV", "vision_mask_BT"), (0, 1)),
            "sync_BLS": (0, 1),
            "seconds_B": (0,),
        },
    )
    yield Part(
        name="denoise",
        module=DenoiseGraph(dit),
        inputs=denoise,
        outputs=("prediction_BLC",),
        axes={
            **dict.fromkeys(("keys", "values", "mask_B11T"), (0, 3)),
            **dict.fromkeys(("x_BLC", "modulation_BLM"), (0, 1)),
            **dict.fromkeys(("t_B", "duration_BD"), (0,)),
        },
    )


def _decoder_parts(model: Model) -> Iterator[Part]:
    autoencoder, hop = model.autoencoder, model.config.timebase.hop_samples
    assert isinstance(autoencoder, MelPcaAutoencoder)

    def latents(length: int, g: torch.Generator) -> Mapping[str, Tensor]:
        return {"latents_BLC": torch.randn(_BATCH, length, autoencoder.latent_dim, generator=g)}

    def decoder(length: int, g: torch.Generator) -> Mapping[str, Tensor]:
        return {**latents(length, g), "noise_1N": torch.randn(1, length * hop, generator=g)}

    def band(length: int, g: torch.Generator) -> Mapping[str, Tensor]:
        frames = 4 * length
        return {
            "low_BN": 0.1 * torch.randn(_BATCH, frames * LOW_HOP_SAMPLES, generator=g),
            "noise_1N": torch.randn(1, frames * HOP_SAMPLES, generator=g),
        }

    yield Part(
        name="level",
        module=graphs.LevelGraph(autoencoder),
        inputs=latents,
        outputs=("level_BL",),
        axes={"latents_BLC": (0, 1)},
    )
    yield Part(
        name="decoder",
        module=graphs.DecoderGraph(autoencoder),
        inputs=decoder,
        outputs=("samples_BN",),
        axes={"latents_BLC": (0, 1), "noise_1N": (1,)},
    )
    if model.band is not None:
        yield Part(
            name="band",
            module=graphs.BandGraph(model.band),
            inputs=band,
            outputs=("added_BN",),
            axes={"low_BN": (0, 1), "noise_1N": (1,)},
        )


def text_part(encoder: TextEncoder) -> Part:
    """The text encoder."""

    def inputs(length: int, g: torch.Generator) -> Mapping[str, Tensor]:
        tokens = length // 5 + 2
        mask = torch.arange(tokens).expand(_BATCH, -1) < tokens - 1
        return {
            "ids_BT": torch.randint(1000, 20_000, (_BATCH, tokens), generator=g),
            "mask_BT": mask.long(),
        }

    return Part(
        name="text",
        module=graphs.TextGraph(encoder),
        inputs=inputs,
        outputs=("states_BTE",),
        axes={"ids_BT": (0, 1), "mask_BT": (0, 1)},
    )


def frozen_parts(model: Model) -> Iterator[Part]:
    """Bundled encoders, recogniser and tagger.

    Raises:
        MissingPartError: One of them is not installed.
    """
    texts = model.config.text.spec.load("cpu", published=None)
    assert isinstance(texts, TextEncoder)
    yield text_part(texts)
    vision, detector, labeller = VisionEncoder.load(), Detector.load(), Labeller.load()
    yield Part(
        name="vision",
        module=graphs.VisionGraph(vision),
        inputs=_pictures("frames_THWC", vision.size_px[0]),
        outputs=("features_TV",),
        axes={"frames_THWC": (0,)},
    )
    yield Part(
        name="detector",
        module=graphs.DetectorGraph(detector),
        inputs=_pictures("picture_1HWC", detector.size_px[0], 1),
        outputs=("scores_AK", "corners_A4"),
        axes={},
    )
    yield Part(
        name="labeller",
        module=graphs.LabellerGraph(labeller),
        inputs=_pictures("picture_1HWC", labeller.size_px[0], 1),
        outputs=("probabilities_1K",),
        axes={},
    )
    yield Part(
        name="tagger",
        module=graphs.TaggerGraph(YamNet.load()),
        inputs=lambda length, g: {"patches_PTN": 0.1 * torch.randn(3, 96, 400, generator=g)},
        outputs=("scores_PK",),
        axes={"patches_PTN": (0,)},
    )
