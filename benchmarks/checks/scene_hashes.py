"""Are the committed hashes those of the corpus, and how near do items of two splits come?

    python benchmarks/checks/scene_hashes.py --corpus CORPUS [--kinds all]

Tests compare `hashes.json` (and `more_hashes.json`, of what only training uses) across splits
without having the corpus; this makes the hashes again, from the prepared recordings and pictures,
and prints how many differ from the committed ones and the nearest pairs with one item in test or
validation and the other in another split, pictures mirrored too. The exit code is 1 if a hash
differs or a pair is nearer than the tests allow (20 of 256 bits).

Near-duplicates have nearly the same bits: 256 for a prepared waveform at 16 kHz or a prepared
picture, as hex. The same samples give the same bits on every machine: only sums, products and
comparisons are used. Hashes of pictures ignore colour, those of sounds ignore level. Unrelated
items differ in about half of the bits.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import KindSet

NUM_SHOWN = 3
NEAR_BITS = 20
"""Copies differ in fewer; unrelated items in 110 to 116 (median), one pair of 10 000 in 29."""

_BANDS = 17
_STEPS = 16
_STEP_SAMPLES = SAMPLE_RATE_HZ // 40
_SIDE = 16


def audio_hash(waveform_N: NDArray[np.float32]) -> str:
    """Hash a sound: signs of level differences between bands, 16 times 25 ms from the onset.

    Args:
        waveform_N: Mono at 16 kHz, beginning at its onset; short ones are padded with silence.

    Returns:
        64 hex digits.
    """
    padded = np.zeros(_STEPS * _STEP_SAMPLES)
    padded[: len(waveform_N)] = waveform_N[: len(padded)]
    frames = padded.reshape(_STEPS, _STEP_SAMPLES) * np.hanning(_STEP_SAMPLES)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    edges = np.unique(np.geomspace(2, power.shape[1] - 1, _BANDS + 1).round().astype(int))
    level = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-8)
    level = np.pad(level, ((0, 0), (0, max(0, _BANDS - level.shape[1]))))[:, :_BANDS]
    return _hex(np.diff(level, axis=1) > 0)


def picture_hash(rgba: NDArray[np.uint8]) -> str:
    """Hash a picture: signs of brightness differences along rows of a 17 x 16 thumbnail."""
    picture = Image.fromarray(rgba)
    grey = Image.new("RGBA", picture.size, (128, 128, 128, 255))
    grey.alpha_composite(picture)
    small = grey.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    return _hex(np.diff(np.asarray(small, dtype=np.int16), axis=1) > 0)


def mirrored_hash(rgba: NDArray[np.uint8]) -> str:
    """Hash the mirror image."""
    return picture_hash(np.ascontiguousarray(rgba[:, ::-1]))


def distance_bits(first: str, second: str) -> int:
    """Count the bits, of 256, in which two hashes differ."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


def distances_bits(first: Sequence[str], second: Sequence[str]) -> NDArray[np.int32]:
    """Compute `distance_bits` of every pair: (len(first), len(second))."""
    x, y = (
        np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(d), np.uint8)) for d in digests])
        for digests in (first, second)
    )
    x, y = x.astype(np.int32), y.astype(np.int32)
    apart: NDArray[np.int32] = x @ (1 - y.T) + (1 - x) @ y.T
    return apart


def load_hashes(kinds: KindSet = "bench") -> dict[str, list[str]]:
    """Read the hashes of the committed catalogue by id: [hash], for pictures [hash, mirrored]."""
    hashes: dict[str, list[str]] = {}
    for name in ("hashes.json", "more_hashes.json")[: 1 if kinds == "bench" else 2]:
        hashes |= json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return hashes


def _hex(bits: NDArray[np.bool_]) -> str:
    return np.packbits(bits.ravel()).tobytes().hex()


def nearest(made: dict[str, list[str]], split_of: dict[str, str]) -> list[tuple[int, str, str]]:
    """(bits, held out, other) of the nearest pairs across splits."""
    pairs = []
    for side in ("test", "val"):
        held = [name for name in made if split_of[name] == side]
        others = [name for name in made if split_of[name] != side]
        for way in range(len(made[held[0]])):
            apart = distances_bits(
                [made[name][0] for name in held], [made[name][way] for name in others]
            )
            for flat in np.argsort(apart, axis=None)[:NUM_SHOWN]:
                a, b = np.unravel_index(flat, apart.shape)
                pairs.append((int(apart[a, b]), held[a], others[b]))
    return sorted(pairs)[:NUM_SHOWN]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--kinds", choices=("bench", "all"), default="bench")
    given = parser.parse_args()
    assets = SceneAssets.open(given.corpus, kinds=given.kinds)
    committed = load_hashes(given.kinds)
    recordings = {
        r.recording_id: [audio_hash(assets.waveform(r.recording_id))]
        for r in assets.catalogue.recordings
    }
    pictures = {}
    for picture in assets.catalogue.pictures:
        rgba = assets.rgba(picture.picture_id)
        pictures[picture.picture_id] = [picture_hash(rgba), mirrored_hash(rgba)]
    split_of = {r.recording_id: r.split for r in assets.catalogue.recordings}
    split_of |= {p.picture_id: p.split for p in assets.catalogue.pictures}
    failed = False
    for what, made in (("recordings", recordings), ("pictures", pictures)):
        other = [name for name in made if committed.get(name) != made[name]]
        print(f"{len(made)} {what}: {len(other)} hashes are not the committed ones")
        for name in other[:NUM_SHOWN]:
            known = committed.get(name)
            print(
                f"  {name}: {distance_bits(made[name][0], known[0]) if known else 'all'} bits apart"
            )
        pairs = nearest(made, split_of)
        for apart, held, near in pairs:
            print(f"  {apart} bits: {held} ({split_of[held]}), {near} ({split_of[near]})")
        failed |= bool(other) or pairs[0][0] <= NEAR_BITS
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
