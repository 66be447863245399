"""From a request to sound in torch, on any device: encode, sample, decode.

In:   a model by name or folder; a plan of a request.
Out:  latents and waveforms; those of a batch from conditions that were encoded before.

One path serves all tasks and lengths: conditions cover the whole clip, and so does the guided
network (`guided`). What not to get wrong: noise is drawn on the CPU in float32, each sample from
its own seed, so that neither the device nor the other clips of a batch change what a seed means.

Shape suffixes: B batch, L latent frames, C latent channels, N samples.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omni2sound.diffusion.guidance import Predict
from omni2sound.diffusion.samplers import sample
from omni2sound.diffusion.settings import OnStep
from omni2sound.errors import ShapeError, UserError
from omni2sound.generate.conditions import ConditionEncoder
from omni2sound.generate.going_on import NOISE, NUM_STEPS, fill, goes_on, spans_of
from omni2sound.generate.guided import GuidedNetwork
from omni2sound.generate.model import Model, load_model
from omni2sound.generate.offload import Offloader
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.generate.request import GenerationRequest, GenerationResult, precision_name
from omni2sound.generate.studio.models import save_model
from omni2sound.generate.windows import decode_clips
from omni2sound.generate.words.plan import Plan
from omni2sound.models.autoencoder import AudioVAE, MelPcaAutoencoder
from omni2sound.models.conditioning import Conditions
from omni2sound.models.lora import Adapter, load_adapter
from omni2sound.runtime import choose_deterministic, one_thread, resolve_device, resolve_dtype
from omni2sound.stages import enter


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """One sound of those that are mixed to a result, for a batch of clips."""

    predict: Predict
    spans: Sequence[Sequence[tuple[int, int]]]
    """Of each clip, the spans of latent frames in which its sound goes on."""


class TorchPipeline(Omni2SoundPipeline):
    """Generates sound with torch. Build it with `load`."""

    encoder: ConditionEncoder

    def __init__(
        self,
        model: Model,
        *,
        device: torch.device,
        dtype: torch.dtype,
        encoders: Path | None = None,
        low_memory: bool = False,
        adapter: Adapter | None = None,
    ) -> None:
        if model.sync is not None:
            model.sync.eval().requires_grad_(False).to(device)
        self.model = model
        self.facts = model.facts
        self.added_band = None if model.band is None else model.band.added_array
        self.sha256 = model.sha256 if adapter is None else adapter.sha256
        self.offloader = Offloader(model, device, dtype, low_memory=low_memory, adapter=adapter)
        self.encoder = ConditionEncoder(
            model.config,
            model.sync,
            device,
            published=encoders,
            low_memory=low_memory,
            dtype=dtype,
        )
        self.goes_on = goes_on_of(model)
        self.device = device
        self.dtype = dtype
        self.dtype_name = str(dtype).removeprefix("torch.")
        self.pending_load_s = 0.0
        self.deterministic = False

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = "embedded",
        *,
        device: str = "auto",
        dtype: str = "auto",
        encoders: str | os.PathLike[str] | None = None,
        low_memory: bool = False,
        lora: str | os.PathLike[str] | None = None,
        deterministic: bool = False,
    ) -> TorchPipeline:
        """Load a model; see `Omni2SoundPipeline.from_pretrained`.

        Raises:
            MissingPartError: There is no such model.
            ConfigError: The folder does not hold together.
            IntegrityError: A file's bytes are not those that its card recorded.
            UserError: This machine has no such device, it can't compute in that precision, or
                `deterministic` excludes them.
        """
        if deterministic:
            device, dtype = choose_deterministic(device, dtype)
        if low_memory and dtype == "auto":
            dtype = "bfloat16"
        begin = time.perf_counter()
        where = resolve_device(device)
        precision = resolve_dtype(dtype, where)
        pipeline = cls(
            load_model(model, dtype=precision, on_disk=low_memory and where.type == "cpu"),
            device=where,
            dtype=precision,
            encoders=None if encoders is None else Path(encoders),
            low_memory=low_memory,
            adapter=None if lora is None else load_adapter(Path(lora)),
        )
        pipeline.dtype_name = precision_name(dtype, deterministic=deterministic)
        pipeline.deterministic = deterministic
        pipeline._rehearse()
        pipeline.pending_load_s = time.perf_counter() - begin
        return pipeline

    def save_pretrained(self, folder: str | os.PathLike[str], *, half: bool = True) -> None:
        """Write the model; see `Omni2SoundPipeline.save_pretrained`."""
        save_model(self, folder, half=half)

    def _rehearse(self) -> None:
        """Take one step on one number: refuses an unfit solver, and imports it now."""
        sample(
            lambda x_BLC, t_B: x_BLC,
            torch.zeros(1, 1, 1),
            objective=self.model.config.objective,
            config=self.model.config.sampler,
            num_steps=1,
            generator=[torch.Generator()],
        )

    def generate_batch(
        self,
        conditions: Conditions,
        *,
        duration_s: float | Fraction,
        seeds: Sequence[int],
        num_steps: int | None = None,
        guidance: float | None = None,
        text_guidance: float | None = None,
        negative: Conditions | None = None,
        texts: Sequence[str | None] | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Generate waveforms (B, N) on the CPU for clips of one length, at the autoencoder's rate.

        Args:
            conditions: From `encoder.encode_arrays` with the same duration.
            duration_s: Length of every clip in seconds, at most the native window.
            seeds: One per clip; sample i is what seed i gives alone, up to rounding.
            num_steps: Sampling steps. Default: the model's.
            guidance: Guidance scale. Default: the model's.
            text_guidance: Guidance scale of the text beside pictures. Default: `guidance`.
            negative: Conditions in place of the null branch of guidance.
            texts: Texts of the clips: continuous sounds that they name go on over the whole clip,
                as in `run`. Default: sounds end where the model ends them.
            on_step: Called with (steps done, steps in all).

        Raises:
            ShapeError: The number of seeds is not the batch's size.
            UserError: The clips are longer than the native window, or several though the pipeline
                is deterministic; or the text has a scale and there is no text or no picture.
        """
        if self.deterministic and len(seeds) > 1:  # its neighbours change a clip's rounding
            raise UserError(
                f"a deterministic pipeline makes clips one by one, got {len(seeds)}", field="seeds"
            )
        if len(seeds) != conditions.batch_size:
            raise ShapeError(
                f"expected one per clip, {conditions.batch_size}; got {len(seeds)}", field="seeds"
            )
        has_text, has_video = conditions.text_BTE is not None, conditions.vision_BTV is not None
        if text_guidance is not None and not (has_text and has_video):
            raise UserError(
                "applies to a text beside pictures; give both, or leave it out",
                field="text_guidance",
            )
        defaults = self.model.defaults
        if duration_s > defaults.max_duration_s:
            raise UserError(
                f"expected at most {defaults.max_duration_s} s in a batch, got {duration_s} s; "
                "give longer clips to the pipeline one by one",
                field="duration_s",
            )
        duration = Fraction(duration_s)
        network = self._network(defaults.guidance if guidance is None else guidance, text_guidance)
        num_steps = defaults.steps if num_steps is None else num_steps
        with self.offloader.use("dit"):
            num_frames = self._num_frames(duration)
            predict = network.over_clip(conditions, negative, num_frames)
            whole = [(0, num_frames)]
            spans = [whole if self.goes_on and goes_on(t) else [] for t in texts or ()]
        layer = _Layer(predict=predict, spans=spans or [[]] * len(seeds))
        with one_thread() if self.deterministic else nullcontext():
            return self._decode(self._sample(layer, duration, seeds, num_steps, on_step), duration)

    def run(
        self, request: GenerationRequest, *, on_step: OnStep | None = None
    ) -> Iterator[GenerationResult]:
        """Generate the takes of a request; see `Omni2SoundPipeline.run`."""
        with one_thread() if self.deterministic else nullcontext():
            yield from super().run(request, on_step=on_step)

    # --- its steps -------------------------------------------------------------------

    def _layers(
        self, request: GenerationRequest, plan: Plan, duration: Fraction, scale: float
    ) -> tuple[list[_Layer], float]:
        """The sound and its bed, ready to be sampled, and the seconds without loading."""
        begin = time.perf_counter()
        num_frames, score, layers = self._num_frames(duration), plan.score, []
        negative = None
        if request.has_negative_prompt:
            negative = self.encoder.encode(None, request.negative_prompt, duration)
        if not plan.silent:
            beside = plan.seen is None and request.seen is None  # pictures, even beside a text
            given = [plan.words.pictures and (beside or text is None) for text in score.texts]
            each = self.encoder.encode_each(request.video, score.texts, duration, pictures=given)
            network = self._network(scale, request.text_guidance_scale)
            silence_C = torch.zeros(self.model.config.dit.latent_dim)
            if not score.is_plain:
                with self.offloader.use("autoencoder"):
                    silence_C = silent_frame(self.model.autoencoder, self.device)
            with self.offloader.use("dit"):
                predict = network.over_passages(
                    each,
                    negative,
                    num_frames,
                    shares_KL=torch.from_numpy(score.shares_KL),
                    silence_C=silence_C.to(self.device),
                )
            seen_only = request.video is not None and plan.words.pictures
            spans = spans_of(score) if self.goes_on and not seen_only else []
            layers.append(_Layer(predict=predict, spans=[spans]))
        if plan.words.ambience is not None:
            told = self.encoder.encode(None, plan.words.ambience, duration)
            with self.offloader.use("dit"):
                predict = self._network(scale, None).over_clip(told, None, num_frames)
            whole = [(0, num_frames)] if self.goes_on else []
            layers.append(_Layer(predict=predict, spans=[whole]))
        load_s = self.encoder.collect_load_s()
        self.pending_load_s += load_s
        return layers, time.perf_counter() - begin - load_s

    def _network(self, scale: float, text_scale: float | None) -> GuidedNetwork:
        return GuidedNetwork(
            dit=self.model.dit,
            dtype=self.dtype,
            objective=self.model.config.objective,
            timebase=self.model.config.timebase,
            window_s=self.model.defaults.max_duration_s,
            scale=scale,
            text_scale=text_scale,
        )

    @torch.inference_mode()
    def _sample(
        self,
        layer: _Layer,
        duration: Fraction,
        seeds: Sequence[int],
        num_steps: int,
        on_step: OnStep | None,
    ) -> Tensor:
        shape = (self._num_frames(duration), self.model.config.dit.latent_dim)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise_BLC = torch.stack([torch.randn(shape, generator=g) for g in generators])
        with self.offloader.use("dit"):
            latents_BLC = sample(
                layer.predict,
                noise_BLC.to(self.device),
                objective=self.model.config.objective,
                config=self.model.config.sampler,
                num_steps=num_steps,
                generator=generators,
                on_step=on_step,
            )
        if any(layer.spans):
            latents_BLC = self._go_on(layer, latents_BLC, generators)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # or its time would be counted as decoding
        return latents_BLC

    def _go_on(
        self, layer: _Layer, latents_BLC: Tensor, generators: list[torch.Generator]
    ) -> Tensor:
        """Let continuous sounds fill their spans; see `going_on`."""
        autoencoder = self.model.autoencoder
        assert isinstance(autoencoder, MelPcaAutoencoder)

        def denoise(
            noise_BLC: NDArray[np.float32], start_BLC: NDArray[np.float32]
        ) -> NDArray[np.float32]:
            with self.offloader.use("dit"):
                made_BLC: NDArray[np.float32] = (
                    sample(
                        layer.predict,
                        torch.from_numpy(noise_BLC).to(self.device),
                        objective=self.model.config.objective,
                        config=replace(self.model.config.sampler, sigma_max=NOISE),
                        num_steps=NUM_STEPS,
                        generator=generators,
                        start_BLC=torch.from_numpy(start_BLC).to(self.device),
                    )
                    .cpu()
                    .numpy()
                )
            return made_BLC

        with self.offloader.use("autoencoder"):
            level_BL = autoencoder.level_from_latents(latents_BLC).cpu()
        draws = [_Draws(generator) for generator in generators]
        filled_BLC = fill(latents_BLC.cpu().numpy(), level_BL.numpy(), layer.spans, draws, denoise)
        return torch.from_numpy(filled_BLC).to(self.device)

    @torch.inference_mode()
    def _decode(self, latents_BLC: Tensor, duration: Fraction) -> Tensor:
        timebase = self.model.config.timebase
        decode = self.model.autoencoder.decode
        enter("decoding")
        with self.offloader.use("autoencoder"):
            samples_BN = decode_clips(
                lambda x: decode(torch.from_numpy(x).to(self.device)).float().cpu().numpy(),
                latents_BLC.float().cpu().numpy(),
                timebase,
            )
        return torch.from_numpy(samples_BN[:, : timebase.num_samples(duration)])

    def _decoded(self, latents_BLC: Tensor, duration: Fraction) -> NDArray[np.float32]:
        samples_BN: NDArray[np.float32] = self._decode(latents_BLC, duration).numpy()
        return samples_BN


class _Draws:
    """Random numbers of a generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        made: NDArray[np.float32] = torch.randn(shape, generator=self._generator).numpy()
        return made

    def below(self, limit: int) -> int:
        return int(torch.randint(0, limit, (1,), generator=self._generator))


def goes_on_of(model: Model) -> bool:
    """Whether continuous sounds are made to go on: only of models of the catalogue's kinds."""
    is_mel = isinstance(model.autoencoder, MelPcaAutoencoder)
    return is_mel and model.defaults.recognise and model.config.objective.kind == "v"


@torch.inference_mode()
def silent_frame(autoencoder: AudioVAE, device: torch.device) -> Tensor:
    """The latent frame (C,) of silence."""
    frames = 9  # the middle one is far enough from both ends
    silent_BN = torch.zeros(1, frames * autoencoder.hop_samples, device=device)
    return autoencoder.encode(silent_BN)[0, frames // 2]
