"""Agreement of two independent taggers: YAMNet's scores where the in-domain tagger confirms them.

In:   scores of both, patch by patch; the vocabulary; a text encoder that compares names.
Out:  scores of things, high only where both taggers agree.

The in-domain tagger knows the 43 classes of the scenes, YAMNet 521. A thing is confirmed by a
class whose name means the same: "church bell" by "a bell". A thing unlike all classes can't be
confirmed; it counts where YAMNet is sure and the tagger has no better explanation. What not to get
wrong: the scale is its own, so the senior's thresholds belong to it (docs/guides/annotate.md).

Shape suffixes: P patches, T things, K classes of the tagger, C classes of YAMNet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from omni2sound.annotate.local.words import Vocabulary
from omni2sound.encoders.joint import JointSpace

_UNLIKE = 0.3
"""Cosine similarity of unrelated names, from mean token states."""
_UNCONFIRMED = 0.2
"""Weight of YAMNet alone."""


def likeness_of_names(
    space: JointSpace, things: Sequence[str], classes: Sequence[str]
) -> NDArray[np.float32]:
    """Compare names, (T, K): 1 for the same meaning, 0 for unrelated ones."""
    states_TD, states_KD = (
        torch.nn.functional.normalize(space.mean_states(space.reading(list(names))), dim=-1)
        for names in (things, classes)
    )
    cosine_TK = (states_TD @ states_KD.T).detach().numpy()
    likeness_TK: NDArray[np.float32] = np.clip((cosine_TK - _UNLIKE) / (1 - _UNLIKE), 0, 1)
    return likeness_TK


def things_heard(
    scores_PC: NDArray[np.float32], class_names: Sequence[str], words: Vocabulary
) -> NDArray[np.float32]:
    """Return scores of `words.things`, (P, T): the highest of their classes."""
    place = {name: number for number, name in enumerate(class_names)}
    heard_PT = np.zeros((len(scores_PC), len(words.things)), np.float32)
    for number, thing in enumerate(words.things):
        own = [place[name] for name in thing.heard_as if name in place]
        if own:
            heard_PT[:, number] = scores_PC[:, own].max(axis=1)
    return heard_PT


def agreed_scores(
    heard_PT: NDArray[np.float32],
    tagged_PK: NDArray[np.float32],
    likeness_TK: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return (P, T): the geometric mean of both taggers, or weighted YAMNet where the in-domain
    tagger explains nothing.
    """
    confirmed_PT = (tagged_PK[:, None, :] * likeness_TK[None]).max(axis=2)
    unexplained_P1 = 1 - tagged_PK.max(axis=1, keepdims=True)
    agreed_PT: NDArray[np.float32] = np.maximum(
        np.sqrt(heard_PT * confirmed_PT), _UNCONFIRMED * heard_PT * unexplained_P1
    )
    return agreed_PT
