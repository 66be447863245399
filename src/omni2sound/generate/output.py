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
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omni2sound.config import checked_number
from omni2sound.errors import ConfigError, UserError
from omni2sound.files import atomic_path, file_sha256
from omni2sound.readers import as_object, parse_json, read_text
from omni2sound.stages import enter
from omni2sound.staging import remove_leftovers

if TYPE_CHECKING:
    from omni2sound.generate.request import GenerationRequest, GenerationResult
    from omni2sound.media.loudness.level import Leveling

logger = logging.getLogger(__name__)

_MAX_SIDECAR_BYTES = 2**20
MIX_RANGE_DB = (-60.0, 20.0)
DUCK_RANGE_DB = (1.0, 40.0)
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
    mix_db: float | None = None
    """Gain of the new sound beside the video's own, -60 to 20 dB; None: 0."""
    duck_db: float | None = None
    """By how much the new sound gives way to speech in the video's own, 1 to 40 dB; None: not."""
    bits: int | None = None
    """Bits a sample of .wav, .flac and .mov; None: 24 in .mov, else 16."""
    preview: bool = False
    """Write OUT.png, too: frames above the spectrogram."""

    def __post_init__(self) -> None:
        from omni2sound.media.loudness.level import check_loudness

        for name in ("keep_audio", "overwrite", "reencode", "preview"):
            if not isinstance(value := getattr(self, name), bool):
                raise UserError(f"expected True or False, got {repr(value)[:80]}", field=name)
        check_loudness(self.loudness_lufs)
        for name, (low, high) in (("mix_db", MIX_RANGE_DB), ("duck_db", DUCK_RANGE_DB)):
            if (value := getattr(self, name)) is None:
                continue
            gain = checked_number(value, name, whole=False, least=low, most=high)
            object.__setattr__(self, name, float(gain))
            if not self.keep_audio:
                raise UserError(
                    "is the level of the new sound beside the video's own; set `keep_audio`, too",
                    field=name,
                )
        if self.bits is not None:
            bits = checked_number(self.bits, "bits", whole=True, least=16, most=32)
            object.__setattr__(self, "bits", bits)
        if self.loudness_lufs is not None:
            object.__setattr__(self, "loudness_lufs", float(self.loudness_lufs))


def sidecar(output: Path) -> Path:
    """Return the path of the file beside `output` that says how it was made."""
    return output.with_name(f"{output.name}.json")


def preview_path(output: Path) -> Path:
    """Return the path of the picture of an output: OUT.png."""
    return output.with_name(f"{output.name}.png")


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


def check_free(output: Path, *, overwrite: bool, preview: bool = False) -> None:
    """Refuse an output whose place, or that of its sidecar or picture, is taken.

    What an interrupted run left is not in the way, and its temporary files are removed.

    Raises:
        UserError: A file or folder is in the way.
    """
    from omni2sound.media.files import shown_name

    remove_leftovers(output)
    remove_leftovers(sidecar(output))
    places = (output, sidecar(output), *([preview_path(output)] if preview else ()))
    for path in places:
        if path.is_dir():
            raise UserError(f"{shown_name(path)}: is a folder; choose another name")
    if overwrite or _is_half_done(output):
        return
    for path in places:
        if os.path.lexists(path):  # a link to nothing, too
            raise UserError(
                f"{shown_name(path)}: exists already; choose another name, or set `overwrite`"
            )


def _is_half_done(output: Path) -> bool:
    """Whether a run ended between the sidecar and its output, which is absent or empty."""
    is_empty = output.is_file() and output.stat().st_size == 0
    return (is_empty or not os.path.lexists(output)) and read_sidecar(output) is not None


def default_output(
    folder: Path, video: Path | None, stem: str | None = None, *, reencode: bool = False
) -> Path:
    """Choose the output of a request that names none.

    Args:
        folder: Folder of the output.
        video: The request's video; a moving one gives its own suffix, or the first container that
            loses nothing shown (`media.copy.containers.default_suffix`), anything else .wav.
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
    outputs = numbered(output, request.takes)
    for path in outputs:
        check_target(path, request, options)
    return outputs


def numbered(output: Path, takes: int, *, first: int = 1) -> list[Path]:
    """Name the outputs of several takes OUT-1, OUT-2, ...; that of a single one is OUT."""
    if takes == 1 and first == 1:
        return [output]
    return [output.with_stem(f"{output.stem}-{first + k}") for k in range(takes)]


def takes_beside(output: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the earlier takes of an output, OUT-1 up to the last of a row, with their sidecars.

    OUT itself is the first of a row that goes on with OUT-2.

    Raises:
        UserError: A take has no sidecar of ours.
    """
    from omni2sound.media.files import shown_name

    found: list[tuple[Path, dict[str, Any]]] = []
    while True:
        path = output.with_stem(f"{output.stem}-{len(found) + 1}")
        if not found and not path.exists():
            path = output
        if not path.exists():
            return found
        made = read_sidecar(path)
        if made is None or not isinstance(made.get("seed"), int):
            raise UserError(f"{shown_name(path)}: is no take with a sidecar; choose another output")
        found.append((path, made))


def check_target(output: Path, request: GenerationRequest, options: OutputOptions) -> None:
    """Refuse, before anything is loaded, what could not be written afterwards.

    Raises:
        MediaError: The video can't be read or has no picture.
        UserError: The output is in the way, its suffix unknown, or it does not fit the request.
    """
    request.resolve_duration(1.0)  # looks into the video
    check_output_of(request.video, output, options, duration_s=request.duration_s)
    if request.stems:
        from omni2sound.generate.stems.files import check_stems_folder, stems_folder

        replaced = options.overwrite or _is_half_done(output)
        check_stems_folder(stems_folder(output), overwrite=replaced)


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
    from omni2sound.media.encode import PCM_16, sound_codec
    from omni2sound.media.files import VIDEO_SUFFIXES, check_output, shown_name
    from omni2sound.media.info import probe
    from omni2sound.media.packets import end_early

    name = shown_name(output)
    check_output(output, overwrite=True)
    sound_codec(output, PCM_16, options.bits)
    check_free(output, overwrite=options.overwrite, preview=options.preview)
    muxed = output.suffix.lower() in VIDEO_SUFFIXES
    if muxed and video is None:
        raise UserError(f"{name}: a video output needs a video; give one, or write .wav")
    if options.keep_audio and video is None:
        raise UserError("needs a video, whose own sound is mixed in", field="keep_audio")
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
    places: bool,
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
        places: Whether sound for a video is stereo where the request does not say.
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
    if request.channels is not None:
        asked |= {"mono": True} if request.channels == 1 else {"channels": request.channels}
    elif places and video is not None:
        asked["stereo"] = True
    for name in ("mix_db", "duck_db", "bits"):
        if (value := getattr(options, name)) is not None:
            asked[name] = value
    if request.cues:
        asked["cues"] = [asdict(cue) for cue in request.cues]
    if request.leave_out:
        asked["leave_out"] = sorted(request.leave_out)
    if not request.ambience:
        asked["ambience"] = False
    if request.stems:
        asked["stems"] = True
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def save(
    result: GenerationResult,
    output: Path,
    *,
    video: Path | None,
    options: OutputOptions,
    more_facts: Mapping[str, Any] | None = None,
    stems_made: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `output` and its sidecar, both or neither.

    Args:
        result: What was made.
        output: A path that `check_output_of` accepted.
        video: The video whose picture a video output copies.
        options: How files are written.
        more_facts: Added to the result's own, and to the digest of its request unless it is one
            of them. Default: none.
        stems_made: What the description of stems says of how they were made in place of the
            facts; `request`: what they are made again from. Default: the result's request.

    Returns:
        What the sidecar says.

    Raises:
        UserError: The file can't be written, or another process has written it meanwhile.
    """
    from omni2sound.generate.stems.files import stems_beside
    from omni2sound.generate.studio.writing import for_editor, write_sound
    from omni2sound.media.files import VIDEO_SUFFIXES

    muxed = video is not None and output.suffix.lower() in VIDEO_SUFFIXES
    copied = video if muxed and video != result.request.video else None
    more_facts = more_facts or {}
    if "request_sha256" not in more_facts:
        more_facts = {"request_sha256": _digest_of(result, options, copied), **more_facts}
    begin = time.perf_counter()
    result = for_editor(result, output)
    facts = _facts(result, options, more_facts)
    half_done = _is_half_done(output)
    overwrite = options.overwrite or half_done
    replace = options.overwrite or (half_done and output.exists())
    report: dict[str, Any] = {}
    old = _old_sidecar(output)
    enter("writing")
    try:
        with (
            atomic_path(output, replace=replace, alone=True) as finished,
            stems_beside(result, output, facts, made=stems_made, overwrite=overwrite),
        ):
            leveling, copy = write_sound(result, finished, video, facts, options)
            report = {
                "output": str(output),
                **({} if copied is None else {"copied_video": str(copied)}),
                **facts,
                **copy,
                **_measured(result, leveling, write_s=time.perf_counter() - begin),
                "output_bytes": finished.stat().st_size,
                "output_sha256": file_sha256(finished),
            }
            with atomic_path(sidecar(output), replace=overwrite) as path:
                path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        parts = ", ".join(f"{name} {s:.2f} s" for name, s in report["time_s"].items())
        logger.debug("%s: %s; %.2f s a second of sound", output.name, parts, report["rtf"])
    except BaseException:
        # The output may have its name already: an error or Ctrl-C can come right after.
        written = read_sidecar(output) or {}
        is_new = bool(written) and written["output_sha256"] == report.get("output_sha256")
        if is_new and not is_whole(output, written):
            _put_back(output, old)
        raise
    if options.preview:
        from omni2sound.generate.studio.preview import draw_preview, title_of

        takes = [(title_of(output, report), output)]
        draw_preview(takes, video, preview_path(output), overwrite=overwrite)
    return report


def _digest_of(result: GenerationResult, options: OutputOptions, copied: Path | None) -> str:
    return request_sha256(
        result.request,
        options,
        model_sha256=result.model_sha256,
        dtype=result.dtype,
        seed=result.seed,
        recognises=result.seen is not None,
        places=result.audio.num_channels > 1,
        copied=copied,
    )


def _facts(
    result: GenerationResult, options: OutputOptions, more_facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What the tag of an output says."""
    software = f"omni2sound {importlib.metadata.version('omni2sound')}"
    facts = result.facts() | {"software": software, **more_facts}
    for name in ("loudness_lufs", "mix_db", "duck_db"):
        if (value := getattr(options, name)) is not None:
            facts[name] = value
    return facts | {name: True for name in ("keep_audio", "reencode") if getattr(options, name)}


def _measured(result: GenerationResult, leveling: Leveling, *, write_s: float) -> dict[str, Any]:
    """Level and times, for the sidecar."""
    time_s = {name.removesuffix("_s"): t for name, t in asdict(result.timings).items()}
    time_s["write"] = write_s
    made_in_s = time_s["encode"] + time_s["sample"] + time_s["decode"]
    return {
        "leveling": {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(leveling).items()
        },
        "time_s": {name: round(seconds, 4) for name, seconds in time_s.items()},
        "rtf": round(made_in_s / result.duration_s, 4),
    }


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
