"""Does the same command end well after a kill or a full disk, with nothing left over?

    python -m benchmarks.robustness.output_kills [--kills 300] [--full 60] [--only batch]
                                                 [--state FILE]

`batch`, `edit`, `mix`, `project`, `hand-over`, `annotate export`, `export` and `train` run in
processes that are forked from this one. Each is killed (SIGKILL) right before or after one of its
operations on files, drawn at random: a folder is made, a file flushed, linked, renamed, removed. Or
its disk, a small tmpfs in a namespace of its own (without the right to one: a limit of a file's
length), is full. After every second kill `doctor --repair` goes through the folder, which must
leave nothing hidden. Then the same command runs again until it ends. Counted are reruns that fail,
files that are left over, outputs that are empty or don't fit their sidecar, and failures on a full
disk that are no line. Exit code 1 if there is one.
With `--state` the counts are kept in a file after each case, and the next run goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parent))  # modules of the scripts here

NAMES = (
    *("batch", "edit", "mix", "project", "hand-over"),
    *("annotate export", "export", "train"),
)
_FULL_BYTES = (2**12, 2**18)
_OPERATIONS: tuple[tuple[Any, str], ...] = (
    (os, "link"), (os, "fsync"), (os, "open"), (os, "close"), (os, "unlink"), (os, "rmdir"),
    (os, "replace"), (os, "rename"), (os, "mkdir"), (Path, "replace"), (Path, "rename"),
    (Path, "unlink"), (Path, "mkdir"), (Path, "write_text"), (shutil, "rmtree"),
)  # fmt: skip


@dataclass(kw_only=True)
class Command:
    """A command, where it writes, and what is wrong with what it wrote."""

    run: Callable[[Path], None]
    """Runs in a child, into a folder; an exception or exit code but 0 is a failure."""
    wrong: Callable[[Path], list[str]]
    num_operations: int = 0
    found: Counter[str] = field(default_factory=Counter)


# ---- processes


def _in_child(command: Command, out: Path, prepare: Callable[[], None]) -> tuple[int, str]:
    """Run in a forked process; return its wait status and what it wrote to stderr."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(reader)
            os.dup2(writer, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
            sys.stderr = sys.__stderr__ = os.fdopen(2, "w", closefd=False)
            prepare()
            command.run(out)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:  # a traceback is what is counted
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, errors="replace") as lines:
        said = lines.read()
    return os.waitpid(child, 0)[1], said


def _die_at(number: int, *, before: bool, count: mmap.mmap | None = None) -> Callable[[], None]:
    """Let the process die at its `number`-th operation on files, and count them in `count`."""
    done = 0

    def wrapped(operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            is_due = done == number
            if count is not None:
                struct.pack_into("<Q", count, 0, done)
            if is_due and before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = operation(*args, **kwargs)
            if is_due:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted

    def prepare() -> None:
        for place, name in _OPERATIONS:
            setattr(place, name, wrapped(getattr(place, name)))

    return prepare


def _count_operations(command: Command, folder: Path) -> int:
    """Count the operations of a whole run, in memory that both processes share."""
    with mmap.mmap(-1, 8) as count:
        _in_child(command, folder / "whole", _die_at(0, before=True, count=count))
        (num,) = struct.unpack_from("<Q", count)
    shutil.rmtree(folder / "whole", ignore_errors=True)
    return max(1, int(num))


# ---- commands


def _cli(*arguments: object) -> None:
    from omni2sound.cli.main import main

    sys.argv = ["omni2sound", *map(str, arguments)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise


def batch_command(folder: Path) -> Command:
    """Three jobs, one of them with a video, by a tiny model."""
    from tests.build import tiny_model_folder, video_with_square

    model = tiny_model_folder(folder / "model")
    video_with_square(folder / "clip.mp4", duration_s=1.2)
    jobs = [{"id": f"j{n}", "prompt": "rain", "steps": 1, "duration_s": 0.5} for n in range(2)]
    jobs.append({"id": "v", "video": "clip.mp4", "steps": 1})
    for number, job in enumerate(jobs):
        job["seed"] = number
    (folder / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))

    import torch

    from omni2sound.generate.batch import Batch
    from omni2sound.generate.load import PipelineOptions

    torch.set_num_threads(1)  # a forked process has no other
    options = PipelineOptions(model=model, device="cpu")  # imports all that the children need
    list(Batch(folder / "jobs.jsonl", folder / "warm", pipeline=options).run())

    def run(out: Path) -> None:
        _cli("batch", folder / "jobs.jsonl", "--out", out, "--model", model, "--device", "cpu")

    def wrong(out: Path) -> list[str]:
        names = {f"j{n}.wav" for n in range(2)} | {"v.mp4"}
        names |= {f"{name}.json" for name in names}
        return _unlike(out, names) + _unfit(out)

    return Command(run=run, wrong=wrong)


def edit_command(folder: Path) -> Command:
    """Half a second of a sound made anew by a tiny model."""
    import torch

    from tests.build import tiny_model_folder

    torch.set_num_threads(1)
    model = tiny_model_folder(folder / "model")
    times = np.arange(16_000) / 16_000
    soundfile.write(folder / "tone.wav", 0.3 * np.sin(2 * np.pi * 440 * times), 16_000)
    options = ("--range", "0.2-0.7", "--prompt", "rain", "--steps", 1, "--seed", 1)

    def run(out: Path) -> None:
        out.mkdir(exist_ok=True)
        _cli("edit", folder / "tone.wav", "--model", model, "--device", "cpu", *options,
             "-o", out / "edited.wav")  # fmt: skip

    def wrong(out: Path) -> list[str]:
        return _unlike(out, {"edited.wav", "edited.wav.json"}) + _unfit(out)

    run(folder / "warm")  # imports all that the children need
    return Command(run=run, wrong=wrong)


def mix_command(folder: Path) -> Command:
    """The mix of two stems."""
    from benchmarks.robustness.odd_more import stems

    stems(folder)

    def run(out: Path) -> None:
        out.mkdir(exist_ok=True)
        _cli("mix", folder / "stems", "-o", out / "mixed.wav")

    run(folder / "warm")
    files = {path.name for path in (folder / "warm").iterdir()}
    return Command(run=run, wrong=lambda out: _unlike(out, files) + _unfit(out))


def project_command(folder: Path) -> Command:
    """A project of one step, and its hand-over."""
    from benchmarks.robustness.odd_more import handed

    handed(folder)

    def run(out: Path) -> None:
        out.mkdir(exist_ok=True)
        if not (out / "project.json").exists():
            (out / "project.json").symlink_to(folder / "project.json")
        _cli("project", out, "--model", folder / "model", "--device", "cpu")

    def wrong(out: Path) -> list[str]:
        problems = _unlike(out, {"project.json"}, beside={"takes", "hand-over"})
        for name in ("takes", "hand-over"):
            files = {path.name for path in (folder / name).iterdir()}
            problems += _unlike(out / name, files)
        return problems + _unfit(out / "takes")

    return Command(run=run, wrong=wrong)


def hand_over_command(folder: Path) -> Command:
    """The files of a take for an editor."""
    from benchmarks.robustness.odd_more import handed

    handed(folder)
    files = {path.name for path in (folder / "editor").iterdir()}

    def run(out: Path) -> None:
        _cli("hand-over", folder / "out" / "a.wav", "--out-dir", out)

    return Command(run=run, wrong=lambda out: _unlike(out, files))


def annotate_export_command(folder: Path) -> Command:
    """The export of eight clips, annotated by local networks."""
    from omni2sound.data.corpora.manifest import Clip, write_manifest

    rng = np.random.default_rng(0)
    clips = []
    for number in range(8):
        noise = rng.standard_normal(16_000) * 0.1
        soundfile.write(folder / f"{number}.wav", noise, 16_000)
        name = f"c{number}"
        clips.append(
            Clip(clip_id=name, corpus="made", split="train", audio=f"{number}.wav", duration_s=1.0)
        )
    write_manifest(folder / "clips.jsonl", clips, media=folder)
    low = ("route_audio_visual", "route_drop", "hand_off", "hand_off_music", "hand_off_event")
    rows = [f"{name} = -1.0" for name in (*low, "drop", "drop_music", "drop_event")]
    (folder / "all.toml").write_text("[embedded]\nsource = 'all'\n" + "\n".join(rows))
    run_folder = folder / "run"
    command = [sys.executable, "-m", "omni2sound", "annotate", "run", "clips.jsonl", "run"]
    command += ["--thresholds", "all.toml", "--workers", "1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)

    def run(out: Path) -> None:
        _cli("annotate", "export", run_folder, "--out", out)

    def wrong(out: Path) -> list[str]:
        # Nothing failed, so that the list of failures is empty.
        left_out = {"failures.jsonl"}
        problems = _unlike(out, files - left_out, beside=left_out)
        return problems + _unlike(out / "data", {"train-00000-of-00001.parquet"})

    run(folder / "warm")
    files = {path.name for path in (folder / "warm").iterdir()}
    return Command(run=run, wrong=wrong)


def export_command(folder: Path) -> Command:
    """The export of a model; its graphs are those of a first run, and not compared again."""
    import torch

    from omni2sound.export import folder as exporting

    torch.set_num_threads(1)
    first, graphs, write_part = folder / "first", {}, exporting.write_part

    def copied(part: Any, path: Path) -> Any:
        if part.name in graphs:
            for file in first.glob(f"{path.stem}.*"):
                shutil.copyfile(file, path.with_name(file.name))
        else:
            graphs[part.name] = write_part(part, path)
        return graphs[part.name]

    exporting.write_part = copied
    exporting.export_model("embedded", first)
    exporting._sound_errors = lambda model, made: iter(())
    files = {path.name for path in first.iterdir()}

    def run(out: Path) -> None:
        _cli("export", "embedded", "--to", out)

    return Command(run=run, wrong=lambda out: _unlike(out, files))


def train_command(folder: Path) -> Command:
    """Three short stages of a small transformer."""
    import torch
    from click_corpus import click_store
    from resume_kills import Run

    from omni2sound.encoders.text import TextEncoder

    torch.set_num_threads(1)
    encoder = TextEncoder.load()
    steps = Run(click_store(folder / "features", encoder), encoder, steps=4)

    def run(out: Path) -> None:
        from omni2sound.errors import UserError

        out.mkdir(exist_ok=True)
        try:
            steps.train(out, lambda step, total: None)
        except (UserError, OSError) as error:  # as the command line ends
            print(f"omni2sound: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    def wrong(out: Path) -> list[str]:
        hidden = [path for path in out.rglob("*") if path.name.startswith(".")]
        return ["left over"] * bool(hidden) + ["no checkpoint"] * (not any(out.rglob("step-*")))

    return Command(run=run, wrong=wrong)


def _unlike(folder: Path, names: set[str], *, beside: Set[str] = frozenset()) -> list[str]:
    """Problems of a folder that should hold files of these names, none of them empty."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    empty = [n for n in there & names if (folder / n).is_file() and not (folder / n).stat().st_size]
    problems = ["left over"] * bool(there - names - beside)
    problems += ["a missing file"] * bool((names | beside) - there)
    return problems + ["an empty file"] * bool(empty)


def _unfit(out: Path) -> list[str]:
    """A problem for each output that does not fit its sidecar."""
    problems = []
    for path in out.glob("*.*.json"):
        made, output = json.loads(path.read_text()), path.with_suffix("")
        if not output.is_file() or made.get("output_bytes", 0) != output.stat().st_size:
            problems.append("an output that does not fit")
    return problems


MAKERS = {
    "batch": batch_command,
    "edit": edit_command,
    "mix": mix_command,
    "project": project_command,
    "hand-over": hand_over_command,
    "annotate export": annotate_export_command,
    "export": export_command,
    "train": train_command,
}


# ---- kills and full disks


def _finish(command: Command, out: Path) -> None:
    """Run the command once more, and count what is wrong then."""
    status, said = _in_child(command, out, lambda: None)
    # An export or edit that was whole before the kill is refused, as it is without one.
    is_refused = "not empty; choose another folder" in said or "exists already" in said
    was_done = is_refused and not command.wrong(out)
    if status != 0 and not was_done:
        command.found["a rerun that fails"] += 1
        print("   ", said.strip().splitlines()[-1:] or status, flush=True)
    for problem in command.wrong(out):
        command.found[problem] += 1
    beside = [p for p in out.parent.iterdir() if p.name.startswith(".")]
    command.found["left over"] += bool(beside)
    for path in beside:
        shutil.rmtree(path, ignore_errors=True)


def kill(command: Command, folder: Path, rng: random.Random) -> None:
    out = folder / "out"
    number = rng.randint(1, command.num_operations)
    status, _ = _in_child(command, out, _die_at(number, before=rng.random() < 0.5))
    command.found["killed"] += os.WIFSIGNALED(status)
    if rng.random() < 0.5:
        _repair(command, folder)
    _finish(command, out)
    shutil.rmtree(out, ignore_errors=True)


def _repair(command: Command, folder: Path) -> None:
    """Let `doctor --repair` go through a folder; an empty hidden folder may be of this moment."""
    from omni2sound.generate.repair import repair

    list(repair([folder]))
    hidden = [path for path in folder.rglob(".*") if not path.name.startswith(".step-")]
    full = [path for path in hidden if not path.is_dir() or any(path.iterdir())]
    command.found["left over by a repair"] += bool(full)


@contextlib.contextmanager
def _small_disk(folder: Path, num_bytes: int) -> Iterator[Callable[[], None]]:
    """A disk of so many bytes on `folder`; yields what makes it large."""
    options = f"size={num_bytes}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        large = ["mount", "-o", "remount,size=1g", str(folder)]
        yield lambda: subprocess.run(large, check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(command: Command, folder: Path, rng: random.Random, *, mounts: bool) -> None:
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    low, high = _FULL_BYTES
    num_bytes = int(low * (high / low) ** rng.random()) // 4096 * 4096
    with contextlib.ExitStack() as stack:
        enlarge: Callable[[], None] = lambda: None  # noqa: E731
        prepare: Callable[[], None] = lambda: None  # noqa: E731
        if mounts:
            enlarge = stack.enter_context(_small_disk(disk, num_bytes))
        else:

            def prepare() -> None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes // 4, num_bytes // 4))

        status, said = _in_child(command, disk / "out", prepare)
        command.found["full"] += status != 0
        if "Traceback" in said or (status and not said.strip()):
            command.found["a failure that is no line"] += 1
            print("   ", said.strip().splitlines()[-1:], flush=True)
        enlarge()
        _finish(command, disk / "out")
    shutil.rmtree(disk)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--full", type=int, default=60, help="full disks")
    parser.add_argument("--only", choices=NAMES, help="one of the commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="file of counts, from which a run goes on")
    parser.add_argument("--mounts", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.full and not chosen.mounts:
        can = subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True)
        if can.returncode == 0:  # a tmpfs that nobody else sees, and that goes with the process
            module = ["-m", "benchmarks.robustness.output_kills", *sys.argv[1:], "--mounts"]
            return subprocess.run(
                ["unshare", "-rm", sys.executable, *module], check=False
            ).returncode
    names = (chosen.only,) if chosen.only else NAMES
    bad = 0
    for name in names:
        with tempfile.TemporaryDirectory() as root:
            found = _run(name, Path(root), chosen)
        print(f"{name}: {found.pop('operations')} operations, {found.pop('killed', 0)} kills,",
              f"{found.pop('full', 0)} full disks; wrong: {dict(+found) or 'nothing'}",
              flush=True)  # fmt: skip
        bad += sum(found.values())
    return 1 if bad else 0


def _run(name: str, folder: Path, chosen: argparse.Namespace) -> Counter[str]:
    """Kill a command and fill its disk as often as its share is, from where the state ended."""
    state: dict[str, Any] = {}
    if chosen.state is not None and chosen.state.exists():
        state = json.loads(chosen.state.read_text())
    before = state.setdefault(name, {"kills": 0, "full": 0, "found": {}})
    with contextlib.redirect_stdout(io.StringIO()):
        command = MAKERS[name](folder)
    command.found.update(before["found"])
    (folder / "kills").mkdir()
    command.num_operations = _count_operations(command, folder / "kills")
    shares = {"kills": chosen.kills // len(NAMES), "full": chosen.full // len(NAMES)}
    for way, share in shares.items():
        # Some disks are large enough; those do not count.
        most = share if way == "kills" else 5 * share
        for number in range(before[way], most):
            if way == "full" and command.found["full"] >= share:
                break
            rng = random.Random(f"{chosen.seed} {name} {way} {number}")
            if way == "kills":
                kill(command, folder / "kills", rng)
            else:
                fill(command, folder, rng, mounts=chosen.mounts)
            before |= {way: number + 1, "found": dict(command.found)}
            if chosen.state is not None:
                chosen.state.write_text(json.dumps(state))
            print(f"{name}: {way} {number + 1}: {dict(command.found)}", file=sys.stderr)
    return command.found + Counter(operations=command.num_operations)


if __name__ == "__main__":
    sys.exit(main())
