"""Where the time and the memory of one sound go, part by part, beside what the machine can do.

    python benchmarks/speed/generate.py [--model NAME] [--minutes 1] [--repeat 3]

In:   a model; videos of 8 s and of a minute, made here.
Out:  a table on stdout: wall and processor seconds of each part; the transformer's share of the
      matmul peak that the same run measured in its precision; whole processes, started cold, as a
      user would, with their peak memory; the limits that the project has set for two cores.

Exit code 1 if a limit is missed: on a slower or busy machine that says little. There processor
seconds over the number of cores are the better guess.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch
from torch import nn

from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.generate.finish import extend
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.media import iter_frames
from omni2sound.media.samples import Audio

OMNI2SOUND = Path(sys.executable).with_name("omni2sound")
CLIP_S = 8
FPS = 25
PROMPT = "a ball bounces on a wooden floor"
LIMITS = {
    "omni2sound --help, s": 0.5,
    "8 s, sample + decode, s": 0.8,
    "8 s, whole process, s": 15.0,
    "one minute, whole process, s": 15.0,
    "peak memory, GB": 1.2,
}


def make_video(path: Path, duration_s: int) -> None:
    """A square that bounces, 640 x 360."""
    with av.open(path, "w") as container:
        stream = container.add_stream("h264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for index in range(duration_s * FPS):
            picture = np.full((360, 640, 3), 64, dtype=np.uint8)
            top = round(abs(np.sin(index / FPS * np.pi)) * 250)
            picture[300 - top : 340 - top, 300:340] = (240, 200, 80)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


class Parts:
    """Wall and processor seconds by part, over several rounds."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        taken = time.perf_counter() - wall, time.process_time() - cpu
        self._seconds.setdefault(name, []).append(taken)

    def median(self, name: str) -> tuple[float, float]:
        """Of all rounds."""
        walls, cpus = zip(*self._seconds[name], strict=True)
        return median(walls), median(cpus)

    def told(self) -> Iterator[str]:
        """One line a part."""
        for name in self._seconds:
            wall, cpu = self.median(name)
            yield f"  {name:34} {wall:7.3f} {cpu:7.3f}"


class Steps:
    """Processor seconds of each sampling step after the first; give it as `on_step`."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def __call__(self, done: int, total: int) -> None:
        self._times.append(time.process_time())

    def seconds(self) -> list[float]:
        """One for each step but the first."""
        return [b - a for a, b in pairwise(self._times)]


def matmul_peak(dtype: torch.dtype) -> float:
    """Operations a processor second of a large product in this precision, the best of some."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        begin = time.process_time()
        torch.mm(a, b)
        best = max(best, 2 * 2048**3 / (time.process_time() - begin))
    return best


def step_operations(pipeline: TorchPipeline, num_frames: int, batch: int) -> int:
    """Of the linear layers in one call of the transformer: each weight once a frame."""
    frames = batch * (num_frames + 1)
    skipped = ("conditioner", "time", "time_modulation")
    return sum(
        2 * frames * module.weight.numel()
        for name, module in pipeline.model.dit.named_modules()
        if isinstance(module, nn.Linear)
        and not name.startswith(skipped)
        and not name.endswith("cross_attention.kv")
    )


def measure_parts(pipeline: TorchPipeline, video: Path, repeat: int) -> tuple[Parts, float]:
    """Every part of 8 s of video with a prompt; and the sampler's processor seconds a step."""
    parts, steps_s = Parts(), []
    config = pipeline.model.config
    sync = pipeline.model.sync
    assert sync is not None, "this benchmark is for models with the embedded encoders"
    vision, text = VisionEncoder.load(dtype=pipeline.dtype), TextEncoder.load()
    for _ in range(repeat):
        with parts("video decode, pictures at 8 fps"):
            frames = iter_frames(
                video, fps=config.timebase.vision_fps, size_px=vision.size_px, duration_s=CLIP_S
            )
            looks = np.stack(list(frames))
        side = sync.config.frame_px
        with parts("video decode, pictures at 25 fps"):
            frames = iter_frames(
                video, fps=config.timebase.sync_fps, size_px=(side, side), duration_s=CLIP_S
            )
            motion = np.stack(list(frames))
        with parts("vision encoder"):
            vision.embed(looks)
        with parts("sync encoder"):
            sync.embed(motion)
        with parts("text encoder"):
            text([PROMPT])
        conditions = pipeline.encoder.encode_arrays(
            looks[None], motion[None], [PROMPT], duration_s=CLIP_S
        )
        steps = Steps()
        with parts("8 s, sample + decode"):
            samples_1N = pipeline.generate_batch(
                conditions, duration_s=CLIP_S, seeds=[0], on_step=steps
            )
            low = Audio(
                samples_CN=samples_1N.numpy(), sample_rate_hz=config.timebase.sample_rate_hz
            )
            if pipeline.model.band is not None:
                extend(low, pipeline.model.band.added_array)
        steps_s += steps.seconds()
        latents_BLC = torch.randn(1, CLIP_S * 25, config.dit.latent_dim)
        with parts("decoder"), torch.inference_mode():
            pipeline.model.autoencoder.decode(latents_BLC)
        if pipeline.model.band is not None:
            with parts("band extension"):
                extend(low, pipeline.model.band.added_array)
    return parts, median(steps_s)


def measure_minute(pipeline: TorchPipeline, video: Path) -> str:
    """The parts of one long request in this process."""
    begin = time.process_time()
    result = next(pipeline.run(GenerationRequest(video=video)))
    took = result.timings
    return (
        f"one minute of video in this process: encode {took.encode_s:.2f} s, "
        f"sample {took.sample_s:.2f} s, decode {took.decode_s:.2f} s; "
        f"{time.process_time() - begin:.2f} processor seconds in all"
    )


def measure_process(command: list[str | Path], repeat: int) -> tuple[float, float, float, str]:
    """Median wall and processor seconds, largest memory in GB, last stdout of cold runs."""
    walls, cpus, peaks, stdout = [], [], [], ""
    for _ in range(repeat):
        begin = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            stdout = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        walls.append(time.perf_counter() - begin)
        if process.returncode:
            raise SystemExit(f"{command} failed with {process.returncode}")
        cpus.append(usage.ru_utime + usage.ru_stime)
        # In KiB on Linux and in bytes on macOS.
        peaks.append(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9)
    return median(walls), median(cpus), max(peaks), stdout


def measure_commands(
    given: argparse.Namespace, videos: dict[str, Path], found: dict[str, float]
) -> None:
    """Print wall and processor seconds and memory of cold processes; keep what has a limit."""
    found["omni2sound --help, s"], *_ = measure_process([OMNI2SOUND, "--help"], given.repeat)
    print(f"  {'whole process':34} {'wall s':>7} {'cpu s':>7} {'GB':>7}")
    for label, video in videos.items():
        output = video.with_name("out.mp4")
        command: list[str | Path]
        command = [OMNI2SOUND, "-q", "generate", video, "-o", output, "--overwrite", "--json"]
        command += ["--model", given.model, "--dtype", given.dtype, "--device", "cpu"]
        wall, cpu, peak_gb, stdout = measure_process(command, given.repeat)
        told = ", ".join(f"{k} {v:.2f}" for k, v in json.loads(stdout)["time_s"].items())
        print(f"  {label:34} {wall:7.2f} {cpu:7.2f} {peak_gb:7.2f}   last one: {told}")
        found[f"{label}, whole process, s"] = wall
        found["peak memory, GB"] = max(peak_gb, found.get("peak memory, GB", 0.0))


def main() -> int:
    """Print everything."""
    parser = argparse.ArgumentParser(description="Time and memory of `omni2sound generate`.")
    parser.add_argument("--model", default="embedded", help="a model's name or folder")
    parser.add_argument("--dtype", default="auto", help="precision of the transformer")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; medians are shown")
    given = parser.parse_args()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        short, long = Path(name) / "short.mp4", Path(name) / "long.mp4"
        make_video(short, CLIP_S)
        make_video(long, 60)
        # First: a process that is forked counts this one's memory as its own peak.
        measure_commands(given, {"8 s": short, "one minute": long}, found)
        pipeline = TorchPipeline.load(given.model, device="cpu", dtype=given.dtype)
        parts, step_s = measure_parts(pipeline, short, given.repeat)
        defaults = pipeline.model.defaults
        print(f"\n{pipeline.model.name}, {defaults.steps} steps, guidance {defaults.guidance:g},")
        print(f"{pipeline.dtype}, {torch.get_num_threads()} threads")
        print(f"\n  {'8 s of video and a prompt':34} {'wall s':>7} {'cpu s':>7}")
        print("\n".join(parts.told()))
        batch = 1 if defaults.guidance == 1 else 2
        done = step_operations(pipeline, CLIP_S * 25, batch) / step_s
        peak = matmul_peak(pipeline.dtype)
        print(f"  {'sampler, one step':34} {'':7} {step_s:7.3f}")
        print(
            f"  linear layers: {done / 1e9:.0f} of {peak / 1e9:.0f} GFLOP per processor second "
            f"of a plain product, {done / peak:.2f} of the matmul peak"
        )
        found["8 s, sample + decode, s"] = parts.median("8 s, sample + decode")[0]
        print(f"\n{measure_minute(pipeline, long)}")
        del pipeline
    print()
    for label, limit in LIMITS.items():
        verdict = "ok" if found[label] <= limit else "MISSED"
        print(f"{label:32} {found[label]:6.2f}  limit {limit:g}: {verdict}")
    return int(any(found[label] > limit for label, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
