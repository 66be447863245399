"""Any system's folder of sounds, named by clip id, and everything that is wrong with it.

In:   a folder of wav, flac, mp4, ...; the clips that it should hold.
Out:  `FolderCheck`: which file stands for which clip, and every problem by name.

Nothing is dropped or replaced silently. What each problem leads to:

*missing*, *unreadable* (no sound in it, damaged), *not finite* (NaN or infinity), *twice* (two
files of one clip): the clip is not scored for this system, and the table says of how many
clips it is. *extra*: no clip has this name; the file is not looked at.
*silent*, *clipped*, *wrong length*, *wrong rate*: scored as it is.

*Clipped*: three or more samples in a row at full scale (of a 16-bit file: 32767 or -32768).
*Wrong length*: more than 40 ms (one latent frame) from the clip's. *Wrong rate*: not that of
most of the folder's files (or the one that was asked for), or below 16 kHz.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from omni2sound.bench.metrics.onset import is_silent
from omni2sound.bench.tracks.track import TrackClip
from omni2sound.data.workers import Workers
from omni2sound.errors import MediaError, UserError
from omni2sound.files import file_sha256, write_json
from omni2sound.media.audio import read_audio
from omni2sound.media.files import open_input, read_packets
from omni2sound.readers import read_object

SETTINGS = "made.json"
"""The settings of sounds that were made here, beside them."""

SUFFIXES = (".wav", ".flac", ".mp3", ".opus", ".ogg", ".m4a", ".mp4", ".mkv", ".webm", ".mov")
LENGTH_TOLERANCE_S = 0.04
LEAST_RATE_HZ = 16_000

ProblemKind = Literal[
    "missing",
    "unreadable",
    "not finite",
    "twice",
    "extra",
    "silent",
    "clipped",
    "wrong length",
    "wrong rate",
]
PROBLEMS: tuple[ProblemKind, ...] = get_args(ProblemKind)

_CLIPPED_RUN = 3
_FULL_SCALE = 32767 / 32768 - 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing wrong with one file or clip."""

    kind: ProblemKind
    name: str
    """The clip's id; of an extra file its name."""
    told: str
    """What was found, in words; named as in `scores.json`."""
    scored: bool
    """Whether the clip is scored all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundFile:
    """A file that stands for a clip."""

    clip_id: str
    path: Path
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderCheck:
    """What a folder holds."""

    sounds: tuple[SoundFile, ...]
    """In the order of the clips."""
    problems: tuple[Problem, ...]
    sample_rate_hz: int | None
    """The rate that was expected; None of an empty folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Looked:
    clip_id: str
    path: Path
    sha256: str = ""
    rate_hz: int = 0
    problems: tuple[Problem, ...] = ()


def check_folder(
    folder: Path,
    clips: Sequence[TrackClip],
    *,
    sample_rate_hz: int | None = None,
    others: Sequence[str] = (),
    workers: Workers = Workers(),
    on_file: Callable[[int, int], None] | None = None,
) -> FolderCheck:
    """Look at every file once.

    Args:
        folder: Of one system and one task.
        clips: What it should hold.
        sample_rate_hz: What every file should have; None: what most of them have.
        others: Ids that are no mistake though they are not asked for (clips past a limit).
        workers: Look at a file each.
        on_file: Called with (files done, files in all).

    Raises:
        UserError: There is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one with a sound file for each clip")
    wanted = {clip.clip_id: clip for clip in clips}
    found: dict[str, list[Path]] = {}
    problems: list[Problem] = []
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        # A sidecar of a sound that is here is no sound.
        if path.suffix == ".json" and path.with_suffix("").suffix in SUFFIXES:
            continue
        if path.suffix.lower() in SUFFIXES and path.stem in wanted:
            found.setdefault(path.stem, []).append(path)
        elif path.stem not in others:
            problems.append(_problem("extra", path.name, "no clip of the track has this name"))
    jobs = []
    for clip_id in wanted:
        paths = found.get(clip_id, [])
        if len(paths) == 1:
            jobs.append((wanted[clip_id], paths[0]))
        elif paths:
            message = f"{' and '.join(p.name for p in paths)}: keep one of them"
            problems.append(_problem("twice", clip_id, message))
        else:
            problems.append(_problem("missing", clip_id, "no file has this name"))
    looked = workers.map_in_order(_look, jobs, on_job=on_file)
    rates = Counter(seen.rate_hz for seen in looked if seen.rate_hz)
    expected = sample_rate_hz or (max(rates, key=lambda r: (rates[r], r)) if rates else None)
    sounds = []
    for seen in looked:
        problems += seen.problems
        if seen.rate_hz and expected is not None:
            problems += _rate_problems(seen, expected)
        if all(p.scored for p in seen.problems):
            sounds.append(SoundFile(clip_id=seen.clip_id, path=seen.path, sha256=seen.sha256))
    problems.sort(key=lambda p: (PROBLEMS.index(p.kind), p.name))
    return FolderCheck(sounds=tuple(sounds), problems=tuple(problems), sample_rate_hz=expected)


def check_settings(path: Path, asked: Mapping[str, Any]) -> None:
    """Write the settings of sounds to come, or compare with those of sounds that exist.

    Args:
        path: `SETTINGS` of the folder; the folder is made if missing.
        asked: Everything that decides the sounds, as JSON data.

    Raises:
        UserError: The folder holds sounds of other settings.
    """
    if path.is_file():
        before = read_object(path)
        for name in sorted({*asked, *before}):
            if before.get(name) != asked.get(name):
                raise UserError(
                    f"{path.parent}: holds sounds of another run, {name} {before.get(name)!r} and "
                    f"not {asked.get(name)!r}; choose another `out`"
                )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asked)


def _problem(kind: ProblemKind, name: str, message: str) -> Problem:
    scored = kind in ("silent", "clipped", "wrong length", "wrong rate")
    return Problem(kind=kind, name=name, told=message, scored=scored)


def _look(job: tuple[TrackClip, Path]) -> _Looked:
    clip, path = job
    seen = _Looked(clip_id=clip.clip_id, path=path, sha256=file_sha256(path))
    try:
        audio = read_audio(path)
    except (MediaError, OSError) as error:
        return replace(
            seen, problems=(_problem("unreadable", clip.clip_id, " ".join(str(error).split())),)
        )
    samples_CN, rate_hz = audio.samples_CN, audio.sample_rate_hz
    if not samples_CN.size:
        return replace(seen, problems=(_problem("unreadable", clip.clip_id, "holds no sample"),))
    seen = replace(seen, rate_hz=rate_hz)
    if count := _count_not_finite(path):
        message = f"{count} samples are NaN or infinite"
        return replace(seen, problems=(_problem("not finite", clip.clip_id, message),))
    problems = []
    if is_silent(samples_CN.mean(axis=0), rate_hz):
        problems.append(_problem("silent", clip.clip_id, "no 20 ms reach -60 dBFS"))
    longest = max(_longest_run(np.abs(channel) >= _FULL_SCALE) for channel in samples_CN)
    if longest >= _CLIPPED_RUN:
        message = f"{longest} samples in a row at full scale"
        problems.append(_problem("clipped", clip.clip_id, message))
    length_s = samples_CN.shape[1] / rate_hz
    if abs(length_s - clip.duration_s) > LENGTH_TOLERANCE_S:
        message = f"lasts {length_s:.3f} s, the clip {clip.duration_s:g} s"
        problems.append(_problem("wrong length", clip.clip_id, message))
    return replace(seen, problems=tuple(problems))


def _count_not_finite(path: Path) -> int:
    """In the file as it is: `read_audio` makes zeros of them."""
    count = 0
    with open_input(path) as container:
        stream = container.streams.audio[0]
        for packet in read_packets(container, stream):
            for frame in packet.decode():
                if frame.format.name.startswith(("flt", "dbl")):
                    count += int((~np.isfinite(frame.to_ndarray())).sum())
    return count


def _rate_problems(seen: _Looked, expected_hz: int) -> list[Problem]:
    if seen.rate_hz != expected_hz:
        message = f"{seen.rate_hz} Hz, expected {expected_hz} Hz"
    elif seen.rate_hz < LEAST_RATE_HZ:
        message = f"{seen.rate_hz} Hz; taggers take {LEAST_RATE_HZ} Hz or more"
    else:
        return []
    return [_problem("wrong rate", seen.clip_id, message)]


def _longest_run(flags_N: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags_N, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
