"""A blind listening test as one page, and the key that stays with the organiser.

    DIR/page.html   for listeners: stimuli under random labels, questions, a button for answers
    DIR/key.json    which label is which system; not for listeners

In:   systems' sounds for a track's clips, a kind of test, a seed.
Out:  the two files.

*pairs*: two systems a trial, three questions, with "no difference" allowed. *mushra*: all
systems of a trial on scales from 0 to 100 beside the open reference, with the hidden reference
and two anchors: the reference below 3.5 kHz (for fidelity) and another clip's real sound (for
meaning and sync). It follows ITU-R BS.1534 in these points only: listeners and rooms are not
controlled. If the clip has a video, every stimulus is shown with it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from scipy.signal import firwin, oaconvolve

from omni2sound.bench.listening.page import listening_page
from omni2sound.bench.listening.stimulus import Stimulus, Trial
from omni2sound.bench.report.examples import flac_bytes
from omni2sound.bench.tracks.track import Track, TrackClip
from omni2sound.config import from_json
from omni2sound.errors import UserError
from omni2sound.files import atomic_folder, write_json, write_text
from omni2sound.media.audio import read_audio, write_audio
from omni2sound.media.mux import mux
from omni2sound.media.samples import Audio, fit_length, round_half_up
from omni2sound.readers import read_object

Kind = Literal["pairs", "mushra"]
KINDS: tuple[Kind, ...] = get_args(Kind)
QUESTIONS: Mapping[str, str] = {
    "fidelity": "How clean and natural does it sound?",
    "semantics": "How well does it fit what is shown and written?",
    "sync": "How well does it happen when the picture says so?",
}
REFERENCE, ANCHOR_LOW, ANCHOR_WRONG = (
    "hidden reference",
    "anchor below 3.5 kHz",
    "anchor, wrong clip",
)
_ADDED = (REFERENCE, ANCHOR_LOW, ANCHOR_WRONG)
KEY, PAGE = "key.json", "page.html"
FORMAT = 1
_ANCHOR_HZ = 3500


def write_kit(
    track: Track,
    systems: Mapping[str, Mapping[str, Path]],
    out: Path,
    *,
    kind: Kind,
    num_clips: int,
    seed: int,
    show_video: bool = True,
    show_caption: bool = True,
) -> dict[str, Any]:
    """Write page and key.

    Args:
        track: Its clips are used.
        systems: Sound files by system, then by clip.
        out: Folder; new or empty, and written whole or not at all.
        kind: "pairs" or "mushra".
        num_clips: Number of trials; pairs of systems take turns.
        seed: Random seed for the choice of clips and their order.
        show_video: Play stimuli with the clip's video.
        show_caption: Show the clip's caption.

    Returns:
        The key.

    Raises:
        UserError: There are too few systems or clips, or the folder is not empty.
    """
    if kind not in KINDS:
        raise UserError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    if len(systems) < (2 if kind == "pairs" else 1):
        raise UserError(f"{kind}: give more systems, as name=folder; got {', '.join(systems)}")
    if (out / KEY).exists():
        raise UserError(f"{out}: holds a kit; answers to the two could not be told apart")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    usable = [c for c in track.clips if all(c.clip_id in s for s in systems.values())]
    if len(usable) < max(2, num_clips):
        raise UserError(f"{len(usable)} clips have a sound of every system, {num_clips} are needed")
    chosen = [usable[i] for i in rng.permutation(len(usable))[:num_clips]]
    pairs = list(combinations(sorted(systems), 2))
    trials, key_trials = [], []
    for number, clip in enumerate(chosen):
        names = pairs[number % len(pairs)] if kind == "pairs" else (*sorted(systems), *_ADDED)
        names = tuple(names[i] for i in rng.permutation(len(names)))
        wrong = next(c for c in usable[::-1] if c.clip_id != clip.clip_id)
        paths = {
            **{name: systems[name][clip.clip_id] for name in systems},
            **dict.fromkeys((REFERENCE, ANCHOR_LOW), track.path(clip.audio)),
            ANCHOR_WRONG: track.path(wrong.audio),
        }
        video = track.path(clip.video) if show_video and clip.video is not None else None
        # No seed: labels must not be derivable by a person who knows the systems' names.
        labels = {secrets.token_hex(5): name for name in names}
        trial = Trial(
            name=f"t{number:03d}",
            caption=clip.caption if show_caption else "",
            questions=tuple(q for q in QUESTIONS if q != "sync" or video is not None),
            stimuli=[_stimulus(at, name, paths, clip, video) for at, name in labels.items()],
            reference=_stimulus("reference", REFERENCE, paths, clip, video)
            if kind == "mushra"
            else None,
        )
        trials.append(trial)
        asked = {"trial": trial.name, "clip_id": clip.clip_id}
        key_trials.append({**asked, "questions": list(trial.questions), "stimuli": labels})
    key: dict[str, Any] = {
        "omni2sound_listening": FORMAT,
        "kind": kind,
        "seed": seed,
        "track": track.identity,
        "trials": key_trials,
    }
    key["kit"] = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    page = listening_page(kind=kind, kit=key["kit"], questions=QUESTIONS, trials=trials)
    with atomic_folder(out, kind="kit") as staging:
        write_text(staging / PAGE, page)
        write_json(staging / KEY, key)
    return key


def _stimulus(
    label: str, name: str, paths: Mapping[str, Path], clip: TrackClip, video: Path | None
) -> Stimulus:
    """The sound of the system `name`, fitted to the clip and, where there is one, its video."""
    audio = read_audio(paths[name], mono=True, duration_s=Fraction(clip.duration_s))
    audio = fit_length(audio, round_half_up(Fraction(clip.duration_s) * audio.sample_rate_hz))
    if name == ANCHOR_LOW:
        taps = firwin(511, _ANCHOR_HZ, fs=audio.sample_rate_hz)
        low = oaconvolve(audio.samples_CN, taps[None], mode="same", axes=1).astype(np.float32)
        audio = Audio(samples_CN=low, sample_rate_hz=audio.sample_rate_hz)
    with tempfile.TemporaryDirectory() as folder:
        if video is None:
            target = Path(folder) / "sound.flac"
            write_audio(target, audio)
            return Stimulus(
                label=label, media_type="audio/flac", data=flac_bytes(target, clip.duration_s)
            )
        target = Path(folder) / "clip.mp4"
        mux(video, audio, target)
        return Stimulus(label=label, media_type="video/mp4", data=target.read_bytes())


def read_key(folder: Path) -> dict[str, Any]:
    """Read a kit's key.

    Raises:
        UserError: The folder holds none.
    """
    try:
        key = read_object(folder / KEY)
    except FileNotFoundError:
        raise UserError(
            f"{folder}: holds no {KEY}; give the folder that `bench listen build` wrote"
        ) from None
    except OSError as error:
        raise UserError(f"{folder / KEY}: can't be read ({error})") from None
    if key.get("omni2sound_listening") != FORMAT:
        raise UserError(f"{folder / KEY}: not a key of format {FORMAT}")
    where = str(folder / KEY)
    read = from_json(_Key, {k: v for k, v in key.items() if k != "track"}, where=where)
    for trial in read.trials:
        systems = set(trial.stimuli.values())
        if read.kind == "pairs" and (len(trial.stimuli), len(systems)) != (2, 2):
            raise UserError(
                f"{where}: trial {trial.trial!r:.40}: expected two stimuli of two systems, "
                f"got {len(trial.stimuli)} of {len(systems)}"
            )
    return key


@dataclass(frozen=True, kw_only=True, slots=True)
class _KeyTrial:
    trial: str
    clip_id: str
    questions: tuple[str, ...]
    stimuli: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Key:
    """The fields of `key.json`, without the track."""

    omni2sound_listening: int
    kind: Kind
    seed: int
    kit: str
    trials: tuple[_KeyTrial, ...]
