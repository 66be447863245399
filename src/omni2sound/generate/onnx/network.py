"""The guided network over a clip of any length, on arrays; `guided` without torch.

In:   the transformer's two graphs, conditions of a whole clip, guidance scales.
Out:  `PredictArray`: a function from a noisy latent and its time to the network's prediction.

What not to get wrong: graphs take every condition. An absent text or picture is one masked token,
absent sync features are zeros; both have no effect.

Shape suffixes: B batch, W windows, K texts, L latent frames, C latent channels, T tokens, E text,
V picture, S sync features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from omni2sound.diffusion.array_solver import Array, PredictArray
from omni2sound.generate.onnx.folder import Session
from omni2sound.generate.windows import (
    LEAST_WINDOW_S,
    MAX_CACHED_WINDOWS,
    WINDOW_OVERLAP_S,
    crossfade_weights,
    passage_span,
    window_starts,
)
from omni2sound.timebase import TimeBase

Mask = NDArray[np.bool_]
Prepared = Mapping[str, NDArray[np.generic]]
"""What is constant over sampling steps, as the graph `denoise` takes it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ArrayConditions:
    """Conditions of a batch; what is absent is masked, and zero.

    Attributes:
        seconds_B: Length of the clip.
        text_BTE: Text token states.
        text_mask_BT: True at real tokens.
        vision_BTV: Picture tokens at the model's vision rate.
        vision_mask_BT: True at real pictures.
        sync_BLS: Sync features, one per latent frame.
        has_video: Whether pictures and sync features are of a video.
    """

    seconds_B: Array
    text_BTE: Array
    text_mask_BT: Mask
    vision_BTV: Array
    vision_mask_BT: Mask
    sync_BLS: Array
    has_video: bool

    def without_text(self) -> ArrayConditions:
        """Copy without the text."""
        return replace(self, text_mask_BT=np.zeros_like(self.text_mask_BT))


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayNetwork:
    """Transformer with classifier-free guidance.

    Attributes:
        prepare: Graph of what is constant over steps.
        denoise: Graph of one step.
        timebase: Rates of latents and pictures.
        window_s: The native window in seconds.
        scale: Guidance scale; 1 is no guidance.
        text_scale: Scale of the prompt beside a video. None: `scale`.
    """

    prepare: Session
    denoise: Session
    timebase: TimeBase
    window_s: float
    scale: float
    text_scale: float | None = None

    def over_clip(
        self, conditions: ArrayConditions, negative: ArrayConditions | None, num_frames: int
    ) -> PredictArray:
        """Prepare the prediction for a whole clip; see `GuidedNetwork.over_clip`."""
        window = self.timebase.num_latent_frames(self.window_s)
        if num_frames <= window:
            return self._over_window(conditions, negative)
        overlap = self.timebase.num_latent_frames(min(WINDOW_OVERLAP_S, self.window_s / 2))
        starts = window_starts(num_frames, window=window, overlap=overlap)
        weights_WL = crossfade_weights(starts, num_frames, window=window)
        prepared: dict[int, PredictArray] = {}

        def predictor(index: int) -> PredictArray:
            cut = [
                None
                if whole is None
                else window_of(whole, self.timebase, [starts[index]], window=window)
                for whole in (conditions, negative)
            ]
            assert cut[0] is not None
            return self._over_window(cut[0], cut[1])

        def predict(x_BLC: Array, t_B: Array) -> Array:
            # One window a call: more would take memory, and more time where the cache is small.
            whole_BLC = np.zeros_like(x_BLC)
            for index, start in enumerate(starts):
                own = prepared.get(index) or predictor(index)
                if index < MAX_CACHED_WINDOWS:
                    prepared[index] = own
                end = start + window
                part_1LC = own(x_BLC[:, start:end], t_B)
                whole_BLC[:, start:end] += weights_WL[index, :, None] * part_1LC
            return whole_BLC

        return predict

    def over_passages(
        self,
        conditions: Sequence[ArrayConditions],
        negative: ArrayConditions | None,
        num_frames: int,
        *,
        shares_KL: Array,
        silence_C: Array,
    ) -> PredictArray:
        """Prepare the prediction for changing texts; see `GuidedNetwork.over_passages`."""
        if len(conditions) == 1 and bool((shares_KL == 1).all()):
            return self.over_clip(conditions[0], negative, num_frames)
        least = self.timebase.num_latent_frames(LEAST_WINDOW_S)
        parts = []
        for whole, share_L in zip(conditions, shares_KL, strict=True):
            begin, end = passage_span(share_L, least)
            cut, away = (
                None if c is None else window_of(c, self.timebase, [begin], window=end - begin)
                for c in (whole, negative)
            )
            assert cut is not None
            predict = self.over_clip(cut, away, end - begin)
            parts.append((begin, end, share_L[begin:end, None], predict))
        silent_L1 = (1 - shares_KL.sum(axis=0).clip(0, 1))[:, None]

        def predict_mixed(x_BLC: Array, t_B: Array) -> Array:
            mixed_BLC = np.zeros_like(x_BLC)
            for begin, end, share_L1, predict in parts:
                mixed_BLC[:, begin:end] += share_L1 * predict(x_BLC[:, begin:end], t_B)
            angle = t_B[:, None, None] * np.float32(np.pi / 2)
            quiet_BLC = (np.cos(angle) * x_BLC - silence_C) / np.sin(angle)
            made_BLC: Array = mixed_BLC + silent_L1 * quiet_BLC
            return made_BLC

        return predict_mixed

    def _over_window(
        self, conditions: ArrayConditions, negative: ArrayConditions | None
    ) -> PredictArray:
        scale, text_scale = self.scale, self.text_scale
        branches = [conditioned := self._prepared(conditions)]
        apart = text_scale is not None and text_scale != scale
        if apart:
            branches.append(self._prepared(conditions.without_text()))
        if scale != 1:
            branches.append(_null(conditioned) if negative is None else self._prepared(negative))
        prepared = _stacked(branches)
        count = len(branches)

        def predict(x_BLC: Array, t_B: Array) -> Array:
            x = np.concatenate([x_BLC] * count)
            (made,) = self.denoise.run({"x_BLC": x, "t_B": np.tile(t_B, count), **prepared})
            first, *others = np.split(made, count)
            if apart:
                assert text_scale is not None
                video = others[0]
                base = video if scale == 1 else others[1] + scale * (video - others[1])
                guided: Array = (base + text_scale * (first - video)).astype(np.float32)
                return guided
            if scale == 1:
                return first
            led: Array = others[0] + np.float32(scale) * (first - others[0])
            return led

        return predict

    def _prepared(self, conditions: ArrayConditions) -> Prepared:
        names = ("keys", "values", "mask_B11T", "modulation_BLM", "duration_BD")
        made = self.prepare.run(
            {
                "text_BTE": conditions.text_BTE,
                "text_mask_BT": conditions.text_mask_BT,
                "vision_BTV": conditions.vision_BTV,
                "vision_mask_BT": conditions.vision_mask_BT,
                "sync_BLS": conditions.sync_BLS,
                "seconds_B": conditions.seconds_B,
            }
        )
        return dict(zip(names, made, strict=True))


def _null(prepared: Prepared) -> Prepared:
    """The null branch of guidance: no context, no sync, equal durations and mask."""
    zero = {name: np.zeros_like(prepared[name]) for name in ("keys", "values", "modulation_BLM")}
    return {**prepared, **zero}


_TOKEN_AXIS = {"keys": 3, "values": 3, "mask_B11T": 3}


def _stacked(branches: Sequence[Prepared]) -> Prepared:
    """Branches as one batch; contexts are padded to the longest, and masked there."""
    longest = max(branch["mask_B11T"].shape[3] for branch in branches)

    def padded(name: str, branch: Prepared) -> NDArray[np.generic]:
        value, axis = branch[name], _TOKEN_AXIS.get(name)
        if axis is None or value.shape[axis] == longest:
            return value
        pads = [(0, 0)] * value.ndim
        pads[axis] = (0, longest - value.shape[axis])
        return np.pad(value, pads)

    return {
        name: np.ascontiguousarray(np.concatenate([padded(name, b) for b in branches]))
        for name in branches[0]
    }


def window_of(
    conditions: ArrayConditions, timebase: TimeBase, starts: Sequence[int], *, window: int
) -> ArrayConditions:
    """Cut windows out of one long clip, as a batch of clips; see `conditions.window_of`."""
    seconds = window / timebase.latent_rate_hz
    count = len(starts)
    vision_BTV, mask_BT = conditions.vision_BTV, conditions.vision_mask_BT
    if conditions.has_video:
        firsts = [
            int(start / timebase.latent_rate_hz * timebase.vision_fps + Fraction(1, 2))
            for start in starts
        ]
        steps = np.arange(timebase.num_vision_frames(seconds))
        index = np.minimum(np.array(firsts)[:, None] + steps, vision_BTV.shape[1] - 1)
        vision_BTV, mask_BT = vision_BTV[0, index], mask_BT[0, index]
    else:
        vision_BTV, mask_BT = np.repeat(vision_BTV, count, 0), np.repeat(mask_BT, count, 0)
    return ArrayConditions(
        seconds_B=np.full(count, float(seconds), np.float32),
        text_BTE=np.repeat(conditions.text_BTE, count, 0),
        text_mask_BT=np.repeat(conditions.text_mask_BT, count, 0),
        vision_BTV=vision_BTV,
        vision_mask_BT=mask_BT,
        sync_BLS=np.stack([conditions.sync_BLS[0, s : s + window] for s in starts]),
        has_video=conditions.has_video,
    )
