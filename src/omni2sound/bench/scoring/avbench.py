"""Features of avbench-8s-v1 for a whole track, made once by workers and read one at a time.

In:   a track, sounds of all systems, the folder of the judges' files.
Out:  `TrackFeatures`, which gives any system's `SoundFeatures` for `avbench.score_avbench`.

Entries lie in the same cache as those of other judges (`judging`): one for each sound, video or
caption and each judge, under the digest of what it was made from and of the judge's weights. So
a judge whose file comes later is asked alone, and what was stopped goes on.

What not to get wrong: every worker holds all judges (the published ones take about 7 GB), so
there is one unless more are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from omni2sound.bench.metrics.avbench.clips import (
    Networks,
    SoundFeatures,
    VideoFeatures,
    embed_captions,
    embed_sound,
    embed_videos,
)
from omni2sound.bench.scoring.sounds import entry_key, entry_path, put_entry
from omni2sound.bench.systems.folder import SoundFile
from omni2sound.bench.tracks.track import Track
from omni2sound.data.workers import EngineName, map_jobs
from omni2sound.media.audio import read_audio
from omni2sound.media.samples import Audio
from omni2sound.runtime import resolve_device
from omni2sound.weights import networks_sha256

Kind = Literal["sound", "video", "caption"]
_ASKED: Mapping[Kind, tuple[str, ...]] = {
    "sound": ("panns", "passt", "vggish", "clap", "sync", "imagebind"),
    "video": ("sync", "imagebind"),
    "caption": ("clap",),
}
_VERSION = 1
"""Of what a judge is given; a changed one needs a new number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedJudges:
    """Where the judges' files lie, none of them part of this package (docs/guides/full-size.md)."""

    weights: Path
    device: str = "auto"
    load: Callable[[Path, torch.device | str], Networks] = Networks.load
    """Importable by name."""
    num_workers: int = 1
    """Jobs at a time. One is this process; with more, each holds all judges, and so does this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    published: PublishedJudges
    digests: Mapping[str, str]
    """Of each judge's weights, by name."""
    cache: Path

    def place(self, kind: Kind, sha256: str, judge: str) -> Path:
        key = entry_key(
            kind=f"avbench {kind}",
            of=sha256,
            judge=judge,
            weights=self.digests[judge],
            avbench_version=_VERSION,
        )
        return entry_path(self.cache, key)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    kind: Kind
    sha256: str
    source: Path | str
    """A file, or the caption itself."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrackFeatures:
    """What the judges made of a track and of everybody's sounds; the numbers stay on disk."""

    judges: Networks
    digests: Mapping[str, str]
    """Of each judge's weights."""
    _work: _Work
    _track: Track
    _dropped: Mapping[tuple[Kind, str], Mapping[str, str]]
    """Why a judge says nothing of a sound, video or caption, by its digest."""

    def sounds(self, files: Mapping[str, SoundFile]) -> SoundFeatures:
        """Of one system's files, by clip."""
        of = {clip_id: file.sha256 for clip_id, file in files.items()}
        return SoundFeatures(
            names=tuple(of),
            logits={j: self._stored("sound", j, of, "logits") for j in ("panns", "passt")},
            embeddings={j: self._stored("sound", j, of) for j in _ASKED["sound"]},
            dropped=self._reasons("sound", of),
        )

    def videos(self, clip_ids: Sequence[str]) -> VideoFeatures:
        """Of the clips' videos."""
        of = {i: sha for i in clip_ids if (sha := self._track.digests[i].video) is not None}
        return VideoFeatures(
            embeddings={j: self._stored("video", j, of) for j in _ASKED["video"]},
            dropped=self._reasons("video", of),
        )

    def captions(self, clip_ids: Sequence[str]) -> Mapping[str, Tensor]:
        """Of the clips' captions."""
        wanted = set(clip_ids)
        of = {c.clip_id: _text_sha256(c.caption) for c in self._track.clips if c.clip_id in wanted}
        return self._stored("caption", "clap", of)

    def _stored(
        self, kind: Kind, judge: str, of: Mapping[str, str], tensor: str = "embedding"
    ) -> Mapping[str, Tensor]:
        if judge not in self.digests:
            return {}
        kept = {i: sha for i, sha in of.items() if judge not in self._dropped.get((kind, sha), {})}
        return _Stored(kept, partial(self._work.place, kind, judge=judge), tensor)

    def _reasons(self, kind: Kind, of: Mapping[str, str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for clip_id, sha in of.items():
            for judge, reason in self._dropped.get((kind, sha), {}).items():
                found.setdefault(judge, {})[clip_id] = reason
        return found


class _Stored(Mapping[str, Tensor]):
    """Tensors by clip, each read when it is asked for."""

    def __init__(self, of: Mapping[str, str], place: Callable[[str], Path], tensor: str) -> None:
        self._of, self._place, self._tensor = of, place, tensor

    def __getitem__(self, clip_id: str) -> Tensor:
        with safe_open(self._place(self._of[clip_id]), framework="pt") as file:
            found: Tensor = file.get_tensor(self._tensor)
            return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)


def embed_track(
    track: Track,
    sounds: Sequence[SoundFile],
    published: PublishedJudges,
    *,
    cache_folder: Path,
    engine: EngineName = "local",
    on_job: Callable[[int, int], None] | None = None,
) -> TrackFeatures:
    """Ask every judge about every sound, video and caption that it was not asked about before.

    Args:
        track: With as many clips as are asked for.
        sounds: Of all systems; equal ones are heard once.
        published: Where the judges' files lie.
        cache_folder: Where entries are kept.
        engine: What the jobs run on.
        on_job: Called with (jobs done, jobs in all).

    Raises:
        MissingPartError: The folder holds no judge's file.
        UserError: A sound or video can't be read.
    """
    judges = _judges(published)
    digests = {n: d for n in _ASKED["sound"] if (d := _digest(getattr(judges, n))) is not None}
    work = _Work(published=published, digests=digests, cache=cache_folder)
    jobs = {("sound", s.sha256): _Job(kind="sound", sha256=s.sha256, source=s.path) for s in sounds}
    for clip in track.clips:
        sha256 = track.digests[clip.clip_id].video
        if clip.video is not None and sha256 is not None:
            source = track.path(clip.video)
            jobs["video", sha256] = _Job(kind="video", sha256=sha256, source=source)
        text = _text_sha256(clip.caption)
        jobs["caption", text] = _Job(kind="caption", sha256=text, source=clip.caption)
    wanted = [j for j in jobs.values() if digests.keys() & set(_ASKED[j.kind])]
    dropped: dict[tuple[Kind, str], Mapping[str, str]] = {}
    ask = partial(_ask, work)
    done = map_jobs(ask, wanted, engine=engine, num_workers=published.num_workers)
    for count, (kind, sha256, reasons) in enumerate(done, start=1):
        if reasons:
            dropped[kind, sha256] = reasons
        if on_job is not None:
            on_job(count, len(wanted))
    return TrackFeatures(judges=judges, digests=digests, _work=work, _track=track, _dropped=dropped)


@cache
def _judges(published: PublishedJudges) -> Networks:
    """Once in each process."""
    return published.load(published.weights, resolve_device(published.device))


@cache
def _digest(judge: object) -> str | None:
    """Of a judge's weights; None of a judge that is not there."""
    return None if judge is None else networks_sha256(judge)


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _ask(work: _Work, job: _Job) -> tuple[Kind, str, dict[str, str]]:
    """Entries of one sound, video or caption that are missing; why a judge says nothing."""
    judges, reasons = _judges(work.published), {}
    audio: Audio | None = None
    for name in _ASKED[job.kind]:
        if name not in work.digests:
            continue
        path = work.place(job.kind, job.sha256, name)
        reason = _reason_in(path)
        if reason is None:
            alone = Networks(**{name: getattr(judges, name)})
            if job.kind == "sound" and audio is None:
                audio = read_audio(Path(job.source))
            tensors, reason = _said(job, alone, name, audio)
            put_entry(path, to_safetensors(tensors, {"reason": reason}))
        if reason:
            reasons[name] = reason
    return job.kind, job.sha256, reasons


def _said(
    job: _Job, alone: Networks, name: str, audio: Audio | None
) -> tuple[dict[str, Tensor], str]:
    """What one judge says, and an empty reason; or nothing, and why."""
    if job.kind == "caption":
        told = embed_captions({"": str(job.source)}, alone)
        return {"embedding": told[""]}, ""
    if job.kind == "video":
        path = Path(job.source)
        seen = embed_videos([path], alone)
        key, heard = path.stem, seen.embeddings
        dropped, logits = seen.dropped, {}
    else:
        assert audio is not None  # the caller has read it
        key = ""
        sound = embed_sound(audio, key, alone)
        heard, dropped, logits = sound.embeddings, sound.dropped, dict(sound.logits)
    if name in dropped:
        return {}, dropped[name][key]
    tensors = {"embedding": heard[name][key].contiguous()}
    if name in logits:
        tensors["logits"] = logits[name][key].contiguous()
    return tensors, ""


def _reason_in(path: Path) -> str | None:
    """The reason that a whole entry holds (empty if the judge spoke); None without an entry."""
    try:
        with safe_open(path, framework="pt") as file:
            return str((file.metadata() or {}).get("reason", ""))
    except (FileNotFoundError, SafetensorError, OSError):
        return None
