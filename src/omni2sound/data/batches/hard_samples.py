"""Hard samples of VT2A: off-screen sounds, and prompts that lose tokens.

In:   clips, random draws.
Out:  `PromptChange`s and mixed waveforms, with a record exact enough to undo the mix. `batch`
      applies them one by one on the host, `on_device` for a whole batch.

Sounds are mixed as waveforms, because latents don't mix; tokens are dropped before the text
encoder, because its state of a token depends on the others. What not to get wrong: both are for
VT2A only (the callers see to it). A V2A target holds what is seen and the ambience, or the model
learns to add sounds of things that are not there.

Shape suffixes: N samples, T tokens, E features.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from omni2sound.encoders.base import Tokens
from omni2sound.errors import ConfigError

Waveform = NDArray[np.float32]

TRIES = 8
"""Number of clips that are tried as an off-screen sound of another class."""
LATEST_ONSET = 0.6
"""An off-screen sound starts before this fraction of the clip, so that part of it is heard."""
AUDIBLE = 10 ** (-60 / 20)
"""Peak below which a sound counts as silence."""
GATE = 0.05
"""A sound begins where it first reaches this fraction of its peak."""
FADE_SAMPLES = 160
"""10 ms at 16 kHz: the fade-in of a cut sound, against clicks."""
_TEMPLATES = (
    "{own}. Off-screen: {other}",
    "{own}, and off-screen {other}",
    "{own}. Out of sight, {other}",
    "{own}; somewhere out of view, {other}",
    # Prompts seldom say what is off screen: they name what is wanted.
    "{own} and {other}",
    "{other} and {own}",
    "{own} while {other}",
    "{other}, {own}",
    "{own}; {other}",
    "{other} while {own}",
)


class PromptEncoder(Protocol):
    """The frozen text encoder that training needs, e.g. `encoders.text.TextEncoder`."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that are no words (start, end); they are never dropped."""

    @property
    def sha256(self) -> str:
        """Digest of everything that states depend on."""

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise each text, start and end included."""

    def encode_ids(self, rows: Sequence[Sequence[int]]) -> Tokens:
        """Encode rows of token ids."""


class _HasRole(Protocol):
    @property
    def role(self) -> str: ...


_Text = TypeVar("_Text", bound=_HasRole)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difficulty:
    """Probabilities and strengths of changes; all zero before stage 3 and in validation.

    The attributes are documented where they are set: `train.recipe.Stage` and `Recipe`.
    """

    offscreen_prob: float = 0.0
    offscreen_snr_db: tuple[float, float] = (-6.0, 9.0)
    token_drop_sample_prob: float = 0.0
    token_drop_prob: float = 0.5
    null_prob: float = 0.0
    augment: bool = True
    text_noise: float = 0.0
    text_drop: float = 0.0
    speed: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OffscreenMix:
    """Record of an off-screen sound in a clip.

    Attributes:
        clip_id: Clip that the sound is from.
        caption: Caption of that clip.
        snr_db: Mean power of the clip's own sound over that of the added one where it sounds.
        onset_sample: First sample of the added sound.
        num_samples: Length of the added sound in samples.
        gain: Factor on the added sound.
        level: Factor on the whole mix, below 1 where it would have clipped.
    """

    clip_id: str
    caption: str
    snr_db: float
    onset_sample: int
    num_samples: int
    gain: float
    level: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptChange:
    """The prompt that a sample gets instead of its clip's.

    Attributes:
        text: Prompt before tokens are dropped.
        token_ids: Ids that the text encoder reads.
        dropped: Positions of the tokens that were dropped.
    """

    text: str
    token_ids: tuple[int, ...]
    dropped: tuple[int, ...] = ()


def require_encoder(encoder: PromptEncoder | None) -> PromptEncoder:
    """Return the encoder.

    Raises:
        ConfigError: If it is None.
    """
    if encoder is None:
        raise ConfigError("prompts are changed in this stage, which needs a text encoder")
    return encoder


def choose_text(clip_id: str, texts: Sequence[_Text], role: str, choice: float) -> _Text:
    """Choose one of a clip's texts of a role by `choice` in [0, 1).

    Raises:
        ConfigError: If the clip has none.
    """
    fitting = [t for t in texts if t.role == role]
    if not fitting:
        known = sorted({t.role for t in texts})
        raise ConfigError(f"clip {clip_id} has no text of role {role!r}; it has {known}")
    return fitting[int(choice * len(fitting))]


def name_offscreen(
    text: str, other: str, choice: float, encoder: PromptEncoder | None
) -> PromptChange:
    """Change a prompt to name an off-screen sound as well.

    Raises:
        ConfigError: If there is no encoder.
    """
    joined = join_captions(text, other, choice)
    return PromptChange(
        text=joined, token_ids=tuple(require_encoder(encoder).token_ids([joined])[0])
    )


def drop_tokens(
    text: str, probability: float, encoder: PromptEncoder | None, rng: np.random.Generator
) -> PromptChange:
    """Drop tokens of a prompt, each with `probability`.

    Raises:
        ConfigError: If there is no encoder.
    """
    encoder = require_encoder(encoder)
    ids = encoder.token_ids([text])[0]
    dropped = draw_dropped_tokens(ids, encoder.special_ids, probability, rng)
    left = tuple(token for place, token in enumerate(ids) if place not in dropped)
    return PromptChange(text=text, token_ids=left, dropped=dropped)


def mix_offscreen(
    own_N: Waveform,
    other_N: Waveform,
    *,
    clip_id: str,
    caption: str,
    snr_db: float,
    onset: float,
) -> tuple[Waveform, OffscreenMix] | None:
    """Mix another clip's sound into a clip; None if either is silent.

    Args:
        own_N: Sound of the clip.
        other_N: Sound of the other clip; its silent beginning is cut.
        clip_id: Id of the other clip, for the record.
        caption: Caption of the other clip, for the record.
        snr_db: See `OffscreenMix`.
        onset: Where the added sound starts, from 0 (at once) to 1 (at `LATEST_ONSET` of the clip).
    """
    start = int(onset * LATEST_ONSET * len(own_N))
    added_N = cut_offscreen(other_N, len(own_N) - start)
    if added_N is None or float(np.abs(own_N).max()) < AUDIBLE:
        return None
    power = [float(np.square(x, dtype=np.float64).mean()) for x in (own_N, added_N)]
    gain = float(np.sqrt(power[0] / power[1] * 10 ** (-snr_db / 10)))
    mix_N = own_N.astype(np.float64)
    mix_N[start : start + len(added_N)] += gain * added_N
    level = 1 / max(1.0, float(np.abs(mix_N).max()))
    record = OffscreenMix(
        clip_id=clip_id,
        caption=caption,
        snr_db=snr_db,
        onset_sample=start,
        num_samples=len(added_N),
        gain=gain,
        level=level,
    )
    return (mix_N * level).astype(np.float32), record


def cut_offscreen(other_N: Waveform, most_samples: int) -> Waveform | None:
    """Cut the part of a clip's sound that is mixed into another; None if it is silent."""
    loudness_N = np.abs(other_N)
    peak = float(loudness_N.max(initial=0.0))
    if peak < AUDIBLE:
        return None
    begin = max(0, int(np.argmax(loudness_N >= GATE * peak)) - FADE_SAMPLES)
    part_N = other_N[begin : begin + most_samples].copy()
    fade = min(FADE_SAMPLES, len(part_N))
    part_N[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
    return part_N if float(np.abs(part_N).max(initial=0.0)) >= AUDIBLE else None


class _Worded(Protocol):
    @property
    def text(self) -> str: ...

    @property
    def states_TE(self) -> NDArray[np.float16]: ...


def order_by_unlikeness(own: Sequence[_Worded], others: Sequence[_Worded]) -> list[int]:
    """Order captions of other clips by how little they mean what a clip's own captions mean.

    Captions that share a word with one of the clip's (of four letters or more, by the first four:
    "barks", "barking") are left out. The others are compared by the mean of their token states,
    less the mean over all captions here: states of a text encoder share a large common part.

    Returns:
        Places in `others`, the least similar first.
    """
    said = set[str]().union(*(_stems(text.text) for text in own))
    means = [text.states_TE.astype(np.float32).mean(axis=0) for text in (*own, *others)]
    centred = np.stack(means) - np.mean(means, axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    likeness = (unit[len(own) :] @ unit[: len(own)].T).max(axis=1)
    allowed = [i for i, text in enumerate(others) if not said & _stems(text.text)]
    return sorted(allowed, key=lambda i: (float(likeness[i]), i))


_FILLER = frozenset(
    {"with", "while", "then", "from", "into", "over", "near", "some", "that", "this", "there"}
)


def _stems(text: str) -> set[str]:
    words = re.findall(r"[^\W\d_]{4,}", text.lower())
    return {word[:4] for word in words if word not in _FILLER}


def join_captions(own: str, other: str, choice: float) -> str:
    """Join two captions by the template that `choice` in [0, 1) selects."""
    template = _TEMPLATES[int(choice * len(_TEMPLATES))]
    own, other = own.strip(), other.strip()
    if template.startswith("{own}"):
        own, other = own.rstrip(".;,"), _lower_first(other)
    else:
        own, other = _lower_first(own), other.rstrip(".;,")
    return template.format(own=own, other=other)


def _lower_first(text: str) -> str:
    """Lower the first letter, but not of an abbreviation: "USA" does not become "uSA"."""
    if text[:1].isupper() and not text[1:2].isupper():
        return text[:1].lower() + text[1:]
    return text


def add_embedding_noise(
    states_TE: NDArray[np.float16], *, noise: float, drop: float, rng: np.random.Generator
) -> NDArray[np.float16]:
    """Drop token states of a text and add noise to the rest.

    Args:
        states_TE: Encoder states of the tokens.
        noise: Standard deviation of the noise in standard deviations of each state: one draw
            that all tokens share, and one for each.
        drop: Probability that a state is dropped; at least one stays.
        rng: Random generator.
    """
    kept_TE = states_TE.astype(np.float32)
    if drop:
        stays_T = rng.random(len(kept_TE)) >= drop
        stays_T[int(rng.integers(len(kept_TE)))] = True
        kept_TE = kept_TE[stays_T]
    if noise:
        shared_E = rng.standard_normal(kept_TE.shape[1], dtype=np.float32)
        own_TE = rng.standard_normal(kept_TE.shape, dtype=np.float32)
        kept_TE = kept_TE + noise * kept_TE.std(axis=1, keepdims=True) * (shared_E + own_TE)
    return kept_TE.astype(np.float16)


def draw_dropped_tokens(
    ids_T: Sequence[int],
    special_ids: frozenset[int],
    probability: float,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """Draw the positions of tokens to drop, each with `probability`; one word stays."""
    draws_T = rng.random(len(ids_T))
    words = [place for place, token in enumerate(ids_T) if token not in special_ids]
    dropped = [place for place in words if draws_T[place] < probability]
    if words and len(dropped) == len(words):
        dropped.remove(max(words, key=lambda place: float(draws_T[place])))
    return tuple(dropped)
