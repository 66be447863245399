"""Progress of a job rises with all that is done, through each of its stems."""

from __future__ import annotations

from itertools import pairwise

import pytest

from omni2sound import stages
from omni2sound.serve.progress import Progress, Stopped, Watcher


@pytest.mark.parametrize("num_parts", [1, 2, 7])
def test_progress_rises_with_each_step_of_each_stem_of_each_take(num_parts: int) -> None:
    told: list[Progress] = []
    watcher = Watcher(2, lambda: False, lambda _: None)

    def note() -> None:
        told.append(watcher.progress(1.0))

    with stages.listening(watcher.listen):
        stages.enter("encoding")
        note()
        for _ in range(2):
            for number in range(num_parts):
                with stages.part(number, num_parts):
                    stages.enter("generating")
                    for done in (1, 2):
                        stages.advance(done, 2)
                        note()
                    stages.enter("decoding")
                    stages.advance(1, 2)
                    note()
            stages.enter("writing")
            stages.advance(1, 2)
            note()
            watcher.next_take()
    fractions = [progress.fraction for progress in told]
    assert all(before < after for before, after in pairwise(fractions))
    assert 0.9 < fractions[-1] < 1


def test_what_is_stopped_ends_at_the_next_look() -> None:
    watcher = Watcher(1, lambda: True, lambda _: None)
    with stages.listening(watcher.listen), pytest.raises(Stopped):
        stages.going_on()


def test_a_job_that_is_one_stage_is_as_far_as_that() -> None:
    watcher = Watcher(1, lambda: False, lambda _: None, whole="looking at the video")
    with stages.listening(watcher.listen):
        stages.enter("looking at the video")
        stages.advance(3, 4)
    assert watcher.progress(6.0) == Progress(
        stage="looking at the video", fraction=0.75, seconds_left=2.0
    )
