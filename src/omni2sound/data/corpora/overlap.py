"""Finds duplicates and leaks between splits, in one or several corpora.

In:   manifests.
Out:  `Overlap`s: pairs of clips from one source, or with nearly the same sound; the manifests
      without them.

A *leak* is a pair of clips in different splits: a score on the held-out one is meaningless. Clips
of one source leak wherever in it they begin: voice, place and microphone are the same. A
*duplicate* is a pair in one split; clips of one source are duplicates only if they overlap in time.

What not to get wrong: corpora share sources. AudioCaps, WavCaps and AudioSet use the same videos in
different splits, so check all manifests of a training run together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from omni2sound.data.corpora.finding.fingerprint import (
    SAMPLE_RATE_HZ,
    Fingerprint,
    FingerprintIndex,
    fingerprint,
)
from omni2sound.data.corpora.manifest import Clip, Manifest
from omni2sound.data.workers import Workers
from omni2sound.errors import UserError
from omni2sound.media import read_audio

_log = logging.getLogger(__name__)

_HELD_OUT = {"test": 0, "val": 1, "train": 2}
"""Of a pair the clip with the smaller number is kept."""
SAME_START_S = 1.0
"""Clips of one source that begin within this are the same stretch of it."""
MAX_COMPARED_S = 60.0
"""Largest compared length; long recordings are compared by their beginning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRef:
    """A clip and the number of its manifest."""

    manifest: int
    clip: Clip


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Two clips, of which the second should be dropped.

    Attributes:
        kind: "leak" or "duplicate".
        by: "source" or "sound": criterion that found it.
        kept: The held-out or first clip.
        dropped: The other clip.
        detail: The source, or how much of the sound agrees.
    """

    kind: Literal["leak", "duplicate"]
    by: Literal["source", "sound"]
    kept: ClipRef
    dropped: ClipRef
    detail: str


def _refs(manifests: Sequence[Manifest]) -> Iterator[ClipRef]:
    """List every clip, held-out ones first."""
    every = [ClipRef(manifest=i, clip=c) for i, m in enumerate(manifests) for c in m.clips]
    return iter(sorted(every, key=lambda ref: _HELD_OUT[ref.clip.split]))


def same_source(manifests: Sequence[Manifest]) -> tuple[Overlap, ...]:
    """Find pairs from one source; each clip is dropped at most once."""
    by_source: dict[str, list[ClipRef]] = {}
    for ref in _refs(manifests):
        if ref.clip.source:
            by_source.setdefault(ref.clip.source, []).append(ref)
    found = []
    for source, refs in by_source.items():
        for index, ref in enumerate(refs):
            earlier = refs[:index]
            leak = next((e for e in earlier if e.clip.split != ref.clip.split), None)
            again = next((e for e in earlier if _overlap_in_time(e.clip, ref.clip)), None)
            kept = leak or again
            if kept is not None:
                kind: Literal["leak", "duplicate"] = "leak" if leak else "duplicate"
                found.append(Overlap(kind=kind, by="source", kept=kept, dropped=ref, detail=source))
    return tuple(found)


def _overlap_in_time(a: Clip, b: Clip) -> bool:
    if a.source_start_s is None or b.source_start_s is None:
        return True  # unknown: they may overlap
    begin_a, begin_b = a.source_start_s, b.source_start_s
    first = a if begin_a <= begin_b else b
    length_s = float("inf") if first.duration_s is None else first.duration_s
    return max(begin_a, begin_b) < min(begin_a, begin_b) + length_s


def same_sound(
    manifests: Sequence[Manifest],
    *,
    workers: Workers = Workers(),
    on_clip: Callable[[int, int], None] | None = None,
) -> tuple[Overlap, ...]:
    """Find pairs with nearly the same sound; unreadable media are skipped with a warning."""
    refs = list(_refs(manifests))
    sounds = [
        (
            manifests[r.manifest].media / r.clip.sound_file,
            r.clip.start_s,
            MAX_COMPARED_S if r.clip.duration_s is None else min(r.clip.duration_s, MAX_COMPARED_S),
        )
        for r in refs
    ]
    prints = workers.map_in_order(_read_fingerprint, sounds, on_job=on_clip)
    found: dict[int, Overlap] = {}
    for match in FingerprintIndex(prints).matches(enumerate(prints)):
        kept, dropped = refs[match.first], refs[match.second]
        leak = kept.clip.split != dropped.clip.split
        before = found.get(match.second)
        if before is None or (leak and before.kind == "duplicate"):
            found[match.second] = Overlap(
                kind="leak" if leak else "duplicate",
                by="sound",
                kept=kept,
                dropped=dropped,
                detail=f"{match.overlap_s:.1f} s, {100 * match.bit_errors:.0f} % of bits differ",
            )
    return tuple(found[i] for i in sorted(found))


def _read_fingerprint(sound: tuple[Path, float, float]) -> Fingerprint:
    path, start_s, duration_s = sound
    try:
        audio = read_audio(
            path,
            sample_rate_hz=SAMPLE_RATE_HZ,
            mono=True,
            start_s=start_s,
            duration_s=duration_s,
        )
    except (UserError, OSError) as error:
        _log.warning("not compared: %s", error)
        return fingerprint(np.zeros(0, np.float32))  # matches nothing
    return fingerprint(audio.samples_CN[0])


def without(manifest: Manifest, number: int, overlaps: Iterable[Overlap]) -> tuple[Clip, ...]:
    """Return the clips of a manifest without those that overlaps drop.

    Args:
        manifest: The manifest.
        number: Its index among the checked manifests.
        overlaps: Overlaps of all manifests.
    """
    gone = {
        (o.dropped.clip.corpus, o.dropped.clip.clip_id)
        for o in overlaps
        if o.dropped.manifest == number
    }
    return tuple(c for c in manifest.clips if (c.corpus, c.clip_id) not in gone)


def merge(
    manifests: Sequence[Manifest], overlaps: Iterable[Overlap]
) -> tuple[tuple[Clip, ...], ...]:
    """Return the clips of each manifest with duplicates merged and leaks dropped.

    Of clips that are duplicates of each other one stays: the first with a video, else the first.
    It gets the captions and labels that it lacks from those that are the same stretch of sound: by
    fingerprint, or of one source from the same second. Others are dropped as by `without`.
    """
    found = list(overlaps)
    leaked = {_key(o.dropped) for o in found if o.kind == "leak"}
    kept_by: dict[tuple[int, str, str], ClipRef] = {}
    merged: dict[tuple[int, str, str], Clip] = {}
    for overlap in found:
        if overlap.kind == "leak" or _key(overlap.dropped) in leaked:
            continue
        first = kept_by.get(_key(overlap.kept), overlap.kept)
        other = overlap.dropped
        if first.clip.video is None and other.clip.video is not None:
            first, other = other, first
        taken = merged.get(_key(first), first.clip)
        given = merged.pop(_key(other), other.clip)
        same = overlap.by == "sound" or _starts_alike(first.clip, other.clip)
        merged[_key(first)] = _with_texts(taken, given) if same else taken
        for key in [k for k, v in kept_by.items() if _key(v) == _key(other)]:
            kept_by[key] = first
        kept_by[_key(other)] = kept_by[_key(first)] = first
    gone = leaked | {key for key, kept in kept_by.items() if _key(kept) != key}
    return tuple(
        tuple(
            merged.get((number, clip.corpus, clip.clip_id), clip)
            for clip in manifest.clips
            if (number, clip.corpus, clip.clip_id) not in gone
        )
        for number, manifest in enumerate(manifests)
    )


def _key(ref: ClipRef) -> tuple[int, str, str]:
    return ref.manifest, ref.clip.corpus, ref.clip.clip_id


def _starts_alike(a: Clip, b: Clip) -> bool:
    if a.source_start_s is None or b.source_start_s is None:
        return False
    return abs(a.source_start_s - b.source_start_s) < SAME_START_S


def _with_texts(clip: Clip, other: Clip) -> Clip:
    """Add the texts of another clip of the same sound, after its own."""

    def both(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*getattr(clip, name), *getattr(other, name))))

    return replace(
        clip,
        captions=both("captions"),
        audio_captions=both("audio_captions"),
        labels=both("labels"),
        quality=other.quality if clip.quality is None else clip.quality,
    )
