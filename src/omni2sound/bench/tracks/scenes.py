"""The track `stage-omni`: scenes with exact truth, offline, the same bytes for everybody.

In:   the stage corpus, a seed, a number of clips.
Out:  a track folder (`tracks`) that can be scored without the corpus: silent videos, sounds,
      truth, and the real test recordings with which a judge is first asked what it knows.

Clips take turns: one where all that sounds is seen ("main"), one with something that is only
heard ("offscreen"), so that the first N of a track have both. Clip k does not depend on how
many there are. The videos carry no sound: a system could look there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

from omni2sound.bench.metrics.scene_v1 import TrueEvent
from omni2sound.bench.tracks.scene_clips import TRACKS, StageClip, draw_clips
from omni2sound.bench.tracks.track import (
    TRACK,
    Track,
    TrackClip,
    TrackInfo,
    read_track,
    write_track,
)
from omni2sound.data.workers import EngineName, map_jobs
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import atomic_path
from omni2sound.media.audio import Audio, write_audio
from omni2sound.scenes.export.files import write_video
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.material.licences import attribution_tsv
from omni2sound.scenes.scene import Scene
from omni2sound.weights import ATTRIBUTION_FILE

__all__ = [
    "STAGE_OMNI",
    "StagePlan",
    "build_stage_track",
    "is_impulsive_seen",
    "read_truth",
    "seen_caption",
    "stage_clip",
    "stored_recordings",
]

STAGE_OMNI = "stage-omni"
VERSION = "2"
CATALOGUE = "catalogue.json"
RECORDINGS = "recordings"


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """Which clips.

    Raises:
        UserError: A number is out of range.
    """

    num_clips: int = 1000
    """Of both parts together: 500 of each are the least that FD takes a verdict from."""
    seed: int = 0
    duration_s: float = 8.0

    def __post_init__(self) -> None:
        if self.num_clips < 2:
            raise UserError(f"number of clips: expected 2 or more, got {self.num_clips}")


def build_stage_track(
    assets: Path,
    out: Path,
    plan: StagePlan,
    *,
    engine: EngineName = "local",
    num_workers: int = 1,
    on_clip: Callable[[int, int], None] | None = None,
) -> Track:
    """Write the clips that are missing, then the track.

    Args:
        assets: A prepared stage corpus.
        out: Folder; made if missing. A track of the same plan is left as it is.
        plan: What to draw.
        engine: What the jobs run on.
        num_workers: Jobs at a time.
        on_clip: Called with (clips done, clips in all).

    Raises:
        UserError: The folder holds another track.
    """
    catalogue = _assets(assets).catalogue
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
    clips = []
    jobs = range(plan.num_clips)
    for clip in map_jobs(
        partial(_write_clip, assets, out, plan), jobs, engine=engine, num_workers=num_workers
    ):
        clips.append(clip)
        if on_clip is not None:
            on_clip(len(clips), plan.num_clips)
    clips.sort(key=lambda c: int(c.origin["position"]))
    _write_judging(assets, out, clips)
    return write_track(out, info, clips)


def _write_clip(assets: Path, out: Path, plan: StagePlan, position: int) -> TrackClip:
    """Files of one clip. The truth is written last: what has one is whole."""
    part, index = TRACKS[position % 2], position // 2
    (clip,) = draw_clips(
        _assets(assets),
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
    if not stored.is_file() or stored.read_text(encoding="utf-8") != text:
        sound = Audio(samples_CN=clip.sound_N[None], sample_rate_hz=SAMPLE_RATE_HZ)
        write_audio(out / "audio" / f"{name}.wav", sound, overwrite=True)
        write_video(out / "video" / f"{name}.mp4", clip.scene, clip.assets, None)
        with atomic_path(stored) as temporary:
            temporary.write_text(text, encoding="utf-8")
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


def _write_judging(assets: Path, out: Path, clips: list[TrackClip]) -> None:
    """What a score needs of the corpus: the catalogue, and the test recordings."""
    catalogue = _assets(assets).catalogue
    heard = [r for r in catalogue.recordings if r.split == "test"]
    if not (out / RECORDINGS).is_dir():
        partial_folder = out / f".{RECORDINGS}.part"
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir()
        for recording in heard:
            name = f"{recording.recording_id}.flac"
            shutil.copyfile(assets / RECORDINGS / name, partial_folder / name)
        partial_folder.rename(out / RECORDINGS)
    scenes = [read_truth(out / "truth" / f"{c.clip_id}.json")[0] for c in clips]
    used = {o.picture_id for s in scenes for o in s.objects}
    used |= {s.background.picture_id for s in scenes}
    shown = [p for p in catalogue.pictures if p.picture_id in used]
    for name, text in (
        (CATALOGUE, catalogue.to_json()),
        (ATTRIBUTION_FILE, attribution_tsv(heard, shown)),
    ):
        with atomic_path(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_truth(path: Path) -> tuple[Scene, tuple[TrueEvent, ...]]:
    """A clip's scene and the events that ought to be heard.

    Raises:
        ConfigError: The file holds none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        events = tuple(
            TrueEvent(**{**event, "hits_s": tuple(event["hits_s"])}) for event in data["events"]
        )
        return Scene.from_json(json.dumps(data["scene"])), events
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: holds no scene's truth ({error!r})") from error


def stage_clip(track: Track, clip: TrackClip, assets: SceneAssets) -> StageClip:
    """A track's clip as the baselines take it.

    Raises:
        UserError: It has no truth, or the corpus is not the one that it was drawn from.
    """
    if clip.truth is None:
        raise UserError(f"clip {clip.clip_id} is no stage clip")
    if assets.catalogue.digest != track.info.built.get("catalogue_sha256"):
        raise UserError(
            "this stage corpus is not the one that the track was built from; "
            "give its --assets, or build the track again"
        )
    scene, _ = read_truth(track.path(clip.truth))
    return StageClip(index=scene.index, scene=scene, assets=assets, caption=clip.caption)


def seen_caption(track: Track, clip: TrackClip) -> str:
    """A clip's caption without what is only heard; needs no corpus.

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


def _without_pictures(track: Track, clip: TrackClip) -> StageClip:
    if clip.truth is None:
        raise UserError(f"clip {clip.clip_id} is no stage clip")
    scene, _ = read_truth(track.path(clip.truth))
    assets = _stored(track.folder)
    return StageClip(index=scene.index, scene=scene, assets=assets, caption=clip.caption)


@cache
def _stored(folder: Path) -> SceneAssets:
    return stored_recordings(read_track(folder))


def stored_recordings(track: Track) -> SceneAssets:
    """The test recordings that lie in the track, under its own catalogue; no pictures."""
    catalogue = Catalogue.load(track.folder / CATALOGUE)
    heard = tuple(r for r in catalogue.recordings if r.split == "test")
    return SceneAssets(
        replace(catalogue, recordings=heard, pictures=()),
        folder=track.folder,
        waveforms={},
        pictures={},
    )


@cache
def _assets(folder: Path) -> SceneAssets:
    """Once in each process."""
    return SceneAssets.open(folder)
