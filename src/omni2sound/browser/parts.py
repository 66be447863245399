"""The exported model as a page loads it: few, small files, and a list of them.

    PARTS/
      index.json           card, rules of words, and of each file its size and SHA-256
      <name>.packed        graphs, numbers (`numbers`) and tokenizer, with gzip
      attribution.tsv      of the model, to be read

In:   an exported folder.
Out:  the folder of parts; in the cache, so that it is made once.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

from omni2sound.browser.numbers import Span, gzipped, pack
from omni2sound.config import to_json
from omni2sound.errors import ConfigError
from omni2sound.files import atomic_folder, cache_dir, write_json
from omni2sound.generate.going_on import OTHERWISE
from omni2sound.generate.onnx.folder import CARD, TOKENIZER, ExportedModel, data_name
from omni2sound.generate.words.kinds import COMPOUND, GOING_ON, all_kinds, kinds_of_stems
from omni2sound.generate.words.notes import SPEECH
from omni2sound.weights import ATTRIBUTION_FILE

logger = logging.getLogger(__name__)

INDEX = "index.json"
FORMAT = 1
"""Version of the folder's layout, which the page checks."""
_NEEDED = ("text", "vision", "sync", "prepare", "denoise", "decoder", "level", "band")
_OPTIONAL = ("level", "band")
_HALVED = ("band",)
"""Rounded here to float16, which changes a sound by -85 dB; in the decoder it would by -43 dB."""
_FIELDS = (
    *("name", "timebase", "sampler", "defaults", "sample_rate_hz", "latent_dim", "goes_on"),
    *("text", "vision", "sync"),
)


def parts_of(exported: Path) -> Path:
    """The folder of parts of an exported folder, made if it is not there.

    Raises:
        ConfigError: The exported folder does not hold together.
        IntegrityError: A file's bytes are not those that its card recorded.
    """
    digest = hashlib.sha256((exported / CARD).read_bytes()).hexdigest()
    folder = cache_dir() / "browser" / f"{digest[:16]}-{FORMAT}"
    if not (folder / INDEX).is_file():
        logger.info("packing the model for browsers, about half a minute")
        make_parts(exported, folder)
    return folder


def make_parts(exported: Path, to: Path) -> None:
    """Write the folder of parts.

    Args:
        exported: A folder of `omni2sound export`.
        to: Folder to write; replaced if it is one of parts.

    Raises:
        ConfigError: The exported folder does not hold together.
        IntegrityError: A file's bytes are not those that its card recorded.
    """
    model = ExportedModel(exported)
    graphs = [name for name in _NEEDED if model.has(name) or name not in _OPTIONAL]
    if missing := [name for name in graphs if not model.has(name)]:
        raise ConfigError(f"{exported}: has no graph {missing[0]!r}; export it again")
    card = to_json(model.card)
    with atomic_folder(to, kind="folder of parts", marker=INDEX) as folder:
        path = model.verified(TOKENIZER, model.card.files[TOKENIZER])
        files = [_write(folder, TOKENIZER, path.read_bytes(), None)]
        for name in graphs:
            graph = model.verified(f"{name}.onnx", model.card.graphs[name].sha256)
            files.append(_write(folder, graph.name, graph.read_bytes(), None))
            if data_name(name) in model.card.files:
                numbers = model.verified(data_name(name), model.card.files[data_name(name)])
                packed, spans = pack(graph, numbers, halved=name in _HALVED)
                files.append(_write(folder, numbers.name, packed, spans))
        if ATTRIBUTION_FILE in model.card.files:
            shutil.copyfile(exported / ATTRIBUTION_FILE, folder / ATTRIBUTION_FILE)
        index = {
            "format": FORMAT,
            "card": {field: card[field] for field in _FIELDS},
            "rules": word_rules(),
            "files": files,
        }
        write_json(folder / INDEX, index)


def word_rules() -> dict[str, Any]:
    """What the page needs to know of words: see `generate.words.kinds` and `going_on`."""
    return {
        "stems": {stem: sorted(kinds) for stem, kinds in kinds_of_stems().items()},
        "going_on": {k.class_id: list(k.verbs) for k in all_kinds() if k.class_id in GOING_ON},
        "compound": COMPOUND.pattern,
        "otherwise": OTHERWISE.pattern,
        "speech": SPEECH.pattern,
    }


def _write(folder: Path, name: str, data: bytes, spans: list[Span] | None) -> dict[str, Any]:
    packed = gzipped(data)
    (folder / f"{name}.packed").write_bytes(packed)
    size = len(data) if spans is None else sum(length for _, length, _ in spans)
    entry: dict[str, Any] = {
        "name": name,
        "path": f"{name}.packed",
        "bytes": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "size": size,
    }
    return entry if spans is None else {**entry, "spans": spans}
