"""From a request to sound: plan, encode, sample, decode; one interface to both engines.

In:   a model by name or folder; a video, a prompt, or both.
Out:  `GenerationResult`s.

What computes is a subclass: `torch_pipeline` on any device, `onnx` on CPUs, from a folder that
`omni2sound export` wrote. No torch here, so that the latter runs without it.

Shape suffixes: B batch, L latent frames, C latent channels, N samples.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omni2sound.diffusion.settings import OnStep
from omni2sound.errors import UserError
from omni2sound.generate.finish import AddedBand, finish
from omni2sound.generate.request import (
    EngineName,
    GenerationRequest,
    GenerationResult,
    ModelFacts,
    Timings,
)
from omni2sound.generate.stems.make import make_stems
from omni2sound.generate.studio.request import VideoLike, request_on
from omni2sound.generate.words.cues import Cue
from omni2sound.generate.words.encoder import RequestEncoder
from omni2sound.generate.words.plan import Plan, clip_duration, make_plan


class Omni2SoundPipeline:
    """Generates sound for a video, a text prompt, or both. Build it with `from_pretrained`.

    Subclasses set the attributes and compute: `_layers`, `_sample`, `_decoded`.

    Attributes:
        facts: What a request has to know of the model.
        sha256: Digest of the model, with its adapter.
        dtype_name: Precision as asked.
        encoder: Encoders of requests.
        added_band: The model's band extension; None: the sound stays at its rate.
        pending_load_s: Seconds of loading that no result has counted.
    """

    facts: ModelFacts
    sha256: str
    dtype_name: str
    encoder: RequestEncoder
    added_band: AddedBand | None
    pending_load_s: float

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
        engine: EngineName = "auto",
    ) -> Omni2SoundPipeline:
        """Load a model.

        Args:
            model: "embedded" (the bundled model), a model folder, an exported one, or a Hub id
                with a pinned revision, `org/name@<commit>`.
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
            engine: "torch"; "onnx", which needs the folder of `omni2sound export`; or "auto": onnx
                on a CPU where that folder is there and nothing else is asked.

        Raises:
            MissingPartError: There is no such model.
            ConfigError: The folder does not hold together.
            IntegrityError: A file's bytes are not those that its card recorded.
            UserError: This machine has no such device, it can't compute in that precision, or
                another option excludes them.
        """
        # By name, since it imports the engines, and they import this module.
        loading: Any = import_module("omni2sound.generate.load")
        pipeline: Omni2SoundPipeline = loading.PipelineOptions(
            model=os.fspath(model),
            device=device,
            dtype=dtype,
            encoders=None if encoders is None else Path(encoders),
            low_memory=low_memory,
            lora=None if lora is None else Path(lora),
            deterministic=deterministic,
            engine=engine,
        ).load()
        return pipeline

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
        if request.stems or request.has_points:
            yield from make_stems(self, request, on_step=on_step)
        else:
            yield from self._run(request, on_step)

    def _run(
        self, request: GenerationRequest, on_step: OnStep | None
    ) -> Iterator[GenerationResult]:
        defaults = self.facts.defaults
        scale = defaults.guidance if request.guidance_scale is None else request.guidance_scale
        request.check_negative_prompt(scale)
        steps = request.num_inference_steps
        num_steps = defaults.steps if steps is None else steps
        duration = clip_duration(request, self.facts)
        begin = time.perf_counter()
        plan = make_plan(request, duration, self.facts, self.encoder)
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
            sounds = [self._decoded(x, duration) for x in latents]
            audible = plan.layers(sounds, duration, self.facts.timebase)
            audio = finish(self.facts, request, audible, plan.placed, self.added_band)
            if take == request.takes - 1:
                layers, latents = [], []
                self._end_request()
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
                model=self.facts.name,
                model_sha256=self.sha256,
                dtype=self.dtype_name,
                timings=timings,
                seen=plan.seen,
                text=plan.words.text,
                cues=plan.cues,
                ambience=plan.words.ambience,
                notes=(*plan.notes, *plan.notes_on(audible, self.encoder)),
            )

    def save_pretrained(self, folder: str | os.PathLike[str], *, half: bool = True) -> None:
        """Write the model as a folder that `from_pretrained` reads.

        Args:
            folder: Target; replaced if it is a model folder.
            half: Store tensors as fp16, as released models do; their sound survives exactly.

        Raises:
            UserError: `folder` exists and is no model folder, or the model can't be written: it is
                exported, its components are on disk (low memory), or it has an adapter and is
                rounded to a lower precision.
        """
        raise UserError("an exported model has no weights to save; copy its folder instead")

    # --- what an engine computes -----------------------------------------------------

    def _end_request(self) -> None:
        """Called when the last sound of a request is made, before it is looked at and written."""

    def _layers(
        self, request: GenerationRequest, plan: Plan, duration: Fraction, scale: float
    ) -> tuple[list[Any], float]:
        """The sound and its bed, ready to be sampled, and the seconds without loading."""
        raise NotImplementedError

    def _sample(
        self,
        layer: Any,
        duration: Fraction,
        seeds: Sequence[int],
        num_steps: int,
        on_step: OnStep | None,
    ) -> Any:
        """Latents (B, L, C) of a layer."""
        raise NotImplementedError

    def _decoded(self, latents_BLC: Any, duration: Fraction) -> NDArray[np.float32]:
        """Waveforms (B, N) of latents."""
        raise NotImplementedError

    def _num_frames(self, duration: Fraction) -> int:
        num_frames = self.facts.timebase.num_latent_frames(duration)
        if num_frames == 0:
            raise UserError(
                f"{float(duration)} s is shorter than one sample; give a longer `duration_s`"
            )
        return num_frames
