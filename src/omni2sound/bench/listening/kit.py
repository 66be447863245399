"""A listening test as one page that names nobody, and the key that stays at home.

    DIR/page.html   for listeners: stimuli under random labels, questions, a button for answers
    DIR/key.json    which label is which system; not for listeners

In:   systems' sounds for a track's clips, a kind of test, a seed.
Out:  the two files.

*pairs*: two systems a trial, three questions, with "no difference" allowed. *mushra*: all
systems of a trial on scales from 0 to 100 beside the open reference, with the hidden reference
and two anchors: the reference below 3.5 kHz (for fidelity) and another clip's real sound (for
meaning and sync). It follows ITU-R BS.1534 in these points, and is "like" it: listeners and
rooms are not ours to train. Where the clip has a video, every stimulus is shown with it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from scipy.signal import firwin, oaconvolve

from omni2sound.bench.listening.page import page_of
from omni2sound.bench.listening.stimulus import Stimulus
from omni2sound.bench.report.examples import flac_bytes
from omni2sound.bench.tracks.track import Track, TrackClip
from omni2sound.errors import UserError
from omni2sound.files import atomic_path
from omni2sound.media.audio import Audio, read_audio, write_audio
from omni2sound.media.mux import mux
from omni2sound.media.samples import fit_length, round_half_up

__all__ = ["ANCHOR_LOW", "ANCHOR_WRONG", "QUESTIONS", "REFERENCE", "Kind", "write_kit"]

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
        track: Whose clips are used.
        systems: By name, then clip, the sound file.
        out: Folder; made if missing.
        kind: "pairs" or "mushra".
        num_clips: Trials; in pairs, each with one pair of systems in turn.
        seed: Chooses clips and order.
        show_video: Play stimuli with the clip's video.
        show_caption: Show its caption.

    Returns:
        The key.

    Raises:
        UserError: There are too few systems or clips, or the folder holds a kit.
    """
    if kind not in KINDS:
        raise UserError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    if len(systems) < (2 if kind == "pairs" else 1):
        raise UserError(f"{kind}: give more systems, as name=folder; got {', '.join(systems)}")
    if (out / KEY).exists():
        raise UserError(f"{out}: holds a kit; answers to it could not be told apart")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    usable = [c for c in track.clips if all(c.clip_id in s for s in systems.values())]
    if len(usable) < max(2, num_clips):
        raise UserError(f"{len(usable)} clips have a sound of every system, {num_clips} are needed")
    chosen = [usable[i] for i in rng.permutation(len(usable))[:num_clips]]
    pairs = list(combinations(sorted(systems), 2))
    trials, shown = [], []
    for number, clip in enumerate(chosen):
        wrong = next(c for c in usable[::-1] if c.clip_id != clip.clip_id)
        with_video = show_video and clip.video is not None
        asked = [q for q in QUESTIONS if q != "sync" or with_video]
        names = (
            list(pairs[number % len(pairs)])
            if kind == "pairs"
            else [*sorted(systems), REFERENCE, ANCHOR_LOW, ANCHOR_WRONG]
        )
        names = [names[i] for i in rng.permutation(len(names))]
        # Drawn by nobody's seed: who knows the names must not be able to work labels out.
        labels = [secrets.token_hex(5) for _ in names]
        sounds = [_sound(name, clip, wrong, track, systems) for name in names]
        video = track.path(clip.video) if with_video and clip.video is not None else None
        stimuli = [
            _stimulus(label, sound, video, clip)
            for label, sound in zip(labels, sounds, strict=True)
        ]
        reference = None
        if kind == "mushra":
            real = _sound(REFERENCE, clip, wrong, track, systems)
            reference = _stimulus("reference", real, video, clip)
        trial = f"t{number:03d}"
        trials.append(
            {
                "trial": trial,
                "clip_id": clip.clip_id,
                "questions": asked,
                "stimuli": dict(zip(labels, names, strict=True)),
            }
        )
        caption = clip.caption if show_caption else ""
        shown.append((trial, caption, asked, stimuli, reference))
    key: dict[str, Any] = {
        "omni2sound_listening": FORMAT,
        "kind": kind,
        "seed": seed,
        "track": track.identity,
        "trials": trials,
    }
    key["kit"] = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    out.mkdir(parents=True, exist_ok=True)
    page = page_of(kind=kind, kit=key["kit"], questions=dict(QUESTIONS), trials=shown)
    for name, text in (
        (PAGE, page),
        (KEY, json.dumps(key, indent=1, ensure_ascii=False) + "\n"),
    ):
        with atomic_path(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return key


def _sound(
    name: str,
    clip: TrackClip,
    wrong: TrackClip,
    track: Track,
    systems: Mapping[str, Mapping[str, Path]],
) -> Audio:
    if name in (REFERENCE, ANCHOR_LOW):
        path = track.path(clip.audio)
    elif name == ANCHOR_WRONG:
        path = track.path(wrong.audio)
    else:
        path = systems[name][clip.clip_id]
    audio = read_audio(path, mono=True, duration_s=Fraction(clip.duration_s))
    audio = fit_length(audio, round_half_up(Fraction(clip.duration_s) * audio.sample_rate_hz))
    if name == ANCHOR_LOW:
        taps = firwin(511, _ANCHOR_HZ, fs=audio.sample_rate_hz)
        low = oaconvolve(audio.samples_CN, taps[None], mode="same", axes=1).astype(np.float32)
        audio = Audio(samples_CN=low, sample_rate_hz=audio.sample_rate_hz)
    return audio


def _stimulus(label: str, audio: Audio, video: Path | None, clip: TrackClip) -> Stimulus:
    with tempfile.TemporaryDirectory() as folder:
        if video is None:
            target = Path(folder) / "sound.flac"
            write_audio(target, audio)
            return Stimulus(
                label=label, kind="audio/flac", data=flac_bytes(target, clip.duration_s)
            )
        target = Path(folder) / "clip.mp4"
        mux(video, audio, target)
        return Stimulus(label=label, kind="video/mp4", data=target.read_bytes())


def read_key(folder: Path) -> dict[str, Any]:
    """A kit's key.

    Raises:
        UserError: The folder holds none.
    """
    try:
        key: dict[str, Any] = json.loads((folder / KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: holds no key of a listening test ({error})") from None
    if key.get("omni2sound_listening") != FORMAT:
        raise UserError(f"{folder / KEY}: not a key of format {FORMAT}")
    return key
