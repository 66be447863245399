"""Stems of a model: what is in which, what they add up to, what changes them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from omni2sound.errors import UserError
from omni2sound.generate.conditions import ConditionEncoder
from omni2sound.generate.hand_over.takes import read_takes
from omni2sound.generate.output import OutputOptions, check_target, save
from omni2sound.generate.pipeline import Omni2SoundPipeline
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.stems.exact import add, with_stems
from omni2sound.generate.stems.files import stems_folder
from omni2sound.generate.stems.make import make_stems
from omni2sound.generate.stems.mix import open_mix
from omni2sound.generate.stems.sources import _names
from omni2sound.generate.words.cues import Cue
from omni2sound.media.audio import read_audio
from tests.build import tiny_model_folder, video_with_square

DOG = Cue(start_s=0.5, end_s=1.0, text="A dog barks!")
BELL = Cue(start_s=1.2, end_s=1.6, text="a bell")
REQUEST = GenerationRequest(
    prompt="rain", cues=(DOG, BELL), duration_s=2.0, num_inference_steps=1, seed=3, stems=True
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Omni2SoundPipeline:
    folder = tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")
    return Omni2SoundPipeline.from_pretrained(folder, device="cpu", dtype="float32")


def test_each_cue_is_a_stem_of_its_span_and_the_prompt_is_the_rest(
    pipeline: Omni2SoundPipeline,
) -> None:
    (made,) = pipeline.run(REQUEST)
    assert [s.source.name for s in made.stems] == ["a-dog-barks", "a-bell", "rest"]
    rate_hz = made.audio.sample_rate_hz
    for stem, cue in zip(made.stems, (DOG, BELL), strict=False):
        sounding_N = np.flatnonzero(np.abs(stem.audio.samples_CN).max(axis=0)) / rate_hz
        assert cue.start_s - 0.2 < sounding_N[0] < sounding_N[-1] < cue.end_s + 0.2
    np.testing.assert_array_equal(add([s.audio for s in made.stems]).samples_CN,
                                  made.audio.samples_CN)  # fmt: skip
    alone = next(pipeline.run(replace(REQUEST, cues=(), stems=False)))
    assert np.abs(made.stems[-1].audio.samples_CN - alone.audio.samples_CN).max() <= 2**-22


def test_another_cue_changes_no_other_stem_and_one_can_be_made_alone(
    pipeline: Omni2SoundPipeline,
) -> None:
    (both,) = pipeline.run(REQUEST)
    (one,) = pipeline.run(replace(REQUEST, cues=(BELL,)))
    (again,) = make_stems(pipeline, REQUEST, only={"a-bell"})
    assert [s.source.name for s in again.stems] == ["a-bell"]
    for other in (one.stems[0], again.stems[0]):
        assert other.seed == both.stems[1].seed
        np.testing.assert_array_equal(other.audio.samples_CN, both.stems[1].audio.samples_CN)
    two = replace(REQUEST, cues=(BELL, replace(BELL, start_s=0.1, end_s=0.4)), prompt=None)
    (twins,) = pipeline.run(two)
    assert [s.source.name for s in twins.stems] == ["a-bell", "a-bell-2"]
    assert twins.stems[0].seed != twins.stems[1].seed


def test_no_other_stem_is_made_for_one_that_is_gone(pipeline: Omni2SoundPipeline) -> None:
    for asked in (REQUEST, replace(REQUEST, prompt=None)):
        gone = {"cat"} if asked.prompt else {"rest"}
        with pytest.raises(UserError, match="any more; it has a-bell, a-dog-barks"):
            next(make_stems(pipeline, asked, only=gone))


@given(st.lists(st.sampled_from(["dog", "Dog 2", "dog-2-2", "rest", "!", "собака", "狗"])))
def test_names_are_unique_and_texts_of_other_scripts_have_their_own(texts: list[str]) -> None:
    names = _names(texts)
    assert len({*names, "rest", "mix"}) == len(names) + 2
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)
    for text in ("собака", "狗"):
        own = [name for name, of in zip(names, texts, strict=True) if of == text]
        assert own == _names([text] * len(own))  # whatever stands around it


def test_a_sound_without_stems_does_not_keep_those_of_the_one_before(
    pipeline: Omni2SoundPipeline, tmp_path: Path
) -> None:
    (made,) = pipeline.run(REQUEST)
    output, options = tmp_path / "a.wav", OutputOptions(overwrite=True)
    save(made, output, video=None, options=options)
    assert len(open_mix(output)[1].stems) == 3
    kept = tmp_path / "kept"
    shutil.copytree(stems_folder(output), kept)
    save(replace(made, stems=(), seed=4), output, video=None, options=options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "a.wav.json", "kept"]
    kept.rename(stems_folder(output))
    for read in (open_mix, lambda path: read_takes([path])):
        with pytest.raises(UserError, match=r"a\.wav\.stems: holds the stems of another sound"):
            read(output)


def test_a_videos_sounds_are_stems_and_it_is_encoded_once(
    pipeline: Omni2SoundPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = video_with_square(tmp_path / "clip.mp4", duration_s=1.2)
    asked = replace(REQUEST, video=video, seen="a car", cues=(DOG,), duration_s=None)
    encoded, encode = [], ConditionEncoder._encode_motion

    def noted(self: ConditionEncoder, film: Path, duration_s: float | Fraction) -> Tensor:
        encoded.append(film)
        return encode(self, film, duration_s)

    monkeypatch.setattr(ConditionEncoder, "_encode_motion", noted)
    (made,) = pipeline.run(asked)
    assert [s.source.name for s in made.stems] == ["a-car", "a-dog-barks", "rest"]
    assert encoded == [video]
    monkeypatch.setattr(ConditionEncoder, "_encoded_once", lambda self, key, make: make())
    (again,) = pipeline.run(asked)
    assert len(encoded) == 4  # each sound encoded it anew, and got the same
    assert (again.audio.samples_CN == made.audio.samples_CN).all()
    (alone,) = pipeline.run(GenerationRequest(video=video, num_inference_steps=1, stems=True))
    assert [s.source.name for s in alone.stems] == ["rest"]


@pytest.mark.parametrize(("name", "bits"), [("mix.wav", 32), ("mix.mov", 32), ("mix.wav", 24)])
def test_the_files_of_stems_add_up_to_the_mix(
    pipeline: Omni2SoundPipeline, tmp_path: Path, name: str, bits: int
) -> None:
    video = video_with_square(tmp_path / "clip.mp4", duration_s=1.2)
    (made,) = pipeline.run(replace(REQUEST, video=video, seen="a car", cues=(DOG,), duration_s=1.0))
    quiet = [
        replace(s, audio=replace(s.audio, samples_CN=s.audio.samples_CN / 8)) for s in made.stems
    ]
    made = with_stems(made, quiet)
    output = tmp_path / name
    report = save(made, output, video=video, options=OutputOptions(bits=bits))
    files = sorted(stems_folder(output).glob("*.wav"))
    assert [f.stem for f in files] == ["a-car", "a-dog-barks", "rest"]
    sounds = [read_audio(f) for f in files]
    assert {s.sample_rate_hz for s in sounds} == {48_000}
    np.testing.assert_array_equal(add(sounds).samples_CN, read_audio(output).samples_CN)
    described = json.loads((stems_folder(output) / "mix.json").read_text())
    assert [s["file"] for s in described["stems"]] == ["a-car.wav", "a-dog-barks.wav", "rest.wav"]
    assert [s["seed"] for s in report["stems"]] == [s["seed"] for s in described["stems"]]


def test_stems_are_never_limited_and_never_overwritten_unasked(
    pipeline: Omni2SoundPipeline, tmp_path: Path
) -> None:
    (made,) = pipeline.run(REQUEST)
    loud = [replace(s, audio=replace(s.audio, samples_CN=s.audio.samples_CN + np.float32(0.75)))
            for s in made.stems]  # fmt: skip
    made = replace(made, stems=tuple(loud), audio=add([s.audio for s in loud]))
    output = tmp_path / "mix.wav"
    report = save(made, output, video=None, options=OutputOptions())
    assert report["leveling"]["limited_db"] > 1
    sounds = [read_audio(f) for f in stems_folder(output).glob("*.wav")]
    np.testing.assert_array_equal(add(sounds).samples_CN, made.audio.samples_CN)
    output.unlink()
    (tmp_path / "mix.wav.json").unlink()
    with pytest.raises(UserError, match=r"mix\.wav\.stems: exists already"):
        check_target(output, REQUEST, OutputOptions())
    check_target(output, REQUEST, OutputOptions(overwrite=True))
