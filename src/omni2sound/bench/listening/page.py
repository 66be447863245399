"""The page of a listening test: one file with one script, no request.

In:   trials with labelled stimuli.
Out:  HTML. The browser keeps answers as they are given and saves them as a file at the end.

What not to get wrong: nothing in the page may reveal which system is which, not even the order or
a file's metadata.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from omni2sound.bench.listening.stimulus import Stimulus, Trial
from omni2sound.media.page import data_uri, html_page

_BODY, _STYLE, _SCRIPT = (
    Path(__file__).with_name(f"page.{kind}") for kind in ("html", "css", "js")
)
_INSTRUCTIONS = {
    "pairs": "Each page has two versions of one clip. Play both as often as you like, then choose "
    "the better one, or no difference.",
    "mushra": "Each page has one clip in several versions and, on top, the reference. Rate every "
    "version from 0 (bad) to 100 (excellent). One of them is the reference itself.",
}


def listening_page(
    *, kind: str, kit: str, questions: Mapping[str, str], trials: Sequence[Trial]
) -> str:
    """Compose the page.

    Args:
        kind: "pairs" or "mushra".
        kit: Identifier that the answers carry, so that they match no other test's key.
        questions: Text of each question, by name.
        trials: In any order; each listener gets their own.
    """
    body = Template(_BODY.read_text(encoding="utf-8")).substitute(
        kit=kit,
        instructions=_INSTRUCTIONS[kind],
        num_trials=len(trials),
        trials="\n".join(_trial(kind, questions, trial) for trial in trials),
    )
    return html_page("Listening test", body, style=_STYLE, script=_SCRIPT)


def _trial(kind: str, questions: Mapping[str, str], trial: Trial) -> str:
    parts = [f'<section data-trial="{trial.name}">']
    if trial.caption:
        parts.append(f'<p class="soft">{html.escape(trial.caption)}</p>')
    if trial.reference is not None:
        parts.append(
            '<div class="stimuli"><div class="stimulus"><strong>Reference</strong>'
            f"{_player(trial.reference)}</div></div><p></p>"
        )
    parts.append('<div class="stimuli">')
    for letter, stimulus in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", trial.stimuli, strict=False):
        scales = ""
        if kind == "mushra":
            scales = "".join(
                _scale(trial, stimulus.label, q, questions[q]) for q in trial.questions
            )
        parts.append(
            f'<div class="stimulus"><strong>{letter}</strong>{_player(stimulus)}{scales}</div>'
        )
    parts.append("</div>")
    if kind == "pairs":
        parts += [_choice(trial, q, questions[q]) for q in trial.questions]
    return "".join([*parts, "</section>"])


def _player(stimulus: Stimulus) -> str:
    source = data_uri(stimulus.media_type, stimulus.data)
    tag = "video" if stimulus.media_type.startswith("video/") else "audio"
    return f'<{tag} controls preload="metadata" src="{source}"></{tag}>'


def _scale(trial: Trial, label: str, question: str, text: str) -> str:
    key = html.escape(json.dumps([trial.name, label, question]))
    return (
        f'<fieldset data-answer="{key}"><label class="scale">{html.escape(text)} '
        '<output>–</output><input type="range" min="0" max="100" step="1" value="50"></label>'
        "</fieldset>"
    )


def _choice(trial: Trial, question: str, text: str) -> str:
    key = html.escape(json.dumps([trial.name, "", question]))
    first, second = trial.stimuli
    options = [(first.label, "A is better"), ("", "no difference"), (second.label, "B is better")]
    radios = "".join(
        f'<label><input type="radio" name="{trial.name}-{question}" value="{value}">{shown}</label>'
        for value, shown in options
    )
    return (
        f'<fieldset data-answer="{key}"><legend>{html.escape(text)}</legend>'
        f'<div class="row">{radios}</div></fieldset>'
    )
