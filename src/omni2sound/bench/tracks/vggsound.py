"""The track `vggsound-omni`, from a user's own copy of VGGSound's test set.

In:   vggsound.csv and its videos, captions, and optionally music to mix in.
Out:  a track; or, as long as somebody has to look at clips, the queue that says which.

    WORK/checks.jsonl   what the language model said of each caption
    WORK/review.csv     clips that a person has to decide on (`review`)
    OUT/                the track, and OUT/decisions.jsonl: how each clip came in or stayed out

*Main*: nothing is heard whose source is not seen, as far as the check says. *Off-screen,
natural*: something is, or the given audio-visual similarity is low; and no voice is heard from
outside the picture: neither the check says so, nor does the judge hear speech. *Off-screen,
synthetic*: a main clip with music mixed in (`mixes`). Clips are 8 s: what av-benchmark listens to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omni2sound.bench.tracks.caption_check import (
    PROMPT_VERSION,
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
from omni2sound.bench.tracks.review import QueueRow, update_queue
from omni2sound.bench.tracks.track import Part, Track, TrackClip, TrackInfo, write_track
from omni2sound.data.corpora.manifest import Clip, Manifest
from omni2sound.errors import UserError
from omni2sound.files import atomic_path
from omni2sound.llm.chat import ChatModel

__all__ = ["CaptionRow", "VggsoundPlan", "Waiting", "build_vggsound_track"]

NAME = "vggsound-omni"
VERSION = "1"
CLIP_S = 8.0
CHECKS, QUEUE, DECISIONS = "checks.jsonl", "review.csv", "decisions.jsonl"

HearsSpeech = Callable[[Path], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionRow:
    """What is known of a clip besides VGGSound's own row."""

    caption: str
    visual: str = ""
    """What the silent video shows."""
    similarity: float | None = None
    """Of sound and picture, on the scale of whoever measured it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VggsoundPlan:
    """What may be chosen; all of it is written into the track."""

    mixes: MixPlan
    max_similarity: float = 0.2
    """Below: low correspondence. The paper's bound for dropping clips, on ImageBind's scale."""
    captions_by: str = ""
    """Whose captions they are."""
    clip_s: float = CLIP_S


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """The track can't be written yet."""

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
    """Check, queue, and write once everything is decided.

    Args:
        clips: Of the test split, with videos below `media`.
        media: Their folder.
        captions: By clip id.
        out: Folder of the track.
        work: Folder of checks and queue; kept between calls.
        plan: Thresholds and mixes.
        model: Checks captions; None: nobody does, and the track says so.
        hears_speech: Whether somebody speaks in a file's sound.
        music: Pieces to mix in; None: no synthetic part.
        missing: Clips whose media are not there, for the record.
        on_step: Told about each step.

    Raises:
        UserError: The folder holds a track, no clip has a caption, or the queue is malformed.
    """
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    told: list[dict[str, Any]] = [{"clip_id": i, "out": "media missing"} for i in missing]
    usable = []
    for clip in sorted(clips, key=lambda c: c.clip_id):
        if clip.video is None:
            told.append({"clip_id": clip.clip_id, "out": "no video"})
        elif not captions.get(clip.clip_id, CaptionRow(caption="")).caption.strip():
            told.append({"clip_id": clip.clip_id, "out": "no caption"})
        else:
            usable.append(clip)
    if not usable:
        raise UserError("no clip has both a video and a caption; are the names the same?")
    checks = _checks(usable, captions, work / CHECKS, model, on_step("checking captions"))
    proposed: dict[str, tuple[Part, tuple[str, ...]]] = {}
    count = on_step("listening for voices")
    for at, clip in enumerate(usable, start=1):
        row, check = captions[clip.clip_id], checks.get(clip.clip_id)
        part, flags, reason_out = _propose(clip, row, check, plan, media, hears_speech)
        if reason_out:
            told.append({"clip_id": clip.clip_id, "out": reason_out, **_said(check)})
        else:
            proposed[clip.clip_id] = (part, flags)
        count(at, len(usable))
    by_id = {c.clip_id: c for c in usable}
    rows = update_queue(
        work / QUEUE,
        [
            QueueRow(
                clip_id=i,
                part=part,
                label=", ".join(by_id[i].labels),
                caption=captions[i].caption,
                flags="; ".join(flags),
                reason=_reason(checks.get(i)),
            )
            for i, (part, flags) in proposed.items()
            if flags
        ],
    )
    waiting = sum(not row.is_decided for row in rows)
    if waiting:
        return Waiting(queue=work / QUEUE, num_waiting=waiting)
    decided = {row.clip_id: row for row in rows}
    chosen = []
    for clip_id, (part, _) in proposed.items():
        decision = decided.get(clip_id)
        how: dict[str, Any] = {**_said(checks.get(clip_id))}
        caption = captions[clip_id].caption
        if decision is not None:
            how["review"] = {
                "decision": decision.decision,
                "who": decision.who,
                "when": decision.when,
                "flags": decision.flags,
            }
            if decision.decision == "reject":
                told.append({"clip_id": clip_id, "out": "rejected in review", **how})
                continue
            if decision.decision == "edit":
                how["caption_before"], caption = caption, decision.new_caption
        chosen.append(_Choice(clip=by_id[clip_id], caption=caption, part=part, how=how))
    written = [_clip_of(c, plan.clip_s) for c in chosen]
    if music is not None:
        mixed = _mixes(chosen, media, music, out, plan, told, on_step("mixing music"))
        written = _taking_turns(written, mixed)
    told += [{"clip_id": c.clip.clip_id, "in": c.part, **c.how} for c in chosen]
    _write_lines(out / DECISIONS, sorted(told, key=lambda line: str(line["clip_id"])))
    built = {
        "captions_by": plan.captions_by,
        "checked_by": None if model is None else str(model.id),
        "prompt": None if model is None else PROMPT_VERSION,
        "max_similarity": plan.max_similarity,
        "mixes": None if music is None else asdict(plan.mixes),
        "clip_s": plan.clip_s,
    }
    info = TrackInfo(name=NAME, version=VERSION, built=built)
    return write_track(out, info, written, media=media)


def _checks(
    clips: Sequence[Clip],
    captions: Mapping[str, CaptionRow],
    stored: Path,
    model: ChatModel | None,
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
    found = check_captions(asked, model, on_clip=on_clip)
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
    """Part, flags, and why the clip stays out (empty: it does not)."""
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
    assert clip.video is not None  # sorted out before
    if hears_speech(media / clip.video):
        return "offscreen", (), "the judge hears speech in an off-screen clip"
    return "offscreen", flags, ""


def _said(check: ModalityCheck | str | None) -> dict[str, Any]:
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
    told: list[dict[str, Any]],
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
            told.append({"clip_id": name, "out": str(error), "mix": draw.to_json()})
            continue
        origin = {"of": clip_id, "mix": draw.to_json(), "scaled_by": factor}
        told.append({"clip_id": name, "in": "offscreen", **origin})
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


def _taking_turns(first: Sequence[TrackClip], second: Sequence[TrackClip]) -> list[TrackClip]:
    """Both in order, evenly mixed, so that a limit cuts neither off."""
    places = [
        ((k + 0.5) / len(items), n, k)
        for n, items in enumerate((first, second))
        if items
        for k in range(len(items))
    ]
    both = (first, second)
    return [both[n][k] for _, n, k in sorted(places)]


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
