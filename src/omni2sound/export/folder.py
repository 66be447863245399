"""Writing of an exported folder: each part as ONNX, checked against torch, and the card.

In:   a model by name or folder.
Out:  the folder that `generate.onnx.folder` describes; the largest difference of each part.

A part is checked at a length at which it was not traced, so that an axis which the exporter took
as fixed is found. What not to get wrong: a folder is whole or absent, and one that differs from
torch by more than `TOLERANCE` is not written.

Shape suffixes: N samples.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from omni2sound.config import to_json
from omni2sound.encoders.text import TextEncoder
from omni2sound.errors import IntegrityError, MissingPartError
from omni2sound.export.half import store_half
from omni2sound.export.parts import Part, check_exportable, frozen_parts, model_parts
from omni2sound.export.simplify import optimise, simplify
from omni2sound.files import atomic_folder, file_sha256, write_json
from omni2sound.generate.model import Model, load_model
from omni2sound.generate.onnx.folder import (
    CARD,
    FORMAT,
    GRAPHS,
    RUNTIME,
    TOKENIZER,
    ExportCard,
    GraphFile,
    Session,
    data_name,
    default_threads,
)
from omni2sound.generate.onnx.pipeline import OnnxPipeline
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.torch_pipeline import TorchPipeline, goes_on_of, silent_frame
from omni2sound.models.autoencoder import MelPcaAutoencoder
from omni2sound.weights import ATTRIBUTION_FILE

TOLERANCE = 1e-3
"""Largest difference from torch, relative to the largest value."""
OPSET = 20
"""Version of ONNX's operators."""
NEEDED = ("onnx", "onnxscript", RUNTIME)
_TRACED_FRAMES, _CHECKED_FRAMES = 20, 33
_PROMPTS = ("rain falls on a roof", "a dog barks")
_CHECK_S = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        folder: The folder.
        errors: Largest difference of each part from torch, relative to the largest value; whole
            sounds by their prompt.
        num_bytes: Bytes of the folder.
    """

    folder: Path
    errors: dict[str, float]
    num_bytes: int


def check_libraries() -> None:
    """Refuse to begin without the libraries that write and check graphs.

    Raises:
        MissingPartError: One of them is not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPartError(
            f"export needs {', '.join(missing)}; run: pip install 'omni2sound[export]'"
        )


def export_model(
    model: str, to: Path, *, on_part: Callable[[str, float], None] = lambda name, error: None
) -> Exported:
    """Export a model.

    Args:
        model: "embedded", a model folder, or a Hub id.
        to: Folder to write; replaced if it is an exported one.
        on_part: Called with the name of each part and its difference from torch.

    Raises:
        MissingPartError: There is no such model, or a library or bundled network is missing.
        UserError: The model has networks without an exported form, or `to` holds something else.
        IntegrityError: A part differs from torch by more than `TOLERANCE`.
    """
    check_libraries()
    loaded = load_model(model)
    check_exportable(loaded)
    errors: dict[str, float] = {}
    with atomic_folder(to, kind="exported model", marker=CARD) as folder:
        graphs: dict[str, GraphFile] = {}
        for part in parts_of(loaded):
            graphs[part.name] = write_part(part, folder / f"{part.name}.onnx")
            errors[part.name] = graphs[part.name].error
            _check(part.name, errors[part.name])
            on_part(part.name, errors[part.name])
        write_card(loaded, graphs, folder)
        for prompt, error in _sound_errors(loaded, folder):
            errors[prompt] = error
            _check(prompt, error)
            on_part(prompt, error)
    num_bytes = sum(path.stat().st_size for path in to.iterdir())
    return Exported(folder=to, errors=errors, num_bytes=num_bytes)


def parts_of(model: Model) -> Iterator[Part]:
    """All parts of a model, ready to be exported."""
    for network in (model.dit, model.autoencoder, model.sync, model.band):
        if network is not None:
            network.eval().requires_grad_(False)
    yield from model_parts(model)
    yield from frozen_parts(model)


def _check(name: str, error: float) -> None:
    if not error <= TOLERANCE:
        raise IntegrityError(
            f"exported {name!r} differs from torch by {error:.1e} of its largest value, more than "
            f"{TOLERANCE:g}: nothing was written; please report it with the versions of torch and "
            "onnxscript"
        )


def write_part(part: Part, path: Path) -> GraphFile:
    """Write one graph, and compare it with torch at another length."""
    began = time.perf_counter()
    example = write_graph(part, path)
    optimise(path)
    store_half(path)
    logging.getLogger(__name__).debug("%s: %.1f s", part.name, time.perf_counter() - began)
    return GraphFile(
        sha256=file_sha256(path),
        inputs=tuple(example),
        outputs=part.outputs,
        error=difference(part, path),
    )


def write_graph(part: Part, path: Path) -> Mapping[str, torch.Tensor]:
    """Write one graph as torch exports it, and return the example that it was traced with."""
    module = part.module.eval()
    example = part.inputs(_TRACED_FRAMES, torch.Generator().manual_seed(0))
    free = torch.export.Dim.DYNAMIC
    shapes = tuple(dict.fromkeys(part.axes.get(name, ()), free) for name in example)
    with torch.no_grad(), warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(example),
            output_names=list(part.outputs),
            dynamic_shapes=shapes,
            optimize=False,  # it drops sums with constants as small as our floors
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=False)
        simplify(path)
    return example


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its notes on other libraries off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def difference(part: Part, path: Path) -> float:
    """Largest difference of a graph's outputs from torch, relative to the largest value of each."""
    inputs = part.inputs(_CHECKED_FRAMES, torch.Generator().manual_seed(1))
    session = Session(path, part.outputs, num_threads=default_threads())
    found = session.run({name: value.numpy() for name, value in inputs.items()})
    with torch.inference_mode():
        made = part.module(*inputs.values())
    expected = made if isinstance(made, tuple) else (made,)
    return max(relative_difference(x, y.numpy()) for x, y in zip(found, expected, strict=True))


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute value; infinite for NaN."""
    if found.shape != expected.shape:
        return float("inf")
    a, b = found.astype(np.float64), expected.astype(np.float64)
    error = float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12))
    return error if np.isfinite(error) else float("inf")


def write_card(model: Model, graphs: dict[str, GraphFile], folder: Path) -> None:
    """Write the card, the tokenizer and the attribution beside the graphs."""
    from omni2sound.encoders.metric.yamnet import YamNet

    config, text = model.config, model.config.text.spec
    assert isinstance(model.autoencoder, MelPcaAutoencoder)
    assert model.sync is not None
    encoder = text.load("cpu", published=None)
    assert isinstance(encoder, TextEncoder)
    shutil.copyfile(encoder.folder() / "tokenizer.json", folder / TOKENIZER)
    data = [name for name in map(data_name, graphs) if (folder / name).is_file()]
    files = {name: file_sha256(folder / name) for name in (TOKENIZER, *data)}
    if model.attribution:
        (folder / ATTRIBUTION_FILE).write_text(model.attribution, encoding="utf-8")
        files[ATTRIBUTION_FILE] = file_sha256(folder / ATTRIBUTION_FILE)
    height_px, width_px = config.vision.spec.size_px
    card = ExportCard(
        format=FORMAT,
        name=model.name,
        sha256=model.sha256,
        precision="float32",
        opset=OPSET,
        versions={
            "graphs": GRAPHS,
            **{name: importlib.metadata.version(name) for name in ("torch", "onnxscript", RUNTIME)},
        },
        timebase=config.timebase,
        sampler=config.sampler,
        defaults=model.defaults,
        sample_rate_hz=model.sample_rate_hz,
        latent_dim=config.dit.latent_dim,
        goes_on=goes_on_of(model),
        silence=tuple(silent_frame(model.autoencoder, torch.device("cpu")).tolist()),
        text={
            "dim": text.dim,
            "max_tokens": encoder.max_tokens,
            "near": text.near,
            "same": text.same,
        },
        vision={"dim": config.vision.spec.dim, "height_px": height_px, "width_px": width_px},
        sync={
            "dim": config.sync.feature_dim,
            "side_px": model.sync.config.frame_px,
            "fps": config.sync.fps,
        },
        tags=YamNet.load().class_names,
        graphs=graphs,
        files=files,
    )
    write_json(folder / CARD, to_json(card))


def _sound_errors(model: Model, folder: Path) -> Iterator[tuple[str, float]]:
    """Difference of whole sounds from torch, relative to their peak."""
    light = OnnxPipeline.load(folder)
    heavy = TorchPipeline(model, device=torch.device("cpu"), dtype=torch.float32)
    for prompt in _PROMPTS:
        request = GenerationRequest(prompt=prompt, duration_s=_CHECK_S)
        found, expected = (next(pipeline.run(request)).audio for pipeline in (light, heavy))
        yield prompt, relative_difference(found.samples_CN, expected.samples_CN)
