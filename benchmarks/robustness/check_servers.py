"""What does `annotate check` find out about six servers, and with how many calls?

    python -m benchmarks.robustness.check_servers

Each of the doubles (`server_doubles.py`) is probed once as it is, and once with a model without
ears, with thoughts of 1,200 tokens, or with two pictures at most. Exit code 1: a setting is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

from benchmarks.robustness.server_doubles import (
    AUDIO_FORM,
    KINDS,
    STRUCTURED,
    Kind,
    Said,
    ServerDouble,
)
from omni2sound.annotate.chat.models import ChatOptions
from omni2sound.annotate.chat.probe import MAX_CALLS, Probe, probe_endpoint


async def probe(kind: Kind, thinking: int = 0, **options: Any) -> Probe:
    """Probe a double."""

    def say(body: dict[str, Any]) -> Said:
        return Said(text=json.dumps({"word": "beep"}), thinking_tokens=thinking)

    async with ServerDouble(kind, say, **options) as server:
        return await probe_endpoint(f"model@{server.url}", ChatOptions())


def problems(kind: Kind) -> list[str]:
    """Compare what was found with what the double does."""
    wrong = []
    found = asyncio.run(probe(kind))
    structured = "json_object" if STRUCTURED[kind] == "text" else STRUCTURED[kind]
    if found.options.structured != structured:
        wrong.append(f"structured {found.options.structured}")
    if found.options.audio_part != AUDIO_FORM[kind] or not found.hears:
        wrong.append(f"sound {found.sound}")
    deaf = asyncio.run(probe(kind, hears=False))
    if deaf.hears:
        wrong.append(f"deaf, and yet {deaf.sound}")
    thinking = asyncio.run(probe(kind, 1200))
    if not 1000 < thinking.thinking_tokens < 1400:
        wrong.append(f"thoughts {thinking.thinking_tokens}")
    few = asyncio.run(probe(kind, max_pictures=2))
    if few.max_pictures != 2:
        wrong.append(f"pictures {few.pictures}")
    most = max(p.num_calls for p in (found, deaf, thinking, few))
    if most > MAX_CALLS:
        wrong.append(f"{most} calls")
    print(f"{found}\n")
    return wrong


def main() -> None:
    """Probe all six."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    wrong = {kind: found for kind in KINDS if (found := problems(kind))}
    print(wrong or "all settings are right")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
