"""A click and a flash at known times, through containers, codecs, rates and ways of writing.

    python benchmarks/robustness/timing.py [--containers mp4 mkv ...] [--rates 16000 ...]

For every combination that FFmpeg's muxers take, a film is written with a click and a flash of
white at 1.0 s. Where it is read (`read_audio`, `iter_pictures`) is compared with the timestamps
at which FFmpeg decodes the same file: the ffmpeg program with `-copyts`, sound put in its place
by `asetpts`/`aresample`. Errors are due within 1 ms for sound and half a picture for pictures,
both counted from second 0. In a film that was cut within a picture the truth is FFmpeg without
its own edit lists, which show that picture's successor too early (`docs/explanation/time.md`).
What FFmpeg can't write, or can't find a click or a flash in, is counted apart from what Omni2Sound
refuses to read; refusals are printed, and count as failures.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from omni2sound.errors import UserError
from omni2sound.media import probe, read_audio
from omni2sound.media.video import iter_pictures

CONTAINERS = {
    "mp4": "libx264", "mov": "libx264", "m4v": "libx264", "mkv": "libx264", "webm": "libvpx-vp9",
    "ts": "libx264", "flv": "libx264", "avi": "mpeg4", "nut": "libx264", "mpg": "mpeg2video",
    "asf": "mpeg4", "mxf": "mpeg2video",
}  # fmt: skip
SOUND_CODECS = ("aac", "libmp3lame", "libopus", "vorbis", "flac", "pcm_s16le", "ac3", "mp2")
RATES_HZ = (16_000, 44_100, 48_000)
WAYS = ("whole", "fragmented", "cut", "late", "drifting")
FPS, SECONDS, AT_S = 25, 3, 1.0
CUT_S, LATE_S, DRIFT = Fraction(13, 25), 0.4, 0.003
MAX_SOUND_S, MAX_PICTURE_S = 0.001, 0.5 / FPS


@dataclass(frozen=True)
class Case:
    """One combination."""

    container: str
    codec: str
    rate_hz: int
    way: str


@dataclass(frozen=True)
class Result:
    """Seconds by which sound and picture are read late."""

    case: Case
    sound_s: float
    picture_s: float

    @property
    def badness(self) -> float:
        """1 is the limit."""
        return max(abs(self.sound_s) / MAX_SOUND_S, abs(self.picture_s) / MAX_PICTURE_S)


def write(path: Path, case: Case) -> None:
    """Write the film, or raise what FFmpeg raises."""
    options = {}
    if case.way == "fragmented":
        options = {"movflags": "frag_keyframe+empty_moov+delay_moov"}
    first_s = LATE_S if case.way == "late" else 0.0
    with av.open(str(path), "w", options=options) as target:
        codec = CONTAINERS[case.container]
        video: Any = target.add_stream(codec, rate=FPS, options={"g": "12", "b": "1000000"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        track: Any = target.add_stream(case.codec, rate=case.rate_hz, options={"strict": "-2"})
        track.codec_context.layout = "stereo" if case.codec == "vorbis" else "mono"
        packets: list[Any] = []
        for i in range(SECONDS * FPS):
            white = i == round(AT_S * FPS)
            picture = np.full((64, 96, 3), 255 if white else 30, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            packets += video.encode(frame)
        packets += video.encode(None)
        drift = DRIFT if case.way == "drifting" else 0.0
        rate = case.rate_hz * (1 + drift)
        samples_N = np.zeros(round((SECONDS - first_s) * rate), np.float32)
        at = round((AT_S - first_s) * rate)
        samples_N[at - 4 : at + 5] = 0.8 * np.hanning(9)
        packets += list(encode(track, samples_N, first_s, drift))
        for packet in sorted(packets, key=lambda p: (p.dts or 0) * p.time_base):
            target.mux(packet)


def encode(track: Any, samples_N: Any, first_s: float, drift: float) -> Iterator[Any]:
    """Encode; a drifting clock has more samples than its timestamps say."""
    rate = track.codec_context.sample_rate
    layout = track.codec_context.layout.name
    size = track.codec_context.frame_size or 1024
    resampler = av.AudioResampler(track.codec_context.format.name, layout, rate)
    for start in [*range(0, len(samples_N), size), None]:
        frames = []
        if start is not None:
            part = np.ascontiguousarray(samples_N[None, start : start + size])
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(first_s * rate + start / (1 + drift))
            frames = resampler.resample(frame)
            for made in frames:
                made.pts = frame.pts
                made.time_base = frame.time_base
        for made in frames:
            yield from track.encode(made)
    yield from track.encode(None)


def cut(source: Path, target: Path) -> None:
    """Cut by copying, not at a key frame, as editors do."""
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-ss", str(float(CUT_S)), "-i", source, "-c", "copy",
         target],
        check=True, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip


def decoded_by_ffmpeg(path: Path, case: Case) -> tuple[float, float]:
    """Times of click and flash by the timestamps of FFmpeg's decoded frames."""
    plain = ["-advanced_editlist", "0"] if case.way == "cut" and is_mov(case) else []
    common = ["ffmpeg", "-hide_banner", "-nostats", "-copyts", *plain, "-i", str(path)]
    video = subprocess.run(
        [*common, "-an", "-vf", "showinfo", "-f", "null", "-"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True,
    ).stderr  # fmt: skip
    pictures = re.findall(r"pts_time:(-?[\d.]+).*?mean:\[(\d+)", video)
    flash_s = next(float(time) for time, mean in pictures if int(mean) > 150)
    audio = ["ffmpeg", "-hide_banner", "-nostats", "-copyts", "-i", str(path)]
    info = subprocess.run(
        [*audio, "-vn", "-af", "ashowinfo", "-f", "null", "-"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True,
    ).stderr  # fmt: skip
    raw = subprocess.run(
        [*audio, "-vn", "-f", "f32le", "-ac", "1", "-c:a", "pcm_f32le", "-"],
        capture_output=True, stdin=subprocess.DEVNULL, check=True,
    ).stdout  # fmt: skip
    frames = re.findall(r"pts_time:(-?[\d.]+).*?rate:(\d+) nb_samples:(\d+)", info)
    last_s, num_samples = float(frames[-1][0]), sum(int(count) for *_, count in frames)
    if last_s - float(frames[0][0]) < num_samples / int(frames[0][1]) / 2:
        raise ValueError("most of the sound overlaps itself")
    counted = np.cumsum([0, *(int(count) for *_, count in frames[:-1])]) / int(frames[0][1])
    errors = np.array([float(time) for time, *_ in frames]) - counted
    if np.ptp(errors) > 0.5 and abs(errors[-1] - errors[0]) < 0.25:
        raise ValueError("sound is out of order, though none of it is missing")
    peak = int(np.abs(np.frombuffer(raw, np.float32)).argmax())
    for time, rate, count in frames:
        if peak < int(count):
            return float(time) + peak / int(rate), flash_s
        peak -= int(count)
    raise ValueError("the click is in no frame")


def is_mov(case: Case) -> bool:
    """Whether the container has edit lists."""
    return case.container in ("mp4", "mov", "m4v")


@dataclass(frozen=True)
class Unwritten:
    """FFmpeg's muxer refuses the combination, or there is nothing to compare with."""

    reason: str


@dataclass(frozen=True)
class Refusal:
    """Omni2Sound refuses a file that FFmpeg writes and reads."""

    case: Case
    message: str


def measure(case: Case, folder: Path) -> Result | Unwritten | Refusal:
    """Compare one combination."""
    path = folder / f"film.{case.container}"
    if case.way == "fragmented" and not is_mov(case):
        return Unwritten("no fragments in this container")
    try:
        write(path, case)
    except (av.FFmpegError, ValueError):
        return Unwritten("refused by FFmpeg's encoder or muxer")
    try:
        if case.way == "cut":
            path, source = folder / f"cut.{case.container}", path
            cut(source, path)
        click_s, flash_s = decoded_by_ffmpeg(path, case)
    except (ValueError, subprocess.CalledProcessError, StopIteration):
        return Unwritten("without click, flash or possible times as FFmpeg decodes it")
    try:
        start_s = float(probe(path).timeline.start_s)
        audio = read_audio(path, mono=True)
    except UserError as error:
        return Refusal(case, str(error))
    heard_s = int(np.abs(audio.samples_CN[0]).argmax()) / audio.sample_rate_hz
    seen_s = next(
        (float(t) for t, f in iter_pictures(path) if f.to_ndarray(format="gray").mean() > 150),
        float("inf"),
    )
    return Result(case, heard_s + start_s - click_s, seen_s + start_s - flash_s)


def main() -> None:
    """Measure all combinations and print the worst."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worst", type=int, default=10, help="rows to print")
    parser.add_argument("--containers", nargs="+", default=[*CONTAINERS], choices=CONTAINERS)
    parser.add_argument("--rates", nargs="+", type=int, default=RATES_HZ, choices=RATES_HZ)
    options = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        print("ffmpeg is not installed: there is nothing to compare with")
        return
    results: list[Result] = []
    refusals: list[Refusal] = []
    unwritten: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for container in options.containers:
            for codec in SOUND_CODECS:
                for rate in options.rates:
                    for way in WAYS:
                        result = measure(Case(container, codec, rate, way), Path(folder))
                        if isinstance(result, Result):
                            results.append(result)
                        elif isinstance(result, Refusal):
                            refusals.append(result)
                        else:
                            unwritten[result.reason] += 1
    results.sort(key=lambda result: -result.badness)
    print(f"{'container':10}{'codec':12}{'Hz':>6}  {'way':11}{'sound ms':>9}{'picture ms':>11}")
    for result in results[: options.worst]:
        case = result.case
        print(
            f"{case.container:10}{case.codec:12}{case.rate_hz:6}  {case.way:11}"
            f"{1000 * result.sound_s:9.2f}{1000 * result.picture_s:11.2f}"
        )
    good = sum(result.badness <= 1 for result in results)
    print(f"{good} of {len(results)} within 1 ms and half a picture")
    for reason, count in unwritten.most_common():
        print(f"{count} not compared: {reason}")
    print(f"{len(refusals)} refused by Omni2Sound")
    for refusal in refusals[: options.worst]:
        case = refusal.case
        print(f"  {case.container} {case.codec} {case.rate_hz} Hz {case.way}: {refusal.message}")


if __name__ == "__main__":
    main()
