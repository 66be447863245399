"""Scores by category, for tracks whose labels are categories.

In:   records of clips, the track.
Out:  rows of text: one a category with enough clips, one column a system and measure.

Distances between sets need hundreds of clips, so a category has the measures of single clips only:
KL by tagger, and the metrics of plugins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from omni2sound.bench.report.tables import interval_of, value_of
from omni2sound.bench.scoring.evaluate import ClipRecord
from omni2sound.bench.stats.bootstrap import bootstrap_mean
from omni2sound.bench.systems.system import ORACLE
from omni2sound.bench.tracks.folder import CATEGORIES
from omni2sound.bench.tracks.track import Track

LEAST_CLIPS = 10


def category_rows(track: Track, records: Sequence[ClipRecord]) -> list[list[str]]:
    """Return header and rows; empty if the track has fewer than two categories with 10 clips."""
    if track.info.built.get("labels") != CATEGORIES:
        return []
    label_of = {clip.clip_id: clip.label for clip in track.clips}
    sizes = Counter(label_of.values())
    labels = [label for label in sorted(sizes) if sizes[label] >= LEAST_CLIPS]
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for record in records:
        if record.system == ORACLE:
            continue
        system = record.system if record.task is None else f"{record.system} {record.task}"
        numbers = {f"KL {name}": kl for name, kl in record.kl.items()} | dict(record.metrics)
        for name, number in numbers.items():
            by_label = values.setdefault((system, name), {})
            by_label.setdefault(label_of[record.clip_id], []).append(number)
    if len(labels) < 2 or not values:
        return []
    rows = [["category", "clips", *(f"{system}: {name}" for system, name in values)]]
    for label in labels:
        cells = [label or "(none)", str(sizes[label])]
        for by_label in values.values():
            numbers_here = by_label.get(label, [])
            if len(numbers_here) < LEAST_CLIPS:
                cells.append("")
                continue
            estimate = bootstrap_mean(numbers_here)
            cells.append(f"{value_of(estimate)} {interval_of(estimate)}")
        rows.append(cells)
    return rows
