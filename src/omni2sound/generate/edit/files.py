"""Edited files: the sound of a file, and the file with the edited sound.

In:   a sound or a video with sound, an `Edit`.
Out:  a file whose sound is the given one outside of the new ranges, its sidecar, and its stems
      where the given sound has some.

A .wav, .flac or .mov keeps the given samples; other formats code all of the sound again. The number
of bits is that of the given file.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omni2sound.errors import UserError
from omni2sound.files import file_sha256
from omni2sound.generate.edit.asked import Edit
from omni2sound.generate.edit.edit import edit
from omni2sound.generate.edit.source import Source, start_of
from omni2sound.generate.edit.stems import KeptStems
from omni2sound.generate.output import OutputOptions, read_sidecar, request_sha256, save
from omni2sound.generate.request import GenerationRequest, GenerationResult, Timings
from omni2sound.generate.stems.files import check_stems_folder, stems_folder
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.media.samples import Audio


def edit_file(
    pipeline: TorchPipeline,
    source: Source,
    asked: Edit,
    outputs: Sequence[Path],
    options: OutputOptions,
) -> Iterator[dict[str, Any]]:
    """Edit the sound of a file; yield what the sidecar of each take says.

    Args:
        pipeline: The model.
        source: From `open_source`.
        asked: What is to be changed.
        outputs: One for each take, checked by `check_edit`.
        options: How files are written.

    Raises:
        MediaError: The video can't be read.
        UserError: A range leaves a gap, or the request asks for what this model can't do.
    """
    sha256 = file_sha256(source.path)
    spans = [[span.start_s, span.end_s] for span in asked.ranges]
    facts: dict[str, Any] = {"edited_sha256": sha256, "ranges": spans, "strength": asked.strength}
    kept, why = _kept_stems(source, asked, outputs, options)
    given = source.audio if kept is None else kept.audio
    begin = time.perf_counter()
    for output, made in zip(outputs, edit(pipeline, given, asked), strict=True):
        result = _result(pipeline, asked, made.audio, made.seed, time.perf_counter() - begin)
        if kept is not None:
            try:
                audio, stems = kept.after(made, asked)
                result = replace(result, audio=audio, stems=stems)
            except UserError as error:
                why = str(error)
        notes = [*made.notes, *([f"the edit has no stems: {why}"] if why else [])]
        result = replace(result, notes=tuple(notes))
        digest = request_sha256(
            result.request,
            options,
            model_sha256=pipeline.sha256,
            dtype=pipeline.dtype_name,
            seed=made.seed,
            recognises=pipeline.model.defaults.recognise,
            places=pipeline.model.defaults.stereo,
        )
        asked_all = json.dumps([digest, facts, [asdict(c) for c in asked.cues]])
        more = facts | {"request_sha256": hashlib.sha256(asked_all.encode()).hexdigest()}
        if start_s := start_of(source.path, read_sidecar(source.path) or {}):
            more["start_s"] = start_s
        video = source.path if source.is_video else asked.video
        stems_made = None
        if kept is not None and result.stems:
            stems_made = kept.made_after(result.stems, str(more["request_sha256"]))
        yield save(
            result, output, video=video, options=options, more_facts=more, stems_made=stems_made
        )
        begin = time.perf_counter()


def _kept_stems(
    source: Source, asked: Edit, outputs: Sequence[Path], options: OutputOptions
) -> tuple[KeptStems | None, str]:
    """Return the stems of a sound, or why its edit has none; neither if it has none itself."""
    if not stems_folder(source.path).is_dir():
        return None, ""
    try:
        kept = KeptStems.of(source, asked, options)
    except UserError as error:
        # A path at the start only: "../x" holds "./", and "data/x" holds "a/".
        return None, str(error).removeprefix(f"{source.path.parent}{os.sep}")
    for output in outputs:
        check_stems_folder(stems_folder(output), overwrite=True)
    return kept, ""


def _result(
    pipeline: TorchPipeline, asked: Edit, audio: Audio, seed: int, seconds: float
) -> GenerationResult:
    request = GenerationRequest(
        video=asked.video,
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        seen=asked.seen if asked.video is not None else None,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        cues=asked.cues,
        ambience=False,
        seed=seed,
        sample_rate_hz=audio.sample_rate_hz,
        channels=audio.num_channels,
    )
    defaults = pipeline.model.defaults
    steps, scale = asked.num_inference_steps, asked.guidance_scale
    load_s, pipeline.pending_load_s = pipeline.pending_load_s, 0.0
    return GenerationResult(
        audio=audio,
        request=request,
        seed=seed,
        num_inference_steps=defaults.steps if steps is None else steps,
        guidance_scale=defaults.guidance if scale is None else scale,
        model=pipeline.model.name,
        model_sha256=pipeline.sha256,
        dtype=pipeline.dtype_name,
        timings=Timings(load_s=load_s, encode_s=0.0, sample_s=seconds, decode_s=0.0),
        text=asked.prompt,
        cues=asked.cues,
    )
