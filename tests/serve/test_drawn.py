"""Drawings: few at once, without threads for those that wait, and not too many."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from omni2sound.serve.drawn import Drawings
from omni2sound.serve.errors import NotPossibleError
from omni2sound.serve.limits import DRAWINGS


async def _many_drawings(tmp_path: Path) -> tuple[int, list[BaseException], int]:
    """Ask for more drawings than may wait; return the most at once, refusals, and files."""
    drawings, at_once, most = Drawings(), 0, 0
    gate = threading.Event()

    def draw(_: Path) -> bytes:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        gate.wait(5)
        at_once -= 1
        return b"x"

    asked = [drawings.once(tmp_path / f"{k}", draw) for k in range(DRAWINGS + 3)]
    tasks = [asyncio.create_task(one) for one in asked]
    film = asyncio.create_task(drawings.once(tmp_path / "film", lambda _: b"x", is_film=True))
    await asyncio.sleep(0.05)
    gate.set()
    told = await asyncio.gather(*tasks, film, return_exceptions=True)
    refused = [one for one in told if one is not None]
    await drawings.once(tmp_path / "later", draw)
    return most, refused, len(list(tmp_path.iterdir()))


def test_drawings_wait_without_threads_and_too_many_are_refused(tmp_path: Path) -> None:
    most, refused, num_files = asyncio.run(_many_drawings(tmp_path))
    assert most == 2
    assert [type(error) for error in refused] == [NotPossibleError] * 4  # the film, too
    assert num_files == DRAWINGS + 1
