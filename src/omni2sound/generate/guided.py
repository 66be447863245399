"""The guided network over a clip of any length.

In:   the transformer, conditions of a whole clip, guidance scales.
Out:  `Predict`: a function from a noisy latent and its time to the network's prediction.

The network sees a clip whole up to its native window, and in overlapping windows beyond
(`windows.joint_prediction`). Conditions are prepared once and not at each step. Where texts change
within a clip (`cues`), each text has a window of its own: measured, a bark that is asked for in two
seconds comes far more surely in a window of these two seconds than in one of the whole clip.

Shape suffixes: B batch, W windows, K texts, L latent frames, C latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from omni2sound.diffusion.guidance import Predict, guide, guide_separately
from omni2sound.diffusion.objective import Objective
from omni2sound.generate.conditions import window_of
from omni2sound.generate.windows import (
    LEAST_WINDOW_S,
    MAX_CACHED_WINDOWS,
    WINDOW_OVERLAP_S,
    WINDOWS_PER_CALL,
    joint_prediction,
    passage_span,
    window_starts,
)
from omni2sound.models.conditioning import Conditions
from omni2sound.models.dit import DiT
from omni2sound.timebase import TimeBase


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedNetwork:
    """Transformer with classifier-free guidance.

    Attributes:
        dit: The transformer.
        dtype: Precision of its inputs; predictions are float32.
        objective: What the network predicts.
        timebase: Rates of latents and pictures.
        window_s: The native window, the longest clip that the network sees whole, in seconds.
        scale: Guidance scale; 1 is no guidance.
        text_scale: Scale of the prompt beside a video. None: `scale`.
    """

    dit: DiT
    dtype: torch.dtype
    objective: Objective
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
        overlap = self.timebase.num_latent_frames(min(WINDOW_OVERLAP_S, self.window_s / 2))
        starts = window_starts(num_frames, window=window, overlap=overlap)
        prepared: dict[range, Predict] = {}

        def cut(whole: Conditions, group: range) -> Conditions:
            return window_of(whole, self.timebase, [starts[i] for i in group], window=window)

        def predict_windows(group: range, x_WLC: Tensor, t_W: Tensor) -> Tensor:
            predict = prepared.get(group)
            if predict is None:
                away = None if negative is None else cut(negative, group)
                predict = self._over_window(cut(conditions, group), away, window)
                if group.stop <= MAX_CACHED_WINDOWS:
                    prepared[group] = predict
            return predict(x_WLC, t_W)

        return joint_prediction(
            predict_windows, starts, num_frames, window=window, windows_per_call=WINDOWS_PER_CALL
        )

    @torch.inference_mode()
    def over_passages(
        self,
        conditions: Sequence[Conditions],
        negative: Conditions | None,
        num_frames: int,
        *,
        shares_KL: Tensor,
        silence_C: Tensor,
    ) -> Predict:
        """Prepare the prediction for a clip whose text changes.

        In each latent frame it is the mean of the texts' predictions, weighted by their shares;
        what is missing from 1 is the prediction that leads to silence. A single text that has
        all of the clip gives what `over_clip` gives.

        Args:
            conditions: Conditions of the whole clip with each text, B = 1.
            negative: Conditions in place of the null branch of guidance.
            num_frames: Latent frames of the clip.
            shares_KL: Share of each text in each latent frame.
            silence_C: The latent frame of silence.
        """
        if len(conditions) == 1 and bool((shares_KL == 1).all()):
            return self.over_clip(conditions[0], negative, num_frames)
        least = self.timebase.num_latent_frames(LEAST_WINDOW_S)
        parts = []
        for whole, share_L in zip(conditions, shares_KL, strict=True):
            begin, end = passage_span(share_L.numpy(), least)
            cut, away = (
                None if c is None else window_of(c, self.timebase, [begin], window=end - begin)
                for c in (whole, negative)
            )
            assert cut is not None
            predict = self.over_clip(cut, away, end - begin)
            parts.append((begin, end, share_L[begin:end, None], predict))
        silent_L1 = (1 - shares_KL.sum(dim=0).clamp(0, 1))[:, None]

        def predict_mixed(x_BLC: Tensor, t_B: Tensor) -> Tensor:
            mixed_BLC = torch.zeros_like(x_BLC)
            for begin, end, share_L1, predict in parts:
                part_BLC = predict(x_BLC[:, begin:end].contiguous(), t_B)
                mixed_BLC[:, begin:end] += share_L1.to(x_BLC) * part_BLC
            quiet_BLC = self.objective.prediction_of(x_BLC, silence_C.to(x_BLC), t_B)
            return mixed_BLC + silent_L1.to(x_BLC) * quiet_BLC

        return predict_mixed

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
