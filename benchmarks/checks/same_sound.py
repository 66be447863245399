"""Do two builds make the same bytes from the same requests? A sentence, a video, and both.

    python benchmarks/checks/same_sound.py --other PYTHON --video CLIP

In:   another environment's interpreter with omni2sound installed, such as one of an older commit.
Out:  a line a request with the digests of both files; exit code 1 if any two differ.

Equal bytes are promised on one machine, for one model and one set of dependencies.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROMPT = "a dog barks"


def requests(video: Path) -> dict[str, list[str]]:
    """Arguments of `omni2sound generate` by the name of the output."""
    return {
        "text.wav": ["--prompt", PROMPT, "--duration", "4", "--seed", "7"],
        "video.mp4": [str(video), "--seed", "7"],
        "both.flac": [str(video), "--prompt", PROMPT, "--seed", "7", "--guidance", "4"],
    }


def digest(python: str, arguments: list[str], out: Path) -> str:
    """SHA-256 of what one build writes."""
    out.parent.mkdir(exist_ok=True)
    environment = dict(os.environ)
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)
    subprocess.run(
        [python, "-m", "omni2sound", "-q", "generate", *arguments, "-o", str(out)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    return hashlib.sha256(out.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", required=True, help="interpreter of the other build")
    parser.add_argument("--video", type=Path, required=True, help="any video with a picture")
    options = parser.parse_args()
    equal = True
    with TemporaryDirectory() as folder:
        for name, arguments in requests(options.video).items():
            ours = digest(sys.executable, arguments, Path(folder, "ours", name))
            theirs = digest(options.other, arguments, Path(folder, "other", name))
            equal &= ours == theirs
            print(f"{name:10} {ours[:16]} {theirs[:16]} {'equal' if ours == theirs else 'DIFFER'}")
    sys.exit(not equal)


if __name__ == "__main__":
    main()
