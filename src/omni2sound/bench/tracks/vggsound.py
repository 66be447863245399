"""The track `vggsound-omni`, built from a user's own copy of VGGSound's test set.

In:   vggsound.csv and its videos, captions, and optionally music to mix in.
Out:  a track; or, while clips need a person's decision, the queue that lists them.

    WORK/checks.jsonl   the language model's check of each caption
    WORK/review.csv     clips that a person has to decide on (`review`)
    OUT/                the track, and OUT/decisions.jsonl: why each clip is in or out

*Main*: every sound's source is visible, according to the check. *Off-screen, natural*: a source
is not visible, or the given audio-visual similarity is low; and there is no off-screen voice:
neither does the check report one, nor does the tagger find speech. *Off-screen, synthetic*: a main
clip with music mixed in (`music_mixes`). Clips are 8 s, the length that av-benchmark uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from omni2sound.bench.tracks.caption_check import (
    Asking,
    CaptionedClip,
    ModalityCheck,
    check_captions,
    flags_of,
)
from omni2sound.bench.tracks.music_mixes import (
    CAPTION,
    MixPlan,
    choose_clips,
    draw_music,
    mix_music,
)
from omni2sound.bench.tracks.public import read_caption_rows
from omni2sound.bench.tracks.review import QueueRow, update_queue
from omni2sound.bench.tracks.track import Part, Track, TrackClip, TrackInfo, json_line, write_track
from omni2sound.data.corpora.manifest import Clip, Manifest
from omni2sound.errors import UserError
from omni2sound.files import write_text
from omni2sound.llm.chat import ChatModel

NAME = "vggsound-omni"
VERSION = "1"
CLIP_S = 8.0
CHECKS, QUEUE, DECISIONS = "checks.jsonl", "review.csv", "decisions.jsonl"

HearsSpeech = Callable[[Path], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionRow:
    """Caption of a clip and, if known, a description of its video."""

    caption: str
    visual: str = ""
    """Description of the silent video."""
    similarity: float | None = None
    """Audio-visual similarity, on the scale of the model that measured it."""


def read_captions(path: Path) -> dict[str, CaptionRow]:
    """Read captions by clip id from a manifest or a table with `name` and `caption`.

    A table may have the columns `visual` and `similarity`, too.

    Raises:
        UserError: The file is neither, or a similarity is no number.
    """
    return {
        name: CaptionRow(
            caption=str(row["caption"] or ""),
            visual=str(row.get("visual") or ""),
            similarity=_number(row.get("similarity"), f"{path}: {name}"),
        )
        for name, row in read_caption_rows(path).items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class VggsoundPlan:
    """Settings of the track; all are written into it."""

    mixes: MixPlan
    max_similarity: float = 0.2
    """Clips below it are off-screen. The paper's bound for dropping clips, on ImageBind's scale."""
    captions_by: str = ""
    """Name of the captions' author."""
    clip_s: float = CLIP_S
    asking: Asking = field(default_factory=Asking)
    """How the model that checks captions is asked; its prompt is written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A person has to decide on clips before the track can be written."""

    queue: Path
    num_waiting: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Choice:
    clip: Clip
    caption: str
    part: Part
    how: Mapping[str, Any]


def build_vggsound_track(
    clips: Sequence[Clip],
    media: Path,
    captions: Mapping[str, CaptionRow],
    out: Path,
    work: Path,
    plan: VggsoundPlan,
    *,
    model: ChatModel | None,
    hears_speech: HearsSpeech,
    music: Manifest | None = None,
    missing: Sequence[str] = (),
    on_step: Callable[[str], Callable[[int, int], None]],
) -> Track | Waiting:
    """Check captions, queue doubtful clips, and write the track once all are decided.

    Args:
        clips: Clips of the test split, with videos below `media`.
        media: Folder of the videos.
        captions: Captions by clip id.
        out: Folder of the track.
        work: Folder of checks and queue; kept between calls.
        plan: Thresholds and mixes.
        model: Checks captions. None skips the check, which is noted in the track.
        hears_speech: Whether a file's sound holds speech.
        music: Pieces to mix in. Default: no synthetic part.
        missing: Clips without media, for the record.
        on_step: Called with the name of each step; returns its progress callback.

    Raises:
        UserError: The folder holds a track, no clip has a caption, or the queue is malformed.
    """
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    log: list[dict[str, Any]] = [{"clip_id": i, "out": "media missing"} for i in missing]
    usable = _usable(clips, captions, log)
    checks = _checks(
        usable.values(), captions, work / CHECKS, model, plan.asking, on_step("checking captions")
    )
    proposed: dict[str, tuple[Part, tuple[str, ...]]] = {}
    count = on_step("listening for voices")
    for at, (clip_id, clip) in enumerate(usable.items(), start=1):
        check = checks.get(clip_id)
        part, flags, reason = _propose(clip, captions[clip_id], check, plan, media, hears_speech)
        if reason:
            log.append({"clip_id": clip_id, "out": reason, **_check_json(check)})
        else:
            proposed[clip_id] = (part, flags)
        count(at, len(usable))
    rows = _review(proposed, usable, captions, checks, work / QUEUE)
    if waiting := sum(not row.is_decided for row in rows.values()):
        return Waiting(queue=work / QUEUE, num_waiting=waiting)
    chosen = []
    for clip_id, (part, _) in proposed.items():
        caption, how = captions[clip_id].caption, _check_json(checks.get(clip_id))
        choice = _Choice(clip=usable[clip_id], caption=caption, part=part, how=how)
        row = rows.get(clip_id)
        if row is not None:
            choice = _reviewed(choice, row)
        if row is not None and row.decision == "reject":
            log.append({"clip_id": clip_id, "out": "rejected in review", **choice.how})
        else:
            chosen.append(choice)
    written = [_clip_of(c, plan.clip_s) for c in chosen]
    if music is not None:
        mixed = _mixes(chosen, media, music, out, plan, log, on_step("mixing music"))
        written = _interleave(written, mixed)
    log += [{"clip_id": c.clip.clip_id, "in": c.part, **c.how} for c in chosen]
    _write_lines(out / DECISIONS, sorted(log, key=lambda line: str(line["clip_id"])))
    built = {
        "captions_by": plan.captions_by,
        "checked_by": None if model is None else str(model.id),
        "prompt": None if model is None else plan.asking.prompt_version,
        "max_similarity": plan.max_similarity,
        "mixes": None if music is None else asdict(plan.mixes),
        "clip_s": plan.clip_s,
    }
    return write_track(
        out, TrackInfo(name=NAME, version=VERSION, built=built), written, media=media
    )


def _review(
    proposed: Mapping[str, tuple[Part, tuple[str, ...]]],
    usable: Mapping[str, Clip],
    captions: Mapping[str, CaptionRow],
    checks: Mapping[str, ModalityCheck | str],
    queue: Path,
) -> dict[str, QueueRow]:
    """Put the doubtful clips into the review queue; return its rows by clip id."""
    doubtful = [
        QueueRow(
            clip_id=i,
            part=part,
            label=", ".join(usable[i].labels),
            caption=captions[i].caption,
            flags="; ".join(flags),
            reason=_reason(checks.get(i)),
        )
        for i, (part, flags) in proposed.items()
        if flags
    ]
    return {row.clip_id: row for row in update_queue(queue, doubtful)}


def _usable(
    clips: Sequence[Clip], captions: Mapping[str, CaptionRow], log: list[dict[str, Any]]
) -> dict[str, Clip]:
    """Clips with a video and a caption, by id; the others are logged."""
    usable = {}
    for clip in sorted(clips, key=lambda c: c.clip_id):
        if clip.video is None:
            log.append({"clip_id": clip.clip_id, "out": "no video"})
        elif not captions.get(clip.clip_id, CaptionRow(caption="")).caption.strip():
            log.append({"clip_id": clip.clip_id, "out": "no caption"})
        else:
            usable[clip.clip_id] = clip
    if not usable:
        raise UserError("no clip has both a video and a caption; are the names the same?")
    return usable


def _reviewed(choice: _Choice, row: QueueRow) -> _Choice:
    review = {"decision": row.decision, "who": row.who, "when": row.when, "flags": row.flags}
    how = {**choice.how, "review": review}
    if row.decision != "edit":
        return replace(choice, how=how)
    return replace(choice, caption=row.new_caption, how={**how, "caption_before": choice.caption})


def _checks(
    clips: Iterable[Clip],
    captions: Mapping[str, CaptionRow],
    stored: Path,
    model: ChatModel | None,
    asking: Asking,
    on_clip: Callable[[int, int], None],
) -> dict[str, ModalityCheck | str]:
    if model is None:
        return {}
    asked = [
        CaptionedClip(
            clip_id=c.clip_id,
            label=", ".join(c.labels),
            caption=captions[c.clip_id].caption,
            visual=captions[c.clip_id].visual,
        )
        for c in clips
    ]
    found = check_captions(asked, model, asking, on_clip=on_clip)
    lines = [
        {"clip_id": i, "check": v if isinstance(v, str) else v.model_dump()}
        for i, v in sorted(found.items())
    ]
    _write_lines(stored, lines)
    return found


def _propose(
    clip: Clip,
    row: CaptionRow,
    check: ModalityCheck | str | None,
    plan: VggsoundPlan,
    media: Path,
    hears_speech: HearsSpeech,
) -> tuple[Part, tuple[str, ...], str]:
    """Part, flags for review, and the reason to leave the clip out (empty to keep it)."""
    if isinstance(check, str):
        return "main", (f"not checked: {check}",), ""
    low = row.similarity is not None and row.similarity < plan.max_similarity
    unseen = check is not None and check.has_unseen
    flags = () if check is None else flags_of(check)
    if not (low or unseen):
        return "main", flags, ""
    if check is not None and low and not unseen:
        flags = (*flags, f"similarity {row.similarity:.2f}, but every sound is said to be seen")
    if check is not None and check.background_voice:
        return "offscreen", (), "background voice, says the check"
    assert clip.video is not None  # checked by the caller
    if hears_speech(media / clip.video):
        return "offscreen", (), "speech was tagged in an off-screen clip"
    return "offscreen", flags, ""


def _number(cell: object, where: str) -> float | None:
    if cell is None or cell == "":
        return None
    try:
        return float(str(cell))
    except ValueError:
        raise UserError(
            f"{where}: similarity: expected a number or nothing, got {str(cell)[:40]!r}"
        ) from None


def _check_json(check: ModalityCheck | str | None) -> dict[str, Any]:
    if check is None:
        return {}
    return {"check": check if isinstance(check, str) else check.model_dump(mode="json")}


def _reason(check: ModalityCheck | str | None) -> str:
    return "" if check is None else check if isinstance(check, str) else check.reason


def _clip_of(choice: _Choice, clip_s: float) -> TrackClip:
    clip = choice.clip
    return TrackClip(
        clip_id=clip.clip_id,
        part=choice.part,
        caption=choice.caption,
        duration_s=clip_s,
        audio=f"media:{clip.audio or clip.video}",
        video=f"media:{clip.video}",
        label=", ".join(clip.labels),
        origin={"source": clip.source, "start_s": clip.source_start_s, **choice.how},
    )


def _mixes(
    chosen: Sequence[_Choice],
    media: Path,
    music: Manifest,
    out: Path,
    plan: VggsoundPlan,
    log: list[dict[str, Any]],
    on_clip: Callable[[int, int], None],
) -> list[TrackClip]:
    (out / "audio").mkdir(exist_ok=True)
    main = {c.clip.clip_id: c for c in chosen if c.part == "main"}
    picked = choose_clips(list(main), plan.mixes)
    mixed = []
    for at, clip_id in enumerate(picked, start=1):
        choice = main[clip_id]
        name = f"{clip_id}+music"
        draw = draw_music(clip_id, plan.clip_s, music.clips, plan.mixes)
        target = out / "audio" / f"{name}.wav"
        sound = media / (choice.clip.audio or choice.clip.video or "")
        try:
            factor = mix_music(sound, plan.clip_s, music, draw, target)
        except UserError as error:
            log.append({"clip_id": name, "out": str(error), "mix": draw.to_json()})
            continue
        origin = {"of": clip_id, "mix": draw.to_json(), "scaled_by": factor}
        log.append({"clip_id": name, "in": "offscreen", **origin})
        mixed.append(
            replace(
                _clip_of(choice, plan.clip_s),
                clip_id=name,
                part="offscreen",
                audio=f"own:audio/{name}.wav",
                caption=CAPTION.format(caption=choice.caption, music=draw.music_caption),
                origin=origin,
            )
        )
        on_clip(at, len(picked))
    return mixed


def _interleave(first: Sequence[TrackClip], second: Sequence[TrackClip]) -> list[TrackClip]:
    """Interleave evenly, each in its order, so that a limit keeps some of both."""
    places = [
        ((k + 0.5) / len(items), n, k)
        for n, items in enumerate((first, second))
        if items
        for k in range(len(items))
    ]
    both = (first, second)
    return [both[n][k] for _, n, k in sorted(places)]


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json_line(line) for line in lines))
