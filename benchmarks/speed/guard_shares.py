"""Share of a command's time that its guards take: readers, limits, scrubbing, atomic files.

    python -m benchmarks.speed.guard_shares

Runs the commands of `paired` twice each, the second time under cProfile, and sums the processor
time of calls that enter a module of guards from elsewhere. Profiling slows Python down and not
libraries, so the shares are upper bounds. Steadier than pairs on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import os
import pstats
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.robustness.odd_readers import call_command
from benchmarks.speed.paired import ROOT, commands, prepare

_GUARDS = ("readers.py", "redact.py", "staging.py", "files.py", "limits/", "llm/replies.py")
"""Modules of omni2sound, by the ends or parts of their paths."""


def _guard(place: tuple[str, int, str]) -> str | None:
    """Return the module of guards that a function of a profile belongs to."""
    name = place[0].rpartition("src/omni2sound/")[2]
    is_ours = name != place[0] and "media/files.py" not in name  # that one opens containers
    return next((guard for guard in _GUARDS if is_ours and guard in name), None)


def shares(profile: cProfile.Profile) -> tuple[float, Counter[str]]:
    """Seconds in all, and those of calls into each module of guards."""
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    taken: Counter[str] = Counter()
    for place, (*_, callers) in stats.items():
        if (guard := _guard(place)) is not None:
            outside = [times for caller, times in callers.items() if _guard(caller) is None]
            taken[guard] += sum(times[3] for times in outside)  # type: ignore[assignment]
    return sum(times[2] for times in stats.values()), taken


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="part of a command's name")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, [ROOT])
        for command, arguments in commands(0).items():
            if args.only not in command:
                continue
            profile = cProfile.Profile(time.process_time)
            for out in ("first", "second"):
                made = f"{command}-{out}"
                if command == "generate":  # its output is a file there
                    (folder / made).mkdir()
                given = ["-q", *map(str, arguments(made))]
                if out == "second":
                    profile.enable()
                with contextlib.redirect_stdout(io.StringIO()):
                    code = call_command(folder, given)
                profile.disable()
                assert code == 0, (command, code)
            in_all_s, taken = shares(profile)
            parts = ", ".join(f"{guard} {s / in_all_s:.2%}" for guard, s in taken.most_common())
            print(f"{command:9} {in_all_s:6.2f} s, guards {taken.total() / in_all_s:.2%}: {parts}",
                  flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
