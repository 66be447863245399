"""Would the check by loudness notice a sound that is not where the truth says?

    python benchmarks/checks/moved_stems.py --corpus CORPUS [--scenes 150]

Every event of scenes of all kinds and of the training and test split is asked by
`check.measure_attack` as it is, and with its stem moved by 10, 20 and 40 ms. Prints how many events
fail where nothing was moved (none should) and what share of the moved ones is found. What swells
is found last: it has no sharp attack. The exit code is 1 if an event that was not moved fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omni2sound.scenes.check import MAX_HEARD_S, measure_attack
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Split
from omni2sound.scenes.render.render import render_stems
from omni2sound.scenes.scene import SceneKind

LATE_MS = (0, 10, 20, 40, -10, -20, -40)
PARTS: tuple[tuple[Split, SceneKind], ...] = (
    ("train", "main"),
    ("train", "strike"),
    ("train", "audio"),
    ("test", "main"),
    ("test", "strike"),
    ("test", "offscreen"),
    ("test", "audio"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    assets = SceneAssets.open(given.corpus)
    found, events = dict.fromkeys(LATE_MS, 0), 0
    for split, kind in PARTS:
        for index in range(given.scenes):
            scene = draw_scene(
                assets, split=split, seed=given.seed, index=index, kind=kind, duration_s=5.0
            )
            for event, stem_N in zip(scene.events, render_stems(scene, assets), strict=True):
                events += 1
                for late_ms in LATE_MS:
                    # To look for it earlier is the same as to move the stem later.
                    attack = measure_attack(stem_N, event.onset_s - late_ms / 1000)
                    there = attack is not None and attack.is_at_onset(MAX_HEARD_S)
                    found[late_ms] += not there
    print(f"{events} events, not heard at their onset: {found[0]}")
    for late_ms in LATE_MS[1:]:
        print(f"moved by {late_ms:+d} ms: {found[late_ms] / events:.3f} found")
    return int(found[0] > 0)


if __name__ == "__main__":
    sys.exit(main())
