"""Sounds of the baselines, as files that are scored like those of any system.

In:   a track; for the baselines that retrieve, also the scene material that it was built from.
Out:  `System`s.

Any track has `shuffled` (the real sound of a clip half the track on, of the same part) and
`silence`. A scene track with its material also has `retrieval`, `motion-energy`,
`motion + retrieval` (`baselines`), and `real, other scenes`: real sound of as many other
scenes, the floor of FD and KID at this number of clips; and `noise, same spectrum`, the far end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.bench.systems.baselines import (
    Baselines,
    Embed,
    TrainingMemory,
    noise_like,
    shuffled_place,
)
from omni2sound.bench.systems.folder import SETTINGS, SoundFile, check_settings
from omni2sound.bench.systems.system import NOISE, REAL_ELSEWHERE, RETRIEVAL, System, real_sounds
from omni2sound.bench.tracks.scene_clips import SceneClip, draw_clips
from omni2sound.bench.tracks.scenes import open_assets, scene_clip
from omni2sound.bench.tracks.track import PARTS, Track, TrackClip, open_track
from omni2sound.data.workers import Workers
from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.errors import UserError
from omni2sound.files import file_sha256
from omni2sound.media.audio import write_audio
from omni2sound.media.samples import Audio
from omni2sound.readers import check_regular
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ
from omni2sound.scenes.scene import RENDER_VERSION
from omni2sound.weights import networks_sha256

SHUFFLED = "shuffled"
STAGE_BASELINES = (RETRIEVAL, "motion-energy", "motion + retrieval")
DISTANCES_ONLY = (NOISE, REAL_ELSEWHERE)
NUM_REMEMBERED = 200
"""Training scenes of each part to retrieve from."""
_MEMORY_SEED_STEP = 1000
"""Keeps remembered and other scenes apart from those of the track."""
_NOISE_SEED = 0x2015E


def plain_baselines(track: Track, out: Path) -> list[System]:
    """`shuffled` and `silence`.

    Args:
        track: With as many clips as are asked for.
        out: Folder for the silent files.
    """
    real = real_sounds(track)
    shuffled: dict[str, SoundFile] = {}
    for part in track.parts:
        ids = [c.clip_id for c in track.clips if c.part == part]
        for at, clip_id in enumerate(ids):
            shuffled[clip_id] = real[ids[shuffled_place(at, len(ids))]]
    silence = {c.clip_id: _silent(c, out / "silence") for c in track.clips}
    return [
        System(name=SHUFFLED, sounds=shuffled, is_baseline=True, is_real=True),
        System(name="silence", sounds=silence, is_baseline=True),
    ]


def _silent(clip: TrackClip, folder: Path) -> SoundFile:
    path = folder / f"{clip.duration_s:g}s.flac"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        nothing = np.zeros((1, round(clip.duration_s * SAMPLE_RATE_HZ)), np.float32)
        write_audio(path, Audio(samples_CN=nothing, sample_rate_hz=SAMPLE_RATE_HZ))
    return SoundFile(clip_id=clip.clip_id, path=path, sha256=_hash(path))


@cache
def _hash(path: Path) -> str:
    return file_sha256(path)


def caption_embed() -> Embed:
    """Mean of the bundled text encoder's token states of a clip's caption."""
    encoder = TextEncoder.load()

    def embed(clip: SceneClip) -> NDArray[np.float32]:
        tokens = encoder([clip.caption])
        mean: NDArray[np.float32] = tokens.states_BTD[0][tokens.mask_BT[0]].mean(dim=0).numpy()
        return mean

    return Embed(encoder.sha256, embed)


def look_embed() -> Embed:
    """Mean of the bundled picture encoder's features of one picture a second."""
    encoder = VisionEncoder.load()

    def embed(clip: SceneClip) -> NDArray[np.float32]:
        mean: NDArray[np.float32] = encoder.embed(clip.look_frames_THWK).mean(dim=0).numpy()
        return mean

    return Embed(networks_sha256(encoder), embed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedders:
    """Functions, importable by name, that load the embeddings which retrieval compares."""

    caption: Callable[[], Embed] = caption_embed
    look: Callable[[], Embed] = look_embed


def stage_baselines(
    track: Track,
    assets: Path,
    out: Path,
    *,
    embed: Embedders = Embedders(),
    num_remembered: int = NUM_REMEMBERED,
    workers: Workers = Workers(),
    on_clip: Callable[[int, int], None] | None = None,
) -> list[System]:
    """The baselines that need the corpus; sounds that are there are not made again.

    Args:
        track: A stage track, with as many clips as are asked for.
        assets: The corpus that it was built from.
        out: Folder; each baseline gets one below it.
        embed: What loads the embeddings that retrieval compares.
        num_remembered: Training scenes of each part to retrieve from.
        workers: Make a clip each.
        on_clip: Called with (clips done, clips in all).

    Raises:
        UserError: The corpus is another one, or the folder holds sounds of other settings.
    """
    scene_clip(track, track.clips[0], open_assets(assets))  # is it the same corpus?
    out = out / f"of-{num_remembered}"  # another memory plays other sounds
    settings = {
        "track": track.clips_sha256,
        "render_version": RENDER_VERSION,
        "caption_embedding": _loaded(embed.caption).digest,
        "look_embedding": _loaded(embed.look).digest,
    }
    check_settings(out / SETTINGS, settings)
    names = (*STAGE_BASELINES, *DISTANCES_ONLY)
    folders = [out / _folder(name) for name in names]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    memory = out / f"memory-{num_remembered}.npz"
    if not memory.is_file():
        jobs = [(part, k) for part in PARTS for k in range(num_remembered)]
        _remember(track, assets, memory, embed, jobs, workers)
    missing = [
        c for c in track.clips if any(not (f / f"{c.clip_id}.flac").is_file() for f in folders)
    ]
    done = len(track.clips) - len(missing)
    work = partial(_play, track.folder, assets, memory, out, embed)
    for _ in workers.map(work, missing):
        done += 1
        if on_clip is not None:
            on_clip(done, len(track.clips))
    systems = []
    for name, folder in zip(names, folders, strict=True):
        sounds = {}
        for clip in track.clips:
            path = folder / f"{clip.clip_id}.flac"
            sounds[clip.clip_id] = SoundFile(
                clip_id=clip.clip_id, path=path, sha256=file_sha256(path)
            )
        systems.append(
            System(
                name=name,
                sounds=sounds,
                is_baseline=True,
                distances_only=name in DISTANCES_ONLY,
            )
        )
    return systems


def _folder(name: str) -> str:
    return name.replace(" + ", "-and-").replace(", ", "-").replace(" ", "-")


def _remember(
    track: Track,
    assets: Path,
    target: Path,
    embed: Embedders,
    jobs: Sequence[tuple[str, int]],
    workers: Workers,
) -> None:
    """Embeddings of training scenes; the scenes themselves follow from their seeds."""
    seed, duration_s = _drawn_with(track)
    work = partial(_embed_scene, assets, embed, seed, duration_s)
    embedded = workers.map_in_order(work, jobs)
    pairs = list(zip(embedded, jobs, strict=True))
    arrays = {
        f"{part}_{kind}": np.stack([e[at] for e, (p, _) in pairs if p == part])
        for part in PARTS
        for at, kind in enumerate(("caption", "look"))
    }
    temporary = target.with_name(f".{secrets.token_hex(6)}.npz")
    np.savez(temporary, **arrays)  # type: ignore[arg-type]
    temporary.replace(target)


def _drawn_with(track: Track) -> tuple[int, float]:
    built = track.info.built
    try:
        return int(built["seed"]), float(built["duration_s"])
    except KeyError as error:
        raise UserError(f"{track.folder}: is no stage track (no {error.args[0]})") from None


def _embed_scene(
    assets: Path, embed: Embedders, seed: int, duration_s: float, job: tuple[str, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    part, index = job
    (clip,) = draw_clips(
        open_assets(assets),
        part,  # type: ignore[arg-type]
        split="train",
        seed=seed + _MEMORY_SEED_STEP,
        num_clips=1,
        duration_s=duration_s,
        first=index,
    )
    return _loaded(embed.caption)(clip), _loaded(embed.look)(clip)


@cache
def _loaded(load: Callable[[], Embed]) -> Embed:
    return load()


@cache
def _memories(
    assets: Path, memory: Path, seed: int, duration_s: float
) -> dict[str, TrainingMemory]:
    check_regular(memory)
    stored = np.load(memory, allow_pickle=False)
    return {
        part: TrainingMemory(
            assets=open_assets(assets),
            scenes=tuple(
                draw_scene(
                    open_assets(assets),
                    split="train",
                    seed=seed + _MEMORY_SEED_STEP,
                    index=k,
                    kind=part,
                    duration_s=duration_s,
                )
                for k in range(len(stored[f"{part}_caption"]))
            ),
            by_caption_MD=stored[f"{part}_caption"],
            by_look_MD=stored[f"{part}_look"],
        )
        for part in PARTS
    }


def _play(
    folder: Path, assets: Path, memory: Path, out: Path, embed: Embedders, clip: TrackClip
) -> str:
    track = open_track(folder)
    seed, duration_s = _drawn_with(track)
    shown = scene_clip(track, clip, open_assets(assets))
    baselines = Baselines(
        memory=_memories(assets, memory, seed, duration_s)[clip.part],
        embed_caption=_loaded(embed.caption),
        embed_look=_loaded(embed.look),
    )
    (other,) = draw_clips(
        open_assets(assets),
        clip.part,
        split="test",
        seed=seed + 2 * _MEMORY_SEED_STEP,
        num_clips=1,
        duration_s=duration_s,
        first=shown.index,
    )
    rng = np.random.default_rng([shown.scene.seed, shown.index, _NOISE_SEED])
    played = {
        **baselines.sounds(shown),
        NOISE: noise_like(shown.sound_N, rng),
        REAL_ELSEWHERE: other.sound_N,
    }
    for name, sound_N in played.items():
        path = out / _folder(name) / f"{clip.clip_id}.flac"
        if not path.is_file():
            audio = Audio(samples_CN=sound_N[None], sample_rate_hz=SAMPLE_RATE_HZ)
            write_audio(path, audio, overwrite=True)
    return clip.clip_id
