"""From a request to sound with ONNX Runtime: encode, sample, decode on arrays.

In:   an exported folder; a plan of a request.
Out:  latents and waveforms.

Steps, noise and their order are those of `torch_pipeline`, so a seed means the same sound up to
rounding.

Shape suffixes: B batch, L latent frames, C latent channels, N samples.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omni2sound.diffusion.array_solver import Array, PredictArray, solve
from omni2sound.diffusion.settings import OnStep
from omni2sound.errors import ConfigError
from omni2sound.generate.finish import HOP_SAMPLES, LOW_HOP_SAMPLES, RATE_HZ
from omni2sound.generate.going_on import NOISE, NUM_STEPS, fill, spans_of
from omni2sound.generate.onnx.encoder import ArrayEncoder
from omni2sound.generate.onnx.folder import ExportedModel, check_current
from omni2sound.generate.onnx.network import ArrayNetwork
from omni2sound.generate.onnx.noise import Noise
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.generate.request import GenerationRequest, ModelFacts
from omni2sound.generate.windows import decode_clips
from omni2sound.generate.words.plan import Plan
from omni2sound.stages import enter
from omni2sound.weights import ModelCard


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """One sound of those that are mixed to a result."""

    predict: PredictArray
    spans: Sequence[tuple[int, int]]
    """Spans of latent frames in which its sound goes on."""


class OnnxPipeline(Omni2SoundPipeline):
    """Generates sound with ONNX Runtime on a CPU. Build it with `load`."""

    encoder: ArrayEncoder

    def __init__(self, model: ExportedModel, *, once: bool = False) -> None:
        card = model.card
        low_hz = RATE_HZ * LOW_HOP_SAMPLES // HOP_SAMPLES
        if model.has("band") and card.timebase.sample_rate_hz != low_hz:
            raise ConfigError(
                f"{model.folder}: expected timebase.sample_rate_hz {low_hz}, which its graph band "
                f"is for, got {card.timebase.sample_rate_hz}; export the model again"
            )
        self._once = once
        self.model = model
        self.sha256 = card.sha256
        self.dtype_name = card.precision
        self.facts = ModelFacts(
            name=card.name,
            defaults=card.defaults,
            timebase=card.timebase,
            sample_rate_hz=card.sample_rate_hz,
        )
        self.encoder = ArrayEncoder(model, once=once)
        self.added_band = self._added_band if model.has("band") else None
        self.pending_load_s = 0.0

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        num_threads: int | None = None,
        once: bool = False,
        model: ModelCard | None = None,
    ) -> OnnxPipeline:
        """Open an exported folder.

        Args:
            folder: A folder of `omni2sound export`.
            num_threads: Threads of one operation. Default: OMP_NUM_THREADS, or one per core.
            once: Load a network when it is used, and drop encoders before sampling. Else what
                is loaded stays, and all but the encoders are loaded now.
            model: Card of the model that the folder has to stand for; all of its files are then
                verified now, not each when it is needed. Default: the folder stands for itself.

        Raises:
            ConfigError: The folder does not hold together, or no longer stands for `model`.
            IntegrityError: A file's bytes are not those that its card recorded.
            MissingPartError: ONNX Runtime is not installed.
        """
        begin = time.perf_counter()
        exported = ExportedModel(folder, num_threads=num_threads)
        if model is not None:
            check_current(exported.card, folder, model)
            exported.verify()
        pipeline = cls(exported, once=once)
        if not once:
            pipeline._open()
        pipeline.pending_load_s = time.perf_counter() - begin
        return pipeline

    def _open(self) -> None:
        for name in ("prepare", "denoise", "decoder"):
            self.model.session(name)

    def _layers(
        self, request: GenerationRequest, plan: Plan, duration: Fraction, scale: float
    ) -> tuple[list[_Layer], float]:
        begin = time.perf_counter()
        num_frames, score, layers = self._num_frames(duration), plan.score, []
        can_go_on = self.model.card.goes_on
        negative, bed, each = None, None, []
        if request.has_negative_prompt:
            negative = self.encoder.encode(None, request.negative_prompt, duration)
        if not plan.silent:
            beside = plan.seen is None and request.seen is None  # pictures, even beside a text
            given = [plan.words.pictures and (beside or text is None) for text in score.texts]
            each = self.encoder.encode_each(request.video, score.texts, duration, pictures=given)
        if plan.words.ambience is not None:
            bed = self.encoder.encode(None, plan.words.ambience, duration)
        load_s = self.encoder.collect_load_s()
        if self._once:
            self.encoder.release()
            opened = time.perf_counter()
            self._open()
            load_s += time.perf_counter() - opened
        if not plan.silent:
            predict = self._network(scale, request.text_guidance_scale).over_passages(
                each,
                negative,
                num_frames,
                shares_KL=score.shares_KL,
                silence_C=np.array(self.model.card.silence, np.float32),
            )
            seen_only = request.video is not None and plan.words.pictures
            spans = spans_of(score) if can_go_on and not seen_only else []
            layers.append(_Layer(predict=predict, spans=spans))
        if bed is not None:
            predict = self._network(scale, None).over_clip(bed, None, num_frames)
            layers.append(_Layer(predict=predict, spans=[(0, num_frames)] if can_go_on else []))
        self.pending_load_s += load_s
        return layers, time.perf_counter() - begin - load_s

    def _end_request(self) -> None:
        if self._once:
            self.model.release()

    def _network(self, scale: float, text_scale: float | None) -> ArrayNetwork:
        return ArrayNetwork(
            prepare=self.model.session("prepare"),
            denoise=self.model.session("denoise"),
            timebase=self.facts.timebase,
            window_s=self.facts.defaults.max_duration_s,
            scale=scale,
            text_scale=text_scale,
        )

    def _sample(
        self,
        layer: _Layer,
        duration: Fraction,
        seeds: Sequence[int],
        num_steps: int,
        on_step: OnStep | None,
    ) -> Array:
        self.encoder.check_process()
        shape = (self._num_frames(duration), self.model.card.latent_dim)
        draws = [Noise(seed) for seed in seeds]
        noise_BLC = np.stack([draw.normal(shape) for draw in draws])
        latents_BLC = solve(
            layer.predict,
            noise_BLC,
            config=self.model.card.sampler,
            num_steps=num_steps,
            on_step=on_step,
        )
        if not layer.spans:
            return latents_BLC
        config = replace(self.model.card.sampler, sigma_max=NOISE)

        def denoise(noise_BLC: Array, start_BLC: Array) -> Array:
            return solve(
                layer.predict, noise_BLC, config=config, num_steps=NUM_STEPS, start_BLC=start_BLC
            )

        (level_BL,) = self.model.session("level").run({"latents_BLC": latents_BLC})
        level_BL = _of_shape(level_BL, latents_BLC.shape[:2], "level")
        return fill(latents_BLC, level_BL, [layer.spans] * len(draws), draws, denoise)

    def _decoded(self, latents_BLC: Array, duration: Fraction) -> NDArray[np.float32]:
        timebase = self.facts.timebase
        enter("decoding")
        decoder = self.model.session("decoder")

        def decode(latents_BLC: Array) -> Array:
            noise_1N = Noise(0).normal((1, latents_BLC.shape[1] * timebase.hop_samples))
            made_BN = decoder.run({"latents_BLC": latents_BLC, "noise_1N": noise_1N})[0]
            return _of_shape(made_BN, (len(latents_BLC), noise_1N.shape[1]), "decoder")

        samples_BN = decode_clips(decode, latents_BLC, timebase)
        return samples_BN[:, : timebase.num_samples(duration)]

    def _added_band(self, low_1N: NDArray[np.float32]) -> NDArray[np.float32]:
        noise_1N = Noise(0).normal((1, low_1N.shape[1] // LOW_HOP_SAMPLES * HOP_SAMPLES))
        made_BN = self.model.session("band").run({"low_BN": low_1N, "noise_1N": noise_1N})[0]
        return _of_shape(made_BN, noise_1N.shape, "band")


def _of_shape(made: Array, shape: tuple[int, ...], graph: str) -> Array:
    if made.shape != shape:
        raise ConfigError(
            f"{graph}.onnx: expected an output of shape {shape}, got {made.shape}; export the "
            "model again"
        )
    return made
