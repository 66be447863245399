"""The card of a stranger's export: what it claims is known before anything is made by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omni2sound.encoders.reading import load_tokenizer
from omni2sound.errors import ConfigError
from omni2sound.generate.onnx.folder import RUNTIME, ExportedModel, Session, read_card
from omni2sound.generate.onnx.pipeline import OnnxPipeline

GRAPH = {"sha256": "0" * 64, "inputs": ["a"], "outputs": ["b"], "error": 0.0}
CARD: dict[str, Any] = {
    "format": 1,
    "name": "tiny",
    "sha256": "0" * 64,
    "precision": "float32",
    "opset": 20,
    "versions": {"graphs": "1"},
    "timebase": {"sample_rate_hz": 16_000, "hop_samples": 640, "vision_fps": 8, "sync_fps": 25},
    "sampler": {"kind": "dpmpp-2m", "sigma_min": 0.03, "sigma_max": 100.0, "rho": 0.0},
    "defaults": {"steps": 8, "guidance": 3.0, "duration_s": 8.0, "max_duration_s": 10.0},
    "sample_rate_hz": 44_100,
    "latent_dim": 2,
    "goes_on": True,
    "silence": [0.0, 0.0],
    "text": {"dim": 384, "max_tokens": 64, "near": 0.4, "same": 0.5},
    "vision": {"dim": 1280, "height_px": 224, "width_px": 224},
    "sync": {"dim": 64, "side_px": 96, "fps": 25},
    "tags": ["Dog"],
    "graphs": {"level": GRAPH},
    "files": {"level.data": "0" * 64},
}


def _read(folder: Path, data: object) -> None:
    (folder / "model.json").write_text(json.dumps(data))
    read_card(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("files", {"../odd": "0" * 64}),
        ("files", {"/odd": "0" * 64}),
        ("graphs", {"..": GRAPH}),
        ("text.dim", 10**12),
        ("text", {"dim": 384}),
        ("text.dim", 384.5),
        ("text.max_tokens", 1.5),
        ("graphs.level.outputs", []),
        ("vision.height_px", 10**9),
        ("vision", {}),
        ("sync.side_px", 0),
        ("latent_dim", 10**9),
        ("silence", []),
        ("sample_rate_hz", 0),
        ("timebase.sample_rate_hz", 10**12),
        ("timebase.vision_fps", 10**6),
        ("defaults.steps", 10**9),
    ],
)
def test_an_odd_card_is_refused_in_one_line(tmp_path: Path, path: str, value: object) -> None:
    _read(tmp_path, CARD)
    card = json.loads(json.dumps(CARD))
    *steps, last = path.split(".")
    node = card
    for step in steps:
        node = node[step]
    node[last] = value
    with pytest.raises(ConfigError) as refused:
        _read(tmp_path, card)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_graph_that_takes_something_else_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip(RUNTIME)
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    a, b = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "ab")
    graph = helper.make_graph([helper.make_node("Neg", ["a"], ["b"])], "g", [a], [b])
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    (tmp_path / "level.onnx").write_bytes(model.SerializeToString())
    session = Session(tmp_path / "level.onnx", ["b"], num_threads=1)
    np.testing.assert_array_equal(session.run({"a": np.ones(4, np.float32)})[0], -np.ones(4))
    for inputs in ({"x": np.ones(4, np.float32)}, {"a": np.ones(5, np.float32)}):
        with pytest.raises(ConfigError, match=r"level\.onnx can't be run by onnxruntime"):
            session.run(inputs)
    with pytest.raises(ConfigError, match="can't be run"):
        Session(tmp_path / "level.onnx", ["c"], num_threads=1).run({"a": np.ones(4, np.float32)})


def test_a_graph_that_fails_writes_nothing_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Names in a stranger's graph may hold codes that a terminal obeys."""
    pytest.importorskip(RUNTIME)
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto
    node = make.make_node("Reshape", ["a", "s"], ["b"], name="\x1b[31mRED")
    shape = make.make_tensor("s", kind.INT64, [2], [-1, 3])
    given = make.make_tensor_value_info("a", kind.FLOAT, ["n"])
    made = make.make_tensor_value_info("b", kind.FLOAT, ["m", "k"])
    graph = make.make_graph([node], "g", [given], [made], [shape])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=9)
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    session = Session(tmp_path / "bad.onnx", ["b"], num_threads=1)
    with pytest.raises(ConfigError, match="can't be run"):
        session.run({"a": np.ones(4, np.float32)})
    assert capfd.readouterr() == ("", "")


def test_an_export_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(CARD))
    with pytest.raises(ConfigError, match=r"names no tokenizer\.json"):
        ExportedModel(tmp_path)


@pytest.mark.parametrize("text", ["{}", "not JSON", ""])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is no tokenizer"):
        load_tokenizer(path, max_tokens=8)


def test_a_band_is_for_sound_of_one_rate(tmp_path: Path) -> None:
    times = CARD["timebase"] | {"sample_rate_hz": 640}
    files = {"tokenizer.json": "0" * 64}
    card = CARD | {"timebase": times, "files": files, "graphs": {"band": GRAPH}}
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match=r"expected timebase\.sample_rate_hz 16000"):
        OnnxPipeline(ExportedModel(tmp_path))
