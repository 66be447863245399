"""PE-AV and PE-A-Frame in a scored run: the real classes at tiny sizes, random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from omni2sound.bench.metrics.clip_metric import ClipMetric
from omni2sound.bench.metrics.network_scores import AskedClip, ClipNetworks, network_scores
from omni2sound.bench.run import Submission, score_folders
from omni2sound.bench.scoring.clip_networks import network_digests
from omni2sound.bench.scoring.options import ClipNetworkSources, ScoringOptions
from omni2sound.bench.systems.system import ORACLE
from omni2sound.bench.tracks.track import Track
from omni2sound.cli.main import app
from omni2sound.encoders.metric.pe_av import RATE_HZ, read_pictures
from omni2sound.errors import ConfigError, UserError
from omni2sound.media.audio import read_audio
from tests.bench.metrics.test_avbench import write_sound
from tests.encoders.metric.test_pe_av import noise, pe_a_frame, pe_av


class FakeAesthetics:
    """Stands in for a package that the tests do not install."""

    settings = ""

    def __init__(self) -> None:
        self.network = torch.nn.Linear(1, 1)

    def scores(self, waveform_N: np.ndarray) -> dict[str, float]:
        return dict.fromkeys(("CE", "CU", "PC", "PQ"), float(len(waveform_N)))


def tiny(
    pe_av_source: str | None, frames: str | None, aesthetics: str | None, device: object
) -> ClipNetworks:
    """Importable by workers."""
    return ClipNetworks(
        pe_av=None if pe_av_source is None else pe_av(),
        pe_a_frame=None if frames is None else pe_a_frame(),
        aesthetics=None if aesthetics is None else FakeAesthetics(),  # type: ignore[arg-type]
    )


SOURCES = ClipNetworkSources(pe_av="x", pe_a_frame="x", aesthetics="x", load=tiny)


def quiet(step: str) -> Callable[[int, int], None]:
    return lambda done, total: None


@pytest.mark.slow
def test_numbers_are_the_networks_own_and_are_made_once(
    scene_track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for number, clip in enumerate(scene_track.clips):
        write_sound(theirs / f"{clip.clip_id}.wav", seed=number, seconds=3)
    options = ScoringOptions(
        taggers=("yamnet",), cache_folder=tmp_path / "cache", clip_networks=SOURCES
    )
    asked = Submission(name="theirs", task="VT2A", folder=theirs)

    def score(out: Path) -> dict[str, dict[str, float]]:
        scored = score_folders(scene_track, [asked], out, options, limit=None, on_step=quiet)
        rows = {(r.protocol, r.system) for r in scored.evaluation.rows}
        for system in ("theirs", ORACLE):
            for protocol in ("pe-av-v1", "pe-a-frame-v1", "aesthetics-v1"):
                assert (protocol, system) in rows
        assert set(scored.evaluation.facts["clip_networks"]) == {
            "pe_av",
            "pe_a_frame",
            "aesthetics",
        }
        return {r.clip_id: dict(r.metrics) for r in scored.evaluation.clips if r.system == "theirs"}

    found = score(tmp_path / "a")
    clip = scene_track.clips[0]
    sound_N = read_audio(theirs / f"{clip.clip_id}.wav", sample_rate_hz=RATE_HZ, mono=True)
    cut_N = sound_N.samples_CN[0][: round(clip.duration_s * RATE_HZ)]
    network, numbers = pe_av(), found[clip.clip_id]
    heard_D = network.embed_audio(cut_N)
    assert numbers["sound-text"] == pytest.approx(
        float(heard_D @ network.embed_text([clip.caption])[0]), abs=1e-5
    )
    assert clip.video is not None
    pictures = read_pictures(
        scene_track.path(clip.video), network.pictures, duration_s=clip.duration_s
    )
    assert numbers["sound-video"] == pytest.approx(
        float(heard_D @ network.embed_pictures(pictures)), abs=1e-5
    )
    assert numbers["caption heard"] == pytest.approx(
        float(pe_a_frame().heard(cut_N, [clip.caption]).max()), abs=1e-5
    )
    assert 0 <= numbers["events heard"] <= 1
    assert numbers["production quality"] == clip.duration_s * 16_000

    def none(*_: object) -> dict[str, float]:
        raise AssertionError("measured twice")

    monkeypatch.setattr("omni2sound.bench.scoring.clip_networks.network_scores", none)
    assert score(tmp_path / "b") == found


@pytest.mark.slow
def test_a_network_with_other_settings_has_another_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a release that sees other pictures would get the cached numbers of this one."""
    networks = tiny("x", "x", None, "cpu")
    sources = [replace(SOURCES, pe_av=f"folder {number}") for number in range(2)]
    monkeypatch.setattr(
        "omni2sound.bench.scoring.clip_networks._networks", lambda sources: networks
    )
    before = network_digests(sources[0])
    assert networks.pe_av is not None
    networks.pe_av.pictures = replace(networks.pe_av.pictures, count=7)
    after = network_digests(sources[1])
    assert before["pe_av"] != after["pe_av"] and before["pe_a_frame"] == after["pe_a_frame"]


def test_an_event_counts_where_it_should_sound() -> None:
    networks, sound_N = tiny(None, "x", None, "cpu"), noise(2 * RATE_HZ)
    heard_F = pe_a_frame().heard(sound_N, ["a dog"])[0]
    asked = AskedClip(caption="", duration_s=2.0)
    assert network_scores(networks, "pe_a_frame", sound_N, asked) == {}
    for start_s, end_s in ((0.0, 0.2), (0.8, 1.0), (1.7, 1.9)):
        events = [("a dog", start_s, end_s)]
        found = network_scores(networks, "pe_a_frame", sound_N, replace(asked, events=events))
        inside = [
            p for f, p in enumerate(heard_F)
            if f * 0.04 < end_s + 0.25 and f * 0.04 + 0.04 > start_s - 0.25
        ]  # fmt: skip
        assert found == {"events heard": pytest.approx(max(inside))}
    beyond = replace(asked, events=[("a dog", 9.0, 9.5)])
    assert network_scores(networks, "pe_a_frame", sound_N, beyond) == {"events heard": 0.0}


@pytest.mark.parametrize("option", ["--pe-av", "--pe-a-frame", "--aesthetics"])
def test_missing_weights_are_said_before_anything_is_made(
    option: str, scene_track: Track, tmp_path: Path
) -> None:
    argv = ["bench", "score", str(scene_track.folder), str(tmp_path), "--task", "VT2A"]
    done = CliRunner().invoke(app, [*argv, "-o", str(tmp_path / "o"), option, "nowhere"])
    assert done.exit_code == 2 or done.exception is not None
    assert "is neither a folder nor a Hub id with its revision" in (
        done.output + str(done.exception)
    )
    assert not (tmp_path / "o").exists()


def test_files_that_are_none_are_said_before_anything_is_made(tmp_path: Path) -> None:
    sources = ClipNetworkSources(pe_a_frame=str(tmp_path))
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("no")
    with pytest.raises(ConfigError, match=r"config\.json: not JSON"):
        sources.check()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a complete safetensors file"):
        sources.check()


@pytest.mark.parametrize("protocol", ["pe-av-v1", "pe-a-frame-v1", "aesthetics-v1"])
def test_a_plugin_may_not_take_their_protocols(protocol: str) -> None:
    with pytest.raises(UserError, match="is built in"):
        ClipMetric(protocol=protocol, direction="higher", measure=lambda *_: 0.0)
