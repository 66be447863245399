"""Whether somebody speaks in a file's sound, for a judge.

In:   a judge that knows speech.
Out:  a function of a path.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omni2sound.bench.metrics.tagging import Ears
from omni2sound.bench.scoring.sounds import load_judge
from omni2sound.media.audio import read_audio
from omni2sound.scenes.material.catalogue import Catalogue

__all__ = ["speech_in"]


def speech_in(judge: str = "yamnet") -> Callable[[Path], bool]:
    """A function that says whether a judge hears speech (`ears`) in a file.

    Raises:
        MissingPartError: The judge's network is not installed.
    """
    ears = Ears(load_judge(judge), Catalogue.load())
    rate_hz = load_judge(judge).sample_rate_hz

    def hears(path: Path) -> bool:
        sound_N = read_audio(path, sample_rate_hz=rate_hz, mono=True).samples_CN[0]
        return len(sound_N) > 0 and bool(ears.listen(sound_N).speech)

    return hears
