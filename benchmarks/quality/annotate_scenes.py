"""Local annotators against the truth of stage scenes: one table.

    python -m benchmarks.quality.annotate_scenes --corpus CORPUS --out FOLDER [--scenes 300]
        [--seed 12]

Three of five scenes are of the main track (all that sounds is seen), two of the off-screen track.
They are annotated three times: the picture as text (what the paper does), no picture, and the
picture's labels given to the captioner. Then `annotate score` says what was found and invented by
the junior, with the hand-off, with the filter, and by as many clips chosen at random; `annotate
status` what the hand-off saves; `annotate judge` how the captions do against the truth's and
against audio-only ones. What lies in FOLDER already is not done again. `--split val` is what
thresholds may be chosen on; the table to report is of the test split.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from omni2sound.annotate import STEPS_FILE
from omni2sound.data.corpora.manifest import Clip, write_manifest

PICTURES = ("text", "none", "frames")


def command(*argv: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "omni2sound", "-q", *argv],
        check=True,
        env={"OMP_NUM_THREADS": "1", **os.environ},
    )


def scenes(folder: Path, options: argparse.Namespace) -> Path:
    """Files of the scenes, and one manifest of both tracks in turn."""
    tracks = {"main": options.scenes * 3 // 5, "offscreen": options.scenes * 2 // 5}
    if options.split == "val":
        tracks = {"main": options.scenes}  # the off-screen track is test material
    clips: list[list[Clip]] = []
    for track, count in tracks.items():
        files = folder / track
        written = files / "manifest.jsonl"
        if not written.is_file():
            command(
                *("scenes", "build", "--corpus", str(options.corpus), "--seed"),
                *(str(options.seed), "--split", options.split if track == "main" else track),
                *("--scenes", str(count), "--duration", "5", "--out", str(files)),
            )
        rows = written.read_text(encoding="utf-8").splitlines()
        clips.append([_clip(json.loads(row), track) for row in rows])
    most = max(map(len, clips))
    mixed = [some[i] for i in range(most) for some in clips if i < len(some)]
    write_manifest(folder / "mixed.jsonl", mixed, media=folder)
    return folder / "mixed.jsonl"


def _clip(row: dict[str, Any], track: str) -> Clip:
    return Clip(
        clip_id=row["id"],
        corpus="stage",
        split=row["split"],
        audio=f"{track}/{row['audio']}",
        video=f"{track}/{row['video']}",
        duration_s=row["duration_s"],
        captions=tuple(dict.fromkeys(row["captions"].values())),
    )


def take_over(run: Path, other: Path) -> None:
    """What was perceived there need not be perceived here; keys tell what can be used."""
    other.mkdir(exist_ok=True)
    if not (other / STEPS_FILE).exists():
        with (
            closing(sqlite3.connect(run / STEPS_FILE)) as source,
            closing(sqlite3.connect(other / STEPS_FILE)) as target,
        ):
            source.backup(target)
            target.execute("DELETE FROM steps WHERE step NOT IN ('perceive', 'route')")
            target.execute("DELETE FROM effort")
            target.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="of `scenes fetch`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--split", choices=("test", "val"), default="test")
    parser.add_argument("--pictures", nargs="+", choices=PICTURES, default=PICTURES)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    manifest = scenes(out, options)
    for pictures in options.pictures:
        if pictures != options.pictures[0]:
            take_over(out / options.pictures[0], out / pictures)
        wall, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command(
            *("annotate", "run", str(manifest), str(out / pictures)),
            *("--pictures", pictures, "--workers", str(options.workers)),
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"{pictures}: {time.monotonic() - wall:.0f} s, {cpu:.0f} s of CPU", flush=True)
    runs = [str(out / pictures) for pictures in options.pictures]
    tracks = [str(path) for path in (out / "main", out / "offscreen") if path.is_dir()]
    command("annotate", "score", *runs, *(a for track in tracks for a in ("--scenes", track)))
    command("annotate", "status", runs[0])
    for against in ("manifest", str(out / "none")):
        if against == "manifest" or Path(against).is_dir():
            command("annotate", "judge", runs[0], "--against", against, "--workers", "1")


if __name__ == "__main__":
    main()
