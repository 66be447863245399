"""Exports: they stop wherever packets are read or written, and leave nothing then."""

from __future__ import annotations

from pathlib import Path

import pytest

from omni2sound.generate.output import OutputOptions
from omni2sound.generate.studio.export import export_take
from omni2sound.serve.progress import Stopped
from omni2sound.stages import listening
from tests.build import video_with_square
from tests.generate.hand_over.test_hand_over import write_take


@pytest.mark.parametrize(("suffix", "reencode"), [(".wav", False), (".mp4", False), (".mkv", True)])
def test_an_export_stops_anywhere_and_leaves_nothing(
    suffix: str, reencode: bool, tmp_path: Path
) -> None:
    film = video_with_square(tmp_path / "film.mp4", duration_s=2.5)
    take = write_take(tmp_path / "take.wav", start_s=0.4)
    output = tmp_path / f"export{suffix}"
    before = sorted(tmp_path.rglob("*"))
    calls, last = 0, 10**9

    def listen(stage: str | None, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > last:
            raise Stopped

    def export() -> None:
        options = OutputOptions(overwrite=True, reencode=reencode)
        with listening(listen):
            export_take(take, output, options, video=film, start_s=0.4)

    export()
    assert calls > 50
    output.unlink()
    (tmp_path / f"export{suffix}.json").unlink()
    for stop in (0, calls // 3, calls * 3 // 4):
        last, calls = stop, 0
        with pytest.raises(Stopped):
            export()
        assert sorted(tmp_path.rglob("*")) == before
