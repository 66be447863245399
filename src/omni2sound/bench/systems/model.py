"""A model's sounds for a track, one clip a job; what is there is not made again.

In:   a track, a model, settings.
Out:  DIR/<task>/<clip id>.wav.

Each sound has its own seed (from the run's seed and the clip's id) and is sampled alone, so it
does not depend on a limit, on its company or on who makes it. What was asked is written beside
the sounds and compared on the next start: sounds of other settings are refused, not mixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from omni2sound.bench.tracks.track import TASKS, Task, Track, TrackClip, read_track
from omni2sound.data.workers import EngineName, map_jobs
from omni2sound.errors import Omni2SoundError, UserError
from omni2sound.files import atomic_path
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.generate.request import GenerationRequest
from omni2sound.media.audio import Audio, write_audio
from omni2sound.models.conditioning import Conditions

__all__ = ["MADE", "ModelRun", "clip_seed", "make_sounds", "model_identity"]

MADE = "made.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRun:
    """What is asked of a model.

    Raises:
        UserError: A task is unknown or none is given.
    """

    model: str
    tasks: tuple[Task, ...] = TASKS
    seed: int = 0
    num_steps: int | None = None
    """None: the model's default."""
    guidance: float | None = None
    """None: the model's default."""
    device: str = "auto"
    encoders: str | None = None
    """Folder of published encoders, for a full-size model."""

    def __post_init__(self) -> None:
        if not self.tasks or set(self.tasks) - set(TASKS):
            raise UserError(f"tasks {self.tasks}: expected some of {', '.join(TASKS)}")
        if self.seed < 0:
            raise UserError(f"seed: expected 0 or more, got {self.seed}")


def model_identity(run: ModelRun) -> dict[str, Any]:
    """What decides the sounds: the model's digest and settings, defaults filled in."""
    pipeline = _pipeline(run.model, run.device, run.encoders)
    defaults = pipeline.model.defaults
    return {
        "model": pipeline.model.name,
        "model_sha256": pipeline.sha256,
        "steps": defaults.steps if run.num_steps is None else run.num_steps,
        "guidance": defaults.guidance if run.guidance is None else run.guidance,
        "seed": run.seed,
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "device": pipeline.device.type,
    }


def clip_seed(seed: int, clip_id: str) -> int:
    """The seed of one clip's sounds, below 2^63."""
    digest = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_sounds(
    track: Track,
    out: Path,
    run: ModelRun,
    *,
    engine: EngineName = "local",
    num_workers: int = 1,
    on_clip: Callable[[int, int], None] | None = None,
) -> Mapping[str, str]:
    """Make the sounds that are missing.

    Args:
        track: With as many clips as are asked for.
        out: Folder; each task gets one below it.
        run: Model and settings.
        engine: What the jobs run on.
        num_workers: Clips at a time.
        on_clip: Called with (clips done, clips in all).

    Returns:
        Clips that failed, and why; they have no file.

    Raises:
        UserError: The folder holds sounds of another track, model or setting.
    """
    asked = {"track": track.clips_sha256, **model_identity(run)}
    for task in run.tasks:
        (out / task).mkdir(parents=True, exist_ok=True)
    _same_or_first(out / MADE, asked)
    missing = [
        clip
        for clip in track.clips
        if any(not (out / task / f"{clip.clip_id}.wav").is_file() for task in run.tasks)
    ]
    done, failed = len(track.clips) - len(missing), {}
    work = partial(_make, track.folder, out, run)
    for clip_id, reason in map_jobs(work, missing, engine=engine, num_workers=num_workers):
        done += 1
        if reason:
            failed[clip_id] = reason
        if on_clip is not None:
            on_clip(done, len(track.clips))
    return failed


def _same_or_first(path: Path, asked: Mapping[str, Any]) -> None:
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(k for k in asked if before.get(k) != asked[k])
        if changed:
            k = changed[0]
            raise UserError(
                f"{path.parent}: holds sounds of another run, {k} {before.get(k)!r} and not "
                f"{asked[k]!r}; choose another --out"
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")


@cache
def _pipeline(model: str, device: str, encoders: str | None) -> Omni2SoundPipeline:
    """Once in each process."""
    return Omni2SoundPipeline.from_pretrained(model, device=device, encoders=encoders)


@cache
def _track(folder: Path) -> Track:
    return read_track(folder)


def _make(folder: Path, out: Path, run: ModelRun, clip: TrackClip) -> tuple[str, str]:
    """Sounds of all tasks of one clip; what went wrong, or an empty text."""
    track = _track(folder)
    tasks = [t for t in run.tasks if not (out / t / f"{clip.clip_id}.wav").is_file()]
    try:
        for task, audio in zip(tasks, _sounds(track, run, clip, tasks), strict=True):
            write_audio(out / task / f"{clip.clip_id}.wav", audio, overwrite=True)
    except (Omni2SoundError, OSError) as error:
        return clip.clip_id, " ".join(str(error).split()) or type(error).__name__
    return clip.clip_id, ""


def _sounds(track: Track, run: ModelRun, clip: TrackClip, tasks: Sequence[Task]) -> list[Audio]:
    pipeline = _pipeline(run.model, run.device, run.encoders)
    seed = clip_seed(run.seed, clip.clip_id)
    video = None if clip.video is None else track.path(clip.video)
    if video is None and set(tasks) - {"T2A"}:
        raise UserError(f"clip {clip.clip_id} has no video; ask for T2A only")
    if clip.duration_s > pipeline.model.defaults.max_duration_s:
        return [_long_sound(pipeline, run, clip, video, seed, task) for task in tasks]
    rate_hz = pipeline.model.config.timebase.sample_rate_hz
    encoded: dict[bool, Conditions] = {}
    sounds = []
    for task in tasks:
        seen = task != "T2A"
        if seen not in encoded:
            # Pictures are looked at once, for both tasks that see them.
            encoded[seen] = pipeline.encoder.encode(
                video if seen else None, clip.caption, clip.duration_s
            )
        conditions = encoded[seen]
        if task == "V2A":
            conditions = replace(conditions, text_BTE=None, text_mask_BT=None)
        samples_BN = pipeline.generate_batch(
            conditions,
            duration_s=clip.duration_s,
            seeds=[seed],
            num_steps=run.num_steps,
            guidance=run.guidance,
        )
        sounds.append(Audio(samples_CN=samples_BN.numpy(), sample_rate_hz=rate_hz))
    return sounds


def _long_sound(
    pipeline: Omni2SoundPipeline,
    run: ModelRun,
    clip: TrackClip,
    video: Path | None,
    seed: int,
    task: Task,
) -> Audio:
    request = GenerationRequest(
        video=None if task == "T2A" else video,
        prompt=None if task == "V2A" else clip.caption,
        duration_s=clip.duration_s,
        num_inference_steps=run.num_steps,
        guidance_scale=run.guidance,
        seed=seed,
    )
    return next(pipeline.run(request)).audio
