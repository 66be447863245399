"""The page of a listening test: one file, one script of its own, no request.

In:   trials with stimuli under labels.
Out:  HTML. Answers are kept in the browser as they are given, and saved as a file at the end.

What not to get wrong: nothing in the page may say which system is which, not even by order or
by a file's metadata; and the policy allows the one script by its digest, nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from omni2sound.bench.report.html import data_uri

if TYPE_CHECKING:
    from omni2sound.bench.listening.stimulus import Stimulus

__all__ = ["page_of", "policy_of"]

Trial = tuple[str, str, Sequence[str], "Sequence[Stimulus]", "Stimulus | None"]
"""Its name, caption, questions, stimuli, and the open reference of a mushra trial."""

_STYLE = """
:root { color-scheme: light; --ink: #1d2433; --soft: #667085; --line: #e4e7ec; --blue: #175cd3; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1100px; padding: 28px 20px 80px; color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; }
.soft { color: var(--soft); }
section { display: none; }
section.now { display: block; }
.stimuli { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 18px; }
.stimulus { border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.stimulus video { width: 100%; border-radius: 6px; background: #000; }
.stimulus audio { width: 100%; }
fieldset { border: 0; padding: 10px 0 0; margin: 0; }
legend, label.scale { font-size: 14px; }
input[type=range] { width: 100%; }
.row { display: flex; gap: 20px; flex-wrap: wrap; }
.row label { display: flex; gap: 6px; align-items: center; }
button { font: inherit; padding: 8px 18px; border-radius: 8px; border: 1px solid var(--line);
  background: #fff; cursor: pointer; }
button.main { background: var(--blue); color: #fff; border-color: var(--blue); }
button:disabled { opacity: .4; cursor: default; }
nav { display: flex; gap: 10px; align-items: center; margin-top: 26px; }
progress { flex: 1; }
output { display: inline-block; min-width: 2.2em; font-variant-numeric: tabular-nums; }
"""

_SCRIPT = """
"use strict";
const kit = document.body.dataset.kit;
const trials = [...document.querySelectorAll("section[data-trial]")];
for (let i = trials.length - 1; i > 0; i--) {
  const j = Math.floor(Math.random() * (i + 1));
  [trials[i], trials[j]] = [trials[j], trials[i]];
}
const pages = [document.getElementById("start"), ...trials, document.getElementById("end")];
const given = {};
const started = new Date().toISOString();
let at = 0;
function needed(page) {
  return [...page.querySelectorAll("[data-answer]")].map(e => e.dataset.answer);
}
function refresh() {
  pages.forEach((page, i) => page.classList.toggle("now", i === at));
  document.querySelectorAll("audio, video").forEach(m => m.pause());
  document.querySelector("progress").value = at / (pages.length - 1);
  document.getElementById("back").disabled = at === 0;
  const name = document.getElementById("listener").value.trim();
  const whole = at === 0 ? name !== "" : needed(pages[at]).every(key => key in given);
  document.getElementById("next").disabled = at === pages.length - 1 || !whole;
}
function take(key, value) {
  given[key] = value;
  try { localStorage.setItem(kit, JSON.stringify(given)); } catch (error) { /* private window */ }
  refresh();
}
document.querySelectorAll("[data-answer]").forEach(element => {
  element.addEventListener("change", event => {
    const value = event.target.value;
    take(element.dataset.answer, event.target.type === "range" ? Number(value) : value);
    const shown = element.querySelector("output");
    if (shown) shown.textContent = value;
  });
});
document.getElementById("listener").addEventListener("input", refresh);
document.getElementById("next").addEventListener("click", () => { at += 1; refresh(); });
document.getElementById("back").addEventListener("click", () => { at -= 1; refresh(); });
function answers() {
  const listener = document.getElementById("listener").value.trim();
  const order = trials.map(t => t.dataset.trial);
  return { kit, listener, started, finished: new Date().toISOString(), order, answers: given };
}
document.getElementById("save").addEventListener("click", () => {
  const told = answers();
  const link = document.createElement("a");
  const text = JSON.stringify(told, null, 1);
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "answers-" + told.listener.replace(/[^A-Za-z0-9_-]+/g, "-") + ".json";
  link.click();
});
refresh();
"""


def policy_of(script: str = _SCRIPT) -> str:
    """What the page may do: run its own script, show what is in it."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "media-src data:; img-src data:; base-uri 'none'; form-action 'none'"
    )


def page_of(*, kind: str, kit: str, questions: Mapping[str, str], trials: Sequence[Trial]) -> str:
    """The page.

    Args:
        kind: "pairs" or "mushra".
        kit: Goes into the answers, so that they can be told from those of another test.
        questions: By name, in words.
        trials: In any order; each listener gets their own.
    """
    how = (
        "Each page has two versions of one clip. Play both as often as you like, then say "
        "which is better, or that there is no difference."
        if kind == "pairs"
        else "Each page has one clip in several versions and, on top, the reference. Rate every "
        "version from 0 (bad) to 100 (excellent). One of them is the reference itself."
    )
    sections = "".join(_trial(kind, questions, trial) for trial in trials)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy_of()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>Listening test</title><style>{_STYLE}</style></head><body data-kit="{kit}">'
        '<section id="start"><h1>Listening test</h1>'
        f"<p>{how}</p><p>Please use headphones, in a quiet room. There are {len(trials)} pages; "
        "what you have answered stays in this browser only, until you save it at the end.</p>"
        '<p><label>Your name, or any word: <input id="listener" autocomplete="off"></label></p>'
        f"</section>{sections}"
        '<section id="end"><h1>Thank you</h1><p>Save your answers as a file and send it to whoever '
        'asked you.</p><p><button class="main" id="save">Save answers</button></p></section>'
        '<nav><button id="back">Back</button><progress max="1" value="0"></progress>'
        '<button class="main" id="next">Next</button></nav>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _trial(kind: str, questions: Mapping[str, str], trial: Trial) -> str:
    name, caption, asked, stimuli, reference = trial
    told = f'<p class="soft">{html.escape(caption)}</p>' if caption else ""
    parts = [f'<section data-trial="{name}">{told}']
    if reference is not None:
        parts.append(
            '<div class="stimuli"><div class="stimulus"><strong>Reference</strong>'
            f"{_player(reference)}</div></div><p></p>"
        )
    parts.append('<div class="stimuli">')
    for letter, stimulus in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", stimuli, strict=False):
        scales = ""
        if kind == "mushra":
            scales = "".join(_scale(name, stimulus.label, q, questions[q]) for q in asked)
        parts.append(
            f'<div class="stimulus"><strong>{letter}</strong>{_player(stimulus)}{scales}</div>'
        )
    parts.append("</div>")
    if kind == "pairs":
        parts += [_choice(name, stimuli, q, questions[q]) for q in asked]
    return "".join([*parts, "</section>"])


def _player(stimulus: Stimulus) -> str:
    source = data_uri(stimulus.kind, stimulus.data)
    tag = "video" if stimulus.kind.startswith("video/") else "audio"
    return f'<{tag} controls preload="metadata" src="{source}"></{tag}>'


def _scale(trial: str, label: str, question: str, words: str) -> str:
    key = html.escape(json.dumps([trial, label, question]))
    return (
        f'<fieldset data-answer="{key}"><label class="scale">{html.escape(words)} '
        '<output>–</output><input type="range" min="0" max="100" step="1" value="50"></label>'
        "</fieldset>"
    )


def _choice(trial: str, stimuli: Sequence[Stimulus], question: str, words: str) -> str:
    key = html.escape(json.dumps([trial, "", question]))
    name = f"{trial}-{question}"
    options = [
        (stimuli[0].label, "A is better"),
        ("", "no difference"),
        (stimuli[1].label, "B is better"),
    ]
    radios = "".join(
        f'<label><input type="radio" name="{name}" value="{value}">{shown}</label>'
        for value, shown in options
    )
    return (
        f'<fieldset data-answer="{key}"><legend>{html.escape(words)}</legend>'
        f'<div class="row">{radios}</div></fieldset>'
    )
