"""Output files: names, checks before any work, the file with its metadata, the sidecar.

In:   a `GenerationResult` and an output path whose suffix chooses the format.
Out:  OUT with the facts in its ``comment`` tag (``omni2sound`` where the video has a comment of
      its own), OUT.json beside it, the same as a dict.

What not to get wrong: the two are one promise. OUT is finished under a temporary name, OUT.json
gets length and digest of it, and only then OUT gets its name. A kill in between leaves a sidecar
that fits no file, which is recognised and replaced; a job is done only if both fit. Times stay out
of the tag, or the same seed would not give the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.errors import ConfigError, UserError
from omni2sound.files import atomic_path, file_sha256
from omni2sound.readers import as_object, parse_json, read_text
from omni2sound.staging import remove_leftovers

if TYPE_CHECKING:
    from omni2sound.generate.request import GenerationRequest, GenerationResult
    from omni2sound.media.loudness.level import Leveling

_MAX_SIDECAR_BYTES = 2**20
_OF_OUTPUT = ("output_bytes", "output_sha256")
"""What a sidecar says of its output: length and SHA-256."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """Options of output files.

    Raises:
        UserError: The loudness is out of range.
    """

    keep_audio: bool = False
    """Mix the video's own sound under the new one."""
    overwrite: bool = False
    """Replace files that exist."""
    loudness_lufs: float | None = None
    """Target loudness, -50 to -5 LUFS; None: as generated."""
    reencode: bool = False
    """Encode the picture again where a copy would not show the same."""

    def __post_init__(self) -> None:
        from omni2sound.media.loudness.level import check_loudness

        for name in ("keep_audio", "overwrite", "reencode"):
            if not isinstance(value := getattr(self, name), bool):
                raise UserError(f"expected True or False, got {repr(value)[:80]}", field=name)
        check_loudness(self.loudness_lufs)
        if self.loudness_lufs is not None:
            object.__setattr__(self, "loudness_lufs", float(self.loudness_lufs))


def sidecar(output: Path) -> Path:
    """Return the path of the file beside `output` that says how it was made."""
    return output.with_name(f"{output.name}.json")


def read_sidecar(output: Path) -> dict[str, Any] | None:
    """Read the sidecar of an output; None if there is none, or a file of another origin."""
    path = sidecar(output)
    try:
        text = read_text(path, max_bytes=_MAX_SIDECAR_BYTES)
        made = as_object(parse_json(text, path, not_finite=True), path)
    except (OSError, ConfigError):
        return None
    return made if {"request_sha256", *_OF_OUTPUT} <= set(made) else None


def is_whole(output: Path, made: Mapping[str, Any]) -> bool:
    """Whether an output has the length and the digest that its sidecar says."""
    length, sha256 = (made.get(name) for name in _OF_OUTPUT)
    return output.is_file() and output.stat().st_size == length and file_sha256(output) == sha256


def check_free(output: Path, *, overwrite: bool) -> None:
    """Refuse an output whose place, or that of its sidecar, is taken.

    What an interrupted run left is not in the way, and its temporary files are removed.

    Raises:
        UserError: A file is in the way.
    """
    from omni2sound.media.files import shown_name

    remove_leftovers(output)
    remove_leftovers(sidecar(output))
    if overwrite or _is_half_done(output):
        return
    for path in (output, sidecar(output)):
        if path.exists():
            raise UserError(
                f"{shown_name(path)}: exists already; choose another name, or set `overwrite`"
            )


def _is_half_done(output: Path) -> bool:
    """Whether a run ended between the sidecar and its output, which is absent or empty."""
    has_sound = output.exists() and not (output.is_file() and output.stat().st_size == 0)
    return not has_sound and read_sidecar(output) is not None


def default_output(
    folder: Path, video: Path | None, stem: str | None = None, *, reencode: bool = False
) -> Path:
    """Choose the output of a request that names none.

    Args:
        folder: Folder of the output.
        video: The request's video; a moving one gives .mp4, or the first container that loses
            nothing shown (`media.copy.containers.default_suffix`), anything else .wav.
        stem: First part of the name. Default: the video's, or "omni2sound".
        reencode: Whether pictures may be encoded again.

    Raises:
        MediaError: The video can't be read.
    """
    from omni2sound.media.copy.containers import default_suffix
    from omni2sound.media.info import probe

    if video is None:
        return folder / f"{stem or 'omni2sound'}.wav"
    info = probe(video).video
    suffix = ".wav" if info is None or info.is_still else default_suffix(video, reencode=reencode)
    return folder / f"{stem or video.stem + '.omni2sound'}{suffix}"


def plan_outputs(
    output: Path | None, request: GenerationRequest, options: OutputOptions
) -> list[Path]:
    """Choose and check the output of each take: `output`, or OUT-1, OUT-2, ... for several.

    Args:
        output: File to write. Default: in the current folder, named by the video.
        request: What is asked.
        options: How files are written.

    Raises:
        MediaError: The video can't be read or has no picture.
        UserError: An output is in the way, its suffix unknown, or it does not fit the request.
    """
    if output is None:
        output = default_output(Path(), request.video, reencode=options.reencode)
    if not output.name:
        raise UserError(f"expected a file, got the folder {str(output)!r}", field="output")
    outputs = [output]
    if request.takes > 1:
        outputs = [output.with_stem(f"{output.stem}-{k + 1}") for k in range(request.takes)]
    for path in outputs:
        check_target(path, request, options)
    return outputs


def check_target(output: Path, request: GenerationRequest, options: OutputOptions) -> None:
    """Refuse, before anything is loaded, what could not be written afterwards.

    Raises:
        MediaError: The video can't be read or has no picture.
        UserError: The output is in the way, its suffix unknown, or it does not fit the request.
    """
    request.resolve_duration(1.0)  # looks into the video
    check_output_of(request.video, output, options, duration_s=request.duration_s)


def check_output_of(
    video: Path | None, output: Path, options: OutputOptions, *, duration_s: float | None = None
) -> None:
    """Refuse an output that can't be written, or that can't hold a copy of `video`.

    Args:
        video: The video that is copied.
        output: What is written.
        options: How it is written.
        duration_s: Where the copy ends. Default: with the video.

    Raises:
        MediaError: The video can't be read.
        UserError: The output is in the way, its suffix unknown, or it does not fit the video.
    """
    from omni2sound.media.copy.containers import check_copy, check_kept_sound
    from omni2sound.media.files import VIDEO_SUFFIXES, check_output, shown_name
    from omni2sound.media.info import probe
    from omni2sound.media.packets import end_early

    name = shown_name(output)
    check_output(output, overwrite=True)
    check_free(output, overwrite=options.overwrite)
    muxed = output.suffix.lower() in VIDEO_SUFFIXES
    if muxed and video is None:
        raise UserError(f"{name}: a video output needs a video; give one, or write .wav")
    if options.keep_audio and not muxed:
        raise UserError(
            f"needs a video and a video output, got {name}; use {' '.join(VIDEO_SUFFIXES)}, "
            "or leave it out",
            field="keep_audio",
        )
    if muxed and video is not None:
        info = probe(video)
        picture = info.video
        if picture is not None and picture.is_still:
            raise UserError(f"{name}: a still picture can't be copied with sound; write .wav")
        if output.exists() and output.samefile(video):
            raise UserError(f"{name}: is the input itself; choose another name")
        if picture is not None and duration_s is not None:
            info = end_early(info, Fraction(duration_s))[0]
            picture = info.video
        if picture is not None and not options.reencode:
            check_copy(picture, output)
        if options.keep_audio:
            check_kept_sound(info, output)


def request_sha256(
    request: GenerationRequest,
    options: OutputOptions,
    *,
    model_sha256: str,
    dtype: str,
    seed: int | None,
    recognises: bool,
    copied: Path | None = None,
) -> str:
    """Digest of everything that decides what an output holds, the video's bytes included.

    Args:
        request: What is asked.
        options: How it is written.
        model_sha256: Digest of the model.
        dtype: Name of the precision as asked.
        seed: The seed as asked; None if it was left open.
        recognises: Whether the video is looked into where the request does not say.
        copied: The video whose picture is copied. Default: the request's.
    """
    video = None if request.video is None else file_sha256(request.video)
    asked: dict[str, Any] = {
        "video": video,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "duration_s": None if request.duration_s is None else float(request.duration_s),
        "steps": request.num_inference_steps,
        "guidance": request.guidance_scale,
        "text_guidance": request.text_guidance_scale,
        "seed": seed,
        "keep_audio": options.keep_audio,
        "loudness_lufs": options.loudness_lufs,
        "model": model_sha256,
        "dtype": dtype,
    }
    if options.reencode:
        asked["reencode"] = True
    if request.text_guidance_scale is None:
        del asked["text_guidance"]  # as in digests from before the field existed
    if copied is not None and (sha256 := file_sha256(copied)) != video:
        asked["copied_video"] = sha256
    looks = recognises if request.recognise is None else request.recognise
    if looks and video is not None and request.seen is None:
        asked["recognise"] = True
    if request.seen is not None:
        asked["seen"] = request.seen
    if request.sample_rate_hz is not None:
        asked["sample_rate_hz"] = request.sample_rate_hz
    if request.mono:
        asked["mono"] = True
    if request.cues:
        asked["cues"] = [asdict(cue) for cue in request.cues]
    if not request.ambience:
        asked["ambience"] = False
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def save(
    result: GenerationResult,
    output: Path,
    *,
    video: Path | None,
    options: OutputOptions,
    more_facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `output` and its sidecar, both or neither.

    Args:
        result: What was made.
        output: A path that `check_output_of` accepted.
        video: The video whose picture a video output copies.
        options: How files are written.
        more_facts: Added to the result's own. Default: the digest of its request.

    Returns:
        What the sidecar says.

    Raises:
        UserError: The file can't be written, or another process has written it meanwhile.
    """
    from omni2sound.media.files import VIDEO_SUFFIXES

    muxed = video is not None and output.suffix.lower() in VIDEO_SUFFIXES
    copied = video if muxed and video != result.request.video else None
    if more_facts is None:
        digest = request_sha256(
            result.request,
            options,
            model_sha256=result.model_sha256,
            dtype=result.dtype,
            seed=result.seed,
            recognises=result.seen is not None,
            copied=copied,
        )
        more_facts = {"request_sha256": digest}
    begin = time.perf_counter()
    software = f"omni2sound {importlib.metadata.version('omni2sound')}"
    facts = result.facts() | {"software": software, **more_facts}
    if options.loudness_lufs is not None:
        facts["loudness_lufs"] = options.loudness_lufs
    facts |= {name: True for name in ("keep_audio", "reencode") if getattr(options, name)}
    half_done = _is_half_done(output)
    replace = options.overwrite or (half_done and output.exists())
    report: dict[str, Any] = {}
    old = _old_sidecar(output)
    try:
        with atomic_path(output, replace=replace, alone=True) as finished:
            leveling, copy = _write(result, finished, video if muxed else None, facts, options)
            times = asdict(result.timings)
            time_s = {name.removesuffix("_s"): seconds for name, seconds in times.items()}
            time_s["write"] = time.perf_counter() - begin
            made_in_s = time_s["encode"] + time_s["sample"] + time_s["decode"]
            report = {
                "output": str(output),
                **({} if copied is None else {"copied_video": str(copied)}),
                **facts,
                **copy,
                "leveling": {
                    name: round(value, 4) if isinstance(value, float) else value
                    for name, value in asdict(leveling).items()
                },
                "time_s": {name: round(value, 4) for name, value in time_s.items()},
                "rtf": round(made_in_s / result.duration_s, 4),
                **dict(
                    zip(_OF_OUTPUT, (finished.stat().st_size, file_sha256(finished)), strict=True)
                ),
            }
            with atomic_path(sidecar(output), replace=options.overwrite or half_done) as path:
                path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except BaseException:
        # The output may have its name already: an error or Ctrl-C can come right after.
        written = read_sidecar(output) or {}
        is_new = bool(written) and written["output_sha256"] == report.get("output_sha256")
        if is_new and not is_whole(output, written):
            _put_back(output, old)
        raise
    return report


def _old_sidecar(output: Path) -> bytes | None:
    """Return the sidecar that an output has now; None if one of them is missing or not ours."""
    has_both = not _is_half_done(output) and read_sidecar(output) is not None
    return sidecar(output).read_bytes() if has_both else None


def _put_back(output: Path, old: bytes | None) -> None:
    """Give an output that was not replaced the sidecar that it had."""
    if old is None:
        sidecar(output).unlink(missing_ok=True)
        return
    with atomic_path(sidecar(output)) as path:
        path.write_bytes(old)


def _write(
    result: GenerationResult,
    path: Path,
    video: Path | None,
    facts: Mapping[str, Any],
    options: OutputOptions,
) -> tuple[Leveling, dict[str, Any]]:
    """Write the sound, or a copy of `video` with it, with the facts as a tag.

    Returns:
        What was done to the level, and what the sidecar says of the copy.
    """
    from omni2sound.media.audio import write_audio
    from omni2sound.media.copy.tags import facts_tag
    from omni2sound.media.mux import mux

    tag = "comment" if video is None else facts_tag(video)
    metadata = {tag: json.dumps(facts)}
    if video is None:
        loudness_lufs = options.loudness_lufs
        leveling = write_audio(path, result.audio, metadata=metadata, loudness_lufs=loudness_lufs)
        return leveling, {}
    report = mux(
        video,
        result.audio,
        path,
        metadata=metadata,
        loudness_lufs=options.loudness_lufs,
        keep_audio=options.keep_audio,
        reencode=options.reencode,
        duration_s=result.request.duration_s,
    )
    copy: dict[str, Any] = {"picture_encoded": True} if report.is_encoded else {}
    return report.leveling, copy | ({"lost": list(report.lost)} if report.lost else {})
