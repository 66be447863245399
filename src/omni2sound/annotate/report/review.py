"""Review by a person: a page of the clips that the filter was least sure of, and its decisions.

In:   a run's folder; later the file that the page saved.
Out:  an HTML page with sound, picture, caption and reasons of each clip; `Review`s by clip.

A clip is the less sure, the nearer the score that decided is to its threshold, on either side. The
page is one file that sends nothing: the browser saves the decisions as JSON, and `annotate export
--reviews` applies them. What not to get wrong: a decision holds for the caption that was shown, so
one about a caption that has changed since is left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from html import escape
from pathlib import Path
from typing import Literal

import soundfile

from omni2sound.annotate.filters import Thresholds
from omni2sound.annotate.media import SAMPLE_RATE_HZ, clip_sound
from omni2sound.annotate.records import Caption, Decision
from omni2sound.annotate.report.page import image_of
from omni2sound.annotate.roles import SourceClip
from omni2sound.annotate.runs import (
    Review,
    RunSettings,
    Story,
    clip_name,
    source_clips,
    stories,
)
from omni2sound.config import from_json
from omni2sound.data.corpora.manifest import Manifest, read_manifest
from omni2sound.errors import MediaError, UserError
from omni2sound.files import write_text
from omni2sound.media.page import data_uri, html_page
from omni2sound.readers import read_object

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("review.js")


def margin_of(story: Story, thresholds: Thresholds) -> float | None:
    """Return how far the deciding score lies above its threshold; below 0 the clip was dropped.

    None if the filter did not decide: the clip ended before or after it.
    """
    decision, caption = story.steps.get("post-hoc"), story.caption
    if not isinstance(decision, Decision) or caption is None:
        return None
    if story.ending.end == "dropped" and decision.outcome != "drop":
        return None  # by the validator
    least = thresholds.drop_music if caption.is_music else thresholds.drop
    margins = [decision.scores["caption_audio"] - least]
    if "weakest_event" in decision.scores:
        margins.append(decision.scores["weakest_event"] - thresholds.drop_event)
    return min(margins)


def write_review_page(run: Path, output: Path, *, num_clips: int = 50) -> int:
    """Write a page of the clips nearest to the filter's thresholds.

    Args:
        run: Folder of the run.
        output: HTML file to write.
        num_clips: Most clips of the page; their sounds and pictures are in it.

    Returns:
        Number of clips on the page.

    Raises:
        UserError: The run keeps no thresholds, or the filter has decided on no clip.
    """
    settings = RunSettings.read(run)
    if settings.thresholds is None:
        raise UserError(
            f"{run}: was made by an earlier release, which kept no thresholds; the same `annotate "
            "run` again adds them"
        )
    manifest = read_manifest(Path(settings.manifest))
    chosen = _least_sure(run, manifest, settings.thresholds, num_clips)
    if not chosen:
        raise UserError(f"{run}: the filter has decided on no clip yet; nothing to review")
    sources = {clip.name: clip for clip in source_clips(manifest)}
    sections = [_section(story, margin, sources[clip_name(story.clip)]) for margin, story in chosen]
    body = (
        f"<h1>Review of {len(chosen)} clips</h1>"
        "<p>Those whose score is nearest to the filter's threshold come first. Listen, correct the "
        "caption if it is wrong, then keep or drop the clip. Nothing is sent; save the decisions "
        "at the end and give the file to <code>omni2sound annotate export --reviews</code>.</p>"
        f'<p><label>Your name <input id="who" autocomplete="name"></label></p>{"".join(sections)}'
        '<p><output id="done">0</output> decided. <button id="save" disabled>Save</button></p>'
    )
    write_text(output, html_page("Review", body, style=_STYLE, script=_SCRIPT))
    return len(chosen)


def _least_sure(
    run: Path, manifest: Manifest, thresholds: Thresholds, num_clips: int
) -> list[tuple[float, Story]]:
    judged = (
        (margin, story)
        for story in stories(run, manifest, perceptions=False)
        if (margin := margin_of(story, thresholds)) is not None
    )
    return nsmallest(num_clips, judged, key=lambda pair: (abs(pair[0]), clip_name(pair[1].clip)))


def _section(story: Story, margin: float, source: SourceClip) -> str:
    caption, name = story.caption, escape(source.name)
    assert caption is not None  # it has a margin
    text, decision = escape(caption.text), story.steps["post-hoc"]
    reasons = "; ".join(decision.reasons) if isinstance(decision, Decision) else ""
    return (
        f'<section data-clip="{name}" data-caption="{text}"><h2>{name}</h2>{image_of(source)}'
        f'<p>{_player(source)}</p><p><textarea rows="2" cols="80" aria-label="Caption of {name}">'
        f"{text}</textarea></p><ul>{''.join(_events(caption))}</ul>"
        f"<p>The filter: <b>{escape(story.ending.end)}</b> by {margin:+.3f}; {escape(reasons)}</p>"
        '<fieldset><legend>Decision</legend><button data-decision="keep">Keep</button> '
        '<button data-decision="drop">Drop</button> <output></output></fieldset></section>'
    )


def _events(caption: Caption) -> Iterable[str]:
    for event in caption.events:
        times = ""
        if event.start_s is not None and event.end_s is not None:
            times = f", {event.start_s:.1f} to {event.end_s:.1f} s"
        yield f"<li>{escape(event.what)}{times}</li>"


def _player(source: SourceClip) -> str:
    try:
        samples_N = clip_sound(source)
    except (MediaError, OSError) as error:
        return escape(str(error))
    file = io.BytesIO()
    soundfile.write(file, samples_N, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    address = data_uri("audio/flac", file.getvalue())
    return f'<audio controls preload="metadata" src="{address}"></audio>'


@dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    """One decision in a file."""

    decision: Literal["keep", "drop"]
    shown: str
    caption: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Saved:
    """A file that the page saved."""

    omni2sound_review: Literal[1]
    who: str
    when: str
    clips: Mapping[str, _Given]


class Reviews:
    """Decisions of people by clip."""

    def __init__(self, files: Iterable[Path] = ()) -> None:
        """Read files that pages saved; of two decisions on a clip the later file's holds.

        Raises:
            ConfigError: A file is none of these.
        """
        self._by_clip: dict[str, tuple[str, Review]] = {}
        self.applied = 0
        """Decisions that were applied so far."""
        for path in files:
            saved = from_json(_Saved, read_object(path), where=str(path))
            for name, given in saved.clips.items():
                review = Review(
                    keep=given.decision == "keep",
                    caption=" ".join(given.caption.split()) or given.shown,
                    who=saved.who,
                )
                self._by_clip[name] = (given.shown, review)

    def __len__(self) -> int:
        return len(self._by_clip)

    def of(self, story: Story) -> Review | None:
        """Return the decision on a clip, if it is about its caption as it is now."""
        shown, review = self._by_clip.get(clip_name(story.clip), ("", None))
        if review is None or story.caption is None or story.caption.text != shown:
            return None
        self.applied += 1
        return review
