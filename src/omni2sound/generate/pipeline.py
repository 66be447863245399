"""From a request to sound: encode, sample, decode.

In:   a model by name or folder; a video, a prompt, or both.
Out:  `GenerationResult`; or waveforms of a batch, from conditions that were encoded before.

One path serves all tasks and lengths: conditions cover the whole length, the transformer
sees them whole up to its native window and in overlapping windows beyond (`longform`).
What not to get wrong: noise is drawn on the CPU in float32, each sample from its own seed,
so that neither the device nor the company in a batch changes what a seed means.

Shape suffixes: B batch, W windows, L latent frames, C latent channels, N samples.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from omni2sound.diffusion.guidance import Predict, guide, guide_separately
from omni2sound.diffusion.samplers import OnStep, sample
from omni2sound.errors import ShapeError, UserError
from omni2sound.generate.conditions import ConditionEncoder, window_of
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.model import Model, SynchformerPart, load_model
from omni2sound.generate.offload import Residency
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings
from omni2sound.generate.windows import decode_in_chunks, joint_prediction, window_starts
from omni2sound.media.audio import Audio
from omni2sound.media.files import shown_name
from omni2sound.models.conditioning import Conditions
from omni2sound.models.lora import Adapter, load_adapter
from omni2sound.runtime import resolve_device, resolve_dtype

__all__ = ["GenerationRequest", "GenerationResult", "Omni2SoundPipeline", "Timings"]

logger = logging.getLogger(__name__)

_WINDOW_OVERLAP_S = 2
_WINDOWS_PER_CALL = 4
_MAX_CACHED_WINDOWS = 32
"""Prepared conditions of one window take some megabytes; beyond this many (minutes of
video) they are prepared again at each step, for a few percent of its time."""
_DECODE_CHUNK_S = 20
_DECODE_MARGIN_S = 1
_DECODE_FADE_S = Fraction(1, 5)


class Omni2SoundPipeline:
    """Sound for a video, a text or both. Build it with `from_pretrained`."""

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
        self.sha256 = model.sha256 if adapter is None else adapter.sha256
        self.residency = Residency(model, device, dtype, low_memory=low_memory, adapter=adapter)
        self.encoder = ConditionEncoder(
            model.config,
            model.sync,
            device,
            published=encoders,
            low_memory=low_memory,
            dtype=dtype,
        )
        self.device = device
        self.dtype = dtype
        self.dtype_name = str(dtype).removeprefix("torch.")
        self.pending_load_s = 0.0

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] = "embedded",
        *,
        device: str = "auto",
        dtype: str = "auto",
        encoders: str | os.PathLike[str] | None = None,
        low_memory: bool = False,
        lora: str | os.PathLike[str] | None = None,
    ) -> Omni2SoundPipeline:
        """Load a model.

        Args:
            model: "embedded" (the one that comes with the package), a model folder, or a Hub
                id with a pinned revision, "org/name@<commit>".
            device: "auto", "cpu", "cuda" or "mps".
            dtype: Precision of the transformer and of the carried picture encoder: "auto",
                "float32", "bfloat16" or "float16".
            encoders: Folder of the published encoders that a full-size model listens to; None
                is `published` in the cache folder.
            low_memory: One part in memory at a time, the transformer in half precision unless
                `dtype` says otherwise. Slower: parts come anew for each take.
            lora: Folder of an adapter that was trained on this model.

        Raises:
            MissingPartError: There is no such model.
            ConfigError: The folder does not hold together.
            IntegrityError: A file's bytes are not those that its card recorded.
            UserError: This machine has no such device, or it can't compute in that precision.
        """
        options = PipelineOptions(dtype=dtype, low_memory=low_memory)
        begin = time.perf_counter()
        where = resolve_device(device)
        precision = resolve_dtype(options.effective_dtype, where)
        pipeline = cls(
            load_model(model, dtype=precision, on_disk=low_memory and where.type == "cpu"),
            device=where,
            dtype=precision,
            encoders=None if encoders is None else Path(encoders),
            low_memory=low_memory,
            adapter=None if lora is None else load_adapter(Path(lora)),
        )
        pipeline.dtype_name = options.effective_dtype
        pipeline._rehearse()
        pipeline.pending_load_s = time.perf_counter() - begin
        return pipeline

    def save_pretrained(self, folder: str | os.PathLike[str], *, half: bool = True) -> None:
        """Write the model as a folder that `from_pretrained` reads.

        Args:
            folder: Target; replaced if it is a model folder.
            half: Store tensors as fp16, as released models do; their sound survives exactly.

        Raises:
            UserError: `folder` exists and is no model folder, parts of the model wait on disk
                (low memory), or it has an adapter and is rounded to a lower precision.
        """
        if any(
            tensor.is_meta for part in self.model.tensors().values() for tensor in part.values()
        ):
            raise UserError("with low memory the model lies in its folder; copy that folder")
        model = self.model
        if self.dtype != torch.float32 and model.card is not None:
            # The transformer here is rounded; what is written must be what was read.
            if self.sha256 != model.sha256:
                raise UserError(
                    f"a model with an adapter in {self.dtype} is no longer exact; load it with "
                    "dtype='float32' to save it"
                )
            model = load_model(model.card.folder)
        model.save(folder, half=half)

    def _rehearse(self) -> None:
        """One step on one number: refuses a solver that does not fit, and imports it now."""
        sample(
            lambda x_BLC, t_B: x_BLC,
            torch.zeros(1, 1, 1),
            objective=self.model.config.objective,
            config=self.model.config.sampler,
            num_steps=1,
            generator=[torch.Generator()],
        )

    # --- generate --------------------------------------------------------------------

    def __call__(
        self,
        video: str | os.PathLike[str] | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        duration_s: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        text_guidance_scale: float | None = None,
        seed: int = 0,
        on_step: OnStep | None = None,
    ) -> GenerationResult:
        """Make sound for a video, a text or both; see `GenerationRequest`.

        Args:
            video: Path of a video.
            prompt: What should be heard.
            negative_prompt: What should not be heard. It takes the place of the null branch
                of guidance, so that one hears neither text nor video.
            duration_s: Seconds of sound; at most the video's length.
            num_inference_steps: More takes longer and gets finer.
            guidance_scale: 1 is no guidance.
            text_guidance_scale: Of the prompt beside a video; None: the same.
            seed: Same seed, same machine, same sound.
            on_step: Called with (steps done, steps in all).

        Raises:
            MediaError: The video can't be read.
            UserError: A value is out of range, or nothing is given.
        """
        request = GenerationRequest(
            video=Path(video) if isinstance(video, (str, os.PathLike)) else video,
            prompt=prompt,
            negative_prompt=negative_prompt,
            duration_s=duration_s,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            text_guidance_scale=text_guidance_scale,
            seed=seed,
        )
        return next(self.run(request, on_step=on_step))

    def run(
        self, request: GenerationRequest, *, on_step: OnStep | None = None
    ) -> Iterator[GenerationResult]:
        """The takes of a request, one after another; conditions are encoded once.

        Take k is what a request with seed + k alone gives.

        Raises:
            MediaError: The video can't be read.
            UserError: The request asks for what this model can't do.
        """
        guidance, num_steps = self._settings(request)
        duration = request.resolved_duration(self.model.defaults.duration_s)
        _say_if_cut(request, duration)
        longest_s = self.model.defaults.max_duration_s
        if (
            request.video is not None
            and isinstance(self.model.config.sync, SynchformerPart)
            and duration > longest_s
        ):
            # Its features start with the clip; windows of them mean nothing.
            raise UserError(
                f"this model makes sound for up to {longest_s:g} s of video, "
                f"got {float(duration):g} s; cut the video, or give a shorter `duration_s`"
            )
        begin = time.perf_counter()
        conditions = self.encoder.encode(request.video, request.prompt, duration)
        negative = None
        if request.has_negative_prompt:
            negative = self.encoder.encode(None, request.negative_prompt, duration)
        lazy_load_s = self.encoder.collect_load_s()
        encode_s = time.perf_counter() - begin - lazy_load_s
        self.pending_load_s += lazy_load_s
        with self.residency.use("dit"):
            predict = self._prediction(
                conditions, negative, duration, guidance, request.text_guidance_scale
            )
        for take in range(request.takes):

            def step(done: int, total: int, take: int = take) -> None:
                if on_step is not None:
                    on_step(take * total + done, request.takes * total)

            seed = request.seed + take
            begin = time.perf_counter()
            with self.residency.use("dit"):
                latents_BLC = self._sample(predict, duration, [seed], num_steps, step)
            sampled = time.perf_counter()
            samples_BN = self._decode(latents_BLC, duration)
            result = GenerationResult(
                audio=Audio(
                    samples_CN=samples_BN.numpy(),
                    sample_rate_hz=self.model.config.timebase.sample_rate_hz,
                ),
                request=request,
                seed=seed,
                num_inference_steps=num_steps,
                guidance_scale=guidance,
                model=self.model.name,
                model_sha256=self.sha256,
                dtype=self.dtype_name,
                timings=Timings(
                    load_s=self.pending_load_s,
                    encode_s=encode_s,
                    sample_s=sampled - begin,
                    decode_s=time.perf_counter() - sampled,
                ),
            )
            self.pending_load_s = encode_s = 0.0
            yield result

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
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Waveforms (B, N) on the CPU of clips of one length, at most the native window.

        Args:
            conditions: From `encoder.encode_arrays` with the same duration.
            duration_s: Length of every clip.
            seeds: One per clip; sample i is what seed i gives alone, up to rounding.
            num_steps: None: the model's default.
            guidance: None: the model's default.
            text_guidance: Of the text beside pictures; None: the same.
            negative: Stands in for the null branch.
            on_step: Called with (steps done, steps in all).

        Raises:
            ShapeError: The number of seeds is not the batch's size.
            UserError: The clips are longer than the native window, or the text has a scale of
                its own and there is no text or no picture.
        """
        if len(seeds) != conditions.batch_size:
            raise ShapeError(
                f"expected one seed per clip, {conditions.batch_size}; got {len(seeds)}"
            )
        told, seen = conditions.text_BTE is not None, conditions.vision_BTV is not None
        if text_guidance is not None and not (told and seen):
            raise UserError("text guidance weighs a text beside pictures; give both, or leave it")
        if duration_s > self.model.defaults.max_duration_s:
            raise UserError(
                f"a batch holds clips of up to {self.model.defaults.max_duration_s} s, "
                f"got {duration_s} s; give longer ones to the pipeline one by one"
            )
        duration = Fraction(duration_s)
        guidance = self.model.defaults.guidance if guidance is None else guidance
        num_steps = self.model.defaults.steps if num_steps is None else num_steps
        with self.residency.use("dit"):
            predict = self._prediction(conditions, negative, duration, guidance, text_guidance)
            latents_BLC = self._sample(predict, duration, seeds, num_steps, on_step)
        return self._decode(latents_BLC, duration)

    def _settings(self, request: GenerationRequest) -> tuple[float, int]:
        guidance, num_steps = request.guidance_scale, request.num_inference_steps
        guidance = self.model.defaults.guidance if guidance is None else guidance
        request.check_negative_prompt(guidance)
        return guidance, self.model.defaults.steps if num_steps is None else num_steps

    def _num_frames(self, duration: Fraction) -> int:
        num_frames = self.model.config.timebase.num_latent_frames(duration)
        if num_frames == 0:
            raise UserError(
                f"{float(duration)} s is shorter than one sample; give a longer duration"
            )
        return num_frames

    @torch.inference_mode()
    def _prediction(
        self,
        conditions: Conditions,
        negative: Conditions | None,
        duration: Fraction,
        guidance: float,
        text_guidance: float | None,
    ) -> Predict:
        """The guided network over the whole length, in windows if it is beyond the native one."""
        timebase = self.model.config.timebase
        num_frames = self._num_frames(duration)
        window = timebase.num_latent_frames(self.model.defaults.max_duration_s)
        if num_frames <= window:
            return self._window_prediction(
                conditions, negative, num_frames, guidance, text_guidance
            )
        overlap = timebase.num_latent_frames(
            min(_WINDOW_OVERLAP_S, self.model.defaults.max_duration_s / 2)
        )
        starts = window_starts(num_frames, window=window, overlap=overlap)
        prepared: dict[range, Predict] = {}

        def predict_windows(group: range, x_WLC: Tensor, t_W: Tensor) -> Tensor:
            predict = prepared.get(group)
            if predict is None:
                chosen = [starts[i] for i in group]
                predict = self._window_prediction(
                    window_of(conditions, timebase, chosen, window=window),
                    None
                    if negative is None
                    else window_of(negative, timebase, chosen, window=window),
                    window,
                    guidance,
                    text_guidance,
                )
                if group.stop <= _MAX_CACHED_WINDOWS:
                    prepared[group] = predict
            return predict(x_WLC, t_W)

        return joint_prediction(
            predict_windows, starts, num_frames, window=window, windows_per_call=_WINDOWS_PER_CALL
        )

    def _window_prediction(
        self,
        conditions: Conditions,
        negative: Conditions | None,
        num_frames: int,
        guidance: float,
        text_guidance: float | None,
    ) -> Predict:
        dit = self.model.dit
        prepared = told = dit.prepare(conditions, num_frames)
        scale, apart = guidance, text_guidance is not None and text_guidance != guidance
        if apart:
            prepared = prepared.stack(dit.prepare(conditions.without_text(), num_frames))
        if guidance != 1:
            away = told.null() if negative is None else dit.prepare(negative, num_frames)
            prepared = prepared.stack(away)

        def predict(x_BLC: Tensor, t_B: Tensor) -> Tensor:
            return dit.denoise(x_BLC.to(self.dtype), t_B, prepared).float()

        if apart:
            assert text_guidance is not None
            if guidance != 1:
                return guide_separately(predict, guidance, text_guidance)
            scale = text_guidance  # from the video alone to both; nothing leads away from null
        return predict if scale == 1 else guide(predict, scale)

    @torch.inference_mode()
    def _sample(
        self,
        predict: Predict,
        duration: Fraction,
        seeds: Sequence[int],
        num_steps: int,
        on_step: OnStep | None,
    ) -> Tensor:
        shape = (self._num_frames(duration), self.model.config.dit.latent_dim)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise_BLC = torch.stack([torch.randn(shape, generator=g) for g in generators])
        latents_BLC = sample(
            predict,
            noise_BLC.to(self.device),
            objective=self.model.config.objective,
            config=self.model.config.sampler,
            num_steps=num_steps,
            generator=generators,
            on_step=on_step,
        )
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # or its time would be booked on the decoder
        return latents_BLC

    def _decode(self, latents_BLC: Tensor, duration: Fraction) -> Tensor:
        with self.residency.use("autoencoder"), torch.inference_mode():
            return self._decoded(latents_BLC, duration)

    def _decoded(self, latents_BLC: Tensor, duration: Fraction) -> Tensor:
        timebase = self.model.config.timebase
        chunk = timebase.num_latent_frames(_DECODE_CHUNK_S)
        if latents_BLC.shape[1] <= chunk:
            samples_BN = self.model.autoencoder.decode(latents_BLC).float().cpu()
        else:
            samples_BN = decode_in_chunks(
                self.model.autoencoder.decode,
                latents_BLC[0],
                hop_samples=timebase.hop_samples,
                chunk=chunk,
                margin=timebase.num_latent_frames(_DECODE_MARGIN_S),
                fade=timebase.num_latent_frames(_DECODE_FADE_S),
            )[None]
        return samples_BN[:, : timebase.num_samples(duration)]


def _say_if_cut(request: GenerationRequest, duration: Fraction) -> None:
    asked_s = request.duration_s
    # Within a frame's time nobody means a cut: lengths of videos are not round.
    if request.video is not None and asked_s is not None and asked_s - duration > 0.05:
        logger.warning(
            "%s: lasts %.2f s; the sound ends with it, not after the %.2f s that were asked for",
            shown_name(request.video),
            float(duration),
            asked_s,
        )
