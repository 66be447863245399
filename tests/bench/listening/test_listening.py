"""The page names nobody, and answers come out as they were put in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omni2sound.bench.listening.kit import (
    ANCHOR_LOW,
    ANCHOR_WRONG,
    FORMAT,
    KINDS,
    REFERENCE,
    Kind,
    read_key,
    write_kit,
)
from omni2sound.bench.listening.scores import (
    Answers,
    _resampled,
    _scores,
    analyse,
    as_text,
    read_answers,
)
from omni2sound.bench.tracks.track import Track
from omni2sound.errors import UserError
from omni2sound.media.page import policy_of

SYSTEMS = ("loudfoley", "quietfoley")


def kit(
    track: Track, folder: Path, kind: Kind, num_clips: int = 3, *, show_video: bool = True
) -> dict[str, Any]:
    systems = {name: {c.clip_id: track.path(c.audio) for c in track.clips} for name in SYSTEMS}
    return write_kit(
        track, systems, folder, kind=kind, num_clips=num_clips, seed=1, show_video=show_video
    )


Kits = dict[Kind, tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="module")
def kits(scene_track: Track, tmp_path_factory: pytest.TempPathFactory) -> Kits:
    """One kit of each kind, with its key; not to be changed."""
    folders: dict[Kind, Path] = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    return {kind: (folder, kit(scene_track, folder, kind)) for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", ["pairs", "mushra"])
def test_the_page_says_nothing_of_systems_and_asks_nobody(
    scene_track: Track, kits: Kits, kind: Kind
) -> None:
    folder, key = kits[kind]
    page = (folder / "page.html").read_text(encoding="utf-8")
    plain = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    decoded = b"".join(base64.b64decode(d) for d in re.findall(r"base64,([A-Za-z0-9+/=]+)", page))
    for name in (*SYSTEMS, REFERENCE, ANCHOR_LOW, ANCHOR_WRONG):
        assert name not in plain and name.encode() not in decoded
    assert not any(clip.clip_id in plain for clip in scene_track.clips)
    assert not re.findall(r"https?:|//[a-z]+\.", plain)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page
    assert policy_of(script) in page and "default-src 'none'" in policy_of(script)
    per_trial = 2 if kind == "pairs" else 2 + 3
    assert all(len(t["stimuli"]) == per_trial for t in key["trials"])
    assert page.count("<video") == 3 * (per_trial + (kind == "mushra"))
    assert read_key(folder) == key


def test_labels_and_order_do_not_give_systems_away(scene_track: Track, tmp_path: Path) -> None:
    key, again = (
        kit(scene_track, tmp_path / name, "pairs", num_clips=8, show_video=False) for name in "ab"
    )
    labels = [label for t in key["trials"] for label in t["stimuli"]]
    assert len(set(labels)) == len(labels)
    assert not set(labels) & {label for t in again["trials"] for label in t["stimuli"]}
    assert key["kit"] != again["kit"]
    firsts = {next(iter(t["stimuli"].values())) for t in key["trials"]}
    assert firsts == set(SYSTEMS)
    with pytest.raises(UserError, match="holds a kit"):
        kit(scene_track, tmp_path / "a", "pairs")


def saved(folder: Path, key: dict[str, Any], name: str, values: dict[str, Any]) -> Path:
    path = folder / f"answers-{name}.json"
    told = {"kit": key["kit"], "listener": name, "answers": values}
    path.write_text(json.dumps(told), encoding="utf-8")
    return path


def prefer(key: dict[str, Any], wins: str) -> dict[str, Any]:
    return {
        json.dumps([t["trial"], "", q]): next(k for k, v in t["stimuli"].items() if v == wins)
        for t in key["trials"]
        for q in t["questions"]
    }


def test_preferences_are_shares_and_no_difference_is_half(kits: Kits, tmp_path: Path) -> None:
    _, key = kits["pairs"]
    first, second = sorted(SYSTEMS)
    files = [
        saved(tmp_path, key, "ann", prefer(key, first)),
        saved(tmp_path, key, "bob", dict.fromkeys(prefer(key, first), "")),
    ]
    result = analyse(key, [read_answers(p, key) for p in files])
    assert {r.question for r in result.ratings} == {"fidelity", "semantics", "sync"}
    for rating in result.ratings:
        assert (rating.system, rating.against) == (first, second)
        assert rating.estimate.value == 0.75
        assert rating.estimate.low <= 0.75 <= rating.estimate.high
    assert f"{first} preferred to {second}" in as_text(result)


def rate(key: dict[str, Any], scores: dict[str, float]) -> dict[str, Any]:
    return {
        json.dumps([t["trial"], label, q]): scores[name]
        for t in key["trials"]
        for q in t["questions"]
        for label, name in t["stimuli"].items()
    }


def test_a_listener_who_misses_the_reference_is_left_out_and_named(
    kits: Kits, tmp_path: Path
) -> None:
    _, key = kits["mushra"]
    good = {REFERENCE: 97, ANCHOR_LOW: 30, ANCHOR_WRONG: 5, SYSTEMS[0]: 80, SYSTEMS[1]: 40}
    deaf = {**good, REFERENCE: 50, SYSTEMS[0]: 0}
    files = [
        saved(tmp_path, key, "ann", rate(key, good)),
        saved(tmp_path, key, "bob", rate(key, deaf)),
    ]
    result = analyse(key, [read_answers(p, key) for p in files])
    assert (result.listeners, result.left_out) == (("ann",), ("bob",))
    means = {(r.question, r.system): r.estimate.value for r in result.ratings}
    assert means["fidelity", SYSTEMS[0]] == 80
    assert means["sync", REFERENCE] == 97
    assert "bob" in as_text(result)


def test_files_that_are_not_whole_answers_to_this_kit_are_refused(
    kits: Kits, tmp_path: Path
) -> None:
    _, key = kits["pairs"]
    whole = prefer(key, SYSTEMS[0])
    one = next(iter(whole))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({k: v for k, v in whole.items() if k != one}, "not answered"),
        ({**whole, json.dumps(["t999", "", "sync"]): ""}, "not asked"),
        ({**whole, one: "somebody"}, "can't be an answer"),
    ]
    for values, words in wrong:
        path = saved(tmp_path, key, "ann", values)
        with pytest.raises(UserError, match=words):
            read_answers(path, key)
    other = {**key, "kit": "another"}
    path = saved(tmp_path, key, "ann", whole)
    with pytest.raises(UserError, match="not 'another'"):
        read_answers(path, other)
    answers = read_answers(path, key)
    with pytest.raises(UserError, match="different listeners"):
        analyse(key, [answers, answers])
    shutil.rmtree(tmp_path)
    with pytest.raises(UserError, match="holds no key"):
        read_key(tmp_path)


@pytest.mark.parametrize(
    "stimuli", [{"A": "one"}, {"A": "one", "B": "one"}, {"A": "a", "B": "b", "C": "c"}]
)
def test_a_pair_is_two_systems(tmp_path: Path, stimuli: dict[str, str]) -> None:
    trial = {"trial": "t0", "clip_id": "a", "questions": ["sync"], "stimuli": stimuli}
    key = {"omni2sound_listening": FORMAT, "kind": "pairs", "seed": 0, "kit": "k"}
    (tmp_path / "key.json").write_text(json.dumps({**key, "trials": [trial]}))
    with pytest.raises(UserError, match="expected two stimuli of two systems"):
        read_key(tmp_path)


@pytest.mark.slow
def test_the_interval_holds_the_truth_of_another_panel() -> None:
    """Listeners and clips both vary; the truth is what all of both would say."""
    rng = np.random.default_rng(0)
    trials = [
        {"trial": f"t{k}", "clip_id": "x", "questions": ["fidelity"], "stimuli": {f"l{k}": "a"}}
        for k in range(20)
    ]
    key = {"kind": "mushra", "trials": trials}
    hits, runs = 0, 60
    for _ in range(runs):
        clip = rng.normal(0, 8, 20)
        panel = [
            Answers(
                listener=str(n),
                values={
                    (f"t{k}", f"l{k}", "fidelity"): 60 + bias + clip[k] + rng.normal(0, 5)
                    for k in range(20)
                },
            )
            for n, bias in enumerate(rng.normal(0, 8, 15))
        ]
        (rating,) = _without_screen(key, panel)
        hits += rating.low <= 60 <= rating.high
    assert hits / runs >= 0.85  # binomial noise of 60 runs around 0.95, and few listeners


def _without_screen(key: dict[str, Any], panel: list[Answers]) -> list[Any]:
    return [_resampled(np.array(t)) for t in _scores(key, panel).values()]
