"""Transcripts of the command line: each row of commands in a terminal of 80 columns, and off it.

Run:  python benchmarks/checks/transcripts.py [--out FILE] [--only TITLE]

In a folder of its own, with copies of the demo video: under two names, as a .mov with sound, and as
ProRes and DNxHR (by the ffmpeg of the machine).
What the terminal showed last on each line is printed, with what moved (a bar) left out; paths of
the machine are not part of any command.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from omni2sound.cli.demo import demo_video
from omni2sound.media import Audio, mux

COLUMNS = 80
PYTHON = """\
from omni2sound import Omni2SoundPipeline

pipeline = Omni2SoundPipeline.from_pretrained("embedded")
with open("clips/a.mp4", "rb") as film:
    result = pipeline(film, duration_s=2, seed=1)
print(result)
print(result._repr_html_()[:40])
report = result.save("from_python.mp4")
print({name: report[name] for name in ("output", "seed", "duration_s")})
pipeline("rain")
"""
FULL = "mkdir full; mount -t tmpfs -o size=100k full full"
ROWS: tuple[tuple[str, ...], ...] = (
    ("several videos into a folder",
     "omni2sound generate clips --out-dir sounded --duration 2 --seed 1"),
    ("the same again: nothing is left to do",
     "omni2sound generate clips --out-dir sounded --duration 2 --seed 1"),
    ("a pattern", "omni2sound generate 'clips/*.mp4' --out-dir sounded --duration 2 --seed 1"),
    ("ProRes and DNxHR from editors, each in its own container or the next that holds it",
     "omni2sound generate editor --out-dir cut --seed 1"),
    ("a span, times as 1:30, the .mov stays one",
     "omni2sound generate film.mov --start 0:01 --end 2.5 --seed 1"),
    ("model, device, the video and times",
     "omni2sound -v generate film.mov --end 1 --seed 1 -o talkative.mov"),
    ("what an editor gets", "ffprobe -v error -of compact=p=0:nk=0 -show_entries "
     "stream=codec_name,sample_rate,channels,bits_per_sample film.omni2sound.mov"),
    ("takes, with pictures",
     "omni2sound generate clips/a.mp4 --duration 2 --takes 2 --seed 1 --preview -o x.mp4"),
    ("more takes", "omni2sound generate clips/a.mp4 --duration 2 --add --preview -o x.mp4 --json"),
    ("the mix as WAV, for a destination", "omni2sound generate film.mov --end 2 --keep-audio "
     "--mix-db -6 --for podcast --seed 1 -o mix.wav"),
    ("rate, channels, bits", "omni2sound generate --prompt rain --duration 2 --rate 48000 "
     "--channels 2 --bits 24 --seed 1"),
    ("a table of jobs", "omni2sound batch jobs.csv --out made"),
    ("jobs as JSON lines", "omni2sound batch jobs.jsonl --out made --json"),
    ("Ctrl-C after the first of many jobs",
     "omni2sound batch many.csv --out stopped", "stopped/one.wav"),
    ("the same again goes on", "omni2sound batch many.csv --out stopped"),
    ("Ctrl-C after the first of two videos",
     "omni2sound generate clips --out-dir halted --duration 2 --seed 1", "halted/a.omni2sound.mp4"),
    ("more than ten seconds",
     "omni2sound generate --prompt 'a dog barks' --steps 150 --seed 1 -o long.wav"),
    ("a range made anew",
     "omni2sound edit omni2sound.wav --range 0.5-1 --prompt 'a dog barks' --seed 1"),
    ("from Python", "python made.py"),
    ("a sentence for a video", "omni2sound generate 'a dog barks'"),
    ("an address", "omni2sound generate https://example.org/street.mp4"),
    ("--takes with a batch", "omni2sound batch jobs.csv --out made --takes 3"),
    ("the command forgotten", "omni2sound clips/a.mp4"),
    ("an error as JSON", "omni2sound generate none.mp4 --json"),
    ("no permission, exit code 3", "omni2sound generate --prompt rain -o /sys/x.wav"),
    ("a full disk, exit code 3",
     f"unshare -rm sh -c '{FULL}; exec omni2sound generate --prompt rain -o full/x.wav'"),
    ("help", "omni2sound edit --help"),
)  # fmt: skip


def words_of(line: str) -> list[str]:
    """The words of a command, with this interpreter in place of the programs' names."""
    program = f"{sys.executable} -m omni2sound"
    if line.startswith("unshare "):
        return shlex.split(line.replace("exec omni2sound", f"exec {program}"))
    first, *others = shlex.split(line)
    known = {"omni2sound": program.split(), "python": [sys.executable]}
    return [*known.get(first, [first]), *others]


def write_inputs(folder: Path) -> None:
    """Write the videos, tables and the script that the commands name."""
    for name in ("clips", "editor"):
        (folder / name).mkdir()
    for video in ("a.mp4", "b.mp4"):
        shutil.copy(demo_video(), folder / "clips" / video)
    prores, dnxhr = ["prores_ks"], ["dnxhd", "-profile:v", "dnxhr_sq", "-pix_fmt", "yuv422p"]
    for name, codec in (("prores.mov", prores), ("dnxhr.mov", dnxhr), ("dnxhr-op1a.mxf", dnxhr)):
        made = ["-t", "2", "-an", "-c:v", *codec, str(folder / "editor" / name)]
        subprocess.run(["ffmpeg", "-v", "error", "-i", str(demo_video()), *made], check=True)
    tone = np.sin(np.arange(8 * 48_000) * 0.03).astype(np.float32)[None] * 0.1
    mux(demo_video(), Audio(samples_CN=tone, sample_rate_hz=48_000), folder / "film.mov")
    (folder / "jobs.csv").write_text(
        "id,prompt,takes,duration_s,seed\nbark,a dog barks,2,0:02,3\nbad,rain,many,,\n"
    )
    (folder / "jobs.jsonl").write_text(
        '{"id": "shot", "video": "film.mov", "start_s": "0:01", "end_s": 3, "keep_audio": true, '
        '"mix_db": -6, "for": "youtube", "seed": 1}\n'
        '{"id": "tail", "prompt": "rain", "duration_s": 2, "loudness_lufs": -20}\n'
    )
    (folder / "many.csv").write_text(
        "id,prompt,duration_s,seed\none,rain,2,1\ntwo,a dog barks,2,2\nthree,fire,2,3\n"
    )
    (folder / "made.py").write_text(PYTHON)


def _take_ctrl_c() -> None:
    """Undo what a background job of a shell passes on: that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def in_terminal(
    command: list[str],
    folder: Path | None = None,
    *,
    columns: int = COLUMNS,
    until: Path | None = None,
) -> tuple[int, bytes]:
    """Run a command in a terminal; return its exit code and what the terminal got.

    Args:
        command: The command and its arguments.
        folder: Where it runs.
        columns: Width of the terminal.
        until: A file at which Ctrl-C is pressed.
    """
    leader, follower = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen(
        ["setsid", "--ctty", *command] if until else command,  # Ctrl-C needs a terminal of its own
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment,
        cwd=folder,
        preexec_fn=_take_ctrl_c,
    )
    os.close(follower)
    shown = b""
    while True:
        while until is not None and not select.select([leader], [], [], 0.1)[0]:
            if until.exists():
                os.write(leader, b"\x03")
                until = None
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    return process.wait(), shown


def off_it(command: list[str], folder: Path, until: Path | None) -> tuple[int, str, str]:
    """Run a command off a terminal; return its exit code and its two streams."""
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_take_ctrl_c,
    ) as process:
        while until is not None and process.poll() is None:
            if until.exists():
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.1)
        out, errors = process.communicate()
    return process.returncode, out, errors


def stages_of(shown: str) -> list[str]:
    """Stages that the bar named, with the largest share of each."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    found: dict[str, str] = {}
    for stage, share in re.findall(r"(?m)(?:^|\r)([a-z][a-z ()0-9]+?) +[━╸╺ ]+ *(\d+ %)?", plain):
        if share or stage not in found:
            found[stage] = share
    return [f"{stage} {share}".strip() for stage, share in found.items()]


def settled(shown: str) -> list[str]:
    """The lines that stay on the screen."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = [line.split("\r")[-1] for line in plain.replace("\r\n", "\n").split("\n")]
    return [line.rstrip() for line in lines if line.strip() and not re.search(r"[━╸╺]", line)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file. Default: stdout.")
    parser.add_argument("--only", default="", help="Rows whose title holds this. Default: all.")
    args = parser.parse_args()
    parts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder)
        for title, line, *stop in (row for row in ROWS if args.only in row[0]):
            command = words_of(line)
            copy = folder / "off"
            if copy.exists():
                shutil.rmtree(copy)
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("off"))
            until = [base / stop[0] if stop else None for base in (copy, folder)]
            off_code, out, errors = off_it(command, copy, until[0])
            shutil.rmtree(copy)
            code, got = in_terminal(command, folder, until=until[1])
            shown = got.decode(errors="replace")
            lines = settled(shown)
            stages = "; ".join(stages_of(shown)) or "none"
            parts.append(
                f"## {title}\n\n    $ {line}\n\nTerminal, exit code {code}, "
                f"stages: {stages}\n\n"
                + "".join(f"    {text}\n" for text in lines)
                + f"\nOff it, exit code {off_code}; stdout, then stderr:\n\n"
                + "".join(f"    {text}\n" for text in out.splitlines())
                + "    --\n"
                + "".join(f"    {text}\n" for text in errors.splitlines())
            )
            print(f"{title}: {code}, {off_code}", file=sys.stderr, flush=True)
    text = "# Transcripts of the command line\n\n" + "\n".join(parts)
    if args.out is None:
        print(text)
    else:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
