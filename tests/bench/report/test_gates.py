"""The arithmetic of gates, on scores that are written down here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from omni2sound.bench.metrics.copies import Nearness
from omni2sound.bench.metrics.scene_v1 import ClipScore
from omni2sound.bench.report.gates import (
    MANY_STEPS,
    SEEN_ONLY,
    Gate,
    PartResult,
    compute_gates,
    gates_as_markdown,
)
from omni2sound.bench.scoring.evaluate import ClipRecord
from omni2sound.bench.systems.system import NOISE, REAL_ELSEWHERE, RECONSTRUCTION
from omni2sound.bench.tracks.track import Part

N = 40


def kept(
    pairs: int,
    *,
    offset_s: float | None = 0.01,
    seen: float = 1.0,
    unseen: float | None = None,
    heard: Sequence[str] = (),
    copy: bool | None = False,
) -> ClipRecord:
    """A sound of a clip with two true onsets, of which `pairs` were found and nothing else."""
    score = ClipScore(
        num_true=2,
        num_found=pairs,
        pairs_close=pairs,
        pairs=pairs,
        own_offsets_s=(offset_s,),
        num_invented=0,
        seen_heard=seen,
        unseen_heard=unseen,
        speech=None,
        music=None,
        seen_heard_2nd=None,
        unseen_heard_2nd=None,
    )
    return ClipRecord(
        clip_id="",
        part="main",
        system="",
        task=None,
        stage=score,
        kl={},
        heard={"tagger": tuple(heard)},
        nearness=Nearness(cosine=0.5, is_copy=copy),
    )


def fd(value: float) -> np.ndarray:
    return np.full(11, value) + np.linspace(0, 0.01, 11)


def part(sounds: dict[str, list[ClipRecord]], distances: dict[str, float]) -> PartResult:
    return PartResult(
        sounds=sounds,
        taggers=("tagger", "tagger that knows no class"),
        seen_classes=([frozenset({f"class {i % 4}"}) for i in range(N)], [frozenset()] * N),
        seen_impulsive=[(i % 2 == 0,) for i in range(N)],
        fd={name: fd(value) for name, value in distances.items()},
    )


def results(**main: list[ClipRecord]) -> dict[Part, PartResult]:
    """A good model; `main` replaces systems."""
    own = [[f"class {i % 4}"] for i in range(N)]
    good = [kept(2, heard=h) for h in own]
    far = {NOISE: 100.0, REAL_ELSEWHERE: 10.0, RECONSTRUCTION: 20.0}
    model = {"V2A": good, "T2A": good, "VT2A": good}
    sounds = {
        "oracle": good,
        "shuffled": [kept(0)] * N,
        "retrieval": [kept(0, copy=i % 4 != 0) for i in range(N)],
        "motion-energy": [kept(1)] * N,
        "motion + retrieval": [kept(1)] * N,
        **model,
        **main,
    }
    heard = [kept(2, unseen=1.0)] * N
    off = {"oracle": heard, "VT2A": heard, SEEN_ONLY: [kept(2, unseen=0.0)] * 30 + heard[:10]}
    return {
        "main": part(sounds, {**far, **dict.fromkeys(sounds, 37.0)}),
        "offscreen": part(off, {**far, **dict.fromkeys(off, 37.0)}),
    }


def gates_of(parts: dict[Part, PartResult]) -> dict[str, Gate]:
    return {gate.name: gate for gate in compute_gates(parts)}


def test_a_good_model_passes_every_gate() -> None:
    gates = gates_of(results())
    assert all(gate.passed is not False for gate in gates.values())
    assert len(gates) == 19
    assert gates["off-screen: named and heard, times that of not named"].measured.value == 4


def test_half_of_the_onsets_are_two_thirds_of_the_f1() -> None:
    gate = gates_of(results(V2A=[kept(1)] * N))["V2A: onset F1, of the oracle's"]
    assert gate.measured.value == pytest.approx(2 / 3)
    assert gate.passed is False


@pytest.mark.parametrize("baseline", ["shuffled", "motion-energy", "motion + retrieval"])
def test_a_baseline_that_is_better_in_time_is_told(baseline: str) -> None:
    gates = gates_of(results(V2A=[kept(1)] * N, **{baseline: [kept(2)] * N}))
    missed = {n for n, g in gates.items() if n.startswith("V2A: onset F1 minus") and not g.passed}
    assert missed == {f"V2A: onset F1 minus {baseline}"}


def test_only_impulsive_events_count_for_the_offset() -> None:
    late = [kept(2, offset_s=0.03 if i % 2 == 0 else 0.4) for i in range(N)]
    gate = gates_of(results(V2A=late))["V2A: median |offset|, impulsive"]
    assert gate.measured.value == pytest.approx(30)
    assert gate.passed
    none = [kept(2, offset_s=None if i % 2 == 0 else 0.0) for i in range(N)]
    gate = gates_of(results(V2A=none))["V2A: median |offset|, impulsive"]
    assert gate.measured.value == pytest.approx(500)
    assert gate.passed is False


def test_a_sound_that_is_heard_as_everything_gains_nothing_over_shuffled_prompts() -> None:
    everything = [kept(2, heard=[f"class {i}" for i in range(4)])] * N
    gate = gates_of(results(T2A=everything))["T2A: classes heard minus shuffled prompts"]
    assert gate.measured.value == 0
    assert gate.passed is False
    own = gates_of(results())["T2A: classes heard minus shuffled prompts"]
    assert own.measured.value == pytest.approx(1 - 9 / 39)  # of 39 other clips 9 are of its class


def test_the_better_task_is_what_both_are_measured_by() -> None:
    gates = gates_of(results(V2A=[kept(0)] * N, VT2A=[kept(1)] * N))
    gate = gates["VT2A: onset F1 minus the better of V2A, T2A"]
    assert gate.measured.value == pytest.approx(2 / 3 - 1)
    assert gate.passed is False


def test_an_interval_holds_its_value_and_grows_with_the_spread() -> None:
    uneven = [kept(2) if i % 3 else kept(0) for i in range(N)]
    measured = gates_of(results(V2A=uneven))["V2A: onset F1, of the oracle's"].measured
    assert measured.low < measured.value < measured.high
    even = gates_of(results(V2A=[kept(1)] * N))["V2A: onset F1, of the oracle's"].measured
    assert even.low == pytest.approx(even.high)


def test_the_way_runs_from_noise_to_real_and_has_no_verdict_with_few_clips() -> None:
    gate = gates_of(results())["V2A: FD, way from noise to real"]
    assert gate.measured.value == pytest.approx(0.7)
    assert gate.passed is None
    assert replace(gate, judged=True).passed
    second = gates_of(results())["FD over the reconstruction's, second best track"]
    assert second.measured.value == pytest.approx(37 / 20, abs=0.01)


COPIES = "VT2A: copies of recordings of 0.9 s or more, minus real test sound's"


def test_a_copier_is_told_beside_what_could_be_found() -> None:
    copies = [kept(2, copy=i < 4) for i in range(N)]
    gate = gates_of(results(VT2A=copies))[COPIES]
    assert gate.measured.value == pytest.approx(0.1)
    assert gate.passed is False
    assert gate.control is not None
    assert gate.control.value == pytest.approx(0.75)


def test_clips_without_a_long_source_do_not_dilute_copies() -> None:
    def of(copies: int) -> list[ClipRecord]:
        return [kept(2, copy=i < copies if i < 10 else None) for i in range(N)]

    gate = gates_of(results(VT2A=of(4), oracle=of(1), retrieval=of(9)))[COPIES]
    assert gate.measured.value == pytest.approx(0.3)
    assert gate.control is not None
    assert gate.control.value == pytest.approx(0.9)
    short = [kept(2, copy=None)] * N
    gate = gates_of(results(VT2A=short, oracle=short, retrieval=short))[COPIES]
    assert gate.passed is None


def test_few_steps_are_measured_by_many() -> None:
    gates = gates_of(results(VT2A=[kept(1)] * N, **{MANY_STEPS: [kept(2)] * N}))
    assert gates["VT2A: onset F1, of many steps'"].measured.value == pytest.approx(2 / 3)
    assert gates["VT2A: FD, over many steps'"].measured.value == pytest.approx(1)
    assert "VT2A: FD, over many steps'" not in gates_of(results())


def test_nothing_heard_at_all_passes_nothing() -> None:
    nothing = [kept(0, offset_s=None, seen=0.0)] * N
    gates = gates_of(results(oracle=nothing, V2A=nothing, T2A=nothing, VT2A=nothing))
    assert gates["T2A: classes heard minus shuffled prompts"].passed is False
    assert gates["V2A: onset F1 minus motion + retrieval"].passed is False


def test_a_silent_model_passes_no_ratio() -> None:
    # Nothing of it is heard on any track, so most of its ratios to itself are 0 / 0.
    silent = [kept(0, offset_s=None, seen=0.0, unseen=0.0)] * N
    tasks = dict.fromkeys(("V2A", "T2A", "VT2A", MANY_STEPS), silent)
    parts = results(**tasks)
    off = parts["offscreen"]
    mute = {**off.sounds, "VT2A": silent, SEEN_ONLY: silent}
    gates = gates_of({**parts, "offscreen": replace(off, sounds=mute)})
    ratios = {
        "V2A: onset F1, of the oracle's",
        "V2A: classes heard, of the oracle's",
        "T2A: classes heard, of the oracle's",
        "off-screen: named and heard, of the oracle's",
        "off-screen: named and heard, times that of not named",
        "off-screen: in sync of the oracle's, of the plain track's",
        "VT2A: onset F1, of many steps'",
    }
    assert {name for name in ratios if gates[name].passed is not False} == set()
    # Every other ratio is one of distances, which silence has too.
    assert {n for n in gates if ", of " in n or ", times " in n} == ratios


def test_something_by_nothing_is_infinity() -> None:
    parts = results()
    off = parts["offscreen"]
    never = [kept(2, unseen=0.0)] * N
    mute = {**off.sounds, SEEN_ONLY: never}
    gate = gates_of({**parts, "offscreen": replace(off, sounds=mute)})[
        "off-screen: named and heard, times that of not named"
    ]
    assert gate.measured.value == np.inf
    assert gate.passed


def test_the_table_says_what_was_missed_and_what_had_no_verdict() -> None:
    gates = compute_gates(results(V2A=[kept(1)] * N))
    missed = sum(gate.passed is False for gate in gates)
    text = gates_as_markdown(gates)
    assert "| MISS | V2A: onset F1, of the oracle's | 0.667 |" in text
    assert "| none | V2A: FD, way from noise to real |" in text
    assert "V2A: median \\|offset\\|, impulsive" in text
    told = f"{14 - missed} gates passed, {missed} missed; 5 without a verdict: FD takes 500 clips"
    assert text.splitlines()[-1] == told
    judged = [replace(gate, judged=True) for gate in gates]
    assert gates_as_markdown(judged).splitlines()[-1].endswith("; all were judged")


def test_json_has_no_number_that_is_not_finite() -> None:
    (gate, *_) = compute_gates(results())
    nothing = replace(gate.measured, value=np.nan, low=-np.inf, high=np.inf)
    data = json.loads(json.dumps(replace(gate, measured=nothing).to_json(), allow_nan=False))
    assert [data["measured"][k] for k in ("value", "low", "high")] == [None, None, None]
    assert data["passed"] is False
    assert replace(gate, judged=False).to_json()["passed"] is None
    assert gate.to_json()["measured"]["value"] == gate.measured.value
