"""Cues: texts that act in a span of the clip, and what the model is told at each moment.

In:   `Cue`s and the text of the whole clip.
Out:  `Score`: the distinct texts of a clip, and the share of each in every latent frame.

A clip falls into passages, between two of which a cue begins or ends. The texts that act in a
passage become one text, since the model knows texts that name several sounds; passages with equal
texts share one prediction of the network. From passage to passage the predictions fade over a few
latent frames. What not to get wrong: in every frame the shares of the texts and of silence sum to
1, and a text that has the whole clip has share 1 exactly, so that it is generated as without cues.

Shape suffixes: K texts, L latent frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from omni2sound.config import checked_number
from omni2sound.errors import UserError
from omni2sound.generate.studio.times import TIME, parse_time

MAX_CUES = 32
MAX_CUE_S = 3600
_FADE_FRAMES = 4
"""Latent frames over which one passage fades into the next."""
_CUE = re.compile(rf"\s*({TIME})(?:\s*-\s*({TIME}))?\s*:(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """A text that acts in a span of the clip, or that is heard from a second on: a hit.

    Raises:
        UserError: A time is out of range, or the text is empty.
    """

    start_s: float
    """Seconds from the start of the clip."""
    end_s: float | None = None
    """Seconds from the start of the clip; what lies beyond its end is cut. None: the sound begins
    at `start_s`, and ends by itself."""
    text: str
    """What should be heard in the span, and only there."""

    def __post_init__(self) -> None:
        for name in ("start_s", "end_s"):
            if name == "end_s" and self.end_s is None:
                continue
            value = checked_number(
                getattr(self, name),
                "cues",
                whole=False,
                least=0,
                most=MAX_CUE_S,
                unit=" of seconds",
            )
            object.__setattr__(self, name, float(value))
        if self.end_s is not None and not self.start_s < self.end_s:
            raise UserError(
                f"expected a span that ends after it begins, got {self.start_s:g}-{self.end_s:g}",
                field="cues",
            )
        if not isinstance(self.text, str) or not self.text.strip():
            raise UserError("has a span without a text; say what is heard in it", field="cues")

    @property
    def span_s(self) -> tuple[float, float]:
        """Start and end of a cue that has both."""
        assert self.end_s is not None, "a point cue has no span"
        return self.start_s, self.end_s


def parse_cue(line: str) -> Cue:
    """Read a cue in the notation of the command line: "0.5-2: a dog barks", "1:05: a door slams".

    Raises:
        UserError: The line is no cue.
    """
    found = _CUE.fullmatch(line)
    if found is None:
        raise UserError(
            f'expected START-END: TEXT, as "0.5-2: a dog barks", or START: TEXT, got {line[:60]!r}',
            field="cues",
        )
    start_s = parse_time(found[1], "cues")
    end_s = None if found[2] is None else parse_time(found[2], "cues")
    return Cue(start_s=start_s, end_s=end_s, text=found[3].strip())


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What the model is told at each moment of a clip.

    Attributes:
        texts: Distinct texts; None is no text, and stands for the pictures alone.
        shares_KL: Share of each text in each latent frame; what is missing from 1 is silence.
    """

    texts: tuple[str | None, ...]
    shares_KL: NDArray[np.float32]

    @property
    def is_plain(self) -> bool:
        """Whether one text, or none, has the whole clip."""
        return len(self.texts) == 1 and bool((self.shares_KL == 1).all())

    def gate(self, num_samples: int, hop_samples: int) -> NDArray[np.float32]:
        """Gain (N,) of the decoded sound: 0 where silence is asked for."""
        given_L = self.shares_KL.sum(axis=0).clip(0, 1)
        frame_N = (np.arange(num_samples) + 0.5) / hop_samples - 0.5
        gain_N: NDArray[np.float32] = np.interp(frame_N, np.arange(len(given_L)), given_L).astype(
            np.float32
        )
        return gain_N


def compose(
    text: str | None,
    cues: Sequence[Cue],
    *,
    num_frames: int,
    frames_per_s: Fraction,
    pictures: bool,
) -> Score:
    """Divide a clip into passages and collect their texts.

    Args:
        text: Text of the whole clip.
        cues: Texts of spans, in the order in which they are said; none is a point.
        num_frames: Latent frames L of the clip.
        frames_per_s: Their rate.
        pictures: Whether pictures say something where no text does; otherwise silence is asked
            for there.
    """
    rate = float(frames_per_s)
    spans = [tuple(min(s * rate, num_frames) for s in c.span_s) for c in cues]
    edges = sorted({0.0, float(num_frames), *(float(e) for s in spans for e in s if s[0] < s[1])})
    found: dict[str | None, list[NDArray[np.float64]]] = {}
    for begin, end in pairwise(edges):
        acting = [c.text for c, (s, e) in zip(cues, spans, strict=True) if s <= begin and end <= e]
        said = joined([t for t in (text, *acting) if t is not None])
        share_L = _share(begin, end, num_frames)
        if (said is not None or pictures) and share_L.any():
            found.setdefault(said, []).append(share_L)
    if len(found) == 1 and sum(map(len, found.values())) == len(edges) - 1:
        return Score(texts=tuple(found), shares_KL=np.ones((1, num_frames), np.float32))
    shares = [np.sum(parts, axis=0) for parts in found.values()]
    return Score(
        texts=tuple(found),
        shares_KL=np.array(shares, np.float32).reshape(len(found), num_frames),
    )


def joined(texts: Iterable[str]) -> str | None:
    """One text of several, each a sentence; a single one stays as it is; None of none."""
    texts = list(texts)
    if len(texts) < 2:
        return texts[0] if texts else None
    return " ".join(sentence(text) for text in texts)


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _share(begin: float, end: float, num_frames: int) -> NDArray[np.float64]:
    """Share (L,) of the passage from frame `begin` to `end`, smoothed by a box.

    Smoothed passages that divide the clip sum to 1 in every frame, however short they are.
    """
    middle_L = np.arange(num_frames) + 0.5
    first = np.maximum(middle_L - _FADE_FRAMES / 2, -np.inf if begin == 0 else begin)
    last = np.minimum(middle_L + _FADE_FRAMES / 2, np.inf if end == num_frames else end)
    share_L: NDArray[np.float64] = (last - first).clip(0, _FADE_FRAMES) / _FADE_FRAMES
    return share_L
