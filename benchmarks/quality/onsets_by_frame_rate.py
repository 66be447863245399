"""Does timing depend on the frame rate of the video? Onset F1 by frame rate, from a scored run.

Run:  omni2sound bench run stage-omni --model embedded --gates --out RUN
      python benchmarks/quality/onsets_by_frame_rate.py --run RUN

Clips of the part "main", V2A. Scenes are drawn at nine frame rates; networks see every video at
25 frames a second, so all other rates are resampled in time. Intervals resample clips (95 %).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from omni2sound.bench.metrics.scene_v1 import ClipScore, stage_scores
from omni2sound.bench.report.results import read_run
from omni2sound.bench.systems.system import ORACLE
from omni2sound.bench.tracks.scenes import read_truth
from omni2sound.bench.tracks.track import read_track


def onset_f1(clips: Sequence[ClipScore]) -> str:
    """Onset F1 at 100 ms with its interval."""
    (found,) = (s.estimate for s in stage_scores(clips) if s.name == "onset F1 100 ms")
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    run = read_run(parser.parse_args().run)
    model = run.evaluation.facts["model"]["model"]
    systems = {"V2A": (model, "V2A"), "motion energy": ("motion-energy", None)}
    systems["real sound"] = (ORACLE, None)
    track = read_track(run.track).limited(run.limit)
    rates = {
        c.clip_id: read_truth(track.path(c.truth))[0].fps
        for c in track.clips
        if c.part == "main" and c.truth is not None
    }
    scores: dict[str, dict[Fraction, list[ClipScore]]] = defaultdict(lambda: defaultdict(list))
    for record in run.evaluation.clips:
        for title, key in systems.items():
            if (record.system, record.task) == key and record.clip_id in rates and record.stage:
                scores[title][Fraction(rates[record.clip_id])].append(record.stage)
    print(f"{'fps':>10}  {'clips':>5}  " + "  ".join(f"{title:20}" for title in systems))
    for rate in sorted(scores["V2A"]):
        cells = [onset_f1(scores[title][rate]) for title in systems]
        print(f"{rate!s:>10}  {len(scores['V2A'][rate]):5}  " + "  ".join(f"{c:20}" for c in cells))


if __name__ == "__main__":
    main()
