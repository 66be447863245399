"""Embedded joint space of sounds, sentences and pictures.

In:   a waveform at 16 kHz; sentences; RGB frames of any size.
Out:  unit vectors, one for each patch of 0.975 s, sentence and view; two scores in [-1, 1]:
      caption to sound and picture to sound.

Three linear heads over frozen encoders (YAMNet, MiniLM, MobileNetV2), trained on the synthetic
scenes by `train.parts.joint`. The vision encoder sees each frame as a whole and in four
overlapping quarters: sources of sound often fill a small part of the picture. What not to get
wrong: the two scores are on scales of this space; a threshold for LAION-CLAP or ImageBind
means nothing here.

Shape suffixes: N samples, P patches, S sentences, T frames, V views, H W C picture,
E joint dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from omni2sound.config import from_json
from omni2sound.encoders.base import Tokens
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.encoders.text import TextEncoder
from omni2sound.encoders.vision import VisionEncoder
from omni2sound.weights import load_card, load_part

_TILE = 0.62
"""Side of a quarter view, of the frame's side; views overlap, so that no object is cut by all."""
VIEWS = 5
"""Views of a frame: the whole, then four corners."""
_SHARPNESS = 20.0
"""Sharpness of the soft maximum over views: views within about 0.05 of the best count."""

_SILENT = 1e-3
"""RMS below which a patch counts as silent (-60 dBFS)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JointConfig:
    """Sizes of the heads."""

    dim: int = 128
    audio_dim: int = 1024
    text_dim: int = TextEncoder.dim
    vision_dim: int = VisionEncoder.dim


class JointHeads(nn.Module):
    """Trained part: a linear map for each modality, and one temperature."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = nn.Linear(config.audio_dim, config.dim)
        self.text = nn.Linear(config.text_dim, config.dim)
        self.vision = nn.Linear(config.vision_dim, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def sounds(self, embeddings_PD: Tensor) -> Tensor:
        """Unit vectors (..., E) of YAMNet embeddings, in logarithms as they span decades."""
        return F.normalize(self.audio(torch.log1p(embeddings_PD)), dim=-1)

    def sentences(self, means_SD: Tensor) -> Tensor:
        """Unit vectors (..., E) of mean token states."""
        return F.normalize(self.text(F.normalize(means_SD, dim=-1)), dim=-1)

    def views(self, features_VD: Tensor) -> Tensor:
        """Unit vectors (..., E) of unit-length picture features."""
        return F.normalize(self.vision(features_VD), dim=-1)


def pooled_similarity(views_BVE: Tensor, targets_SE: Tensor) -> Tensor:
    """Soft maximum (B, S) over a picture's views of their cosine with each sound or sentence."""
    similar_BVS = views_BVE @ targets_SE.T
    weights_BVS = torch.softmax(_SHARPNESS * similar_BVS, dim=1)
    return (weights_BVS * similar_BVS).sum(dim=1)


def views_of(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut a frame into its five views (5, 224, 224, 3): the whole and four quarters, squashed."""
    image = Image.fromarray(frame_HWC)
    width, height = image.size
    w, h = _TILE * width, _TILE * height
    boxes = [(0.0, 0.0, float(width), float(height))]
    boxes += [(x, y, x + w, y + h) for y in (0.0, height - h) for x in (0.0, width - w)]
    size = (VisionEncoder.size_px[1], VisionEncoder.size_px[0])
    views = [image.resize(size, Image.Resampling.BILINEAR, box=box) for box in boxes]
    return np.stack([np.asarray(view) for view in views])


class JointSpace:
    """Heads and the frozen encoders below them. Build it with `JointSpace.load`."""

    def __init__(
        self,
        heads: JointHeads,
        *,
        hearing: YamNet,
        reading: TextEncoder,
        seeing: VisionEncoder,
    ) -> None:
        self.heads = heads.eval().requires_grad_(False)
        self.hearing = hearing
        self.reading = reading
        self.seeing = seeing

    @classmethod
    def load(cls, folder: Path) -> JointSpace:
        """Load heads from a model folder and encoders from bundled packages, on the CPU.

        Raises:
            MissingPartError: A bundled package is not installed.
            ConfigError: The folder has no joint heads.
        """
        card = load_card(folder)
        heads = JointHeads(from_json(JointConfig, card.parts.get("joint", {})))
        load_part(card, "joint", heads)
        return cls(
            heads,
            hearing=YamNet.load(),
            reading=TextEncoder.load(),
            seeing=VisionEncoder.load(),
        )

    @staticmethod
    def mean_states(tokens: Tokens) -> Tensor:
        """Mean token states (S, 384) of sentences, the input of the text head."""
        mask = tokens.mask_BT[..., None]
        return (tokens.states_BTD * mask).sum(dim=1) / mask.sum(dim=1)

    @torch.no_grad()
    def sentences(self, sentences: Sequence[str]) -> Tensor:
        """Unit vectors (S, E) of sentences."""
        return self.heads.sentences(self.mean_states(self.reading(sentences)))

    @torch.no_grad()
    def sounds(self, embeddings_PD: NDArray[np.float32]) -> Tensor:
        """Unit vectors (P, E) of embeddings from `hearing.scores_and_embeddings`."""
        return self.heads.sounds(torch.from_numpy(np.array(embeddings_PD)))

    @staticmethod
    def whole(sounds_PE: Tensor) -> Tensor:
        """Unit vector (E,) of a sound from those of its patches."""
        return F.normalize(sounds_PE.mean(dim=0), dim=-1)

    @classmethod
    def says_what_is_heard(cls, sounds_PE: Tensor, sentence_E: Tensor) -> float:
        """Caption-audio score: cosine between the sentence and the whole sound."""
        return float(cls.whole(sounds_PE) @ sentence_E)

    @classmethod
    def shows_what_sounds(cls, sounds_PE: Tensor, views_VE: Tensor) -> float:
        """Audio-visual score: soft maximum over views of their cosine with the whole sound."""
        if len(views_VE) == 0:
            return 0.0
        return float(pooled_similarity(views_VE[None], cls.whole(sounds_PE)[None]))


def heard_patches(waveform_N: NDArray[np.float32], num_patches: int) -> NDArray[np.bool_]:
    """Mark YAMNet patches that are not silent, (P,); the loudest always counts."""
    levels = np.array(
        [
            np.sqrt(np.mean(np.square(piece, dtype=np.float64))) if len(piece) else 0.0
            for p in range(num_patches)
            for piece in [waveform_N[p * YamNet.patch_hop_samples :][: YamNet.patch_samples]]
        ]
    )
    heard: NDArray[np.bool_] = levels > _SILENT
    heard[int(levels.argmax())] = True
    return heard
