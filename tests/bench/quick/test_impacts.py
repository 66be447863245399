"""Impact scenes, scored for a model that knows the answer and for baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from omni2sound.bench.quick.impacts import motion_peak_s, run_impacts
from omni2sound.bench.quick.score import score_impacts
from omni2sound.bench.tracks.scene_clips import ScenePictures
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.render.render import render_audio


class Oracle:
    """Returns each scene's own sound, and remembers what it was shown."""

    def __init__(self, assets: SceneAssets) -> None:
        self.assets = assets
        self.shown: list[ScenePictures] = []

    def __call__(self, pictures: ScenePictures) -> Sequence[NDArray[np.float32]]:
        self.shown.append(pictures)
        first = pictures.first_index
        return [
            render_audio(
                draw_scene(
                    self.assets, split="test", seed=3, index=i, kind="strike", duration_s=2.5
                ),
                self.assets,
            )
            for i in range(first, first + len(pictures.sync_frames_BTHWK))
        ]


def test_a_model_that_knows_the_answer_is_as_good_as_the_oracle(assets: SceneAssets) -> None:
    model, progress = Oracle(assets), []
    result = run_impacts(
        assets,
        model,
        num_scenes=5,
        seed=3,
        duration_s=2.5,
        sync_px=32,
        vision_px=16,
        batch_size=3,
        on_scenes=lambda done, total: progress.append((done, total)),
    )
    assert result.onsets_s["generated"] == result.onsets_s["oracle"]
    assert result.onsets_s["silence"] == [None] * 5
    assert [p.first_index for p in model.shown] == [0, 3]
    assert model.shown[0].vision_frames_BTHWK.shape == (3, 20, 16, 16, 3)
    assert model.shown[1].sync_frames_BTHWK.shape == (2, 63, 32, 32, 3)
    assert progress == [(3, 5), (5, 5)]
    rows, _ = score_impacts(result)
    assert rows[0].rate.value >= 0.8


def test_the_batch_size_is_no_part_of_the_result(assets: SceneAssets) -> None:
    results = [
        run_impacts(
            assets,
            Oracle(assets),
            num_scenes=3,
            seed=3,
            duration_s=2.5,
            sync_px=16,
            vision_px=16,
            batch_size=size,
        )
        for size in (1, 3)
    ]
    assert results[0] == results[1]


@pytest.mark.parametrize("frame", [1, 17, 24])
def test_the_motion_peak_lies_between_the_frames_that_differ_most(frame: int) -> None:
    frames = np.full((25, 4, 4, 3), 100, np.uint8)
    frames[frame:] += 20
    frames[12:] += 3
    assert motion_peak_s(frames, 25) == frame / 25


def test_a_picture_that_stands_still_has_no_peak() -> None:
    assert motion_peak_s(np.zeros((25, 4, 4, 3), np.uint8), 25) is None
    assert motion_peak_s(np.zeros((1, 4, 4, 3), np.uint8), 25) is None
