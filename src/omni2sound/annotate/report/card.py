"""Data set card of an export, as the Hugging Face Hub reads it.

In:   counts of the run, names of the splits.
Out:  the text of `README.md`: metadata for the Hub, then what a reader should know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omni2sound.annotate.report.shards import HUB_SPLITS
from omni2sound.annotate.runs import RunSettings

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def card(
    counted: Mapping[str, Any],
    settings: RunSettings,
    folders: Mapping[str, Sequence[str]],
    *,
    sounds: bool,
) -> str:
    """Compose the card.

    Args:
        counted: Contents of `statistics.json`.
        settings: Settings of the run.
        folders: Splits of each folder of Parquet files, by its configuration's name.
        sounds: Whether the sounds are part of the data set.
    """
    models = "\n".join(f"| {role} | `{name}` |" for role, name in counted["models"].items())
    size = next((name for most, name in _SIZES if counted["kept"] < most), "10M<n<100M")
    media = (
        "The sounds are in the column `sound`; they stay under the terms of their sources"
        if sounds
        else "The sounds and videos are not part of this data set; their terms are those of their "
        "sources"
    )
    return f"""---
pretty_name: Captions of {counted["kept"]} clips
language:
- en
task_categories:
- text-to-audio
tags:
- audio
- captions
- video
size_categories:
- {size}
license: other
license_name: terms-of-the-sources
configs:
{_configs(folders)}---

# Captions of {counted["kept"]} clips

Made by `omni2sound annotate` from `{Path(settings.manifest).name}`: {counted["ended"]} clips ended,
{counted["kept"]} kept, {counted["dropped"]} dropped by a rule, {counted["failed"]} failed.
{counted["escalated"]} went to the senior.

| role | model |
|---|---|
{models}
| wording of local captions | `{settings.wording}` |

Captions were written by models; people checked {counted["reviewed"]} clips. They may name
sounds that are not there. `quality` is the caption-audio score of the scorer above, on its own
scale; `own_captions` and `own_labels` are those that the clips came with.

{media} (`licence`, `source`). Terms of the models' outputs are those of their providers.
"""


def _configs(folders: Mapping[str, Sequence[str]]) -> str:
    lines = []
    for name, splits in folders.items():
        folder = "data" if name == "default" else name
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in (s for s in HUB_SPLITS.values() if s in splits):
            lines += [f"  - split: {split}", f"    path: {folder}/{split}-*"]
    return "".join(f"{line}\n" for line in lines)
