"""From a request to sound: encode, sample, decode.

In:   a model by name or folder; a video, a prompt, or both.
Out:  `GenerationResult`; or waveforms of a batch, from conditions that were encoded before.

One path serves all tasks and lengths: conditions cover the whole clip, and so does the guided
network (`guided`). What not to get wrong: noise is drawn on the CPU in float32, each sample from
its own seed, so that neither the device nor the other clips of a batch change what a seed means.

Shape suffixes: B batch, L latent frames, C latent channels, N samples.
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

from omni2sound.diffusion.guidance import Predict
from omni2sound.diffusion.samplers import OnStep, sample
from omni2sound.encoders.registry import SynchformerPart
from omni2sound.errors import ShapeError, UserError
from omni2sound.generate.conditions import ConditionEncoder
from omni2sound.generate.finish import finish
from omni2sound.generate.guided import GuidedNetwork
from omni2sound.generate.kinds import example_of
from omni2sound.generate.model import Model, load_model
from omni2sound.generate.offload import Offloader
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings
from omni2sound.generate.seen import Words, choose_words
from omni2sound.generate.windows import decode_in_chunks
from omni2sound.media.files import shown_name
from omni2sound.media.samples import Audio
from omni2sound.models.conditioning import Conditions
from omni2sound.models.lora import Adapter, load_adapter
from omni2sound.recognise.observe import Seen
from omni2sound.runtime import resolve_device, resolve_dtype

logger = logging.getLogger(__name__)

_DECODE_CHUNK_S = 20
_DECODE_MARGIN_S = 1
_DECODE_FADE_S = Fraction(1, 5)
_SILENT_DBFS = -50
"""Level of the loudest second below which a sound counts as silent."""


class Omni2SoundPipeline:
    """Generates sound for a video, a text prompt, or both. Build it with `from_pretrained`."""

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
        self.offloader = Offloader(model, device, dtype, low_memory=low_memory, adapter=adapter)
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
            model: "embedded" (the bundled model), a model folder, or a Hub id with a pinned
                revision, `org/name@<commit>`.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            dtype: Precision of the transformer and of the bundled picture encoder: "auto",
                "float32", "bfloat16" or "float16".
            encoders: Folder of the published encoders that a full-size model needs. Default:
                `published` in the cache folder.
            low_memory: Keep one component in memory at a time, and the transformer in bfloat16
                unless `dtype` is given. Slower: components are loaded again for each take.
            lora: Folder of a LoRA adapter that was trained on this model.

        Raises:
            MissingPartError: There is no such model.
            ConfigError: The folder does not hold together.
            IntegrityError: A file's bytes are not those that its card recorded.
            UserError: This machine has no such device, or it can't compute in that precision.
        """
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
        pipeline.dtype_name = dtype
        pipeline._rehearse()
        pipeline.pending_load_s = time.perf_counter() - begin
        return pipeline

    def save_pretrained(self, folder: str | os.PathLike[str], *, half: bool = True) -> None:
        """Write the model as a folder that `from_pretrained` reads.

        Args:
            folder: Target; replaced if it is a model folder.
            half: Store tensors as fp16, as released models do; their sound survives exactly.

        Raises:
            UserError: `folder` exists and is no model folder, components are offloaded to disk
                (low memory), or the model has an adapter and is rounded to a lower precision.
        """
        if any(
            tensor.is_meta for part in self.model.tensors().values() for tensor in part.values()
        ):
            raise UserError("the model was loaded with `low_memory`; copy its folder instead")
        model = self.model
        if self.dtype != torch.float32 and model.card is not None:
            # The transformer here is rounded; what is written must be what was read.
            if self.sha256 != model.sha256:
                raise UserError(
                    f"a model with an adapter in {self.dtype} is no longer exact; load it with "
                    "float32 to save it",
                    field="dtype",
                )
            model = load_model(model.card.folder)
        model.save(folder, half=half)

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
        recognise: bool | None = None,
        seen: str | None = None,
        seed: int = 0,
        sample_rate_hz: int | None = None,
        mono: bool = False,
        on_step: OnStep | None = None,
    ) -> GenerationResult:
        """Generate sound for a video, a text prompt, or both; see `GenerationRequest`.

        Args:
            video: Path of a video, or of a still picture together with `duration_s`.
            prompt: What should be heard, in English.
            negative_prompt: What should not be heard. It replaces the null branch of guidance,
                and with it what that branch leads away from in text and video.
            duration_s: Seconds of sound, at most the video's length; a copy of the video ends
                there, too. Default: the video's length, or the model's.
            num_inference_steps: Sampling steps, 1 to 1000. Default: the model's.
            guidance_scale: 0 to 100; 1 is no guidance. Default: the model's.
            text_guidance_scale: Scale of the prompt beside a video. Default: `guidance_scale`.
            recognise: Whether what the video shows is recognised and added to the prompt in
                words. Default: the model's.
            seen: What the video shows, in words, in place of recognition.
            seed: Random seed; equal seeds give equal sounds on one machine.
            sample_rate_hz: Samples per second, 8000 to 192,000. Default: the model's.
            mono: One channel. Default: for the bundled model stereo for a video, mono for a
                prompt alone.
            on_step: Called with (steps done, steps in all).

        Raises:
            MediaError: The video can't be read.
            UserError: A value is out of range, or there is neither video nor prompt.
        """
        request = GenerationRequest(
            video=Path(video) if isinstance(video, (str, os.PathLike)) else video,
            prompt=prompt,
            negative_prompt=negative_prompt,
            duration_s=duration_s,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            text_guidance_scale=text_guidance_scale,
            recognise=recognise,
            seen=seen,
            seed=seed,
            sample_rate_hz=sample_rate_hz,
            mono=mono,
        )
        return next(self.run(request, on_step=on_step))

    def run(
        self, request: GenerationRequest, *, on_step: OnStep | None = None
    ) -> Iterator[GenerationResult]:
        """Generate the takes of a request, one after another; conditions are encoded once.

        Take k is what a request with seed + k alone gives.

        Args:
            request: What is asked.
            on_step: Called with (steps done, steps in all), over all takes.

        Raises:
            MediaError: The video can't be read.
            UserError: The request asks for what this model can't do.
        """
        defaults = self.model.defaults
        scale = defaults.guidance if request.guidance_scale is None else request.guidance_scale
        request.check_negative_prompt(scale)
        steps = request.num_inference_steps
        num_steps = defaults.steps if steps is None else steps
        duration = self._duration(request)
        begin = time.perf_counter()
        seen, words = self._words(request, duration)
        notes = (*words.notes, *self._prompt_notes(request))
        encode_s = time.perf_counter() - begin
        conditions, negative, more_s = self._encode(request, words, duration)
        encode_s += more_s
        with self.offloader.use("dit"):
            network = self._network(scale, request.text_guidance_scale)
            predict = network.over_clip(conditions, negative, self._num_frames(duration))
        rate_hz = self.model.config.timebase.sample_rate_hz
        for take in range(request.takes):

            def step(done: int, total: int, take: int = take) -> None:
                if on_step is not None:
                    on_step(take * total + done, request.takes * total)

            begin = time.perf_counter()
            with self.offloader.use("dit"):
                latents_BLC = self._sample(
                    predict, duration, [request.seed + take], num_steps, step
                )
            sampled = time.perf_counter()
            samples_BN = self._decode(latents_BLC, duration)
            if words.silent:
                samples_BN = torch.zeros_like(samples_BN)
            audio = finish(
                self.model,
                request,
                Audio(samples_CN=samples_BN.numpy(), sample_rate_hz=rate_hz),
                seen,
            )
            timings = Timings(
                load_s=self.pending_load_s,
                encode_s=encode_s,
                sample_s=sampled - begin,
                decode_s=time.perf_counter() - sampled,
            )
            self.pending_load_s = encode_s = 0.0
            yield GenerationResult(
                audio=audio,
                request=request,
                seed=request.seed + take,
                num_inference_steps=num_steps,
                guidance_scale=scale,
                model=self.model.name,
                model_sha256=self.sha256,
                dtype=self.dtype_name,
                timings=timings,
                seen=seen,
                text=words.text,
                notes=(*notes, *_quiet_notes(samples_BN, rate_hz, asked_for=not words.silent)),
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
            on_step: Called with (steps done, steps in all).

        Raises:
            ShapeError: The number of seeds is not the batch's size.
            UserError: The clips are longer than the native window, or the text has a scale of
                its own and there is no text or no picture.
        """
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
            predict = network.over_clip(conditions, negative, self._num_frames(duration))
            latents_BLC = self._sample(predict, duration, seeds, num_steps, on_step)
        return self._decode(latents_BLC, duration)

    # --- its steps -------------------------------------------------------------------

    def _duration(self, request: GenerationRequest) -> Fraction:
        """Seconds of sound to make."""
        duration = request.resolve_duration(self.model.defaults.duration_s)
        if request.video is None:
            return duration
        asked_s, longest_s = request.duration_s, self.model.defaults.max_duration_s
        # Lengths of videos are not round: less than a frame's time is no cut.
        if asked_s is not None and asked_s - duration > 0.05:
            logger.warning(
                "%s: lasts %.2f s; the sound ends with it, not after the %.2f s that were asked "
                "for",
                shown_name(request.video),
                float(duration),
                asked_s,
            )
        if isinstance(self.model.config.sync, SynchformerPart) and duration > longest_s:
            # Its features start with the clip; windows of them mean nothing.
            raise UserError(
                f"this model makes sound for up to {longest_s:g} s of video, "
                f"got {float(duration):g} s; cut the video, or give a shorter `duration_s`"
            )
        return duration

    def _num_frames(self, duration: Fraction) -> int:
        num_frames = self.model.config.timebase.num_latent_frames(duration)
        if num_frames == 0:
            raise UserError(
                f"{float(duration)} s is shorter than one sample; give a longer `duration_s`"
            )
        return num_frames

    def _words(self, request: GenerationRequest, duration: Fraction) -> tuple[Seen | None, Words]:
        """What the video shows, and the text that the model is given."""
        if request.seen is not None:
            texts = [text for text in (request.prompt, request.seen) if text is not None]
            return None, Words(text=". ".join(texts), pictures=False, silent=False)
        asked = request.recognise
        wanted = self.model.defaults.recognise if asked is None else asked
        if request.video is None or not wanted:
            return None, Words(text=request.prompt, pictures=True, silent=False)
        seen = self.encoder.recognise(request.video, duration)
        return seen, choose_words(seen, request.prompt, self.encoder.names)

    def _prompt_notes(self, request: GenerationRequest) -> tuple[str, ...]:
        """What to say of a prompt beyond the kinds of sound that the bundled model knows."""
        if request.prompt is None or not self.model.defaults.recognise:
            return ()
        kinds = self.encoder.nearest_kinds(request.prompt)
        if not kinds:
            return ()
        examples = ", ".join(f'"{example_of(kind)}"' for kind in kinds)
        return (
            f"{request.prompt[:60]!r} is near none of the kinds of sound that the model knows; the "
            f"nearest are {examples}; all of them: omni2sound sounds",
        )

    def _encode(
        self, request: GenerationRequest, words: Words, duration: Fraction
    ) -> tuple[Conditions, Conditions | None, float]:
        """Conditions, those of the negative prompt, and the seconds without loading."""
        begin = time.perf_counter()
        conditions = self.encoder.encode(
            request.video, words.text, duration, pictures=words.pictures
        )
        negative = None
        if request.has_negative_prompt:
            negative = self.encoder.encode(None, request.negative_prompt, duration)
        load_s = self.encoder.collect_load_s()
        self.pending_load_s += load_s
        return conditions, negative, time.perf_counter() - begin - load_s

    def _network(self, scale: float, text_scale: float | None) -> GuidedNetwork:
        return GuidedNetwork(
            dit=self.model.dit,
            dtype=self.dtype,
            timebase=self.model.config.timebase,
            window_s=self.model.defaults.max_duration_s,
            scale=scale,
            text_scale=text_scale,
        )

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
            torch.cuda.synchronize(self.device)  # or its time would be counted as decoding
        return latents_BLC

    @torch.inference_mode()
    def _decode(self, latents_BLC: Tensor, duration: Fraction) -> Tensor:
        timebase = self.model.config.timebase
        chunk = timebase.num_latent_frames(_DECODE_CHUNK_S)
        with self.offloader.use("autoencoder"):
            decode = self.model.autoencoder.decode
            if latents_BLC.shape[1] <= chunk:
                samples_BN = decode(latents_BLC).float().cpu()
            else:
                samples_BN = decode_in_chunks(
                    decode,
                    latents_BLC[0],
                    hop_samples=timebase.hop_samples,
                    chunk=chunk,
                    margin=timebase.num_latent_frames(_DECODE_MARGIN_S),
                    fade=timebase.num_latent_frames(_DECODE_FADE_S),
                )[None]
        return samples_BN[:, : timebase.num_samples(duration)]


def _quiet_notes(samples_BN: Tensor, rate_hz: int, *, asked_for: bool) -> tuple[str, ...]:
    """What to say of a sound that nobody will hear."""
    window = min(rate_hz, samples_BN.shape[1])
    power_BN = torch.nn.functional.avg_pool1d(
        samples_BN[:, None] ** 2, window, stride=max(1, window // 10)
    )
    level_db = 10 * torch.log10(power_BN.max().clamp_min(1e-12))
    if not asked_for or level_db >= _SILENT_DBFS:
        return ()
    return (
        f"the sound is nearly silent: its loudest second is at {float(level_db):.0f} dBFS; try "
        "another seed, or say what should be heard with `prompt`",
    )
