"""Numbers of single clips by published networks, made once for each sound and cached by digest.

In:   where the networks are; a track; sounds with their clips.
Out:  for each sound its numbers by `NETWORK_COLUMNS`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from omni2sound.bench.metrics.network_scores import (
    NETWORKS,
    VERSION,
    AskedClip,
    ClipNetworks,
    Span,
    network_scores,
    rate_of,
)
from omni2sound.bench.scoring.cache import entry_key, entry_path, put_entry
from omni2sound.bench.scoring.options import ClipNetworkSources
from omni2sound.bench.scoring.sounds import DecodedSound, OnSound, Pair, true_events
from omni2sound.bench.tracks.scenes import stored_recordings
from omni2sound.bench.tracks.track import Track, TrackClip, open_track
from omni2sound.readers import read_object
from omni2sound.runtime import resolve_device
from omni2sound.weights import networks_sha256


@cache
def _networks(sources: ClipNetworkSources) -> ClipNetworks:
    """Load once in each process."""
    device = resolve_device(sources.device)
    return sources.load(sources.pe_av, sources.pe_a_frame, sources.aesthetics, device)


@cache
def network_digests(sources: ClipNetworkSources) -> dict[str, str]:
    """SHA-256 of the weights and settings of each network that is there."""
    networks = _networks(sources)
    there = {name: getattr(networks, name) for name in NETWORKS}
    return {
        name: hashlib.sha256(f"{networks_sha256(part)} {part.settings}".encode()).hexdigest()
        for name, part in there.items()
        if part is not None
    }


def measure_by_networks(
    track: Track,
    sounds: Iterable[Pair],
    sources: ClipNetworkSources,
    *,
    cache_folder: Path,
    on_sound: OnSound | None = None,
) -> list[dict[str, float]]:
    """Measure every sound that is not in the cache.

    Args:
        track: The track of the clips.
        sounds: Each with its clip.
        sources: The networks.
        cache_folder: Folder of entries.
        on_sound: Called with (sounds done, sounds in all).

    Returns:
        For each sound, in their order, its numbers.

    Raises:
        UserError: A sound or video can't be read.
    """
    work = partial(_measure, track.folder, sources, cache_folder, network_digests(sources))
    return sources.workers.map_in_order(work, list(sounds), on_job=on_sound)


def _measure(
    folder: Path,
    sources: ClipNetworkSources,
    cache_folder: Path,
    digests: dict[str, str],
    pair: Pair,
) -> dict[str, float]:
    clip, sound = pair
    track = open_track(folder)
    decoded, found = DecodedSound(sound.path), dict[str, float]()
    for name, sha256 in digests.items():
        key = entry_key(
            kind="clip network",
            sound=sound.sha256,
            network=name,
            weights=sha256,
            network_version=VERSION,
            duration_s=clip.duration_s,
            **_compared(track, clip),
        )
        path = entry_path(cache_folder, key).with_suffix(".json")
        with suppress(FileNotFoundError, ValueError):  # ValueError: cut off
            found |= read_object(path)
            continue
        waveform_N = decoded.fitted(clip, rate_of(name))
        numbers = network_scores(_networks(sources), name, waveform_N, _asked(track, clip))
        put_entry(path, json.dumps(numbers).encode())
        found |= numbers
    return found


def _compared(track: Track, clip: TrackClip) -> dict[str, Any]:
    """Everything of a clip that a number depends on."""
    digests = track.digests[clip.clip_id]
    return {"caption": clip.caption, "video": digests.video, "truth": digests.truth}


def _asked(track: Track, clip: TrackClip) -> AskedClip:
    return AskedClip(
        caption=clip.caption,
        duration_s=clip.duration_s,
        video=None if clip.video is None else track.path(clip.video),
        events=_spans(track, clip),
    )


def _spans(track: Track, clip: TrackClip) -> tuple[Span, ...]:
    if clip.truth is None:
        return ()
    names = {c.class_id: c.names[0] for c in stored_recordings(track).catalogue.classes}
    events = true_events(track.path(clip.truth))
    return tuple((names[e.class_id], e.onset_s, e.offset_s) for e in events)
