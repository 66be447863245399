"""How long one sound takes, from the shell: start, 8 s for a video, memory, real-time factor.

    python benchmarks/generate_speed.py [--repeat 3]

In:   the default model; a video of 8 s made here.
Out:  a table on stdout; each row with the limit that the project has set for two cores.

Every figure is of a whole process, started cold, as a user would. Exit code 1 if a limit is
missed: on a slower or busy machine that says little.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

OMNI2SOUND = Path(sys.executable).with_name("omni2sound")
DURATION_S = 8
FPS = 25
LIMITS = {
    "omni2sound --help, s": 0.5,
    "8 s V2A, whole process, s": 15.0,
    "8 s V2A, sample + decode, s": 3.0,
    "8 s V2A, peak memory, GB": 2.0,
}


def make_video(path: Path) -> None:
    """A square that bounces, 640 x 360."""
    with av.open(path, "w") as container:
        stream = container.add_stream("h264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for index in range(DURATION_S * FPS):
            picture = np.full((360, 640, 3), 64, dtype=np.uint8)
            top = round(abs(np.sin(index / FPS * np.pi)) * 250)
            picture[300 - top : 340 - top, 300:340] = (240, 200, 80)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def measure(folder: Path) -> dict[str, float]:
    """One cold run of each command."""
    start = time.perf_counter()
    subprocess.run([OMNI2SOUND, "--help"], check=True, stdout=subprocess.DEVNULL)
    help_s = time.perf_counter() - start

    video, output = folder / "video.mp4", folder / "with_sound.mp4"
    command = [OMNI2SOUND, "-q", "generate", video, "-o", output, "--overwrite", "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    whole_s = time.perf_counter() - start
    parts_s = json.loads(done.stdout)["time_s"]
    # The largest of all children so far, in KiB on Linux and in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak_gb = peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
    values = (help_s, whole_s, parts_s["sample"] + parts_s["decode"], peak_gb)
    return dict(zip(LIMITS, values, strict=True))


def main() -> int:
    """Print the median of some runs."""
    parser = argparse.ArgumentParser(description="Speed and memory of `omni2sound generate`.")
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as name:
        make_video(Path(name) / "video.mp4")
        runs = [measure(Path(name)) for _ in range(repeat)]
    missed = False
    for label, limit in LIMITS.items():
        values = sorted(run[label] for run in runs)
        median = values[len(values) // 2]
        missed |= median > limit
        verdict = "ok" if median <= limit else "MISSED"
        spread = f"{values[0]:.2f} to {values[-1]:.2f}"
        print(f"{label:30} {median:6.2f}  ({spread}, {repeat} runs)  limit {limit:g}: {verdict}")
    print(
        f"real-time factor of the process {runs[-1]['8 s V2A, whole process, s'] / DURATION_S:.2f}"
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
