"""A model's sounds for a track, one block of clips a job; sounds that exist are not made again.

In:   a track, a model, settings.
Out:  DIR/<folder of a variant>/<clip id>.wav.

Each sound has its own seed, from the run's seed and the clip's id. Clips are sampled in blocks of
the whole track's order, so a sound depends neither on a limit nor on a restart nor on the number
of workers. The settings are written beside the sounds and compared on the next start: sounds of
other settings are refused, not mixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from omni2sound.bench.systems.folder import SETTINGS, check_settings
from omni2sound.bench.systems.system import RECONSTRUCTION
from omni2sound.bench.tracks.scenes import seen_caption
from omni2sound.bench.tracks.track import TASKS, Part, Track, TrackClip, open_track
from omni2sound.config import to_json
from omni2sound.data.workers import Share, Workers
from omni2sound.diffusion.settings import SAMPLERS
from omni2sound.errors import Omni2SoundError, UserError
from omni2sound.generate.finish import extend
from omni2sound.generate.request import GenerationRequest, Task
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.generate.words.seen import Words, choose_words
from omni2sound.media.audio import read_audio, write_audio
from omni2sound.media.samples import Audio
from omni2sound.models.conditioning import Conditions
from omni2sound.recognise.observe import Seen


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One system of a run: how the model is asked, and for which clips."""

    name: str
    """Name of the system; empty for the model's own."""
    folder: str
    task: Task | None
    """None: the real sound goes through the autoencoder and back."""
    part: Part | None = None
    """Only clips of this part; None: all."""
    num_steps: int | None = None
    seen_only: bool = False
    """The caption leaves out what is only heard."""

    def wants(self, clip: TrackClip) -> bool:
        """Whether the clip belongs to this system."""
        return self.part in (None, clip.part)


def seen_only_name(model: str) -> str:
    """Name of the system whose captions leave out what is only heard."""
    return f"{model}, seen-only caption"


def many_steps_name(model: str, num_steps: int) -> str:
    """Name of the system that takes more sampling steps."""
    return f"{model}, {num_steps} steps"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRun:
    """Settings of a model under test.

    Raises:
        UserError: A task is unknown or none is given, or a number is out of range.
    """

    model: str
    tasks: tuple[Task, ...] = TASKS
    seed: int = 0
    num_steps: int | None = None
    """None: the model's default."""
    guidance: float | None = None
    """None: the model's default."""
    text_guidance: float | None = None
    """Guidance scale of captions beside pictures; None: `guidance`."""
    sampler: str | None = None
    """Solver, one of `diffusion.samplers`; None: the model's."""
    sigmas: tuple[float, float] | None = None
    """Lowest and highest noise level; None: the model's."""
    device: str = "auto"
    dtype: str = "auto"
    encoders: str | None = None
    """Folder of published encoders, for a full-size model."""
    batch_size: int = 8
    """Clips sampled at once."""
    many_steps: int | None = None
    """Adds VT2A on "main" with this number of sampling steps."""
    with_controls: bool = False
    """Adds off-screen VT2A with seen-only captions and the autoencoder's reconstruction; asks
    V2A and T2A of the main part only."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"expected 1 or more, got {self.batch_size}", field="batch_size")
        if not self.tasks or set(self.tasks) - set(TASKS):
            raise UserError(f"expected some of {', '.join(TASKS)}, got {self.tasks}", field="tasks")
        if self.seed < 0:
            raise UserError(f"expected 0 or more, got {self.seed}", field="seed")
        if self.sampler is not None and self.sampler not in SAMPLERS:
            raise UserError(
                f"expected one of {', '.join(SAMPLERS)}, got {self.sampler!r}", field="sampler"
            )

    @property
    def changes_sampler(self) -> bool:
        """Whether the sampler is not the model's own."""
        return self.sampler is not None or self.sigmas is not None


def variants_of(run: ModelRun, model: str) -> tuple[Variant, ...]:
    """All systems of a run, in the order of the table.

    Args:
        run: Settings.
        model: The model's name.
    """
    found = [
        Variant(
            name="",
            folder=task,
            task=task,
            part="main" if run.with_controls and task != "VT2A" else None,
        )
        for task in run.tasks
    ]
    if run.many_steps is not None:
        found.append(
            Variant(
                name=many_steps_name(model, run.many_steps),
                folder=f"VT2A-{run.many_steps}-steps",
                task="VT2A",
                part="main",
                num_steps=run.many_steps,
            )
        )
    if run.with_controls:
        found += [
            Variant(
                name=seen_only_name(model),
                folder="VT2A-seen-only",
                task="VT2A",
                part="offscreen",
                seen_only=True,
            ),
            Variant(name=RECONSTRUCTION, folder=RECONSTRUCTION, task=None),
        ]
    return tuple(found)


def model_identity(run: ModelRun) -> dict[str, Any]:
    """Digest and settings that decide the sounds, defaults filled in."""
    pipeline = _pipeline_of(run)
    defaults = pipeline.model.defaults
    return {
        "model": pipeline.model.name,
        "model_sha256": pipeline.sha256,
        "steps": defaults.steps if run.num_steps is None else run.num_steps,
        "guidance": defaults.guidance if run.guidance is None else run.guidance,
        "text_guidance": run.text_guidance,
        **({"recognise": True} if defaults.recognise else {}),
        **({"sampler": to_json(pipeline.model.config.sampler)} if run.changes_sampler else {}),
        "seed": run.seed,
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "device": pipeline.device.type,
        "batch_size": run.batch_size,
    }


def clip_seed(seed: int, clip_id: str) -> int:
    """The seed of one clip's sounds, below 2^63."""
    digest = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def make_sounds(
    track: Track,
    out: Path,
    run: ModelRun,
    *,
    workers: Workers = Workers(),
    on_clip: Callable[[int, int], None] | None = None,
    share: Share | None = None,
) -> Mapping[str, str]:
    """Make the sounds that are missing.

    Args:
        track: The track, limited to the clips that are wanted.
        out: Folder; each variant gets one below it.
        run: Model and settings.
        workers: Make a block each.
        on_clip: Called with (clips done, clips in all).
        share: Make these blocks only, beside other commands. Default: all.

    Returns:
        Reasons by clip id of the clips that failed; they have no file.

    Raises:
        UserError: The folder holds sounds of another track, model or setting.
    """
    identity = model_identity(run)
    variants = variants_of(run, identity["model"])
    for variant in variants:
        (out / variant.folder).mkdir(parents=True, exist_ok=True)
    check_settings(out / SETTINGS, {"track": track.clips_sha256, **identity})
    size = run.batch_size
    blocks = {
        at // size * size: min(size, len(track.clips) - at // size * size)
        for at, clip in enumerate(track.clips)
        if (share is None or share.takes(at // size)) and _missing(out, variants, clip)
    }
    done, failed = len(track.clips) - sum(blocks.values()), {}
    work = partial(_make, track.folder, out, run, variants)
    for first, reasons in workers.map(work, tuple(blocks)):
        done += blocks[first]
        failed.update(reasons)
        if on_clip is not None:
            on_clip(done, len(track.clips))
    return failed


def count_missing(track: Track, out: Path, run: ModelRun) -> int:
    """Count the clips without all of their sounds."""
    variants = variants_of(run, model_identity(run)["model"])
    return sum(bool(_missing(out, variants, clip)) for clip in track.clips)


def _missing(out: Path, variants: Sequence[Variant], clip: TrackClip) -> list[Variant]:
    return [v for v in variants if v.wants(clip) and not _path(out, v, clip).is_file()]


def _path(out: Path, variant: Variant, clip: TrackClip) -> Path:
    return out / variant.folder / f"{clip.clip_id}.wav"


def _pipeline_of(run: ModelRun) -> TorchPipeline:
    """Load a run's pipeline, once in each process.

    Raises:
        UserError: If the sampler does not fit the model.
    """
    return _pipeline(run.model, run.device, run.dtype, run.encoders, run.sampler, run.sigmas)


@cache
def _pipeline(
    model: str,
    device: str,
    dtype: str,
    encoders: str | None,
    sampler: str | None,
    sigmas: tuple[float, float] | None,
) -> TorchPipeline:
    pipeline = TorchPipeline.load(model, device=device, dtype=dtype, encoders=encoders)
    config = pipeline.model.config
    changes: dict[str, Any] = {} if sampler is None else {"kind": sampler}
    if sigmas is not None:
        changes |= {"sigma_min": sigmas[0], "sigma_max": sigmas[1]}
    chosen = replace(config.sampler, **changes)
    if (chosen.kind == "euler") != (config.objective.kind == "rectified"):
        raise UserError(
            f"{chosen.kind!r} does not solve {config.objective.kind!r} models", field="sampler"
        )
    if changes:
        pipeline.model = replace(pipeline.model, config=replace(config, sampler=chosen))
    return pipeline


def forget_models() -> None:
    """Free the models that this process has loaded, where many follow each other."""
    _pipeline.cache_clear()


def _make(
    folder: Path, out: Path, run: ModelRun, variants: Sequence[Variant], first: int
) -> tuple[int, dict[str, str]]:
    """Make all sounds of one block of the whole track; return its place and what failed."""
    track = open_track(folder)
    block = track.clips[first : first + run.batch_size]
    failed: dict[str, str] = {}
    for duration_s in dict.fromkeys(clip.duration_s for clip in block):
        batch = _Batch(track, run, [c for c in block if c.duration_s == duration_s])
        failed |= batch.failed
        for variant in variants:
            clips = [c for c in batch.clips if variant.wants(c)]
            if all(_path(out, variant, clip).is_file() for clip in clips):
                continue
            try:
                for clip, audio in zip(clips, batch.sounds(variant, clips), strict=True):
                    if not _path(out, variant, clip).is_file():
                        write_audio(_path(out, variant, clip), audio, overwrite=True)
            except (Omni2SoundError, OSError) as error:
                failed |= {clip.clip_id: _reason(error) for clip in clips}
    return first, failed


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _concatenate(clips: Sequence[Conditions]) -> Conditions:
    """Pictures of several clips of one length as one batch."""
    return Conditions(
        **{
            name: torch.cat([getattr(clip, name) for clip in clips])
            for name in ("seconds_start_B", "seconds_total_B", "vision_BTV", "sync_BLS")
        }
    )


class _Batch:
    """Clips of one length that are sampled together; each video is read once."""

    def __init__(self, track: Track, run: ModelRun, clips: Sequence[TrackClip]) -> None:
        self.failed: dict[str, str] = {}
        self._track, self._run = track, run
        self._pipeline = _pipeline_of(run)
        self._is_long = clips[0].duration_s > self._pipeline.model.defaults.max_duration_s
        self._pictures: dict[str, Conditions] = {}
        self._seen: dict[str, Seen] = {}
        if set(run.tasks) != {"T2A"} and not self._is_long:
            for clip in clips:
                try:
                    self._pictures[clip.clip_id] = self._pipeline.encoder.encode(
                        self._video(clip), None, clip.duration_s
                    )
                    if self._pipeline.model.defaults.recognise:
                        self._seen[clip.clip_id] = self._pipeline.encoder.recognise(
                            self._video(clip), clip.duration_s
                        )
                except (Omni2SoundError, OSError) as error:
                    self.failed[clip.clip_id] = _reason(error)
        self.clips = [c for c in clips if c.clip_id not in self.failed]

    def sounds(self, variant: Variant, clips: Sequence[TrackClip]) -> list[Audio]:
        """Sample one sound a clip."""
        rate_hz = self._pipeline.model.config.timebase.sample_rate_hz
        if variant.task is None:
            samples = [self._reconstruction(clip, rate_hz) for clip in clips]
            return [Audio(samples_CN=s.numpy(), sample_rate_hz=rate_hz) for s in samples]
        if self._is_long:
            return [self._long_sound(variant, clip) for clip in clips]
        words = [self._words(variant, clip) for clip in clips]
        # Texts that change within a clip, and beds, are the pipeline's own work.
        alone = {c.clip_id for c, w in zip(clips, words, strict=True) if w.cues or w.ambience}
        made = {c.clip_id: self._long_sound(variant, c) for c in clips if c.clip_id in alone}
        rest = [i for i, clip in enumerate(clips) if clip.clip_id not in alone]
        if rest:
            batch = self._batch(variant, [clips[i] for i in rest], [words[i] for i in rest])
            made |= {clips[i].clip_id: audio for i, audio in zip(rest, batch, strict=True)}
        return [made[clip.clip_id] for clip in clips]

    def _batch(
        self, variant: Variant, clips: Sequence[TrackClip], words: Sequence[Words]
    ) -> list[Audio]:
        """Sample clips, each with one text for its whole length, together."""
        rate_hz = self._pipeline.model.config.timebase.sample_rate_hz
        conditions = self._conditions(variant, clips, words)
        is_both = variant.task == "VT2A"
        samples_BN = self._pipeline.generate_batch(
            conditions,
            duration_s=clips[0].duration_s,
            seeds=[clip_seed(self._run.seed, clip.clip_id) for clip in clips],
            num_steps=variant.num_steps or self._run.num_steps,
            guidance=self._run.guidance,
            text_guidance=self._run.text_guidance if is_both else None,
            texts=[w.text for w in words],
        )
        silent_B1 = torch.tensor([[w.silent] for w in words])
        samples_BN = samples_BN.masked_fill(silent_B1, 0)
        sounds = [Audio(samples_CN=s[None].numpy(), sample_rate_hz=rate_hz) for s in samples_BN]
        band = self._pipeline.model.band
        return sounds if band is None else [extend(sound, band.added_array) for sound in sounds]

    def _words(self, variant: Variant, clip: TrackClip) -> Words:
        """The text of one clip, as the pipeline chooses it."""
        caption = None if variant.task == "V2A" else self._caption(variant, clip)
        seen = self._seen.get(clip.clip_id)
        if variant.task == "T2A" or seen is None:
            return Words(text=caption, pictures=True, silent=False)
        return choose_words(seen, caption, self._pipeline.encoder.names, duration_s=clip.duration_s)

    def _conditions(
        self, variant: Variant, clips: Sequence[TrackClip], words: Sequence[Words]
    ) -> Conditions:
        pictures = None
        if variant.task != "T2A":
            pictures = _concatenate([self._pictures[clip.clip_id] for clip in clips])
            if not all(w.pictures for w in words) and pictures.vision_BTV is not None:
                given_B1 = torch.tensor([[w.pictures] for w in words])
                mask_BT = given_B1.expand(pictures.vision_BTV.shape[:2])
                pictures = replace(pictures, vision_mask_BT=mask_BT.to(pictures.vision_BTV.device))
            if all(w.text is None for w in words):
                return pictures
        text = self._pipeline.encoder.encode_arrays(
            None, None, [w.text or "" for w in words], duration_s=clips[0].duration_s
        )
        assert text.text_mask_BT is not None
        has_text_B1 = torch.tensor([[w.text is not None] for w in words])
        mask_BT = text.text_mask_BT & has_text_B1.to(text.text_mask_BT.device)
        if pictures is None:
            return text
        return replace(pictures, text_BTE=text.text_BTE, text_mask_BT=mask_BT)

    def _caption(self, variant: Variant, clip: TrackClip) -> str:
        return seen_caption(self._track, clip) if variant.seen_only else clip.caption

    def _video(self, clip: TrackClip) -> Path:
        if clip.video is None:
            raise UserError(f"clip {clip.clip_id} has no video; ask for T2A only")
        return self._track.path(clip.video)

    def _reconstruction(self, clip: TrackClip, rate_hz: int) -> Tensor:
        """The real sound, (1, N), through the model's autoencoder: the best it can sound."""
        path = self._track.path(clip.audio)
        real_1N = torch.from_numpy(read_audio(path, sample_rate_hz=rate_hz, mono=True).samples_CN)
        autoencoder = self._pipeline.model.autoencoder
        with self._pipeline.offloader.use("autoencoder"), torch.inference_mode():
            latents = autoencoder.encode(real_1N.to(self._pipeline.device))
            back_1N = autoencoder.decode(latents).float().cpu()
        return back_1N[:, : real_1N.shape[1]]

    def _long_sound(self, variant: Variant, clip: TrackClip) -> Audio:
        """One sound, as the pipeline makes it."""
        request = GenerationRequest(
            video=None if variant.task == "T2A" else self._video(clip),
            prompt=None if variant.task == "V2A" else self._caption(variant, clip),
            duration_s=clip.duration_s,
            num_inference_steps=variant.num_steps or self._run.num_steps,
            guidance_scale=self._run.guidance,
            text_guidance_scale=self._run.text_guidance if variant.task == "VT2A" else None,
            seed=clip_seed(self._run.seed, clip.clip_id),
            channels=1,
        )
        return next(self._pipeline.run(request)).audio
