"""Loudness of random sounds beside libebur128 and FFmpeg's meter, and targets on each of them.

Run:    pip install pyebur128     (optional: libebur128 itself; without it, FFmpeg's meter)
        python benchmarks/robustness/loudness.py [--sounds 1000] [--seed 0]
Prints: the largest differences, the worst ten, how many targets were reached, missed and said.
Exits:  1 if a loudness is off by more than 0.1 LU, a target by more than 0.2 LU without a word, or
        a sound is said to have no loudness that has one for the reference.

0.4 to 20 s (one in 20 shorter), 1 to 6 channels in every layout, 8 to 96 kHz: steady noise, tones,
pauses, fades, single hits over a noise floor, digital silence.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from omni2sound.media.layouts import channel_names
from omni2sound.media.long_sound import to_audio
from omni2sound.media.loudness.level import TOLERANCE_LU, level
from omni2sound.media.loudness.meter import Loudness, measure
from omni2sound.media.samples import Audio

RATES_HZ = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000)
LAYOUTS = (
    *("mono", "stereo", "2.1", "3.0", "quad", "quad(side)", "3.1"),
    *("5.0", "5.0(side)", "5.1", "5.1(side)"),
)
"""Up to 6 channels, of which libebur128 and FFmpeg say the same; they differ on a back centre."""
LIMIT_LU = 0.1
_GATE_LUFS = -70.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """What another meter says; None where it finds no loudness."""

    integrated_lufs: float | None
    short_term_lufs: float | None
    momentary_lufs: float | None


def ffmpeg_meter(audio: Audio) -> Reference:
    """Measure with FFmpeg's filter ebur128; its integrated value is cut to 0.01 LU."""
    rate_hz, layout = audio.sample_rate_hz, audio.assumed_layout
    assert layout is not None
    graph = av.filter.Graph()
    source = graph.add(
        "abuffer",
        f"sample_rate={rate_hz}:sample_fmt=dblp:channel_layout={layout}:time_base=1/{rate_hz}",
    )
    meter = graph.add("ebur128", "metadata=1:framelog=quiet")
    sink = graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    samples_CN = np.ascontiguousarray(audio.samples_CN.astype(np.float64))
    frame = av.AudioFrame.from_ndarray(samples_CN, format="dblp", layout=layout)
    frame.sample_rate, frame.pts = rate_hz, 0
    source.push(frame)
    source.push(None)
    found: dict[str, list[float]] = {"I": [], "S": [], "M": []}
    with contextlib.suppress(av.error.EOFError, av.error.BlockingIOError):
        while True:
            metadata: Any = sink.pull().metadata
            for key, values in found.items():
                if (value := metadata.get(f"lavfi.r128.{key}")) is not None:
                    values.append(float(value))
    return Reference(
        integrated_lufs=_above_gate(found["I"][-1:]),
        short_term_lufs=_above_gate(found["S"]),
        momentary_lufs=_above_gate(found["M"]),
    )


def libebur128_meter(audio: Audio) -> Reference:
    """Measure with libebur128 (package pyebur128)."""
    import pyebur128

    kind = pyebur128.ChannelType
    types = {
        "FL": kind.LEFT,
        "FR": kind.RIGHT,
        "FC": kind.CENTER,
        "LFE": kind.UNUSED,
        **dict.fromkeys(("BL", "SL"), kind.LEFT_SURROUND),
        **dict.fromkeys(("BR", "SR"), kind.RIGHT_SURROUND),
    }
    modes = pyebur128.MeasurementMode
    state = pyebur128.R128State(
        audio.num_channels, audio.sample_rate_hz, modes.MODE_I | modes.MODE_S | modes.MODE_M
    )
    for channel, name in enumerate(channel_names(audio.assumed_layout or "")):
        state.set_channel(channel, types[name])
    samples_NC = np.ascontiguousarray(audio.samples_CN.T.astype(np.float64))
    step = (audio.sample_rate_hz + 5) // 10
    loudest = {"M": -math.inf, "S": -math.inf}
    for end in range(step, len(samples_NC) + 1, step):
        state.add_frames(samples_NC[end - step : end].ravel(), step)
        if end >= 4 * step:
            loudest["M"] = max(loudest["M"], pyebur128.get_loudness_momentary(state))
        if end >= 30 * step:
            loudest["S"] = max(loudest["S"], pyebur128.get_loudness_shortterm(state))
    return Reference(
        integrated_lufs=_above_gate([pyebur128.get_loudness_global(state)]),
        short_term_lufs=_above_gate([loudest["S"]]),
        momentary_lufs=_above_gate([loudest["M"]]),
    )


def random_sound(rng: np.random.Generator) -> Audio:
    """Draw a sound of any kind, length, rate and layout."""
    rate_hz, layout = int(rng.choice(RATES_HZ)), str(rng.choice(LAYOUTS))
    duration_s = rng.uniform(0.02, 0.4) if rng.random() < 0.05 else rng.uniform(0.4, 20)
    num_channels, num_samples = len(channel_names(layout)), round(duration_s * rate_hz)
    time_s = np.arange(num_samples) / rate_hz
    noise_CN = rng.standard_normal((num_channels, num_samples))
    if rng.random() < 0.3:
        tones_C1 = rng.uniform(30, 0.45 * rate_hz, (num_channels, 1))
        noise_CN = np.sin(2 * np.pi * tones_C1 * time_s)
    levels_db = rng.uniform(-60, 0, num_channels) if rng.random() < 0.3 else np.zeros(num_channels)
    gain_N = 10 ** (rng.uniform(-60, -5) / 20) * _shape(rng, time_s, duration_s)
    samples_CN = noise_CN * gain_N * 10 ** (levels_db[:, None] / 20)
    if rng.random() < 0.02:
        samples_CN[:] = 0
    return Audio(samples_CN=samples_CN.astype(np.float32), sample_rate_hz=rate_hz, layout=layout)


def _shape(
    rng: np.random.Generator, time_s: NDArray[np.float64], duration_s: float
) -> NDArray[np.float64]:
    """A curve of levels: steady, with pauses, fading, or hits over a floor."""
    kind = rng.integers(4)
    if kind == 0:
        return np.ones(len(time_s))
    if kind == 1:
        corners_s = np.linspace(0, duration_s, 8)
        return 10 ** (np.interp(time_s, corners_s, rng.uniform(-50, 0, 8)) / 20)
    if kind == 2:
        return (np.sin(2 * np.pi * time_s / rng.uniform(0.5, 5)) > rng.uniform(-0.5, 0.9)) * 1.0
    shape_N = np.full(len(time_s), 10 ** (rng.uniform(-70, -30) / 20))
    for begin_s in rng.uniform(0, duration_s, rng.integers(1, 4)):
        since_N = time_s - begin_s
        hit_N = np.exp(-np.clip(since_N, 0, None) / rng.uniform(0.01, 0.2)) * (since_N >= 0)
        shape_N = np.maximum(shape_N, hit_N)
    return shape_N


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    meters: dict[str, Callable[[Audio], Reference]] = {"ffmpeg": ffmpeg_meter}
    if importlib.util.find_spec("pyebur128") is not None:
        meters["libebur128"] = libebur128_meter
    judge = meters.get("libebur128", ffmpeg_meter)
    differences: dict[str, list[tuple[float, str]]] = {name: [] for name in meters}
    count: Counter[str] = Counter()
    wrong: list[str] = []
    seconds = 0.0
    for number in range(options.sounds):
        rng = np.random.default_rng([options.seed, number])
        audio = random_sound(rng)
        what = f"sound {number}: {audio.layout}, {audio.sample_rate_hz} Hz, "
        what += f"{float(audio.duration_s):.2f} s"
        begin = time.perf_counter()
        found = measure(audio)
        seconds += time.perf_counter() - begin
        count["too short" if "short" in found.missing else found.missing or "measured"] += 1
        for name, meter in meters.items():
            _compare(found, meter(audio), what, differences[name])
        _try_target(audio, float(rng.uniform(-40, -10)), judge, what, count, wrong)
    print(", ".join(f"{number} {name}" for name, number in sorted(count.items())))
    print(f"measured in {seconds:.1f} s")
    for name, values in differences.items():
        values.sort(reverse=True)
        # FFmpeg's filter measures steps of a whole number of samples: exact at multiples of 10 Hz.
        counted = [v for v in values if name != "ffmpeg" or "11025" not in v[1]]
        worst = counted[0][0] if counted else 0.0
        print(f"{name}: {len(counted)} compared, largest difference {worst:.4f} LU; the worst ten:")
        for difference, what in counted[:10]:
            print(f"  {difference:.4f} LU  {what}")
        if meters[name] is judge:
            wrong += [f"{d:.3f} LU off: {what}" for d, what in counted if d > LIMIT_LU]
    print("\n".join(wrong) or "nothing wrong")
    return 1 if wrong else 0


def _compare(
    found: Loudness, expected: Reference, what: str, differences: list[tuple[float, str]]
) -> None:
    if expected.integrated_lufs is None:
        return
    if found.integrated_lufs is None:
        differences.append((math.inf, f"{what} (said to be {found.missing})"))
        return
    differences.append((abs(found.integrated_lufs - expected.integrated_lufs), what))


def _try_target(
    audio: Audio,
    target_lufs: float,
    judge: Callable[[Audio], Reference],
    what: str,
    count: Counter[str],
    wrong: list[str],
) -> None:
    heard, done = level(audio, target_lufs=target_lufs)
    if done.target_missed:
        count["targets missed and said"] += 1
        return
    reference = judge(to_audio(heard))
    lufs = {
        "integrated": reference.integrated_lufs,
        "short-term": reference.short_term_lufs,
        "momentary": reference.momentary_lufs,
    }[done.leveled_by]
    if lufs is not None and abs(lufs - target_lufs) <= TOLERANCE_LU:
        count["targets reached"] += 1
    else:
        wrong.append(f"target {target_lufs:.1f}, {lufs} ({done.leveled_by}): {what}")


def _above_gate(values: list[float]) -> float | None:
    largest = max(values, default=-math.inf)
    return largest if largest > _GATE_LUFS else None


if __name__ == "__main__":
    raise SystemExit(main())
