"""Quality of a corpus: real scorers at tiny sizes with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from omni2sound.annotate import StepStore
from omni2sound.annotate.executor import Executor
from omni2sound.annotate.local.pe_av import PeNetworks, PeScorer, PeSource
from omni2sound.annotate.local.published import PublishedScorer, ScoringNetworks
from omni2sound.annotate.quality import quality_scorer, score_manifest
from omni2sound.annotate.roles import Scorer
from omni2sound.cli.main import app
from omni2sound.data.corpora.manifest import Clip, read_manifest, write_manifest
from omni2sound.errors import MissingPartError, UserError
from tests.encoders.metric.test_pe_av import pe_av
from tests.encoders.metric.test_published_judges import clap


def tiny_clap(folder: Path, device: str) -> ScoringNetworks:
    """Stand in for the published weights; importable by workers."""
    return ScoringNetworks(imagebind=None, clap=clap())


def tiny_pe(av: str, frames: str | None, device: str) -> PeNetworks:
    """The same of PE-AV."""
    return PeNetworks(av=pe_av(), frames=None)


def with_clap(executor: Executor) -> Scorer:
    return PublishedScorer(folder=Path(), executor=executor, load=tiny_clap)


def with_pe_av(executor: Executor) -> Scorer:
    return PeScorer(source=PeSource(av="tiny", load=tiny_pe), executor=executor)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(8_000), 16_000)
    clip = Clip(clip_id="0", corpus="c", split="train", audio="0.wav", captions=("A dog.",))
    rows = [
        clip,
        replace(clip, clip_id="1", audio="1.wav", captions=("Rain.", "A bird.")),
        replace(clip, clip_id="2", audio="2.wav", captions=(), audio_captions=("Rain.",)),
        replace(clip, clip_id="none", captions=(), quality=0.7),
        replace(clip, clip_id="gone", audio="gone.wav", video="gone.mp4"),
    ]
    write_manifest(tmp_path / "clips.jsonl", rows, media=tmp_path)
    return tmp_path / "clips.jsonl"


def qualities(path: Path) -> dict[str, float | None]:
    return {clip.clip_id: clip.quality for clip in read_manifest(path).clips}


@pytest.mark.parametrize("build", [with_clap, with_pe_av])
def test_only_the_quality_changes_and_a_stopped_run_goes_on(
    manifest: Path, build: Callable[[Executor], Scorer]
) -> None:
    out = manifest.with_name("scored.jsonl")
    report = score_manifest(manifest, out, build)
    assert (report.num_scored, report.num_without_caption) == (3, 1)
    ((name, reason),) = report.failed
    assert name == "c/gone" and "gone.wav" in reason
    before, after = (read_manifest(p).clips for p in (manifest, out))
    assert [replace(clip, quality=None) for clip in before] == [
        replace(clip, quality=None) for clip in after
    ]
    found = qualities(out)
    assert all(-1 <= (found[i] or 9) <= 1 for i in "012")
    assert found["none"] is None, "a quality by another scorer is another scale"
    assert found["gone"] is None

    def closed(executor: Executor) -> Scorer:
        scorer: Any = build(executor)
        works_seen = scorer.perceive

        def none_is_left(works: list[Any]) -> Any:
            assert not works
            return works_seen(works)

        object.__setattr__(scorer, "perceive", none_is_left)
        return scorer  # type: ignore[no-any-return]

    again = manifest.with_name("again.jsonl")
    out.with_suffix(".sqlite").rename(again.with_suffix(".sqlite"))
    score_manifest(manifest, again, closed)
    assert again.read_bytes() == out.read_bytes()


def test_quality_is_the_mean_over_captions(manifest: Path) -> None:
    out = manifest.with_name("scored.jsonl")
    score_manifest(manifest, out, with_clap)
    mean = qualities(out)["1"]
    single = []
    read = read_manifest(manifest)
    for caption in ("Rain.", "A bird."):
        one = manifest.with_name("one.jsonl")
        write_manifest(one, [replace(read.clips[1], captions=(caption,))], media=read.media)
        score_manifest(one, out, with_clap)
        single.append(qualities(out)["1"])
    assert mean == pytest.approx(sum(single) / 2, abs=1e-4)  # type: ignore[arg-type]


def test_a_changed_sound_or_caption_is_scored_again(manifest: Path) -> None:
    out = manifest.with_name("scored.jsonl")
    score_manifest(manifest, out, with_clap)
    with StepStore.open(out.with_suffix(".sqlite"), read_only=True) as store:
        keys = {name: store.of_clip(name)["quality"][0] for name in ("c/0", "c/1")}
    soundfile.write(manifest.with_name("0.wav"), np.ones(9_000) * 0.1, 16_000)
    score_manifest(manifest, out, with_clap)
    with StepStore.open(out.with_suffix(".sqlite"), read_only=True) as store:
        now = {name: store.of_clip(name)["quality"][0] for name in keys}
    assert (now["c/0"] != keys["c/0"], now["c/1"]) == (True, keys["c/1"])


def test_what_is_missing_is_said(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="lacks music_speech"):
        quality_scorer("clap", tmp_path, device="cpu", executor=Executor())
    with pytest.raises(UserError, match="expected the folder"):
        quality_scorer("clap", None, device="cpu", executor=Executor())
    clip = Clip(clip_id="0", corpus="c", split="train", audio="0.wav")
    write_manifest(tmp_path / "bare.jsonl", [clip], media=tmp_path)
    with pytest.raises(UserError, match="no clip has a caption"):
        score_manifest(tmp_path / "bare.jsonl", tmp_path / "o.jsonl", with_clap)


@pytest.mark.slow
def test_the_command_scores_with_the_bundled_networks(manifest: Path) -> None:
    out = manifest.with_name("scored.jsonl")
    argv = ["data", "score", str(manifest), "-o", str(out), "--with", "joint", "--workers", "1"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 1, done.output  # one clip is gone
    assert done.stdout.strip() == str(out)
    assert "3 clips scored, 1 without a caption, 1 failed" in done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()[1:]]
    assert sum("quality" in row for row in rows) == 3
    with pytest.raises(UserError, match="exists already"):
        CliRunner().invoke(app, argv, catch_exceptions=False)
