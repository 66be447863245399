"""Notes: what the user should know about a result, one line each.

In:   a request, the words that the model was given, the sound that came out.
Out:  lines; none of them changes the sound.

YAMNet hears whether there is speech or music that nobody asked for. It also scores benchmarks, so
it must never choose between sounds or change one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from omni2sound.generate.words.kinds import MUSICAL, example_of, named_kinds
from omni2sound.media.samples import Audio, resample
from omni2sound.scenes.material.catalogue import SoundClass

SILENT_DBFS = -50
"""Level of the loudest second below which a sound counts as silent."""
_HEARD = 0.5
_HEARD_RATE_HZ = 16_000
SPEECH = re.compile(
    r"\b(speech|speak\w*|spoken|talk\w*|say(s|ing)?|said|voices?|convers\w+|whisper\w*|narrat\w+"
    r"|sing(er|ers)|choir|lyrics|vocals?|dialogue?|chat(s|ting)?"
    r"|((wo)?m[ae]n|girls?|boys?|child(ren)?|people|crowds?|somebody|someone|s?he|they)"
    r"( is| are)? (sing|chatter)(s|ing)?)\b",
    re.IGNORECASE,
)
"""Words that ask for a human voice."""
_MUSIC = re.compile(r"\b(music\w*|song|melod\w+|tune|band|orchestra|jingle)\b", re.IGNORECASE)


def asks_for_speech(text: str) -> bool:
    """Whether a text asks for a human voice, which the bundled model does not make."""
    return SPEECH.search(text) is not None


def asks_for_speech_alone(text: str | None) -> bool:
    """Whether a text asks for speech, and names nothing else that the bundled model makes."""
    return text is not None and asks_for_speech(text) and not named_kinds(text)


def of_speech(texts: Sequence[str]) -> tuple[str, ...]:
    """What to say of texts that ask for speech."""
    notes = []
    for text in filter(asks_for_speech, texts):
        if asks_for_speech_alone(text):
            told = "asks for speech, which this model does not make: left out"
        else:
            told = "asks also for speech, which this model does not make"
        notes.append(f"{text[:60]!r} {told}; all of its kinds of sound: omni2sound sounds")
    return tuple(notes)


def is_readable(text: str) -> bool:
    """Whether a text has a Latin letter or a digit; the encoder reads nothing else."""
    return re.search("[a-z0-9]", text, re.IGNORECASE | re.ASCII) is not None


def of_other_languages(texts: Sequence[str], is_english: Callable[[str], bool]) -> tuple[str, ...]:
    """What to say of texts in Latin letters that an encoder of English does not read.

    Other scripts are what the encoder itself warns of.
    """
    return tuple(
        f"{text[:60]!r} does not look like English, the only language that the text encoder reads; "
        "write it in English"
        for text in texts
        if not named_kinds(text) and not is_english(text)
    )


def of_far_prompts(
    texts: Sequence[str], nearest: Callable[[str], Sequence[SoundClass]]
) -> tuple[str, ...]:
    """What to say of texts beyond the kinds of sound that the bundled model knows."""
    notes = []
    for text in texts:
        if kinds := nearest(text):
            examples = ", ".join(f'"{example_of(kind)}"' for kind in kinds)
            notes.append(
                f"{text[:60]!r} is near none of the kinds of sound that the model knows; the "
                f"nearest are {examples}; all of them: omni2sound sounds"
            )
    return tuple(notes)


def of_level(samples_N: NDArray[np.float32], rate_hz: int) -> tuple[str, ...]:
    """What to say of a sound that nobody will hear."""
    level_db = loudest_second_db(samples_N, rate_hz)
    if level_db >= SILENT_DBFS:
        return ()
    return (
        f"the generated sound is nearly silent: its loudest second is at {level_db:.0f} dBFS; "
        "try another seed, or say what should be heard with `prompt`",
    )


def loudest_second_db(samples_N: NDArray[np.float32], rate_hz: int) -> float:
    """Level of the loudest second, dB below full scale, not below -120."""
    window = min(rate_hz, len(samples_N))
    sums = np.concatenate([[0.0], np.cumsum(samples_N.astype(np.float64) ** 2)])
    power = (sums[window:] - sums[:-window])[:: max(1, window // 10)] / window
    return float(10 * np.log10(max(power.max(), 1e-12)))


def for_tagger(audio: Audio) -> NDArray[np.float32]:
    """The sound as the tagger takes it: one channel at its rate."""
    samples_N: NDArray[np.float32] = resample(audio, _HEARD_RATE_HZ).samples_CN.mean(axis=0)
    return samples_N


def of_strangers(
    scores_PK: NDArray[np.float32], class_names: Sequence[str], texts: Sequence[str]
) -> tuple[str, ...]:
    """What to say of speech or music that a tagger hears and no text asks for.

    Args:
        scores_PK: Probability of each class in each patch.
        class_names: AudioSet names of the classes.
        texts: All that was asked for.
    """
    musical = any(_MUSIC.search(t) or named_kinds(t) & MUSICAL for t in texts)
    wanted = {"Speech": any(map(asks_for_speech, texts)), "Music": musical}
    notes = []
    for name, asked in wanted.items():
        score = float(scores_PK[:, list(class_names).index(name)].max())
        if score >= _HEARD and not asked:
            notes.append(
                f"a tagger (YAMNet) hears {name.lower()} that nobody asked for, with probability "
                f"{score:.2f}; try another seed"
            )
    return tuple(notes)
