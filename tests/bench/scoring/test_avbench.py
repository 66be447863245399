"""avbench-8s-v1 inside a scored run, with the real classes at tiny sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from omni2sound.bench.metrics.avbench.clips import Networks, embed_sounds, embed_videos, list_files
from omni2sound.bench.metrics.avbench.scores import PROTOCOL, score_avbench
from omni2sound.bench.report.notes import notes_of
from omni2sound.bench.report.results import ScoredRun, read_run
from omni2sound.bench.report.write import write_report
from omni2sound.bench.run import Submission, score_folders
from omni2sound.bench.scoring.avbench import embed_track
from omni2sound.bench.scoring.options import PublishedNetworks, ScoringOptions
from omni2sound.bench.systems.folder import SoundFile
from omni2sound.bench.tracks.track import Track, TrackClip, TrackInfo, file_sha256, write_track
from omni2sound.data.workers import Workers
from omni2sound.encoders.metric.panns import Panns
from tests.bench.metrics.test_avbench import write_sound, write_video
from tests.bench.tiny_networks import tiny_networks

pytestmark = pytest.mark.slow

NUM_CLIPS = 11
PUBLISHED = PublishedNetworks(weights=Path("weights"), device="cpu", load=tiny_networks)


def quiet(step: str) -> Callable[[int, int], None]:
    return lambda done, total: None


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Track:
    """Eleven clips of 8 s that share one video."""
    folder = tmp_path_factory.mktemp("track")
    for name in ("audio", "video"):
        (folder / name).mkdir()
    write_video(folder / "video" / "one.mp4", pictures=200)
    names = [f"c{k:02d}" for k in range(NUM_CLIPS)]
    for k, name in enumerate(names):
        write_sound(folder / "audio" / f"{name}.wav", seed=k)
    clips = [
        TrackClip(
            clip_id=name,
            part="main",
            caption=f"noise {name}",
            duration_s=8.0,
            audio=f"own:audio/{name}.wav",
            video="own:video/one.mp4",
        )
        for name in names
    ]
    return write_track(folder, TrackInfo(name="noises", version="1"), clips)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other noise; one sound is too short for the network of sync."""
    folder = tmp_path_factory.mktemp("theirs")
    for k in range(NUM_CLIPS):
        write_sound(folder / f"c{k:02d}.wav", seed=100 + k, seconds=5 if k == 3 else 8)
    return folder


@pytest.fixture(scope="module")
def run(track: Track, theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> ScoredRun:
    out = tmp_path_factory.mktemp("out")
    options = ScoringOptions(taggers=("yamnet",), cache_folder=out / "cache", published=PUBLISHED)
    submission = Submission(name="theirs", task="VT2A", folder=theirs)
    scored = score_folders(track, [submission], out, options, limit=None, on_step=quiet)
    write_report(scored)
    return scored


def test_scores_are_those_of_the_protocol_on_the_same_files(
    run: ScoredRun, track: Track, theirs: Path
) -> None:
    networks = tiny_networks()
    seen = embed_videos([track.folder / "video" / "one.mp4"], networks)
    shared = {
        network: dict.fromkeys((c.clip_id for c in track.clips), clips["one"])
        for network, clips in seen.embeddings.items()
    }
    expected = score_avbench(
        embed_sounds(list_files(theirs), networks),
        embed_sounds(list_files(track.folder / "audio"), networks),
        videos=replace(seen, embeddings=shared),
        sync=networks.sync,
    )
    (row,) = (r for r in run.evaluation.rows if (r.system, r.protocol) == ("theirs", PROTOCOL))
    assert (row.part, row.num_clips, row.num_expected) == ("main", NUM_CLIPS, NUM_CLIPS)
    assert row.scores == expected
    names = ["FD-PANN", "KL-PANNS-softmax", "ISC-PANNS-mean", "IB-Score", "DeSync"]
    assert [s.name for s in row.scores] == names
    assert [s.estimate.num_clips for s in row.scores] == [11, 11, 11, 11, 10]
    assert all(s.estimate.low <= s.estimate.value <= s.estimate.high for s in row.scores)


def test_the_real_sounds_have_no_distance_to_themselves(run: ScoredRun) -> None:
    (row,) = (r for r in run.evaluation.rows if (r.system, r.protocol) == ("oracle", PROTOCOL))
    assert [s.name for s in row.scores] == ["KL-PANNS-softmax", "IB-Score", "DeSync"]
    assert row.scores[0].estimate.value == pytest.approx(0, abs=1e-9)


def test_the_report_names_missing_networks_and_what_was_left_out(run: ScoredRun) -> None:
    notes = " ".join(notes_of(run.evaluation))
    assert "no file passt.pt" in notes
    assert "left out of theirs VT2A, sync (1 clips): c03: lasts 5.00 s" in notes
    for name in ("report.md", "report.html"):
        text = (run.folder / name).read_text(encoding="utf-8")
        assert f"main: {PROTOCOL}" in text and "DeSync (s)" in text
    assert read_run(run.folder) == run


def test_without_weights_a_note_says_what_to_do(
    run: ScoredRun, track: Track, theirs: Path, tmp_path: Path
) -> None:
    options = ScoringOptions(taggers=("yamnet",), cache_folder=run.folder / "cache")
    submission = Submission(name="theirs", task="VT2A", folder=theirs)
    plain = score_folders(track, [submission], tmp_path, options, limit=None, on_step=quiet)
    assert not any(r.protocol == PROTOCOL for r in plain.evaluation.rows)
    notes = notes_of(plain.evaluation)
    assert any(PROTOCOL in n and "docs/guides/full-size.md" in n for n in notes)


def test_what_was_judged_is_not_judged_again(
    run: ScoredRun, track: Track, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(theirs.iterdir())
    sounds = {p.stem: SoundFile(clip_id=p.stem, path=p, sha256=file_sha256(p)) for p in paths}
    cache = run.folder / "cache"
    before = embed_track(track, list(sounds.values()), PUBLISHED, cache_folder=cache)
    broken = before._work.place("sound", sounds["c01"].sha256, "panns")
    kept = before.sounds(sounds).embeddings["panns"]["c01"].clone()
    broken.write_bytes(broken.read_bytes()[:40])  # cut off by a full disk, say
    asked = []
    hear = Panns.logits_and_embeddings
    monkeypatch.setattr(
        Panns, "logits_and_embeddings", lambda self, x: asked.append(len(x)) or hear(self, x)
    )
    again = embed_track(track, list(sounds.values()), PUBLISHED, cache_folder=cache)
    assert asked == [1]
    assert torch.equal(again.sounds(sounds).embeddings["panns"]["c01"], kept)


def test_other_weights_are_other_entries(track: Track, run: ScoredRun) -> None:
    cache = run.folder / "cache"
    a = embed_track(track, [], PUBLISHED, cache_folder=cache)
    b = embed_track(track, [], replace(PUBLISHED, load=other_networks), cache_folder=cache)
    assert a._work.place("sound", "0" * 64, "panns") != b._work.place("sound", "0" * 64, "panns")
    assert a._work.place("sound", "0" * 64, "sync") == b._work.place("sound", "0" * 64, "sync")


def other_networks(folder: Path, device: torch.device | str) -> Networks:
    networks = tiny_networks()
    assert networks.panns is not None
    with torch.no_grad():
        for parameter in networks.panns._network.parameters():
            parameter.mul_(1.5)
    return networks


@pytest.mark.parametrize("asked", [1, 3])
def test_networks_are_held_by_as_many_workers_as_they_say(
    run: ScoredRun, track: Track, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    taken = []

    def map_in_order(
        self: Workers, function: object, jobs: Sequence[object], **_: object
    ) -> list[dict[str, str]]:
        taken.append(self.count)
        return [{} for _ in jobs]

    monkeypatch.setattr(Workers, "map_in_order", map_in_order)
    published = replace(PUBLISHED, workers=Workers(count=asked))
    embed_track(track, [], published, cache_folder=run.folder / "cache")
    assert taken == [asked]
