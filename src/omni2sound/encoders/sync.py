"""Embedded sync encoder: a small (2+1)-D network over 25 pictures per second, and its targets.

In:   frames (T, H, W, 3) uint8, frame i at the time (i + 0.5) / 25 s; for targets, exact onsets
      and the waveform of the on-screen sound.
Out:  features (T, S), feature i at the same time, one per latent frame; targets per frame.

Trained (`train.parts.sync`) to predict from pictures alone when something on screen makes a sound
and how loud it is. Its last two features are these predictions, the others its hidden layer.
Spatial and temporal convolutions alternate; a feature depends on about a second around it.

Shape suffixes: B batch, T frames, H W picture, K channels, S features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from omni2sound.errors import ConfigError, ShapeError
from omni2sound.timebase import places_between

LEVEL_FLOOR_DB = -60.0
"""Level of silence; levels are scaled from 0 here to 1 at full scale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncConfig:
    """Shape of the network."""

    frame_px: int = 96
    """Height and width of its input pictures (squashed)."""
    fps: int = 25
    """Pictures per second."""
    channels: tuple[int, ...] = (24, 48, 96, 128)
    """Channels after each spatial stage; the first halves the picture twice, the rest once."""
    feature_dim: int = 64
    """Features S, including the two predictions (onset, level)."""

    @property
    def features_per_s(self) -> int:
        """Features per second: one for each picture."""
        return self.fps

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ConfigError(f"channels must be one or more, each at least 1, got {self.channels}")
        if self.frame_px % 2 ** (len(self.channels) + 1):
            raise ConfigError(
                f"frame_px must be a multiple of {2 ** (len(self.channels) + 1)}, "
                f"got {self.frame_px}"
            )
        if self.feature_dim <= 2:
            raise ConfigError(f"feature_dim must be above 2, got {self.feature_dim}")


class Stage(nn.Module):
    """Spatial convolution with stride, then a temporal one; both normalised."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        pad = kernel // 2
        self.spatial = nn.Conv3d(
            in_channels,
            out_channels,
            (1, kernel, kernel),
            stride=(1, stride, stride),
            padding=(0, pad, pad),
            bias=False,
        )
        self.spatial_norm = nn.BatchNorm3d(out_channels)
        self.temporal = nn.Conv3d(
            out_channels, out_channels, (3, 1, 1), padding=(1, 0, 0), bias=False
        )
        self.temporal_norm = nn.BatchNorm3d(out_channels)

    def forward(self, x_BKTHW: Tensor) -> Tensor:
        """Pictures with channels (B, K, T, H, W), with fewer pixels."""
        x = torch.relu(self.spatial_norm(self.spatial(x_BKTHW)))
        return torch.relu(x + self.temporal_norm(self.temporal(x)))


class SyncEncoder(nn.Module):
    """Sync features and the predictions of onset and level."""

    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        self.config = config
        # Three colours and their change since the frame before: motion is what matters.
        sizes = (6, *config.channels)
        self.stages = nn.ModuleList(
            Stage(a, b, kernel=5 if i == 0 else 3, stride=4 if i == 0 else 2)
            for i, (a, b) in enumerate(zip(sizes, config.channels, strict=False))
        )
        width = config.channels[-1]
        self.merge = nn.Conv1d(2 * width, width, 1)
        self.context = nn.ModuleList(
            nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)
            for dilation in (1, 2)
        )
        self.hidden = nn.Conv1d(width, config.feature_dim - 2, 1)
        self.answers = nn.Conv1d(config.feature_dim - 2, 2, 1)

    def forward(self, frames_BTHWK: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, T, S) and raw predictions (B, T, 2): onset logit, level.

        Args:
            frames_BTHWK: uint8 pictures, (B, T, frame_px, frame_px, 3).

        Raises:
            ShapeError: If the pictures have another size.
        """
        size = self.config.frame_px
        if frames_BTHWK.ndim != 5 or frames_BTHWK.shape[2:] != (size, size, 3):
            raise ShapeError(
                f"sync frames must be (B, T, {size}, {size}, 3), got {tuple(frames_BTHWK.shape)}"
            )
        x = frames_BTHWK.movedim(-1, 1).float() / 127.5 - 1  # B 3 T H W
        change = torch.diff(x, dim=2, prepend=x[:, :, :1])
        x = torch.cat([x, 4 * change], dim=1)  # B 6 T H W
        for stage in self.stages:
            x = stage(x)  # B K T h w
        x = torch.cat([x.amax(dim=(-2, -1)), x.mean(dim=(-2, -1))], 1)  # B 2K T
        x = torch.relu(self.merge(x))
        for convolution in self.context:
            x = x + torch.relu(convolution(x))
        hidden = torch.tanh(self.hidden(x))  # B S-2 T
        answers = self.answers(hidden)  # B 2 T
        bounded = torch.stack([answers[:, 0].sigmoid(), answers[:, 1]], dim=1)
        return torch.cat([hidden, bounded], dim=1).mT, answers.mT

    @torch.inference_mode()
    def embed(self, frames_THWK: NDArray[np.uint8] | Tensor) -> Tensor:
        """Features (T, S) of uint8 pictures at `config.fps`, float32 on the network's device."""
        device = next(self.parameters()).device
        features_BTS, _ = self.forward(torch.as_tensor(frames_THWK, device=device)[None])
        return features_BTS[0].float()


def at_rate(
    features_TS: Tensor, from_fps: Fraction, to_fps: Fraction | int, num_frames: int
) -> Tensor:
    """Interpolate features in time; feature i lies at (i + 0.5) / fps, and ends are held.

    Args:
        features_TS: Features at `from_fps`, at least one.
        from_fps: Features per second.
        to_fps: Features per second of the result.
        num_frames: Features of the result.
    """
    if from_fps == to_fps and num_frames == len(features_TS):
        return features_TS
    places = places_between(from_fps, to_fps, num_frames, len(features_TS))
    before, after, part_T = (torch.from_numpy(x).to(features_TS.device) for x in places)
    part_T1 = part_T[:, None].to(features_TS)
    return features_TS[before] * (1 - part_T1) + features_TS[after] * part_T1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SyncExample:
    """One rendered scene.

    Attributes:
        frames_THWK: uint8 pictures, 25 a second.
        onset_T: Soft onset targets in [0, 1].
        level_T: Scaled level of the on-screen sound in [0, 1].
    """

    frames_THWK: NDArray[np.uint8]
    onset_T: NDArray[np.float32]
    level_T: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SyncBatch:
    """Batch of examples of one length, as tensors for shared memory between processes."""

    frames_BTHWK: Tensor
    onset_BT: Tensor
    level_BT: Tensor


def stack_examples(examples: Sequence[SyncExample]) -> SyncBatch:
    """Stack examples of one length into a batch."""
    return SyncBatch(
        frames_BTHWK=torch.from_numpy(np.stack([e.frames_THWK for e in examples])),
        onset_BT=torch.from_numpy(np.stack([e.onset_T for e in examples])),
        level_BT=torch.from_numpy(np.stack([e.level_T for e in examples])),
    )


def onset_target(onsets_s: Iterable[float], num_frames: int, fps: int) -> NDArray[np.float32]:
    """Soft onset target (T,): 1 where a frame's centre is an onset, 0 two frames away."""
    centres_s = (np.arange(num_frames) + 0.5) / fps
    target = np.zeros(num_frames, np.float32)
    for onset_s in onsets_s:
        target = np.maximum(target, 1 - np.abs(centres_s - onset_s) * fps / 2)
    return target.astype(np.float32)


def level_target(sound_N: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
    """Level target (T,): RMS per frame in dB, scaled from 0 at the floor to 1 at full scale."""
    hop = len(sound_N) // num_frames
    frames = sound_N[: hop * num_frames].reshape(num_frames, hop)
    level_db = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    scaled = np.clip(1 - level_db / LEVEL_FLOOR_DB, 0, 1)
    return np.asarray(scaled, np.float32)
