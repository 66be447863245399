"""Scenes as files: video, mix, stems, ground truth, and a manifest.

In:   recordings and pictures, number, split and kind of scenes, a folder.
Out:  DIR/<scene_id>/{video.mp4, mix.wav, stem-NN-<class>.wav, events.json},
      DIR/manifest.jsonl with a line a scene, DIR/attribution.tsv.

A scene's folder gets its name when it is complete, and the manifest is written last, so an
interrupted build resumes. The same seed gives the same bytes with the same library versions.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from omni2sound.errors import ConfigError, UserError
from omni2sound.files import atomic_path, split_lines, write_text
from omni2sound.media.audio import read_audio, write_audio
from omni2sound.media.encode import AAC, add_audio_stream, encode_audio, fit_sound
from omni2sound.media.files import create_output
from omni2sound.media.samples import Audio
from omni2sound.media.video import iter_frames as read_frames
from omni2sound.readers import loads, read_text
from omni2sound.scenes.captions import STYLES, audio_only_caption, captions, wrong_caption
from omni2sound.scenes.draw import draw_scene, scene_id_of
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Split
from omni2sound.scenes.material.licences import attribution_tsv
from omni2sound.scenes.render.contact_sheet import SHEET_FPS, draw_sheet, stack_sheets
from omni2sound.scenes.render.render import iter_frames, render_sound
from omni2sound.scenes.scene import Scene, SceneKind
from omni2sound.weights import ATTRIBUTION_FILE

MANIFEST = "manifest.jsonl"
EVENTS, MIX, VIDEO = "events.json", "mix.wav", "video.mp4"

HEIGHT_PX = 240
MAX_SHEETS = 20
"""Most scenes on one contact sheet."""

_CAPTION_SEED = 0xCA
_FINE, _COARSE = 20.0, 34.0
"""Constant rate factors of x264 for scenes without and with the most compression."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """Which scenes to write."""

    num_scenes: int
    split: Split
    seed: int
    kind: SceneKind = "main"
    duration_s: float = 5.0

    def __post_init__(self) -> None:
        if self.num_scenes < 1:
            raise UserError(f"expected 1 or more, got {self.num_scenes}", field="num_scenes")


def build_corpus(
    assets: SceneAssets,
    out: Path,
    plan: BuildPlan,
    *,
    on_scene: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the missing scenes, then the manifest.

    Args:
        assets: Recordings and pictures.
        out: Output folder; created if missing.
        plan: Which scenes to write.
        on_scene: Called with (scenes done, number of scenes).

    Returns:
        Path of the manifest.

    Raises:
        UserError: If `out` is a file, holds a scene of the same name with other content, or holds
            scenes that are not in the plan, which the manifest would not name.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; expected a folder", field="out")
    out.mkdir(parents=True, exist_ok=True)
    _refuse_others(out, plan)
    scenes = []
    for index in range(plan.num_scenes):
        scene = draw_scene(
            assets,
            split=plan.split,
            seed=plan.seed,
            index=index,
            kind=plan.kind,
            duration_s=plan.duration_s,
        )
        if not _is_written(scene, out):
            write_scene(scene, assets, out)
        scenes.append(scene)
        if on_scene is not None:
            on_scene(index + 1, plan.num_scenes)
    lines = [json.dumps(manifest_line(s, assets), ensure_ascii=False) + "\n" for s in scenes]
    write_text(out / ATTRIBUTION_FILE, _attribution(scenes, assets))
    write_text(out / MANIFEST, "".join(lines))
    return out / MANIFEST


def _refuse_others(out: Path, plan: BuildPlan) -> None:
    planned = {
        scene_id_of(split=plan.split, seed=plan.seed, index=index, kind=plan.kind)
        for index in range(plan.num_scenes)
    }
    there = {path.parent.name for path in out.glob(f"*/{EVENTS}")}
    # A name that begins with a dot is a scene that a killed build did not finish.
    others = sorted(name for name in there - planned if not name.startswith("."))
    if others:
        raise UserError(
            f"{out}: holds {len(others)} scenes that are not among the {plan.num_scenes} asked for "
            f"({others[0]}, ...); ask for all of them, or choose another folder"
        )


def write_scene(scene: Scene, assets: SceneAssets, out: Path) -> Path:
    """Write the folder of one scene, whole or not at all.

    Returns:
        The folder, `out/<scene_id>`.
    """
    folder = out / scene.scene_id
    partial = out / f".{scene.scene_id}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        sound = render_sound(scene, assets)
        write_audio(partial / MIX, _audio(sound.mix_N))
        for name, stem in zip(_stem_names(scene), sound.stems_EN, strict=True):
            write_audio(partial / name, _audio(stem))
        if scene.has_picture:
            write_video(partial / VIDEO, scene, assets, sound.mix_N)
        write_text(partial / EVENTS, scene.to_json())
        partial.rename(folder)
    except BaseException:  # KeyboardInterrupt too: nothing half-written stays behind
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder


def manifest_line(scene: Scene, assets: SceneAssets) -> dict[str, Any]:
    """Make the manifest line of one scene; paths are relative to the manifest."""
    rng = np.random.default_rng([scene.seed, scene.index, _CAPTION_SEED])
    held_out = scene.split == "test"
    by_style = {
        style: captions(scene, assets.catalogue, rng=rng, held_out=held_out, style=style)[0]
        for style in STYLES
    }
    base = scene.scene_id
    return {
        "id": scene.scene_id,
        "kind": scene.kind,
        "split": scene.split,
        "seed": scene.seed,
        "duration_s": scene.duration_s,
        "video": f"{base}/{VIDEO}" if scene.has_picture else None,
        "audio": f"{base}/{MIX}",
        "stems": [f"{base}/{name}" for name in _stem_names(scene)],
        "events": f"{base}/{EVENTS}",
        "classes": list(dict.fromkeys(e.class_id for e in scene.events)),
        "captions": by_style,
        "wrong_caption": wrong_caption(scene, assets.catalogue, rng=rng, held_out=held_out),
        "audio_only_caption": audio_only_caption(
            scene, assets.catalogue, rng=rng, held_out=held_out
        ),
    }


def inspect(path: Path, output: Path) -> int:
    """Write a contact sheet of one scene's folder, or of the first scenes of a build.

    Returns:
        Number of scenes on the sheet.

    Raises:
        UserError: If `path` is neither, or the output's suffix is not .png.
    """
    if output.suffix.lower() != ".png":
        raise UserError(f"{output.name}: a contact sheet is a .png file")
    if (path / EVENTS).is_file():
        folders = [path]
    elif (path / MANIFEST).is_file():
        lines = split_lines(read_text(path / MANIFEST))[:MAX_SHEETS]
        folders = [path / Path(_events_path(line, path)).parent for line in lines]
        if not folders:
            raise ConfigError(
                f"{path / MANIFEST}: names no scenes; make some with: omni2sound scenes build"
            )
    else:
        raise UserError(
            f"{path}: neither a scene ({EVENTS}) nor a corpus ({MANIFEST}); "
            "make one with: omni2sound scenes build"
        )
    sheet = stack_sheets([_sheet_of(folder) for folder in folders])
    with atomic_path(output) as temporary:
        sheet.save(temporary)
    return len(folders)


def _events_path(line: str, path: Path) -> str:
    try:
        events: object = loads(line)["events"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path / MANIFEST}: not a manifest of scenes ({error!r})") from error
    if (
        not isinstance(events, str)
        or Path(events).is_absolute()
        or ".." in Path(events).parts
        or "\0" in events
    ):
        raise ConfigError(
            f"{path / MANIFEST}: events: expected a path inside the folder, got {repr(events)[:80]}"
        )
    return events


def _sheet_of(folder: Path) -> Any:
    scene = Scene.from_json(read_text(folder / EVENTS))
    mix = read_audio(folder / MIX, sample_rate_hz=SAMPLE_RATE_HZ, mono=True).samples_CN[0]
    frames = None
    if scene.has_picture:
        size = (112, round(112 * scene.aspect))
        frames = np.stack(list(read_frames(folder / VIDEO, fps=SHEET_FPS, size_px=size)))
    return draw_sheet(scene, frames, mix)


def _is_written(scene: Scene, out: Path) -> bool:
    stored = out / scene.scene_id / EVENTS
    if not stored.is_file():
        return False
    if Scene.from_json(read_text(stored)) != scene:
        raise UserError(
            f"{stored.parent}: holds another scene of this name, made with other material or "
            "another duration; choose an empty folder"
        )
    return True


def _stem_names(scene: Scene) -> list[str]:
    return [f"stem-{k:02d}-{e.class_id}.wav" for k, e in enumerate(scene.events)]


def _audio(samples_N: NDArray[np.float32]) -> Audio:
    return Audio(samples_CN=samples_N[None, :], sample_rate_hz=SAMPLE_RATE_HZ)


def write_video(
    path: Path, scene: Scene, assets: SceneAssets, mix_N: NDArray[np.float32] | None
) -> None:
    """Write H.264 at the frame rate of the scene, with the mix as AAC unless it is None."""
    fps = Fraction(scene.fps)
    width_px = 2 * round(0.5 * HEIGHT_PX * scene.aspect)
    with create_output(path, container_format="mp4", sample_rate_hz=SAMPLE_RATE_HZ) as container:
        video = container.add_stream("libx264", rate=fps)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = width_px, HEIGHT_PX, "yuv420p"
        crf = _FINE + (_COARSE - _FINE) * scene.look.blockiness
        # The same frames must give the same bytes: one thread, whatever the number of cores,
        # and no macroblock tree, whose result changed from run to run in tests.
        video.options = {
            "crf": f"{crf:.1f}",
            "preset": "veryfast",
            "threads": "1",
            "x264-params": "mbtree=0",
        }
        stream = sound = None
        if mix_N is not None:
            sound = fit_sound(_audio(mix_N), AAC, name=path.name)
            stream = add_audio_stream(container, AAC, sound)
        frames = iter_frames(scene, assets, fps=fps, height_px=HEIGHT_PX, width_px=width_px)
        shown = set(scene.shown_frames(math.ceil(Fraction(scene.duration_s) * fps)))
        for i, pixels in enumerate(frames):
            if i in shown:
                frame = VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = i, 1 / fps
                container.mux(video.encode(frame))
        container.mux(video.encode())
        if stream is not None and sound is not None:
            for packet in encode_audio(stream, sound):
                container.mux(packet)


def _attribution(scenes: Iterable[Scene], assets: SceneAssets) -> str:
    """List every recording and picture of the scenes with its licence."""
    recordings = {e.recording_id for s in scenes for e in s.events}
    pictures = {o.picture_id for s in scenes for o in s.objects}
    pictures |= {s.background.picture_id for s in scenes}
    used = [r for r in assets.catalogue.recordings if r.recording_id in recordings]
    shown = [p for p in assets.catalogue.pictures if p.picture_id in pictures]
    return attribution_tsv(used, shown)
