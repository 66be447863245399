"""Prompts, tagged by the real YAMNet on sounds that are known by construction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from omni2sound.bench.quick.prompts import run_prompts
from omni2sound.bench.quick.score import score_prompts
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import ConfigError
from omni2sound.scenes.material.assets import SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue


def test_a_model_that_obeys_passes_and_held_out_words_are_used(tonal_assets: SceneAssets) -> None:
    def obey(prompts: Sequence[str], first_index: int) -> Sequence[NDArray[np.float32]]:
        return [tonal_assets.waveform("bell-5" if "bell" in p else "drum-5") for p in prompts]

    progress: list[tuple[int, int]] = []
    run = run_prompts(
        tonal_assets,
        obey,
        YamNet.load(),
        num_prompts=10,
        seed=0,
        batch_size=4,
        on_prompts=lambda done, total: progress.append((done, total)),
    )
    assert run.oracle_rates["bell"] == run.oracle_rates["drum"] == 1
    assert set(run.left_out) == {"door", "dog", "engine", "water", "wind"}
    assert set(run.result.class_ids) == {"bell", "drum"}
    assert all("some" in p or "is heard" in p for p in run.prompts)
    assert progress == [(4, 10), (8, 10), (10, 10)]
    rows, checks = score_prompts(run.result)
    rates = {row.system: row.rate.value for row in rows}
    assert rates["generated"] == rates["oracle"] == 1
    assert rates["silence"] == 0
    assert checks[0].passed


def test_a_second_tagger_is_not_asked_of_classes_that_it_does_not_know(
    tonal_assets: SceneAssets,
) -> None:
    class OnlyBells(YamNet):
        """Hears a tone in everything."""

        def scores_and_embeddings(self, waveform_N):  # type: ignore[no-untyped-def]
            scores = np.zeros((1, 521), np.float32)
            scores[0, self.class_names.index("Sine wave")] = 1
            return scores, np.zeros((1, 1024), np.float32)

    known = YamNet.load()
    run = run_prompts(
        tonal_assets,
        lambda prompts, first: [tonal_assets.waveform("bell-5")] * len(prompts),
        known,
        in_domain=OnlyBells(known.network, known.class_names),
        num_prompts=10,
        seed=0,
        batch_size=4,
    )
    assert "drum" in run.left_out_2nd
    assert "bell" not in run.left_out_2nd
    found = run.result.found["generated, 2nd tagger"]
    assert [h is None for h in found] == [c == "drum" for c in run.result.class_ids]
    rates = {row.system: row.rate for row in score_prompts(run.result)[0]}
    assert rates["oracle, 2nd tagger"].num_clips == 5
    assert rates["oracle, 2nd tagger"].value == 1


def test_the_judge_knows_every_class_group_of_the_catalogue() -> None:
    known = set(YamNet.load().class_names)
    groups = {c.class_id: set(c.yamnet_classes) - known for c in Catalogue.load().classes}
    assert not {class_id: unknown for class_id, unknown in groups.items() if unknown}


def test_a_corpus_that_the_judge_does_not_know_is_refused(assets: SceneAssets) -> None:
    class Deaf(YamNet):
        def scores_and_embeddings(self, waveform_N):  # type: ignore[no-untyped-def]
            return np.linspace(1, 0, 521, dtype=np.float32)[None], np.zeros((1, 1024), np.float32)

    known = YamNet.load()
    deaf = Deaf(known.network, known.class_names)
    with pytest.raises(ConfigError, match="needs 2"):
        run_prompts(assets, lambda prompts, first: [], deaf, num_prompts=4, seed=0)
