"""A film of many scenes, end to end: cuts, sounds, hand-over; and does memory grow with its length?

Run:  python -m benchmarks.speed.film [--folder DIR] [--model embedded|tiny] [--scenes 2 40]
        [--scene-seconds 30] [--steps 8] [--recognise]

In:   nothing; films drawn in code (320x240, 25 pictures a second): a project for each number of
      scenes, 30 s each, so 2 are one minute and 40 are twenty.
Out:  for each film: cuts found of those drawn, and wrong ones; steps made now and done before;
      seconds and peak memory of the `omni2sound project` that made it, over all runs; what the
      hand-over holds and whether OpenTimelineIO, FFmpeg and (if installed) SoX read it. Exit
      code 1 if the longest film needs 15 % more memory than the shortest, or something is wrong.

Every run goes on where an earlier one with the same `--folder` was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import opentimelineio as otio

from benchmarks.quality.bouncing_ball import write
from benchmarks.quality.scene_cuts import FPS, NEAR_S, drawn
from tests.build import tiny_model_folder

MOST_GROWTH = 0.15
PROMPTS = ("rain", "a dog barks", "wind in trees", "a car passes by", "footsteps on gravel")


def run(command: list[str], noted: Path) -> tuple[float, float]:
    """Seconds of a command, and its peak memory in MB over this and earlier runs.

    Args:
        command: The command.
        noted: File of the peak, which is kept if the run is stopped, too.
    """
    begin, was_stopped = time.perf_counter(), False
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except KeyboardInterrupt:  # the command gets it, too
        was_stopped = True
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak_mb = usage.ru_maxrss / 1024
    if noted.is_file():
        peak_mb = max(peak_mb, float(noted.read_text()))
    noted.write_text(f"{peak_mb}")
    if was_stopped or process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}, {peak_mb:.0f} MB")
    return time.perf_counter() - begin, peak_mb


def prepare(
    folder: Path, scenes: int, seconds: float, settings: dict[str, Any]
) -> tuple[float, int, int]:
    """Draw a film, and write its project; returns peak memory, cuts found and wrong ones."""
    folder.mkdir(parents=True, exist_ok=True)
    prepared = folder / "prepared.json"
    if prepared.is_file():
        return tuple(json.loads(prepared.read_text()))  # type: ignore[return-value]
    film, project = folder / "film.mp4", folder / "project.json"
    write(film, FPS, drawn("plain", [seconds] * scenes, seed=scenes))
    project.unlink(missing_ok=True)
    command = [sys.executable, "-m", "omni2sound", "project", str(folder), "--film", str(film)]
    _, peak_mb = run(command, folder / "peak-of-cuts.txt")
    data = json.loads(project.read_text())
    starts = [step["settings"]["start_s"] for step in data["steps"]][1:]
    right = sum(any(abs(k * seconds - t) < NEAR_S for t in starts) for k in range(1, scenes))
    for number, step in enumerate(data["steps"]):
        step["settings"] |= {"prompt": PROMPTS[number % len(PROMPTS)], **settings}
    project.write_text(json.dumps(data))
    prepared.write_text(json.dumps([peak_mb, right, len(starts) - right]))
    return peak_mb, right, len(starts) - right


def check(folder: Path, seconds: float) -> str:
    """Read a hand-over as others do; returns what is in it.

    Raises:
        SystemExit: Something in it is not as it should be.
    """
    timeline: Any = otio.adapters.read_from_file(str(folder / "timeline.otio"))
    (track,) = [t for t in timeline.audio_tracks() if t.enabled]
    clips = list(track.find_clips())
    marked = timeline.video_tracks()[0][0].markers
    written = (folder / "timeline.otio").read_text()
    if otio.adapters.write_to_string(timeline) != written or len(marked) != len(clips):
        raise SystemExit(f"{folder}: the timeline is not what was written")
    readers = ["ffprobe", *(["soxi"] if shutil.which("soxi") else [])]
    for number, clip in enumerate(clips):
        start_s = track.range_of_child(clip).start_time.to_seconds()
        if abs(start_s - number * seconds) >= NEAR_S:
            raise SystemExit(f"{clip.name}: begins at {start_s:g} s")
        path = folder / clip.media_reference.target_url
        probed = ["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
        told = [float(_told(["ffprobe", *probed, str(path)]))]
        if "soxi" in readers:
            told.append(float(_told(["soxi", "-D", str(path)])))
        if max(abs(t - clip.duration().to_seconds()) for t in told) > 1e-4:
            raise SystemExit(f"{path}: {clip.duration().to_seconds():g} s, read as {told}")
    return f"{len(clips)} clips and {len(marked)} markers, read by {' and '.join(readers)}"


def _told(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    parser.add_argument("--model", default="embedded", help="name or folder; tiny: random weights")
    parser.add_argument("--scenes", type=int, nargs="+", default=[2, 40])
    parser.add_argument("--scene-seconds", type=float, default=30.0)
    parser.add_argument("--steps", type=int, default=8, help="of the sampler")
    parser.add_argument("--recognise", action="store_true", help="look at the pictures, too")
    args = parser.parse_args()
    settings = {"steps": args.steps, "recognise": args.recognise}
    with tempfile.TemporaryDirectory() as temporary:
        place = args.folder or Path(temporary)
        model = args.model
        if model == "tiny":
            model = str(place / "model")
            if not (place / "model").is_dir():
                tiny_model_folder(place / "model")
        peaks = {}
        for scenes in args.scenes:
            folder = place / f"scenes-{scenes}"
            cuts_mb, right, wrong = prepare(folder, scenes, args.scene_seconds, settings)
            before = len(list(folder.glob("takes/*.wav")))
            command = [sys.executable, "-m", "omni2sound", "project", str(folder)]
            seconds, peak_mb = run([*command, "--model", model], folder / "peak.txt")
            peaks[scenes] = max(peak_mb, cuts_mb)
            print(
                f"{scenes} scenes, {scenes * args.scene_seconds / 60:g} minutes: cuts {right} of "
                f"{scenes - 1} found, {wrong} wrong ({cuts_mb:.0f} MB); {before} steps done "
                f"before, {scenes - before} now in {seconds:.0f} s; peak {peaks[scenes]:.0f} MB; "
                + check(folder / "hand-over", args.scene_seconds),
                flush=True,
            )
    growth = peaks[max(peaks)] / peaks[min(peaks)] - 1
    print(f"memory of the longest over the shortest: {growth:+.1%}")
    raise SystemExit(growth > MOST_GROWTH)


if __name__ == "__main__":
    main()
