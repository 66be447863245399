"""From a request to sound: encode, sample, decode.

In:   a model by name or folder; a video, a prompt, or both.
Out:  `GenerationResult`; or waveforms of a batch, from conditions that were encoded before.

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

import torch
from torch import Tensor

from omni2sound.diffusion.guidance import Predict
from omni2sound.diffusion.samplers import OnStep, sample
from omni2sound.errors import ShapeError, UserError
from omni2sound.generate.conditions import ConditionEncoder
from omni2sound.generate.finish import finish
from omni2sound.generate.going_on import NOISE, NUM_STEPS, fill, goes_on, silent_frame, spans_of
from omni2sound.generate.guided import GuidedNetwork
from omni2sound.generate.model import Model, load_model
from omni2sound.generate.offload import Offloader
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings, precision_name
from omni2sound.generate.stems.make import make_stems
from omni2sound.generate.studio.models import save_model
from omni2sound.generate.studio.request import VideoLike, request_on
from omni2sound.generate.windows import decode_clips
from omni2sound.generate.words.cues import Cue
from omni2sound.generate.words.plan import Plan, clip_duration, make_plan
from omni2sound.models.autoencoder import MelPcaAutoencoder
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
        self.deterministic = False

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
        deterministic: bool = False,
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
            deterministic: One thread of the CPU, float32, clip by clip: equal seeds give equal
                bytes on one machine. Default: if threads, precision and batch are equal; faster.

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
        """Write the model as a folder that `from_pretrained` reads.

        Args:
            folder: Target; replaced if it is a model folder.
            half: Store tensors as fp16, as released models do; their sound survives exactly.

        Raises:
            UserError: `folder` exists and is no model folder, components are offloaded to disk
                (low memory), or the model has an adapter and is rounded to a lower precision.
        """
        save_model(self, folder, half=half)

    def _rehearse(self) -> None:
        """Take one step on one number: refuses an unfit solver, and imports it now."""
        sample(
            lambda x_BLC, t_B: x_BLC, torch.zeros(1, 1, 1), num_steps=1,
            objective=self.model.config.objective, config=self.model.config.sampler,
            generator=[torch.Generator()],
        )  # fmt: skip

    # --- generate --------------------------------------------------------------------

    def __call__(
        self,
        video: VideoLike | None = None,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        duration_s: float | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        fps: float | Fraction | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        text_guidance_scale: float | None = None,
        recognise: bool | None = None,
        seen: str | None = None,
        cues: Sequence[Cue] = (),
        ambience: bool = True,
        stems: bool = False,
        seed: int | None = None,
        sample_rate_hz: int | None = None,
        channels: int | None = None,
        on_step: OnStep | None = None,
    ) -> GenerationResult:
        """Generate sound for a video, a text prompt, or both.

        Args:
            video: Path of a video, or of a still picture together with `duration_s`; or a video as
                a binary file object, or as frames (T, H, W, 3), uint8 RGB, with `fps`.
            prompt: What should be heard, in English.
            negative_prompt: What should not be heard; replaces the null branch of guidance.
            duration_s: Seconds of sound, at most the video's length; a copy of the video ends
                there, too. Default: the video's length, or the model's.
            start_s: Where in the video to begin; a copy of the video begins there, too.
            end_s: Where in the video to end, in place of `duration_s`.
            fps: Frames per second of a video that is an array.
            num_inference_steps: Sampling steps, 1 to 1000. Default: the model's.
            guidance_scale: 0 to 100; 1 is no guidance. Default: the model's.
            text_guidance_scale: Scale of the prompt beside a video. Default: `guidance_scale`.
            recognise: Whether the prompt gets what the video shows, in words. Default: the model's.
            seen: What the video shows, in words, in place of recognition.
            cues: What should be heard in spans of the clip, and only there.
            ambience: Whether a scene that is recognised gives a quiet bed under other sounds.
            stems: Whether each cue and each recognised sound is made by itself.
            seed: Random seed; `from_pretrained` says which equal seeds give equal bytes. Default: a
                new one, which the result names.
            sample_rate_hz: Samples per second, 8000 to 192,000. Default: the model's.
            channels: 1 or 2. Default: of the bundled model 2 for a video, 1 for a prompt alone.
            on_step: Called with (steps done, steps in all).

        Raises:
            MediaError: The video can't be read.
            UserError: A value is out of range, or there is neither video nor prompt.
        """
        request = request_on(
            video,
            start_s=start_s,
            end_s=end_s,
            fps=fps,
            prompt=prompt,
            negative_prompt=negative_prompt,
            duration_s=duration_s,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            text_guidance_scale=text_guidance_scale,
            recognise=recognise,
            seen=seen,
            cues=tuple(cues),
            ambience=ambience,
            stems=stems,
            seed=seed,
            sample_rate_hz=sample_rate_hz,
            channels=channels,
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
        with one_thread() if self.deterministic else nullcontext():
            if request.stems:
                yield from make_stems(self, request, on_step=on_step)
            else:
                yield from self._run(request, on_step)

    def _run(
        self, request: GenerationRequest, on_step: OnStep | None
    ) -> Iterator[GenerationResult]:
        defaults = self.model.defaults
        scale = defaults.guidance if request.guidance_scale is None else request.guidance_scale
        request.check_negative_prompt(scale)
        steps = request.num_inference_steps
        num_steps = defaults.steps if steps is None else steps
        duration = clip_duration(request, self.model)
        begin = time.perf_counter()
        plan = make_plan(request, duration, self.model, self.encoder)
        encode_s = time.perf_counter() - begin
        layers, more_s = self._layers(request, plan, duration, scale)
        encode_s += more_s
        for take in range(request.takes):
            seed = request.seed + take

            def step(done: int, total: int, take: int = take) -> None:
                if on_step is not None:
                    on_step(take * total + done, request.takes * total)

            begin = time.perf_counter()
            latents = [self._sample(layer, duration, [seed], num_steps, step) for layer in layers]
            sampled = time.perf_counter()
            sounds = [self._decode(x, duration).numpy() for x in latents]
            audible = plan.layers(sounds, duration, self.model.config.timebase)
            audio = finish(self.model, request, audible, plan.placed)
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
                seed=seed,
                num_inference_steps=num_steps,
                guidance_scale=scale,
                model=self.model.name,
                model_sha256=self.sha256,
                dtype=self.dtype_name,
                timings=timings,
                seen=plan.seen,
                text=plan.words.text,
                cues=plan.cues,
                ambience=plan.words.ambience,
                notes=(*plan.notes, *plan.notes_on(audible, self.encoder)),
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
            spans = [whole if self._goes_on and goes_on(t) else [] for t in texts or ()]
        layer = _Layer(predict=predict, spans=spans or [[]] * len(seeds))
        with one_thread() if self.deterministic else nullcontext():
            return self._decode(self._sample(layer, duration, seeds, num_steps, on_step), duration)

    # --- its steps -------------------------------------------------------------------

    def _num_frames(self, duration: Fraction) -> int:
        num_frames = self.model.config.timebase.num_latent_frames(duration)
        if num_frames == 0:
            raise UserError(
                f"{float(duration)} s is shorter than one sample; give a longer `duration_s`"
            )
        return num_frames

    @property
    def _goes_on(self) -> bool:
        """Whether continuous sounds are made to go on: only of models of the catalogue's kinds."""
        is_mel = isinstance(self.model.autoencoder, MelPcaAutoencoder)
        return is_mel and self.model.defaults.recognise and self.model.config.objective.kind == "v"

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
            spans = spans_of(score) if self._goes_on and not seen_only else []
            layers.append(_Layer(predict=predict, spans=[spans]))
        if plan.words.ambience is not None:
            told = self.encoder.encode(None, plan.words.ambience, duration)
            with self.offloader.use("dit"):
                predict = self._network(scale, None).over_clip(told, None, num_frames)
            whole = [(0, num_frames)] if self._goes_on else []
            layers.append(_Layer(predict=predict, spans=[whole]))
        load_s = self.encoder.collect_load_s()
        self.pending_load_s += load_s
        return layers, time.perf_counter() - begin - load_s

    def _network(self, scale: float, text_scale: float | None) -> GuidedNetwork:
        return GuidedNetwork(
            dit=self.model.dit, dtype=self.dtype, objective=self.model.config.objective,
            timebase=self.model.config.timebase, window_s=self.model.defaults.max_duration_s,
            scale=scale, text_scale=text_scale,
        )  # fmt: skip

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

        def denoise(noise_BLC: Tensor, start_BLC: Tensor) -> Tensor:
            with self.offloader.use("dit"):
                return sample(
                    layer.predict,
                    noise_BLC.to(self.device),
                    objective=self.model.config.objective,
                    config=replace(self.model.config.sampler, sigma_max=NOISE),
                    num_steps=NUM_STEPS,
                    generator=generators,
                    start_BLC=start_BLC.to(self.device),
                ).cpu()

        with self.offloader.use("autoencoder"):
            level_BL = autoencoder.level_from_latents(latents_BLC).cpu()
        filled_BLC = fill(latents_BLC.cpu(), level_BL.numpy(), layer.spans, generators, denoise)
        return filled_BLC.to(self.device)

    @torch.inference_mode()
    def _decode(self, latents_BLC: Tensor, duration: Fraction) -> Tensor:
        timebase = self.model.config.timebase
        enter("decoding")
        with self.offloader.use("autoencoder"):
            samples_BN = decode_clips(self.model.autoencoder.decode, latents_BLC, timebase)
        return samples_BN[:, : timebase.num_samples(duration)]
