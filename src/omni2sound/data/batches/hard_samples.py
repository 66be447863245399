"""What makes training harder on purpose: unseen sounds, and prompts that lose tokens.

In:   a clip, another clip, drawn numbers.
Out:  the changed waveform or prompt, and a record of what was done, exact enough to undo it.

Sounds are mixed as waveforms, because latents don't mix; tokens are lost before the text
encoder, because what it makes of a token depends on the others. What not to get wrong: both
are for VT2A only (`data.batch` sees to it). A V2A target holds what is seen and the
ambience, or the model learns to invent the unseen.

Shape suffixes: N samples, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from omni2sound.encoders.base import Tokens
from omni2sound.errors import ConfigError

__all__ = [
    "Difficulty",
    "OffscreenMix",
    "PromptEncoder",
    "blurred_states",
    "joined_caption",
    "lost_tokens",
    "mixed",
    "needed",
]

Waveform = NDArray[np.float32]

LATEST_ONSET = 0.6
"""An unseen sound starts before this share of the clip, so that something of it is heard."""
AUDIBLE = 10 ** (-60 / 20)
"""Peak below which a sound counts as silence."""
GATE = 0.05
"""A sound begins where it first reaches this share of its peak."""
FADE_SAMPLES = 160
"""10 ms at 16 kHz: the cut into the sound must not click."""
_TEMPLATES = (
    "{own}. Off-screen: {other}",
    "{own}, and off-screen {other}",
    "{own}. Out of sight, {other}",
    "{own}; somewhere out of view, {other}",
    # Most people don't say what can't be seen: they name what they want to hear.
    "{own} and {other}",
    "{other} and {own}",
    "{own} while {other}",
    "{other}, {own}",
    "{own}; {other}",
    "{other} while {own}",
)


class PromptEncoder(Protocol):
    """A frozen text encoder as training needs it; `encoders.text.TextEncoder` is one."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that are no words (start, end); they are never lost."""
        ...

    @property
    def sha256(self) -> str:
        """Digest of all that states depend on."""
        ...

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """What the network reads of each text, start and end included."""
        ...

    def encode_ids(self, rows: Sequence[Sequence[int]]) -> Tokens:
        """States of the tokens."""
        ...


def needed(prompts: PromptEncoder | None) -> PromptEncoder:
    """The encoder.

    Raises:
        ConfigError: If there is none.
    """
    if prompts is None:
        raise ConfigError("prompts are changed in this stage, which needs a text encoder")
    return prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class Difficulty:
    """What may be done to a sample; all zero before stage 3, and in validation.

    Attributes are those of `train.recipe.Stage` and `Recipe` that have their names.
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
    """What was mixed into a clip, in samples of the clip.

    Attributes:
        clip_id: Whose sound it is.
        caption: How that clip's caption calls it.
        snr_db: Mean power of the clip's own sound over that of the added one where it sounds.
        onset_sample: Where it starts; before this sample nothing was added.
        num_samples: For how long it sounds.
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


def mixed(
    own_N: Waveform,
    other_N: Waveform,
    *,
    clip_id: str,
    caption: str,
    snr_db: float,
    onset: float,
) -> tuple[Waveform, OffscreenMix] | None:
    """A clip with another one's sound in it; None if either is silent.

    Args:
        own_N: The clip's sound.
        other_N: Where the unseen sound is taken from: its silent beginning is cut.
        clip_id: Whose sound `other_N` is, for the record.
        caption: What it is, for the record.
        snr_db: See `OffscreenMix`.
        onset: Where it starts, from 0 (at once) to 1 (at `LATEST_ONSET` of the clip).
    """
    start = int(onset * LATEST_ONSET * len(own_N))
    added_N = unseen_part(other_N, len(own_N) - start)
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


def unseen_part(other_N: Waveform, most_samples: int) -> Waveform | None:
    """The part of a clip's sound that is mixed into another; None if it is silent."""
    loudness_N = np.abs(other_N)
    peak = float(loudness_N.max(initial=0.0))
    if peak < AUDIBLE:
        return None
    begin = max(0, int(np.argmax(loudness_N >= GATE * peak)) - FADE_SAMPLES)
    part_N = other_N[begin : begin + most_samples].copy()
    fade = min(FADE_SAMPLES, len(part_N))
    part_N[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
    return part_N if float(np.abs(part_N).max(initial=0.0)) >= AUDIBLE else None


def joined_caption(own: str, other: str, choice: float) -> str:
    """One sentence or two that tell both, some that the other is not seen; `choice` in [0, 1)."""
    template = _TEMPLATES[int(choice * len(_TEMPLATES))]
    own, other = own.strip(), other.strip()
    if template.startswith("{own}"):
        own, other = own.rstrip(".;,"), _continuing(other)
    else:
        own, other = _continuing(own), other.rstrip(".;,")
    return template.format(own=own, other=other)


def _continuing(text: str) -> str:
    """How "A dog barks" goes on a sentence: "a dog barks"; "USA" does not become "uSA"."""
    if text[:1].isupper() and not text[1:2].isupper():
        return text[:1].lower() + text[1:]
    return text


def blurred_states(
    states_TE: NDArray[np.float16], *, noise: float, drop: float, rng: np.random.Generator
) -> NDArray[np.float16]:
    """A text's states, with fewer of them and each a little elsewhere.

    Args:
        states_TE: States of its tokens.
        noise: Standard deviation of what is added, in standard deviations of each state: one
            draw that all tokens share, and one for each.
        drop: Chance of a state to be left out; at least one stays.
        rng: Draws.
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


def lost_tokens(
    ids_T: Sequence[int],
    special_ids: frozenset[int],
    probability: float,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """Places of the tokens that a prompt loses, each with `probability`; one word stays."""
    draws_T = rng.random(len(ids_T))
    words = [place for place, token in enumerate(ids_T) if token not in special_ids]
    lost = [place for place in words if draws_T[place] < probability]
    if words and len(lost) == len(words):
        lost.remove(max(words, key=lambda place: float(draws_T[place])))
    return tuple(lost)
