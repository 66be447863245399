"""The track `stage-omni`: synthetic scenes with exact ground truth, built offline, reproducible.

In:   recordings and pictures, a seed, a number of clips.
Out:  a track folder (`tracks.track`) that can be scored without them: silent videos, sounds,
      truth, and the real test recordings that decide which classes a tagger may score.

Clips alternate: one where every source is visible ("main"), one with an off-screen source
("offscreen"), so that the first N of a track have both. Clip k does not depend on their
number. The videos have no audio stream, which a system could copy.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

from omni2sound.bench.metrics.scene_v1 import TrueEvent
from omni2sound.bench.tracks.scene_clips import SceneClip, draw_clips
from omni2sound.bench.tracks.track import (
    PARTS,
    TRACK,
    Track,
    TrackClip,
    TrackInfo,
    read_track,
    write_track,
)
from omni2sound.config import from_json
from omni2sound.data.workers import Workers
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import write_text
from omni2sound.media.audio import write_audio
from omni2sound.media.samples import Audio
from omni2sound.readers import read_object, read_text
from omni2sound.scenes.export.files import write_video
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.material.licences import attribution_tsv
from omni2sound.scenes.scene import Scene
from omni2sound.weights import ATTRIBUTION_FILE

STAGE_OMNI = "stage-omni"
VERSION = "2"
CATALOGUE = "catalogue.json"
RECORDINGS = "recordings"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackPlan:
    """Number, seed and duration of the clips.

    Raises:
        UserError: A number is out of range.
    """

    num_clips: int = 1000
    """Both parts together; FD needs 500 of each for a verdict."""
    seed: int = 0
    duration_s: float = 8.0

    def __post_init__(self) -> None:
        if self.num_clips < 2:
            raise UserError(f"number of clips: expected 2 or more, got {self.num_clips}")


open_assets = cache(SceneAssets.open)
"""`SceneAssets.open`, once in each process; for jobs of workers."""


def build_scene_track(
    assets: Path,
    out: Path,
    plan: TrackPlan,
    *,
    workers: Workers = Workers(),
    on_clip: Callable[[int, int], None] | None = None,
) -> Track:
    """Write missing clips, then the track.

    Args:
        assets: Folder of recordings and pictures.
        out: Folder; created if missing. A track of the same plan is left unchanged.
        plan: Number, seed and duration of the clips.
        workers: Write a clip each.
        on_clip: Called with (clips done, number of clips).

    Raises:
        UserError: The folder holds another track.
    """
    catalogue = open_assets(assets).catalogue
    info = TrackInfo(
        name=STAGE_OMNI,
        version=VERSION,
        built={**asdict(plan), "catalogue_sha256": catalogue.digest},
    )
    if (out / TRACK).is_file():
        there = read_track(out)
        if there.info != info:
            raise UserError(
                f"{out}: holds another track, {there.info.built}; choose another folder"
            )
        return there
    for name in ("video", "audio", "truth"):
        (out / name).mkdir(parents=True, exist_ok=True)
    work = partial(_write_clip, assets, out, plan)
    clips = workers.map_in_order(work, range(plan.num_clips), on_job=on_clip)
    _write_recordings(assets, out, clips)
    return write_track(out, info, clips)


def _write_clip(assets: Path, out: Path, plan: TrackPlan, position: int) -> TrackClip:
    """Write the files of one clip, the truth last: a clip that has one is complete."""
    part, index = PARTS[position % 2], position // 2
    (clip,) = draw_clips(
        open_assets(assets),
        part,
        split="test",
        seed=plan.seed,
        num_clips=1,
        duration_s=plan.duration_s,
        first=index,
    )
    name = clip.scene.scene_id
    truth = {
        "scene": json.loads(clip.scene.to_json()),
        "events": [asdict(event) for event in clip.events],
    }
    text = json.dumps(truth, ensure_ascii=False, indent=1) + "\n"
    stored = out / "truth" / f"{name}.json"
    if not stored.is_file() or read_text(stored) != text:
        sound = Audio(samples_CN=clip.sound_N[None], sample_rate_hz=SAMPLE_RATE_HZ)
        write_audio(out / "audio" / f"{name}.wav", sound, overwrite=True)
        write_video(out / "video" / f"{name}.mp4", clip.scene, clip.assets, None)
        write_text(stored, text)
    return TrackClip(
        clip_id=name,
        part=part,
        caption=clip.caption,
        duration_s=plan.duration_s,
        audio=f"own:audio/{name}.wav",
        video=f"own:video/{name}.mp4",
        truth=f"own:truth/{name}.json",
        label=", ".join(dict.fromkeys(e.class_id for e in clip.events)),
        origin={"seed": plan.seed, "index": index, "position": position},
    )


def _write_recordings(assets: Path, out: Path, clips: list[TrackClip]) -> None:
    """Copy what scoring needs: the catalogue and the test recordings."""
    catalogue = open_assets(assets).catalogue
    recordings = [r for r in catalogue.recordings if r.split == "test"]
    if not (out / RECORDINGS).is_dir():
        partial_folder = out / f".{RECORDINGS}.part"
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir()
        for recording in recordings:
            name = f"{recording.recording_id}.flac"
            shutil.copyfile(assets / RECORDINGS / name, partial_folder / name)
        partial_folder.rename(out / RECORDINGS)
    scenes = [read_truth(out / "truth" / f"{c.clip_id}.json")[0] for c in clips]
    used = {o.picture_id for s in scenes for o in s.objects}
    used |= {s.background.picture_id for s in scenes}
    shown = [p for p in catalogue.pictures if p.picture_id in used]
    write_text(out / CATALOGUE, catalogue.to_json())
    write_text(out / ATTRIBUTION_FILE, attribution_tsv(recordings, shown))


def read_truth(path: Path) -> tuple[Scene, tuple[TrueEvent, ...]]:
    """Read a clip's scene and its true events.

    Raises:
        ConfigError: The file holds no truth.
    """
    try:
        data = read_object(path)
        events = from_json(tuple[TrueEvent, ...], data["events"], where="events")
        return from_json(Scene, data["scene"], where="scene"), events
    except (KeyError, ConfigError) as error:
        raise ConfigError(f"{path}: holds no scene's truth ({error!r})") from error


def scene_clip(track: Track, clip: TrackClip, assets: SceneAssets) -> SceneClip:
    """A track's clip as the baselines use it.

    Raises:
        UserError: The clip has no truth, or was drawn from another catalogue.
    """
    if clip.truth is None:
        raise UserError(f"clip {clip.clip_id} has no exact truth")
    if assets.catalogue.digest != track.info.built.get("catalogue_sha256"):
        raise UserError(
            "the track was built from another catalogue than this corpus; give the corpus that it "
            "was built from, or build the track again"
        )
    scene, _ = read_truth(track.path(clip.truth))
    return SceneClip(index=scene.index, scene=scene, assets=assets, caption=clip.caption)


def seen_caption(track: Track, clip: TrackClip) -> str:
    """A clip's caption without off-screen sounds; needs no corpus.

    Raises:
        UserError: The clip has no truth.
    """
    return _without_pictures(track, clip).seen_caption


def is_impulsive_seen(track: Track, clip: TrackClip) -> tuple[bool, ...]:
    """For each on-screen event of a clip, whether it is impulsive; needs no corpus.

    Raises:
        UserError: The clip has no truth.
    """
    return _without_pictures(track, clip).seen_impulsive


def _without_pictures(track: Track, clip: TrackClip) -> SceneClip:
    if clip.truth is None:
        raise UserError(f"clip {clip.clip_id} is no stage clip")
    scene, _ = read_truth(track.path(clip.truth))
    assets = _stored(track.folder)
    return SceneClip(index=scene.index, scene=scene, assets=assets, caption=clip.caption)


@cache
def _stored(folder: Path) -> SceneAssets:
    return stored_recordings(read_track(folder))


def stored_recordings(track: Track) -> SceneAssets:
    """Open the track's own catalogue and test recordings; no pictures."""
    catalogue = Catalogue.load(track.folder / CATALOGUE)
    recordings = tuple(r for r in catalogue.recordings if r.split == "test")
    return SceneAssets(
        replace(catalogue, recordings=recordings, pictures=()),
        folder=track.folder,
        waveforms={},
        pictures={},
    )
