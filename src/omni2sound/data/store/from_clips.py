"""Feature stores of the clips of a manifest.

In:   a manifest, a split, frozen encoders, the length of rows.
Out:  a folder that `rows.FeatureStore` reads; clips that can't be read are listed.

Training takes clips of one length, so a short recording is padded with silence (from `valid_s` on)
and a long one gives several evenly spread windows. The labels are the caption of a clip without
captions. Media that can't be decoded, or are silent, fail one by one.

What not to get wrong: rows depend on the manifest and the encoders alone, not on which clips share
a shard or a worker.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.data.corpora.manifest import Clip, Split, clip_to_json, read_manifest
from omni2sound.data.store.builder import BuildReport, build_store
from omni2sound.data.store.encode import ClipEncoders, EncoderSource, load_encoders
from omni2sound.data.store.index import ClipFailure
from omni2sound.data.store.rows import ClipFeatures
from omni2sound.data.workers import Share, Workers
from omni2sound.errors import UserError
from omni2sound.media import iter_frames, probe, read_audio
from omni2sound.readers import real_path

_log = logging.getLogger(__name__)

SHARD_CLIPS = 32
MAX_SHARDS = 4096
"""Shards of a large corpus hold more clips, so that there are never more files than this."""
MAX_CAPTIONS = 8
"""Largest number of captions of one clip that are encoded."""
MIN_VALID_S = 0.1
SILENCE = 1e-4
"""A clip whose loudest sample is below this (-80 dBFS) is silent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusOptions:
    """Options of rows."""

    window_s: float = 10.0
    """Length of each row."""
    max_windows: int = 3
    """Largest number of windows of one long clip (chosen)."""
    latents: bool = True
    """Store the latents of the waveform, for recipes that do not augment."""

    def __post_init__(self) -> None:
        if not MIN_VALID_S <= self.window_s <= 600:
            raise UserError(f"expected 0.1 to 600 seconds, got {self.window_s}", field="window_s")
        if self.max_windows < 1:
            raise UserError(f"expected 1 or more, got {self.max_windows}", field="max_windows")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One shard, as plain data for worker processes."""

    name: str
    clips: tuple[Clip, ...]
    media: Path
    encoders: EncoderSource
    options: CorpusOptions


def build_corpus_features(
    manifest: Path,
    out: Path,
    *,
    encoders: EncoderSource,
    split: Split = "train",
    options: CorpusOptions,
    media: Path | None = None,
    workers: Workers = Workers(),
    on_shard: Callable[[int, int], None] | None = None,
    share: Share | None = None,
) -> BuildReport:
    """Build every missing shard, or those of a share.

    Args:
        manifest: Manifest that `omni2sound data import` wrote.
        out: Store folder; created if missing.
        encoders: Encoders of the model to train.
        split: Split of the clips.
        options: Options of rows.
        media: Folder of the media. Default: the one that the manifest names.
        workers: Make the shards.
        on_shard: Called with (shards done, number of shards).
        share: Make these shards only, beside builders of other shares. Default: all.

    Raises:
        UserError: If the split is empty, or the media folder does not exist.
        ConfigError: If the manifest is malformed, or `out` holds other features.
    """
    whole = read_manifest(manifest)
    clips = whole.of_split(split)
    media = media or whole.media
    if not media.is_dir():
        raise UserError(f"{media}: no such folder; give the folder of the media", field="media")
    shard_clips = max(SHARD_CLIPS, math.ceil(len(clips) / MAX_SHARDS))
    listed = "".join(json.dumps(clip_to_json(c), sort_keys=True) + "\n" for c in clips)
    return build_store(
        out,
        description={
            "corpus": sorted({c.corpus for c in clips}),
            "clips_sha256": hashlib.sha256(listed.encode()).hexdigest(),
            "split": split,
            **encoders.describe(
                pictures=any(c.video is not None for c in clips), latents=options.latents
            ),
            "max_captions": MAX_CAPTIONS,
            **asdict(options),
        },
        attribution=_attribution(clips),
        jobs=[
            _Job(
                name=f"{split}-{first:08d}",
                clips=clips[first : first + shard_clips],
                media=real_path(media),
                encoders=encoders,
                options=options,
            )
            for first in range(0, len(clips), shard_clips)
        ],
        make=_rows,
        workers=workers,
        on_shard=on_shard,
        share=share,
    )


def _attribution(clips: tuple[Clip, ...]) -> str:
    """Count clips by corpus, licence and author, one a line."""
    counts = Counter((c.corpus, c.licence, c.author) for c in clips)
    rows = [("id", "licence", "attribution", "package", "path")]
    rows += [
        (f"{corpus}-{number}", licence, author, corpus, f"{count} clips")
        for number, ((corpus, licence, author), count) in enumerate(sorted(counts.items()), start=1)
    ]
    return "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)


def _rows(job: _Job) -> Iterator[ClipFeatures | ClipFailure]:
    encoders = load_encoders(job.encoders)
    for clip in job.clips:
        try:
            yield from _windows(clip, job, encoders)
        except (UserError, OSError) as error:  # damaged or gone; the other clips are still encoded
            _log.warning("%s: %s", clip.clip_id, error)
            yield ClipFailure(clip_id=clip.clip_id, reason=" ".join(str(error).split()))


def _windows(clip: Clip, job: _Job, encoders: ClipEncoders) -> Iterator[ClipFeatures]:
    starts = _starts(clip, job)
    texts = encoders.texts(_texts(clip))
    rows = []
    for number, start_s in enumerate(starts):
        name = clip.clip_id if len(starts) == 1 else f"{clip.clip_id}#{number}"
        sound_N, valid_s = _sound(clip, start_s, job, encoders)
        if np.abs(sound_N).max() < SILENCE:
            continue
        vision_TV = sync_LS = None
        if clip.video is not None:
            frames = _frames(job.media / clip.video, start_s, job.options.window_s, encoders)
            vision_TV, sync_LS = encoders.pictures(*frames, duration_s=job.options.window_s)
            del frames  # many pixels, not needed while the row waits
        rows.append(
            ClipFeatures(
                clip_id=name,
                duration_s=job.options.window_s,
                sound_N=sound_N,
                texts=texts,
                vision_TV=vision_TV,
                sync_LS=sync_LS,
                classes=clip.labels,
                valid_s=valid_s if valid_s < job.options.window_s else None,
                latents_LC=encoders.latents(sound_N) if job.options.latents else None,
                quality=clip.quality,
                source=clip.source,
            )
        )
    if not rows:
        raise UserError("is silent")
    yield from rows  # all of a clip or nothing of it


def _starts(clip: Clip, job: _Job) -> list[float]:
    """Choose where windows begin in the file: one, or as many whole ones as fit, evenly spread."""
    window_s = job.options.window_s
    duration_s = clip.duration_s
    if duration_s is None or duration_s >= 2 * window_s:
        # The file may be shorter than the corpus says.
        audio = probe(job.media / clip.sound_file).audio
        file_s = float(audio.duration_s) - clip.start_s if audio is not None else 0.0
        duration_s = file_s if duration_s is None else min(duration_s, file_s)
    count = max(1, min(job.options.max_windows, int(duration_s / window_s)))
    last_s = max(0.0, duration_s - window_s)
    return [clip.start_s + last_s * k / max(1, count - 1) for k in range(count)]


def _sound(
    clip: Clip, start_s: float, job: _Job, encoders: ClipEncoders
) -> tuple[NDArray[np.float32], float]:
    """Read the waveform of a window, padded with silence, and how much of it was recorded."""
    rate_hz = encoders.time.sample_rate_hz
    end_s = None if clip.duration_s is None else clip.start_s + clip.duration_s
    wanted_s = job.options.window_s if end_s is None else min(job.options.window_s, end_s - start_s)
    audio = read_audio(
        job.media / clip.sound_file,
        sample_rate_hz=rate_hz,
        mono=True,
        start_s=start_s,
        duration_s=wanted_s,
    )
    recorded_N = audio.samples_CN[0]
    if len(recorded_N) < MIN_VALID_S * rate_hz:
        raise UserError(f"{len(recorded_N) / rate_hz:.3f} s of sound; too short")
    # Decoders of lossy formats overshoot full scale, which 16 bits would clip.
    recorded_N = recorded_N / max(1.0, float(np.abs(recorded_N).max()))
    sound_N = np.zeros(encoders.time.num_samples(job.options.window_s), dtype=np.float32)
    sound_N[: len(recorded_N)] = recorded_N[: len(sound_N)]
    return sound_N, len(recorded_N) / rate_hz


def _frames(
    path: Path, start_s: float, duration_s: float, encoders: ClipEncoders
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decode a video once, for the vision and for the sync encoder."""
    sync_px = encoders.sync_size_px
    if sync_px is None:
        shown = probe(path).video
        # Of a file without pictures `iter_frames` says so.
        sync_px = (1, 1) if shown is None else (shown.height_px, shown.width_px)
    for_sync: list[NDArray[np.uint8]] = []
    for_vision = iter_frames(
        path,
        fps=encoders.time.vision_fps,
        size_px=encoders.vision_size_px,
        start_s=start_s,
        duration_s=duration_s,
        keep={(encoders.time.sync_fps, sync_px): for_sync},
    )
    return np.stack(list(for_vision)), np.stack(for_sync)


def _texts(clip: Clip) -> list[tuple[str, str]]:
    """List the texts of a clip with their role; a clip without any is "a sound"."""
    captions = clip.captions[:MAX_CAPTIONS] or (", ".join(clip.labels) or "a sound",)
    heard = clip.audio_captions[:MAX_CAPTIONS]
    return [*(("caption", t) for t in captions), *(("audio-only", t) for t in heard)]
