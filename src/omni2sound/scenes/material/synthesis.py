"""Physically inspired synthesis, for training classes with few recordings.

In:   the name of a model and the number of a variant.
Out:  (N,) at 16 kHz. The same name gives the same sound.

These are no recordings and are marked so (package `SYNTHESIS`): they serve training only, never a
test. A variant is one family: it draws its own parameters (sizes, rates, resonances). Models: modal
impacts (wood, glass, clocks), grains (rain, running water, fire, steps, applause), turbulence
(wind, sea, steam, jets), pulse trains (engines, rotors, frogs, crickets), swept and rung tones
(sirens, telephones, whistles, owls).

Source: modal impacts and granular textures as in Cook, Real Sound Synthesis, 2002; bubbles
as decaying sines that rise in pitch, van den Doel 2005. Parameters are chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

from omni2sound.errors import ConfigError

SYNTHESIS = "omni2sound-synthesis"
"""Package name of synthetic sounds in the catalogue."""

RATE_HZ = 16_000

Wave = NDArray[np.float64]
Model = Callable[[np.random.Generator], Wave]


def synthesise(name: str) -> NDArray[np.float32]:
    """Synthesise "model/variant", as in "wind/3", with a peak of 0.9.

    Raises:
        ConfigError: If there is no such model or the variant is no number.
    """
    model, _, variant = name.partition("/")
    if model not in MODELS or not variant.isdigit():
        known = ", ".join(MODELS)
        raise ConfigError(f"no synthetic sound {name!r}; expected MODEL/NUMBER with: {known}")
    rng = np.random.default_rng([crc32(model.encode()), int(variant)])
    wave = MODELS[model](rng)
    sound: NDArray[np.float32] = (0.9 * wave / np.abs(wave).max()).astype(np.float32)
    return sound


# ------------------------------------------------------------------ parts


def _time(duration_s: float) -> Wave:
    time: Wave = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    return time


def _noise(rng: np.random.Generator, duration_s: float) -> Wave:
    return rng.standard_normal(round(duration_s * RATE_HZ))


def _band(wave: Wave, low_hz: float, high_hz: float, order: int = 2) -> Wave:
    sos = butter(order, [low_hz, high_hz], "band", fs=RATE_HZ, output="sos")
    band: Wave = sosfilt(sos, wave)
    return band


def _slow(rng: np.random.Generator, duration_s: float, rate_hz: float) -> Wave:
    """A smooth random course from 0 to 1 that changes about `rate_hz` times a second."""
    knots = rng.random(max(4, round(duration_s * rate_hz) + 4))
    time = np.linspace(0, len(knots) - 1, round(duration_s * RATE_HZ))
    fraction = time % 1
    fraction = fraction * fraction * (3 - 2 * fraction)
    index = np.minimum(time.astype(int), len(knots) - 2)
    course: Wave = knots[index] * (1 - fraction) + knots[index + 1] * fraction
    return course


def _add(wave: Wave, start_s: float, grain: Wave) -> None:
    start = round(start_s * RATE_HZ)
    piece = grain[: max(0, len(wave) - start)]
    wave[start : start + len(piece)] += piece


def _modes(
    rng: np.random.Generator, base_hz: float, count: int, ring_s: float, spread: float = 2.0
) -> Wave:
    """One blow on something that rings: inharmonic modes, high ones die first."""
    time = _time(min(4 * ring_s + 0.05, 3.0))
    wave = np.zeros(len(time))
    hz = base_hz
    for k in range(count):
        if hz > 7500:
            break
        decay_s = ring_s / (1 + 0.5 * k)
        wave += rng.uniform(0.3, 1) * np.sin(2 * np.pi * hz * time) * np.exp(-time / decay_s)
        hz *= rng.uniform(1.15, spread)
    attack = 0.4 * rng.standard_normal(len(time)) * np.exp(-time / 0.002)
    blow: Wave = wave / count**0.5 + attack
    return blow


def _tone(hz: Wave, harmonics: int, fall: float) -> Wave:
    """A periodic sound of changing pitch; harmonics fall by `fall` per octave step."""
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    wave = np.zeros(len(hz))
    for k in range(1, harmonics + 1):
        if k * float(hz.max()) < 7800:
            wave += np.sin(k * phase) / k**fall
    return wave


def _resonate(wave: Wave, hz: float, width_hz: float) -> Wave:
    radius = np.exp(-np.pi * width_hz / RATE_HZ)
    a = [1, -2 * radius * np.cos(2 * np.pi * hz / RATE_HZ), radius**2]
    out: Wave = lfilter([1 - radius], a, wave)
    return out


# ------------------------------------------------------------------ models


def _rain(rng: np.random.Generator) -> Wave:
    wave = 0.05 * _band(_noise(rng, 4), rng.uniform(800, 1500), 7000)
    for start_s in rng.uniform(0, 4, int(rng.uniform(900, 2500))):
        time = _time(0.004)
        hz = rng.uniform(1500, 7000)
        _add(
            wave,
            start_s,
            rng.exponential(0.12) * np.sin(2 * np.pi * hz * time) * np.exp(-time / 0.001),
        )
    return wave


def _bubble(rng: np.random.Generator, hz: float) -> Wave:
    ring_s = rng.uniform(4, 14) / hz
    time = _time(4 * ring_s)
    rise = 1 + rng.uniform(0, 8) * time
    bubble: Wave = np.sin(2 * np.pi * hz * rise * time) * np.exp(-time / ring_s)
    return bubble


def _water(rng: np.random.Generator) -> Wave:
    low, high = rng.uniform(400, 700), rng.uniform(2500, 5500)
    rush = _band(_noise(rng, 4), rng.uniform(400, 800), rng.uniform(4000, 7000), 1)
    wave = rng.uniform(0.15, 0.5) * rush * (0.5 + _slow(rng, 4, 12))
    for start_s in rng.uniform(0, 4, int(rng.uniform(800, 2500))):
        hz = np.exp(rng.uniform(np.log(low), np.log(high)))
        _add(wave, start_s, rng.exponential(0.15) * _bubble(rng, hz))
    return wave


def _thunder(rng: np.random.Generator) -> Wave:
    time = _time(6)
    wave = np.zeros(len(time))
    for start_s in [0.0, *rng.uniform(0.1, 3, int(rng.integers(6, 14)))]:
        length_s = rng.uniform(0.3, 1.2)
        grain = _band(_noise(rng, 3), 25, rng.uniform(80, 300), 1)
        swell = np.minimum(1, _time(3) / rng.uniform(0.02, 0.15))
        _add(wave, start_s, rng.uniform(0.3, 1) * grain * swell * np.exp(-_time(3) / length_s))
    wave += 0.05 * np.abs(wave).max() * _band(_noise(rng, 6), 200, 2000, 1) * np.exp(-time / 1.5)
    return wave * np.exp(-time / rng.uniform(2, 4))


def _sea(rng: np.random.Generator) -> Wave:
    swell = _slow(rng, 6, rng.uniform(0.3, 0.6)) ** 2
    hiss = _band(_noise(rng, 6), 500, 6500, 1)
    rumble = _band(_noise(rng, 6), 80, 500, 1)
    return (0.15 + swell) * (0.6 * hiss * swell + rumble)


def _fire(rng: np.random.Generator) -> Wave:
    wave = 0.12 * _band(_noise(rng, 4), 60, 700, 1) * (0.4 + _slow(rng, 4, 4))
    for start_s in rng.uniform(0, 4, int(rng.uniform(60, 180))):
        length_s = rng.uniform(0.002, 0.012)
        grain = _band(_noise(rng, 0.03), rng.uniform(700, 2500), 7500, 1)
        _add(wave, start_s, rng.exponential(0.35) * grain * np.exp(-_time(0.03) / length_s))
    return wave


def _horn(rng: np.random.Generator) -> Wave:
    length_s = rng.uniform(0.4, 1.5)
    time = _time(length_s)
    base_hz = rng.uniform(300, 450)
    wave = np.zeros(len(time))
    for ratio in (1.0, rng.uniform(1.18, 1.28)):
        wave += _tone(np.full(len(time), base_hz * ratio), 18, rng.uniform(0.3, 0.7))
    wave = _resonate(wave, rng.uniform(1500, 2600), 500) + 0.2 * wave
    return wave * np.minimum(1, np.minimum(time / 0.015, (length_s - time) / 0.03))


def _telephone(rng: np.random.Generator) -> Wave:
    time = _time(2.0)
    strike_hz, low_hz = rng.uniform(18, 26), rng.uniform(900, 1600)
    wave = np.zeros(round(3 * RATE_HZ))
    bells = [
        _modes(rng, low_hz * ratio, 5, rng.uniform(0.15, 0.3))
        for ratio in (1.0, rng.uniform(1.15, 1.35))
    ]
    for k in range(int(time[-1] * strike_hz)):
        _add(wave, k / strike_hz, bells[k % 2] * rng.uniform(0.8, 1))
    return wave


def _frog(rng: np.random.Generator) -> Wave:
    wave = np.zeros(round(2.5 * RATE_HZ))
    pulse_hz, formant = rng.uniform(25, 70), rng.uniform(600, 1800)
    croak_s, pause_s = rng.uniform(0.15, 0.45), rng.uniform(0.2, 0.5)
    at_s = 0.0
    while at_s + croak_s < 2.5:
        grain = np.zeros(round(croak_s * RATE_HZ))
        for k in range(int(croak_s * pulse_hz)):
            time = _time(0.02)
            pulse = np.sin(2 * np.pi * formant * time) + 0.6 * np.sin(
                2 * np.pi * 2.1 * formant * time
            )
            _add(
                grain,
                k / pulse_hz,
                pulse * np.exp(-time / 0.004) * (0.4 + 0.6 * k / (croak_s * pulse_hz)),
            )
        _add(wave, at_s, grain)
        at_s += croak_s + pause_s
    return wave


def _cricket(rng: np.random.Generator) -> Wave:
    carrier, pulses = rng.uniform(3500, 5500), int(rng.integers(2, 5))
    wave = 0.01 * _noise(rng, 3)
    at_s, pause_s = 0.0, rng.uniform(0.2, 0.5)
    while at_s < 2.9:
        for k in range(pulses):
            time = _time(0.018)
            _add(
                wave,
                at_s + 0.03 * k,
                np.sin(2 * np.pi * carrier * time) * np.sin(np.pi * time / 0.018),
            )
        at_s += 0.03 * pulses + pause_s
    return wave


def _saw(rng: np.random.Generator) -> Wave:
    stroke_s = rng.uniform(0.28, 0.5)
    time = _time(3.5)
    stroke = np.abs(np.sin(np.pi * time / stroke_s)) ** 0.8
    noise = _noise(rng, 3.5)
    forth = np.sin(np.pi * time / stroke_s) > 0
    rasp = np.where(
        forth,
        _band(noise, rng.uniform(600, 1500), rng.uniform(3500, 5500), 1),
        0.6 * _band(noise, rng.uniform(400, 900), rng.uniform(2500, 3500), 1),
    )
    return rasp * stroke * (0.7 + 0.3 * _slow(rng, 3.5, 60))


def _chop(rng: np.random.Generator) -> Wave:
    wave = 0.001 * _noise(rng, 2.4)
    base_hz, period_s = rng.uniform(150, 500), rng.uniform(0.55, 0.9)
    for k in range(int(2 / period_s)):
        for low, high, decay_s, gain in (
            (0.6 * base_hz, 1.6 * base_hz, 0.025, 1.0),
            (800, 3000, 0.012, 0.6),
            (1500, 7000, 0.005, 0.5),
        ):
            grain = _band(_noise(rng, 0.2), low, high, 1) * np.exp(-_time(0.2) / decay_s)
            _add(wave, k * period_s, gain * grain / np.abs(grain).max())
    return wave


def _clock(rng: np.random.Generator) -> Wave:
    wave = 0.0005 * _noise(rng, 4)
    period_s = float(rng.choice([0.25, 0.5, 0.5, 1.0]))
    hz = rng.uniform(1500, 3800)
    ticks = [_modes(rng, hz * ratio, 5, 0.008, 1.6) for ratio in (1.0, rng.uniform(0.75, 0.95))]
    for k in range(int(4 / period_s)):
        _add(wave, k * period_s, ticks[k % 2])
    return wave


def _glass(rng: np.random.Generator) -> Wave:
    wave = np.zeros(round(1.5 * RATE_HZ))
    _add(wave, 0, 0.6 * _band(_noise(rng, 0.2), 1500, 7500, 1) * np.exp(-_time(0.2) / 0.03))
    for start_s in rng.exponential(0.15, int(rng.uniform(25, 70))):
        if start_s < 1.2:
            shard = _modes(rng, rng.uniform(2000, 6000), 4, rng.uniform(0.02, 0.12), 1.4)
            _add(wave, start_s, rng.exponential(0.3) * shard)
    return wave


def _steam(rng: np.random.Generator) -> Wave:
    length_s = rng.uniform(1.5, 3.5)
    time = _time(length_s)
    wave = _band(_noise(rng, length_s), rng.uniform(1500, 3000), 7600, 1)
    return wave * np.minimum(1, time / 0.02) * np.exp(-time / rng.uniform(0.6, 2))


def _owl(rng: np.random.Generator) -> Wave:
    wave = 0.003 * _band(_noise(rng, 3), 100, 2000, 1)
    hz = rng.uniform(300, 600)
    for at_s, length_s in ((0.0, 0.35), (0.65, 0.15), (0.9, 0.15), (1.25, rng.uniform(0.4, 0.7))):
        time = _time(length_s)
        glide = hz * (0.92 + 0.1 * np.sin(np.pi * time / length_s) + 0.01 * np.sin(40 * time))
        hoot = _tone(glide, 2, 3) + 0.4 * _resonate(_noise(rng, length_s), hz, 40)[: len(time)]
        _add(wave, at_s, hoot * np.sin(np.pi * time / length_s) ** 1.5)
    return wave


def _siren(rng: np.random.Generator) -> Wave:
    time = _time(4)
    low, high, rate = rng.uniform(450, 700), rng.uniform(1000, 1600), rng.uniform(0.25, 4)
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * rate * time)
    if rng.random() < 0.3:
        sweep = np.round(sweep)
    hz = low + (high - low) * sweep
    wave = _tone(hz, 8, rng.uniform(0.7, 1.3))
    return wave + 0.5 * _resonate(wave, rng.uniform(900, 2000), 400)


def _beep(rng: np.random.Generator) -> Wave:
    wave = np.zeros(round(2.5 * RATE_HZ))
    hz, length_s = rng.uniform(700, 3200), rng.uniform(0.06, 0.3)
    pause_s, times = rng.uniform(0.05, 0.35), int(rng.integers(2, 7))
    time = _time(length_s)
    beep = _tone(np.full(len(time), hz), 3, rng.uniform(1, 3))
    beep *= np.minimum(1, np.minimum(time / 0.004, (length_s - time) / 0.004))
    for k in range(times):
        _add(wave, k * (length_s + pause_s), beep)
    return wave


def _frying(rng: np.random.Generator) -> Wave:
    wave = 0.25 * _band(_noise(rng, 4), rng.uniform(1500, 3000), 7600, 1)
    wave *= 0.75 + 0.25 * _slow(rng, 4, 5)
    for start_s in rng.uniform(0, 4, int(rng.uniform(700, 2200))):
        length_s, low_hz = rng.uniform(0.0006, 0.003), rng.uniform(1500, 3500)
        grain = _band(_noise(rng, 0.012), low_hz, 7700, 1)
        _add(wave, start_s, rng.exponential(0.5) * grain * np.exp(-_time(0.012) / length_s))
    return wave


def _heartbeat(rng: np.random.Generator) -> Wave:
    wave = 0.002 * _noise(rng, 4)
    period_s, hz = rng.uniform(0.65, 1.0), rng.uniform(38, 62)
    gap_s, at_s = rng.uniform(0.27, 0.4) * period_s, 0.0
    time = _time(0.18)
    swell = np.sin(np.pi * np.minimum(time / 0.09, 1)) * np.exp(-time / 0.06)
    while at_s < 3.8:
        _add(wave, at_s, np.sin(2 * np.pi * hz * time) * swell)
        _add(wave, at_s + gap_s, 0.7 * np.sin(2 * np.pi * 1.25 * hz * time) * swell)
        at_s += period_s * rng.uniform(0.97, 1.03)
    return wave


def _kettle(rng: np.random.Generator) -> Wave:
    time = _time(4)
    rise = np.clip(time / rng.uniform(0.3, 1), 0, 1)
    hz = rng.uniform(1800, 3000) * (0.93 + 0.07 * rise)
    hz *= 1 + 0.01 * np.sin(2 * np.pi * rng.uniform(4, 9) * time)
    breath = 0.35 * _band(_noise(rng, 4), 1200, 7500, 1)
    return rise * (
        _tone(hz, 2, 2) + breath + 0.3 * _resonate(_noise(rng, 4), float(hz.mean()), 120)
    )


MODELS: dict[str, Model] = {
    "beep": _beep,
    "chop": _chop,
    "clock": _clock,
    "cricket": _cricket,
    "fire": _fire,
    "frog": _frog,
    "frying": _frying,
    "glass": _glass,
    "heartbeat": _heartbeat,
    "horn": _horn,
    "kettle": _kettle,
    "owl": _owl,
    "rain": _rain,
    "saw": _saw,
    "sea": _sea,
    "siren": _siren,
    "steam": _steam,
    "telephone": _telephone,
    "thunder": _thunder,
    "water": _water,
}
"""By name, each from its own generator."""
