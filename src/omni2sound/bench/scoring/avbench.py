"""Features of avbench-8s-v1 for a whole track, computed once by workers, read one at a time.

In:   a track, sounds of all systems, the folder of the networks' files.
Out:  `TrackFeatures`, which gives any system's `SoundFeatures` for `avbench.score_avbench`.

Entries lie in the same cache as those of taggers (`scoring.cache`): one for each sound, video or
caption and each network, under the digest of its source and of the network's weights. So a
network whose file comes later runs alone, and a stopped run resumes.

What not to get wrong: every worker holds all networks (the published ones take about 7 GB), so
there is one unless more are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

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
from omni2sound.bench.scoring.cache import entry_key, entry_path, put_entry
from omni2sound.bench.scoring.options import PublishedNetworks
from omni2sound.bench.systems.folder import SoundFile
from omni2sound.bench.tracks.track import Track
from omni2sound.errors import ConfigError
from omni2sound.media.audio import read_audio
from omni2sound.media.samples import Audio
from omni2sound.readers import open_tensors
from omni2sound.runtime import resolve_device
from omni2sound.weights import networks_sha256

Kind = Literal["sound", "video", "caption"]
_NETWORKS: Mapping[Kind, tuple[str, ...]] = {
    "sound": ("panns", "passt", "vggish", "clap", "sync", "imagebind"),
    "video": ("sync", "imagebind"),
    "caption": ("clap",),
}
_VERSION = 1
"""Version of the networks' inputs; a changed one needs a new number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    published: PublishedNetworks
    digests: Mapping[str, str]
    """SHA-256 of each network's weights, by name."""
    cache: Path

    def place(self, kind: Kind, sha256: str, network: str) -> Path:
        key = entry_key(
            kind=f"avbench {kind}",
            of=sha256,
            judge=network,
            weights=self.digests[network],
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
    """Features of a track and of all systems' sounds; the numbers stay on disk."""

    networks: Networks
    digests: Mapping[str, str]
    """SHA-256 of each network's weights."""
    _work: _Work
    _track: Track
    _dropped: Mapping[tuple[Kind, str], Mapping[str, str]]
    """By kind and digest: why networks have no features of a sound, video or caption."""

    def sounds(self, files: Mapping[str, SoundFile]) -> SoundFeatures:
        """Features of one system's files, by clip."""
        of = {clip_id: file.sha256 for clip_id, file in files.items()}
        return SoundFeatures(
            names=tuple(of),
            logits={n: self._stored("sound", n, of, "logits") for n in ("panns", "passt")},
            embeddings={n: self._stored("sound", n, of) for n in _NETWORKS["sound"]},
            dropped=self._reasons("sound", of),
        )

    def videos(self, clip_ids: Sequence[str]) -> VideoFeatures:
        """Features of the clips' videos."""
        of = {i: sha for i in clip_ids if (sha := self._track.digests[i].video) is not None}
        return VideoFeatures(
            embeddings={n: self._stored("video", n, of) for n in _NETWORKS["video"]},
            dropped=self._reasons("video", of),
        )

    def captions(self, clip_ids: Sequence[str]) -> Mapping[str, Tensor]:
        """Embeddings of the clips' captions."""
        wanted = set(clip_ids)
        of = {c.clip_id: _text_sha256(c.caption) for c in self._track.clips if c.clip_id in wanted}
        return self._stored("caption", "clap", of)

    def _stored(
        self, kind: Kind, network: str, of: Mapping[str, str], tensor: str = "embedding"
    ) -> Mapping[str, Tensor]:
        if network not in self.digests:
            return {}
        dropped = self._dropped
        kept = {i: sha for i, sha in of.items() if network not in dropped.get((kind, sha), {})}
        return _Stored(kept, partial(self._work.place, kind, network=network), tensor)

    def _reasons(self, kind: Kind, of: Mapping[str, str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for clip_id, sha in of.items():
            for network, reason in self._dropped.get((kind, sha), {}).items():
                found.setdefault(network, {})[clip_id] = reason
        return found


class _Stored(Mapping[str, Tensor]):
    """Tensors by clip, each read on access."""

    def __init__(self, of: Mapping[str, str], place: Callable[[str], Path], tensor: str) -> None:
        self._of, self._place, self._tensor = of, place, tensor

    def __getitem__(self, clip_id: str) -> Tensor:
        with open_tensors(self._place(self._of[clip_id])) as file:
            found: Tensor = file.get_tensor(self._tensor)
            return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)


def embed_track(
    track: Track,
    sounds: Sequence[SoundFile],
    published: PublishedNetworks,
    *,
    cache_folder: Path,
    on_job: Callable[[int, int], None] | None = None,
) -> TrackFeatures:
    """Compute the features of every sound, video and caption that are not in the cache.

    Args:
        track: The track, limited to the clips that are wanted.
        sounds: Sounds of all systems; equal ones are embedded once.
        published: Folder of the networks' files.
        cache_folder: Folder of entries.
        on_job: Called with (jobs done, jobs in all).

    Raises:
        MissingPartError: The folder holds no network's file.
        UserError: A sound or video can't be read.
    """
    networks = _networks(published)
    digests = {n: d for n in _NETWORKS["sound"] if (d := _digest(getattr(networks, n))) is not None}
    work = _Work(published=published, digests=digests, cache=cache_folder)
    jobs = {("sound", s.sha256): _Job(kind="sound", sha256=s.sha256, source=s.path) for s in sounds}
    for clip in track.clips:
        sha256 = track.digests[clip.clip_id].video
        if clip.video is not None and sha256 is not None:
            source = track.path(clip.video)
            jobs["video", sha256] = _Job(kind="video", sha256=sha256, source=source)
        text = _text_sha256(clip.caption)
        jobs["caption", text] = _Job(kind="caption", sha256=text, source=clip.caption)
    wanted = [job for job in jobs.values() if digests.keys() & set(_NETWORKS[job.kind])]
    reasons = published.workers.map_in_order(partial(_embed, work), wanted, on_job=on_job)
    dropped = {(j.kind, j.sha256): r for j, r in zip(wanted, reasons, strict=True) if r}
    return TrackFeatures(
        networks=networks, digests=digests, _work=work, _track=track, _dropped=dropped
    )


@cache
def _networks(published: PublishedNetworks) -> Networks:
    """Load once in each process."""
    return published.load(published.weights, resolve_device(published.device))


@cache
def _digest(network: object) -> str | None:
    """SHA-256 of a network's weights; None for one that is not installed."""
    return None if network is None else networks_sha256(network)


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _embed(work: _Work, job: _Job) -> dict[str, str]:
    """Write the missing entries of one job; return why networks have no features, by network."""
    networks, reasons = _networks(work.published), {}
    audio: Audio | None = None
    for name in _NETWORKS[job.kind]:
        if name not in work.digests:
            continue
        path = work.place(job.kind, job.sha256, name)
        reason = _reason_in(path)
        if reason is None:
            alone = Networks(**{name: getattr(networks, name)})
            if job.kind == "sound" and audio is None:
                audio = read_audio(Path(job.source))
            tensors, reason = _features(job, alone, name, audio)
            put_entry(path, to_safetensors(tensors, {"reason": reason}))
        if reason:
            reasons[name] = reason
    return reasons


def _features(
    job: _Job, alone: Networks, name: str, audio: Audio | None
) -> tuple[dict[str, Tensor], str]:
    """Features by one network and an empty reason; or none, and the reason."""
    if job.kind == "caption":
        return {"embedding": embed_captions({"": str(job.source)}, alone)[""]}, ""
    logits: Mapping[str, Mapping[str, Tensor]] = {}
    if job.kind == "video":
        path = Path(job.source)
        seen = embed_videos([path], alone)
        key, embeddings, dropped = path.stem, seen.embeddings, seen.dropped
    else:
        assert audio is not None  # the caller has read it
        sound = embed_sound(audio, "", alone)
        key, embeddings, dropped, logits = "", sound.embeddings, sound.dropped, sound.logits
    if name in dropped:
        return {}, dropped[name][key]
    tensors = {"embedding": embeddings[name][key].contiguous()}
    if name in logits:
        tensors["logits"] = logits[name][key].contiguous()
    return tensors, ""


def _reason_in(path: Path) -> str | None:
    """The reason in a whole entry (empty if it holds features); None without an entry."""
    try:
        with open_tensors(path) as file:
            return str((file.metadata() or {}).get("reason", ""))
    except (ConfigError, OSError):
        return None
