"""Are the committed hashes those of the corpus, and how near do items of two splits come?

    python benchmarks/checks/stage_hashes.py --corpus CORPUS

Tests compare `hashes.json` across splits without having the corpus; this makes the hashes again,
from the prepared recordings and pictures, and prints how many differ from the committed ones
and the nearest pairs with one item in test or validation and the other in another split,
pictures mirrored too. The exit code is 1 if a hash differs or a pair is nearer than the tests
allow (20 of 256 bits).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.hashes import (
    NEAR_BITS,
    audio_hash,
    distance_bits,
    distances_bits,
    load_hashes,
    mirrored_hash,
    picture_hash,
)

NUM_SHOWN = 3


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
    given = parser.parse_args()
    assets, committed = SceneAssets.open(given.corpus), load_hashes()
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
