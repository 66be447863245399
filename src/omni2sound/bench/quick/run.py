"""The quick check of one model, from Python: what `omni2sound bench quick` runs.

In:   a pipeline, the scene material, settings.
Out:  a `QuickReport`: rows, criteria, and the facts that they depend on.

Scenes and prompts are drawn from the seed alone, and clip i is generated from seed + i, so the
result does not depend on the batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omni2sound.bench.metrics.tagging import load_tagger
from omni2sound.bench.quick.impacts import run_impacts
from omni2sound.bench.quick.model import PipelineSounds
from omni2sound.bench.quick.prompts import PromptRun, run_prompts
from omni2sound.bench.quick.score import (
    QUICK_CLASSES,
    QuickReport,
    score_impacts,
    score_prompts,
)
from omni2sound.encoders.sync import SyncConfig
from omni2sound.errors import UserError
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.scenes.material.assets import SceneAssets


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickOptions:
    """How much is measured, and how sounds are generated."""

    num_scenes: int = 200
    num_prompts: int = 200
    seed: int = 0
    """Random seed for scenes, prompts and noise."""
    duration_s: float = 4.0
    """Length of every clip."""
    num_steps: int | None = None
    """Sampling steps; None: the model's default."""
    guidance: float | None = None
    """None: the model's default."""
    batch_size: int = 8
    taggers: tuple[str, str] = ("yamnet", "tagger")
    """Names in `TAGGERS`; the second one's rows are marked."""


def run_quick(
    pipeline: TorchPipeline,
    assets: SceneAssets,
    options: QuickOptions,
    *,
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> QuickReport:
    """Generate sounds for test scenes and prompts, and score both.

    Args:
        pipeline: The model; it needs the embedded sync encoder.
        assets: Scene material; the classes of the quick check are taken from it.
        options: How much, and how.
        on_clip: Called with (scenes and prompts done, all of them).

    Raises:
        UserError: If the model has another sync encoder.
    """
    parts, assets = pipeline.model.config, assets.of_classes(QUICK_CLASSES)
    if not isinstance(parts.sync, SyncConfig):
        raise UserError(
            "the quick check renders pictures for the embedded sync encoder; "
            f"{pipeline.model.name} has another"
        )
    generate = PipelineSounds(
        pipeline=pipeline,
        seed=options.seed,
        duration_s=options.duration_s,
        num_steps=options.num_steps,
        guidance=options.guidance,
    )
    total = options.num_scenes + options.num_prompts
    impacts = run_impacts(
        assets,
        generate.for_pictures,
        num_scenes=options.num_scenes,
        seed=options.seed,
        duration_s=options.duration_s,
        sync_px=parts.sync.frame_px,
        vision_fps=parts.timebase.vision_fps,
        sync_fps=parts.timebase.sync_fps,
        batch_size=options.batch_size,
        on_scenes=lambda done, _: on_clip(done, total),
    )
    prompts = run_prompts(
        assets,
        generate.for_prompts,
        load_tagger(options.taggers[0]),
        in_domain=load_tagger(options.taggers[1]),
        num_prompts=options.num_prompts,
        seed=options.seed,
        batch_size=options.batch_size,
        on_prompts=lambda done, _: on_clip(options.num_scenes + done, total),
    )
    impact_rows, impact_checks = score_impacts(impacts)
    prompt_rows, prompt_checks = score_prompts(prompts.result)
    return QuickReport(
        rows=impact_rows + prompt_rows,
        checks=impact_checks + prompt_checks,
        facts=_facts(pipeline, assets, options, prompts),
    )


def _facts(
    pipeline: TorchPipeline, assets: SceneAssets, options: QuickOptions, prompts: PromptRun
) -> dict[str, object]:
    defaults = pipeline.model.defaults
    return {
        "model": pipeline.model.name,
        "model_sha256": pipeline.model.sha256,
        "catalogue_sha256": assets.catalogue.digest,
        "seed": options.seed,
        "duration_s": options.duration_s,
        "steps": defaults.steps if options.num_steps is None else options.num_steps,
        "guidance": defaults.guidance if options.guidance is None else options.guidance,
        "judge": options.taggers[0],
        "second_judge": options.taggers[1],
        "oracle_rates": prompts.oracle_rates,
        "oracle_rates_2nd": prompts.second_oracle_rates,
        "classes_left_out": prompts.left_out,
        "classes_left_out_2nd": prompts.left_out_2nd,
    }
