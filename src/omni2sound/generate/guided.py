"""The guided network over a clip of any length.

In:   the transformer, conditions of a whole clip, guidance scales.
Out:  `Predict`: a function from a noisy latent and its time to the network's prediction.

The network sees a clip whole up to its native window, and in overlapping windows beyond
(`windows.joint_prediction`). Conditions are prepared once and not at each step.

Shape suffixes: B batch, W windows, L latent frames, C latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omni2sound.diffusion.guidance import Predict, guide, guide_separately
from omni2sound.generate.conditions import window_of
from omni2sound.generate.windows import joint_prediction, window_starts
from omni2sound.models.conditioning import Conditions
from omni2sound.models.dit import DiT
from omni2sound.timebase import TimeBase

_WINDOW_OVERLAP_S = 2
_WINDOWS_PER_CALL = 4
_MAX_CACHED_WINDOWS = 32
"""Prepared conditions of one window take some megabytes; beyond this many (minutes of
video) they are prepared again at each step, for a few percent of its time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedNetwork:
    """Transformer with classifier-free guidance.

    Attributes:
        dit: The transformer.
        dtype: Precision of its inputs; predictions are float32.
        timebase: Rates of latents and pictures.
        window_s: The native window, the longest clip that the network sees whole, in seconds.
        scale: Guidance scale; 1 is no guidance.
        text_scale: Scale of the prompt beside a video. None: `scale`.
    """

    dit: DiT
    dtype: torch.dtype
    timebase: TimeBase
    window_s: float
    scale: float
    text_scale: float | None = None

    @torch.inference_mode()
    def over_clip(
        self, conditions: Conditions, negative: Conditions | None, num_frames: int
    ) -> Predict:
        """Prepare the prediction for a whole clip.

        Args:
            conditions: Conditions of the clip; B = 1 beyond the native window.
            negative: Conditions in place of the null branch of guidance.
            num_frames: Latent frames of the clip.
        """
        window = self.timebase.num_latent_frames(self.window_s)
        if num_frames <= window:
            return self._over_window(conditions, negative, num_frames)
        overlap = self.timebase.num_latent_frames(min(_WINDOW_OVERLAP_S, self.window_s / 2))
        starts = window_starts(num_frames, window=window, overlap=overlap)
        prepared: dict[range, Predict] = {}

        def cut(whole: Conditions, group: range) -> Conditions:
            return window_of(whole, self.timebase, [starts[i] for i in group], window=window)

        def predict_windows(group: range, x_WLC: Tensor, t_W: Tensor) -> Tensor:
            predict = prepared.get(group)
            if predict is None:
                away = None if negative is None else cut(negative, group)
                predict = self._over_window(cut(conditions, group), away, window)
                if group.stop <= _MAX_CACHED_WINDOWS:
                    prepared[group] = predict
            return predict(x_WLC, t_W)

        return joint_prediction(
            predict_windows, starts, num_frames, window=window, windows_per_call=_WINDOWS_PER_CALL
        )

    def _over_window(
        self, conditions: Conditions, negative: Conditions | None, num_frames: int
    ) -> Predict:
        dit, scale, text_scale = self.dit, self.scale, self.text_scale
        prepared = conditioned = dit.prepare(conditions, num_frames)
        apart = text_scale is not None and text_scale != scale
        if apart:
            prepared = prepared.stack(dit.prepare(conditions.without_text(), num_frames))
        if scale != 1:
            away = conditioned.null() if negative is None else dit.prepare(negative, num_frames)
            prepared = prepared.stack(away)

        def predict(x_BLC: Tensor, t_B: Tensor) -> Tensor:
            return dit.denoise(x_BLC.to(self.dtype), t_B, prepared).float()

        if apart:
            assert text_scale is not None
            if scale != 1:
                return guide_separately(predict, scale, text_scale)
            scale = text_scale  # from the video alone to both; nothing leads away from null
        return predict if scale == 1 else guide(predict, scale)
