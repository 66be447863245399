"""Features of a manifest's clips: of the asked length, true to the media, damage set aside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from omni2sound.cli.main import app
from omni2sound.data.corpora.manifest import Clip, write_manifest
from omni2sound.data.store.encode import EncoderSource
from omni2sound.data.store.from_clips import CorpusOptions, build_corpus_features
from omni2sound.data.store.rows import FeatureStore
from omni2sound.errors import ConfigError, UserError
from omni2sound.generate.model import load_model
from omni2sound.media import Audio, read_audio, write_audio
from tests.build import tiny_model_folder, video_with_square

WINDOW_S = 0.8


def clip(name: str, **more: object) -> Clip:
    return Clip(clip_id=name, corpus="made", split="train", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def encoders(model: Path) -> EncoderSource:
    return EncoderSource(model=model)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    media = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for name, seconds in {
        "short.wav": 0.5,
        "long.wav": 3.0,
        "seen.wav": 1.0,
        "tiny.wav": 0.05,
    }.items():
        noise = 0.1 * rng.standard_normal((2, int(seconds * 22_050)))
        write_audio(media / name, Audio(samples_CN=noise.astype(np.float32), sample_rate_hz=22_050))
    silence = np.zeros((1, 16_000), np.float32)
    write_audio(media / "silent.wav", Audio(samples_CN=silence, sample_rate_hz=16_000))
    (media / "broken.mp3").write_bytes(b"no sound at all")
    video_with_square(media / "seen.mp4", duration_s=1.0)
    clips = [
        clip(
            "short", audio="short.wav", captions=("wind blows", "a gust"), author="A", quality=0.5
        ),
        clip("long", audio="long.wav", labels=("rain", "thunder"), source="freesound:1"),
        clip(
            "seen",
            audio="seen.wav",
            video="seen.mp4",
            captions=("a square moves",),
            audio_captions=("something hums",),
        ),
        clip("part", audio="long.wav", start_s=1.0, duration_s=0.4, captions=("rain",)),
        clip("silent", audio="silent.wav"),
        clip("broken", audio="broken.mp3"),
        clip("tiny", audio="tiny.wav"),
        clip("gone", audio="gone.wav"),
    ]
    write_manifest(media / "m.jsonl", clips, media=media)
    return media / "m.jsonl"


@pytest.fixture(scope="module")
def store(
    manifest: Path, encoders: EncoderSource, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    out = tmp_path_factory.mktemp("store")
    report = build_corpus_features(
        manifest, out, encoders=encoders, options=CorpusOptions(window_s=WINDOW_S)
    )
    failed = {f.clip_id: f.reason for f in report.failed}
    assert set(failed) == {"silent", "broken", "tiny", "gone"}
    assert failed["silent"] == "is silent"
    assert "too short" in failed["tiny"]
    return FeatureStore([out])


def test_every_row_has_the_asked_length(store: FeatureStore) -> None:
    rows = {row.clip_id: row for row in (store[i] for i in range(len(store)))}
    assert set(rows) == {"short", "long#0", "long#1", "long#2", "seen", "part"}
    for row in rows.values():
        assert row.duration_s == WINDOW_S
        assert len(row.sound_N) == int(WINDOW_S * 16_000)
    for name, valid_s in {"short": 0.5, "part": 0.4, "seen": None, "long#1": None}.items():
        assert rows[name].valid_s == pytest.approx(valid_s, abs=1e-4)
        end = len(rows[name].sound_N) if valid_s is None else int(valid_s * 16_000)
        assert rows[name].sound_N[:end].any()
        assert not rows[name].sound_N[end:].any()
    assert rows["short"].quality == pytest.approx(0.5)
    assert rows["long#1"].source == "freesound:1"


def test_windows_are_where_they_should_be(store: FeatureStore, manifest: Path) -> None:
    whole = read_audio(manifest.parent / "long.wav", sample_rate_hz=16_000, mono=True)
    rows = {row.clip_id: row.sound_N for row in (store[i] for i in range(len(store)))}
    for name, start_s in {"long#0": 0.0, "long#1": 1.1, "long#2": 2.2, "part": 1.0}.items():
        first, count = int(start_s * 16_000), 6_000
        wanted = whole.samples_CN[0, first : first + count]
        # Resampling begins at another sample, so the two agree as far as its filter allows.
        assert np.corrcoef(rows[name][200:count], wanted[200:])[0, 1] > 0.99, name


def test_texts_are_captions_or_else_labels(store: FeatureStore) -> None:
    told = {row.clip_id: row.texts for row in (store[i] for i in range(len(store)))}
    assert [t.text for t in told["short"] if t.role == "caption"] == ["wind blows", "a gust"]
    assert [t.text for t in told["long#0"] if t.role == "caption"] == ["rain, thunder"]
    assert [t.text for t in told["seen"] if t.role == "audio-only"] == ["something hums"]
    for texts in told.values():
        for text in texts:
            assert text.token_ids_T is not None
            assert len(text.token_ids_T) == len(text.states_TE)


def test_pictures_and_latents_are_those_of_the_model(store: FeatureStore, model: Path) -> None:
    rows = {row.clip_id: row for row in (store[i] for i in range(len(store)))}
    assert rows["short"].vision_TV is None
    seen = rows["seen"]
    assert seen.vision_TV is not None
    assert seen.sync_LS is not None
    assert seen.vision_TV.shape == (7, 1280)
    assert seen.sync_LS.shape == (20, 6)
    vae = load_model(model).autoencoder
    for row in rows.values():
        with torch.no_grad():
            latents_LC = vae.encode(torch.from_numpy(row.sound_N)[None])[0]
        assert row.latents_LC is not None
        # The row's waveform went through 16 bits since its latents were made.
        assert row.latents_LC.shape == tuple(latents_LC.shape) == (20, 8)
        assert np.corrcoef(row.latents_LC.ravel(), latents_LC.numpy().ravel())[0, 1] > 0.99


def test_who_made_the_sounds_is_listed(store: FeatureStore) -> None:
    (listed,) = store.attribution
    assert listed.splitlines()[0] == "id\tlicence\tattribution\tpackage\tpath"
    assert "made-2\t\tA\tmade\t1 clips" in listed.splitlines()


def test_another_manifest_needs_another_store(
    manifest: Path, encoders: EncoderSource, store: FeatureStore, tmp_path: Path
) -> None:
    write_manifest(tmp_path / "m.jsonl", [clip("short", audio="short.wav")], media=manifest.parent)
    options = CorpusOptions(window_s=WINDOW_S)
    build_corpus_features(
        tmp_path / "m.jsonl",
        tmp_path / "store",
        encoders=encoders,
        options=options,
    )
    with pytest.raises(ConfigError, match=r"other settings \(clips_sha256"):
        build_corpus_features(manifest, tmp_path / "store", encoders=encoders, options=options)
    with pytest.raises(ConfigError, match=r"other settings \(.*window_s"):
        build_corpus_features(
            tmp_path / "m.jsonl",
            tmp_path / "store",
            encoders=encoders,
            options=CorpusOptions(),
        )
    with pytest.raises(UserError, match=r"media: .*no such folder; give the folder of the media"):
        build_corpus_features(
            manifest,
            tmp_path / "x",
            encoders=encoders,
            options=options,
            media=tmp_path / "nowhere",
        )


def test_from_published_files_to_a_verified_store(
    manifest: Path, model: Path, tmp_path: Path
) -> None:
    """The commands one after another, as a user would."""
    (tmp_path / "vggsound.csv").write_text("abcdefghijk,5,wind,train\nabcdefghijl,5,wind\n")
    media = tmp_path / "media"
    media.mkdir()
    (media / "abcdefghijk_000005.wav").write_bytes((manifest.parent / "short.wav").read_bytes())
    run = CliRunner().invoke
    made = str(tmp_path / "vgg.jsonl")
    done = run(
        app, ["data", "import", "vggsound", str(tmp_path), "--media", str(media), "-o", made]
    )
    assert (done.exit_code, done.stdout) == (1, f"{made}\n")  # a malformed row
    report = json.loads((tmp_path / "vgg.report.json").read_text())
    assert [(p["file"], p["line"]) for p in report["problems"]] == [("vggsound.csv", 2)]
    out = str(tmp_path / "store")
    arguments = ["data", "features", made, "--out", out, "--parts", str(model), "--workers", "1"]
    done = run(app, [*arguments, "--seconds", "0.8"])
    assert (done.exit_code, done.stdout) == (0, f"{out}\n"), done.output
    assert run(app, ["data", "verify", out]).stdout == f"{out}: whole\n"
    (row,) = [FeatureStore([Path(out)])[0]]
    assert row.clip_id == "abcdefghijk_000005"
    assert [t.text for t in row.texts] == ["wind"]
