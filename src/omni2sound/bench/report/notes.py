"""What a reader must know before believing a table.

In:   an evaluation.
Out:  sentences.
"""

from __future__ import annotations

from omni2sound.bench.metrics.avbench.scores import PROTOCOL as AVBENCH
from omni2sound.bench.scoring.evaluate import Evaluation
from omni2sound.bench.systems.baseline_files import SHUFFLED
from omni2sound.bench.systems.system import ORACLE, REAL_ELSEWHERE


def notes_of(evaluation: Evaluation) -> list[str]:
    """In the order of their weight."""
    facts, notes = evaluation.facts, []
    least = facts["min_clips_for_verdict"]
    distances = [r for r in evaluation.rows if r.protocol.endswith("-8s-v1")]
    if any(row.num_clips < least for row in distances):
        notes.append(
            f"Fewer than {least} clips stand behind some FD and KID: no verdict should be taken "
            "from them. FD falls as the number of clips grows; compare at equal numbers only, and "
            "look at the row of real sound beside."
        )
    floor = any(r.system == REAL_ELSEWHERE for r in evaluation.rows)
    notes.append(
        f"{ORACLE} and {SHUFFLED} are the real set itself, and so have no FD, KID and IS"
        + (f"; the floor is the row “{REAL_ELSEWHERE}”." if floor else ".")
    )
    if "published_judges" not in facts:
        notes.append(
            f"{AVBENCH}, the protocol of published tables, was not asked for: it takes the "
            "files of its networks (docs/guides/full-size.md says where they come from)."
        )
    notes += [f"{AVBENCH}: {reason}" for reason in facts.get("published_missing", {}).values()]
    for who, clips in facts.get("published_left_out", {}).items():
        listed = "; ".join(f"{clip}: {reason}" for clip, reason in clips.items())
        notes.append(f"{AVBENCH}, left out of {who} ({len(clips)} clips): {listed}.")
    short = [r for r in evaluation.rows if r.num_clips < r.num_expected and not r.is_baseline]
    if short:
        names = sorted({r.system for r in short})
        notes.append(
            f"{', '.join(names)}: not every clip could be scored; the problems are listed below."
        )
    for key, words in (
        ("classes_left_out", "Not asked, since the tagger often misses real recordings of them"),
        ("classes_left_out_2nd", "Not asked of the second tagger, for the same reason"),
        ("speech_not_asked", "Speech is not asked where real recordings are taken for it"),
        ("music_not_asked", "Music is not asked where real recordings are taken for it"),
    ):
        rates = facts.get("oracle_rates_2nd" if key.endswith("2nd") else "oracle_rates", {})
        if facts.get(key):
            listed = ", ".join(
                f"{name} ({rates[name]:.2f})" if key.startswith("classes") else name
                for name in facts[key]
            )
            notes.append(f"{words}: {listed}.")
    return notes
