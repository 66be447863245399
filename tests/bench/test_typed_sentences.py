"""The typed sentences are in words that no kind was trained on."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.quality.typed_sentences import (
    Sentence,
    is_silent,
    load_sentences,
    measure,
)
from omni2sound.bench.metrics.tagging import CatalogueTagger
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.typed import without_article

SENTENCES, WHOLE = load_sentences(), Catalogue.load_all()
RATE_HZ = YamNet.sample_rate_hz


def test_there_are_120_each_once_half_of_them_for_the_benchmark_kinds() -> None:
    known = set(Catalogue.load().class_ids)
    assert len({s.prompt for s in SENTENCES}) == len(SENTENCES) == 120
    assert sum(bool(known & set(s.kinds)) for s in SENTENCES) == 60
    assert {k for s in SENTENCES for k in s.kinds} <= set(WHOLE.class_ids)


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda s: s.prompt)
def test_no_sentence_holds_a_training_name_of_its_kind(sentence: Sentence) -> None:
    for kind in map(WHOLE.sound_class, sentence.kinds):
        for name in map(without_article, kind.names):
            assert not re.search(rf"\b{re.escape(name)}\b", sentence.prompt), name


def test_silence_and_noise_are_told_apart() -> None:
    noise = np.random.default_rng(0).standard_normal(2 * RATE_HZ).astype(np.float32)
    assert is_silent(np.zeros(3 * RATE_HZ, np.float32), RATE_HZ)
    assert is_silent(1e-3 * noise, RATE_HZ)
    assert not is_silent(np.concatenate([np.zeros(5 * RATE_HZ), 0.1 * noise]), RATE_HZ)


def test_a_silent_sound_is_heard_as_nothing() -> None:
    ears = CatalogueTagger(YamNet.load(), WHOLE)
    found = measure(SENTENCES[0], np.zeros(RATE_HZ, np.float32), ears)
    assert (found.heard, found.silent, found.unasked) == (False, True, False)
    assert json.loads(json.dumps(asdict(found))) == asdict(found)
