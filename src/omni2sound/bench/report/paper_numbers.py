"""What the paper reports of itself and of others, so that a report can show it beside.

In:   `published.json`.
Out:  `Published` rows.

Nothing here was measured by this project. The numbers were copied from public digests of
arXiv:2601.02731, tables of VGGSound-Omni; the networks behind the columns are those of the paper
(FAD of VGGish, FD probably of PANNs, unscaled cosines for IB and CLAP). They can be compared
with a row of ours only on the same track under `avbench-8s-v1`, and with care even then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

SOURCE = "published, not measured here: arXiv:2601.02731, as copied by public digests"


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A row of somebody's table."""

    track: str
    task: str
    system: str
    scores: Mapping[str, float]


def published_rows() -> tuple[Published, ...]:
    """All of them."""
    text = (resources.files(__package__) / "published.json").read_text(encoding="utf-8")
    return tuple(Published(**row) for row in json.loads(text))
