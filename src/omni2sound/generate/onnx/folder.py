"""The exported folder: ONNX graphs of a model beside a card that says what they are.

    FOLDER/
      model.json       settings, and of each graph its digest, inputs, outputs and measured error
      <part>.onnx      text, vision, sync, detector, labeller, tagger, prepare, denoise, level,
                       decoder, band; optimised for CPUs
      <part>.data      the numbers of each, in place in the file: memory holds those that are used
      tokenizer.json   of the text encoder
      attribution.tsv  licence and author of every recording and picture learnt from

In:   a folder that `omni2sound export` wrote.
Out:  `ExportedModel`: its card, and a session of each graph when it is first needed.

A graph is read only if its bytes are those that the card recorded.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.config import from_json
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.errors import ConfigError, IntegrityError, MissingPartError
from omni2sound.files import cache_dir, file_sha256
from omni2sound.generate.request import Defaults
from omni2sound.readers import read_json
from omni2sound.timebase import TimeBase
from omni2sound.weights import ModelCard

CARD = "model.json"
FORMAT = 1
"""Version of the folder's layout; other versions are refused."""
GRAPHS = "4"
"""Version of what the graphs compute: raised when a release changes it, or a bundled network."""
RUNTIME = "onnxruntime"
NO_REPORTS = "ORT_DISABLE_TELEMETRY"
"""Read by ONNX Runtime when it is first imported. Its builds for Linux and macOS otherwise write
facts about machine and sessions into the user's cache folder, and send them to its maker."""
TOKENIZER = "tokenizer.json"
_PLAIN_NAME = re.compile(r"\w[\w.-]*")
_FRACTIONS = ("near", "same")
_SIDES = ("height_px", "width_px")
_RANGES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "text": {"dim": (1, 2**16), "max_tokens": (1, 2**13), "near": (-2, 2), "same": (-2, 2)},
    "vision": {"dim": (1, 2**16), "height_px": (1, 2**12), "width_px": (1, 2**12)},
    "sync": {"dim": (1, 2**16), "side_px": (1, 2**12), "fps": (1, 1000)},
}
_MOST_PER_S = 10_000_000
"""Most values of one kind for a second of sound, above any model: arrays are made by the card."""
SHIPPED, NUMBERS = "onnx", "numbers.json"
"""Folder in a model folder with graphs that ship with it, and what says where their numbers are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphFile:
    """One graph of the folder."""

    sha256: str
    """Digest of the file."""
    inputs: tuple[str, ...]
    """Names of its inputs, in order."""
    outputs: tuple[str, ...]
    """Names of its outputs, in order."""
    error: float
    """Largest difference from torch, relative to the largest value, as measured at export."""

    def __post_init__(self) -> None:
        if not self.outputs:
            raise ConfigError("expected at least one name, got none", field="outputs")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportCard:
    """The fields of `model.json`."""

    format: int
    name: str
    """The model's name."""
    sha256: str
    """Digest of the model that was exported."""
    precision: str
    """Of the weights: "float32" or "int8"."""
    opset: int
    """Version of ONNX's operators."""
    versions: Mapping[str, str]
    """`GRAPHS` as "graphs", and the libraries that wrote the graphs."""
    timebase: TimeBase
    sampler: SamplerConfig
    defaults: Defaults
    sample_rate_hz: int
    """Samples per second of the model's sound."""
    latent_dim: int
    """Channels of a latent frame."""
    goes_on: bool
    """Whether continuous sounds are made to go on."""
    silence: tuple[float, ...]
    """The latent frame of silence."""
    text: Mapping[str, float]
    """Of the text encoder: `dim`, `max_tokens`, `near`, `same`."""
    vision: Mapping[str, int]
    """Of the picture encoder: `dim`, `height_px`, `width_px`."""
    sync: Mapping[str, int]
    """Of the sync encoder: `dim`, `side_px`, `fps`."""
    tags: tuple[str, ...]
    """Names of the tagger's classes."""
    graphs: Mapping[str, GraphFile]
    files: Mapping[str, str]
    """SHA-256 of each other file: the graphs' numbers, the tokenizer, the attribution."""

    def __post_init__(self) -> None:
        for name in ("graphs", "files"):
            for outside in itertools.filterfalse(_PLAIN_NAME.fullmatch, getattr(self, name)):
                raise ConfigError(f"expected plain names, got {outside[:80]!r}", field=name)
        for name, ranges in _RANGES.items():
            for key, (least, most) in ranges.items():
                value = getattr(self, name).get(key)
                if value is None or not least <= value <= most:
                    raise ConfigError(
                        f"expected {key} from {least} to {most}, got {value!r:.40}", field=name
                    )
                if key not in _FRACTIONS and value != int(value):
                    raise ConfigError(
                        f"expected a whole number as {key}, got {value!r:.40}", field=name
                    )
        if len(self.silence) != self.latent_dim:
            raise ConfigError(
                f"expected {self.latent_dim} numbers, one per channel, got {len(self.silence)}",
                field="silence",
            )
        times, (height_px, width_px) = self.timebase, (self.vision[k] for k in _SIDES)
        per_s: Mapping[str, int | Fraction] = {
            "timebase.sample_rate_hz": times.sample_rate_hz,
            "sample_rate_hz": self.sample_rate_hz,
            "latent_dim": times.latent_rate_hz * self.latent_dim,
            "sync": times.latent_rate_hz * self.sync["dim"],
            "vision": times.vision_fps * max(height_px * width_px, self.vision["dim"]),
            "sync.side_px": times.sync_fps * self.sync["side_px"] ** 2,
        }
        for name, count in per_s.items():
            if not 1 <= count <= _MOST_PER_S:
                raise ConfigError(
                    f"expected from 1 to {_MOST_PER_S:,} values a second, got {float(count):.3g}",
                    field=name,
                )


def data_name(name: str) -> str:
    """Name of the file with a graph's numbers."""
    return f"{name}.data"


def is_exported(folder: Path) -> bool:
    """Whether a folder is one of `omni2sound export`."""
    return (folder / CARD).is_file()


def default_folder(model_sha256: str) -> Path:
    """Where the export of a model is looked for: in the cache, by the model's digest."""
    return cache_dir() / "exported" / model_sha256[:16]


def has_runtime() -> bool:
    """Whether ONNX Runtime is installed."""
    return importlib.util.find_spec(RUNTIME) is not None


def check_runtime() -> None:
    """Refuse to begin without ONNX Runtime.

    Raises:
        MissingPartError: It is not installed.
    """
    if not has_runtime():
        raise MissingPartError(
            f"this engine needs {RUNTIME}; run: pip install {RUNTIME}, or use engine torch"
        )


def import_runtime() -> Any:
    """Import ONNX Runtime with its telemetry off, unless the user's own setting says otherwise.

    Raises:
        MissingPartError: It is not installed.
    """
    check_runtime()
    is_off = os.environ.setdefault(NO_REPORTS, "1") == "1"
    ort: Any = importlib.import_module(RUNTIME)  # optional, so looked for by name
    if is_off:  # for somebody who imported it before us: stops most, but not what was reported then
        ort.disable_telemetry_events()
    return ort


def read_card(folder: Path) -> ExportCard:
    """Read and check `model.json`.

    Raises:
        ConfigError: It is missing or malformed.
    """
    path = folder / CARD
    try:
        data = read_json(path)
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no exported model: it has no {CARD}") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise ConfigError(
            f"{path} has format {data.get('format')!r:.40}, this release reads {FORMAT}; export "
            "the model again"
        )
    return from_json(ExportCard, data, where=str(path))


def check_current(export: ExportCard, folder: Path, model: ModelCard) -> None:
    """Refuse an export that no longer stands for its model.

    Raises:
        ConfigError: It is of another release's graphs, or the model's defaults have changed.
    """
    found, again = export.versions.get("graphs", "0"), how_to_export(model.folder, model.name)
    if found != GRAPHS:
        raise ConfigError(
            f"{folder} has graphs of version {found:.40}, this release makes version {GRAPHS}; "
            f"run: {again}"
        )
    defaults = from_json(Defaults, model.defaults, where="card.defaults")
    if (export.name, export.defaults) != (model.name, defaults):
        raise ConfigError(
            f"{folder} was made when the model had another name or other defaults; run: {again}"
        )


def is_usable(model: ModelCard) -> bool:
    """Whether the cache holds a whole export that stands for a model."""
    folder = default_folder(model.sha256)
    try:
        exported = ExportedModel(folder)
        check_current(exported.card, folder, model)
        exported.verify()
    except (ConfigError, IntegrityError, OSError):
        return False
    return True


def ships_graphs(model: Path) -> bool:
    """Whether a model folder holds graphs from which `omni2sound setup` makes an export."""
    return (model / SHIPPED / NUMBERS).is_file()


def how_to_export(model: Path, name: str | Path) -> str:
    """The command that makes the export of a model, which is in this folder."""
    return "omni2sound setup" if ships_graphs(model) else f"omni2sound export {name}"


def default_threads() -> int:
    """Threads of one operation: OMP_NUM_THREADS, or the cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Session:
    """One graph, ready to run."""

    def __init__(self, path: Path, outputs: Sequence[str], *, num_threads: int) -> None:
        """Load a graph.

        Raises:
            MissingPartError: ONNX Runtime is not installed.
            ConfigError: The runtime can't read the graph.
        """
        ort = import_runtime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 4  # errors are raised; its log shows names as they are
        # Sessions take turns; threads of one that is done must not spin beside the next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(
                path, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own classes have no common base that it exports
            raise ConfigError(f"{path} can't be read by {RUNTIME}: {str(error)[:200]}") from error
        self._path, self._outputs = path, list(outputs)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Compute the outputs, in order.

        Raises:
            ConfigError: The graph takes other inputs, or has other outputs.
        """
        arrays = {name: np.ascontiguousarray(x) for name, x in inputs.items()}
        try:
            made: list[NDArray[np.float32]] = self._session.run(self._outputs, arrays)
        except Exception as error:  # as above
            raise ConfigError(
                f"{self._path} can't be run by {RUNTIME}: {str(error)[:200]}"
            ) from error
        return made


class ExportedModel:
    """An exported folder, whose graphs are loaded when first needed."""

    def __init__(self, folder: Path, *, num_threads: int | None = None) -> None:
        """Read the card.

        Raises:
            ConfigError: The folder does not hold together.
        """
        self.folder = folder
        self.card = read_card(folder)
        if TOKENIZER not in self.card.files:
            raise ConfigError(f"{folder}: its {CARD} names no {TOKENIZER}; export the model again")
        self.num_threads = num_threads or default_threads()
        self._sessions: dict[str, Session] = {}
        self._verified: set[str] = set()
        self._one_at_a_time = threading.RLock()

    def has(self, name: str) -> bool:
        """Whether there is a graph of this name."""
        return name in self.card.graphs

    def session(self, name: str) -> Session:
        """A graph, ready to run, and kept; see `load`."""
        with self._one_at_a_time:
            if name not in self._sessions:
                self._sessions[name] = self.load(name)
            return self._sessions[name]

    def release(self) -> None:
        """Drop the graphs that were kept."""
        with self._one_at_a_time:
            self._sessions.clear()

    def load(self, name: str) -> Session:
        """Load a graph.

        Raises:
            ConfigError: The folder has no such graph, or it can't be read.
            IntegrityError: The file's bytes are not those that the card recorded.
        """
        if not self.has(name):
            raise ConfigError(f"{self.folder}: has no graph {name!r}; export it again")
        graph, data = self.card.graphs[name], data_name(name)
        path = self.verified(f"{name}.onnx", graph.sha256)
        if data in self.card.files:
            self.verified(data, self.card.files[data])
        return Session(path, graph.outputs, num_threads=self.num_threads)

    def verify(self) -> None:
        """Read every file once, so that damage is found before anything is computed.

        Raises:
            IntegrityError: One is missing, or has another digest.
        """
        graphs = {f"{name}.onnx": graph.sha256 for name, graph in self.card.graphs.items()}
        for name, sha256 in (graphs | dict(self.card.files)).items():
            self.verified(name, sha256)
            self._verified.add(name)

    def verified(self, name: str, sha256: str) -> Path:
        """Path of a file with this digest.

        Raises:
            IntegrityError: It is missing, or has another digest.
        """
        path = self.folder / name
        if name in self._verified:
            return path
        found = file_sha256(path) if path.is_file() else "no file"
        if found != sha256:
            raise IntegrityError(
                f"{path}: sha256 is {found[:12]}..., {CARD} says {sha256[:12]}...; export the "
                "model again"
            )
        return path
