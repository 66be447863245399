"""Exports of `annotate` as others read them: `datasets`, `webdataset`, the Hub's card metadata.

A difference of 0 means that rows and samples are equal. The Hub itself validates cards by a
service; what can be checked offline is what `huggingface_hub` and `datasets` read of a card.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.parity._table import Row, relative
from omni2sound.annotate.build import CrewSettings, annotate_manifest
from omni2sound.annotate.report.export import ExportOptions, export
from omni2sound.annotate.report.shards import HUB_SPLITS
from omni2sound.data.corpora.manifest import SPLITS, Clip, read_manifest, write_manifest
from tests.annotate.crews import SCRIPT

RATE_HZ = 16_000
NUM_CLIPS = 9


@contextmanager
def exported() -> Iterator[Path]:
    """A scripted run over sounds of three splits, exported with everything."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        clips = []
        for number in range(NUM_CLIPS):
            noise = 0.1 * rng.standard_normal(RATE_HZ // 2 + number)
            soundfile.write(folder / f"{number}.wav", noise, RATE_HZ, subtype="PCM_16")
            clips.append(
                Clip(
                    clip_id=f"c{number}",
                    corpus="made",
                    split=SPLITS[number % 3],
                    audio=f"{number}.wav",
                )
            )
        write_manifest(folder / "clips.jsonl", clips, media=folder)
        low = {"made/c4": {"similarity": None, "score": 0.01}}
        script = {**SCRIPT, "scorer": {**SCRIPT["scorer"], **low}}
        (folder / "script.json").write_text(json.dumps(script))
        model = f"scripted:{folder / 'script.json'}"
        crew = CrewSettings(junior=model, senior=model, vision=model)
        asyncio.run(annotate_manifest(folder / "clips.jsonl", folder / "run", crew))
        everything = ExportOptions(sounds=True, tars=True, dropped=True)
        export(folder / "run", folder / "export", everything)
        yield folder / "export"


def _worst(export: Path, found: dict[str, tuple[str, str, Any]]) -> float:
    """Compare split, caption and samples of every clip with its manifest and file."""
    manifest = read_manifest(export / "manifest.jsonl")
    if set(found) != {clip.clip_id for clip in manifest.clips}:
        raise ValueError(f"clips differ: {sorted(found)}")
    worst = 0.0
    for clip in manifest.clips:
        split, caption, samples = found[clip.clip_id]
        if (split, caption) != (HUB_SPLITS[clip.split], clip.captions[0]):
            raise ValueError(f"{clip.clip_id}: {split}, {caption!r}")
        ours, _ = soundfile.read(manifest.media / clip.sound_file)
        worst = max(worst, relative(torch.tensor(ours), torch.tensor(np.asarray(samples))))
    return worst


def in_datasets() -> float:
    """Open the folder as the Hub's users do, and decode the sounds."""
    with exported() as export, tempfile.TemporaryDirectory() as cache:
        import datasets

        opened = datasets.load_dataset(str(export), cache_dir=cache)
        found = {
            row["clip_id"]: (split, row["captions"][0], row["sound"]["array"])
            for split, rows in opened.items()
            for row in rows
        }
        dropped = datasets.load_dataset(str(export), "dropped", cache_dir=cache)
        if {split: len(rows) for split, rows in dropped.items()} != {"validation": 1}:
            raise ValueError(f"dropped clips: {dropped}")
        return _worst(export, found)


def in_webdataset() -> float:
    """Read the tar files."""
    with exported() as export:
        import webdataset

        found = {}
        for path in sorted((export / "tars").glob("*.tar")):
            for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False):
                row = json.loads(sample["json"])
                samples, _ = soundfile.read(io.BytesIO(sample["flac"]))
                split = path.name.partition("-")[0]
                found[row["clip_id"]] = (split, row["captions"][0], samples)
        return _worst(export, found)


def card() -> float:
    """Read the card as the Hub's libraries do; every fault raises."""
    with exported() as export:
        import datasets
        from datasets.utils.metadata import MetadataConfigs
        from huggingface_hub import DatasetCard

        data = DatasetCard.load(export / "README.md", ignore_metadata_errors=False).data
        configs = MetadataConfigs.from_dataset_card_data(data)
        folder = Path(datasets.__file__).with_name("utils") / "resources"
        sizes = json.loads((folder / "size_categories.json").read_text())
        languages = json.loads((folder / "languages.json").read_text())
        wrong = [
            *(size for size in data.size_categories if size not in sizes),
            *(language for language in data.language if language not in languages),
            *({"default", "dropped"} ^ set(configs)),
        ]
        if wrong or configs.get_default_config_name() != "default":
            raise ValueError(f"the card has {wrong}, default {configs.get_default_config_name()}")
        return 0.0


def _row(against: str, what: str, measure: Callable[[], float]) -> Row:
    return Row(part="Hub export", against=against, what=what, limit=0.0, measure=partial(measure))


ROWS = [
    _row("datasets 3.6.0", "rows by split, decoded sounds, dropped clips", in_datasets),
    _row("webdataset 1.0.2", "captions and sounds in tar files", in_webdataset),
    _row("huggingface_hub and datasets 3.6.0", "metadata of the card, offline", card),
]
