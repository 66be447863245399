"""The protocol avbench-8s-v1 over tiny judges: what is heard, what is paired, what is dropped."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from omni2sound.bench.metrics.avbench.clips import (
    Networks,
    SoundFeatures,
    VideoFeatures,
    clip_at,
    embed_sounds,
    embed_videos,
    list_files,
    read_captions,
)
from omni2sound.bench.metrics.avbench.scores import PROTOCOL, desync_s, score_avbench
from omni2sound.bench.report.text import avbench_as_text
from omni2sound.bench.stats.estimate import Estimate, Score
from omni2sound.errors import MissingPartError, UserError
from tests.bench.tiny_networks import tiny_networks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def judges() -> Networks:
    return tiny_networks()


def write_sound(path: Path, *, seconds: float = 8, rate: int = 16_000, seed: int = 0) -> Path:
    samples = 0.1 * np.random.default_rng(seed).standard_normal((int(seconds * rate), 2))
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def write_video(path: Path, *, pictures: int, fps: int = 25) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        rng = np.random.default_rng(0)
        for _ in range(pictures):
            picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def features(judge: str, values: dict[str, Tensor], *, logits: bool = False) -> SoundFeatures:
    return SoundFeatures(
        names=tuple(sorted(values)),
        logits={judge: values} if logits else {},
        embeddings={} if logits else {judge: values},
        dropped={},
    )


def test_a_sound_loses_its_mean_before_resampling_and_is_never_padded() -> None:
    stereo = torch.stack([torch.full((24_000,), 0.5), torch.full((24_000,), 0.3)])
    assert float(clip_at(stereo, 48_000, 16_000).abs().max()) < 1e-6
    kept = clip_at(stereo, 48_000, 16_000, remove_mean=False)
    assert len(kept) == 8000
    torch.testing.assert_close(kept[100:-100], torch.full((7800,), 0.4), atol=1e-3, rtol=0)
    assert len(clip_at(torch.zeros(1, 200_000), 16_000, 16_000)) == 128_000


def test_judges_hear_files_in_order_and_say_what_they_can_not(
    judges: Networks, tmp_path: Path
) -> None:
    write_sound(tmp_path / "b.wav", seconds=8, seed=1)
    write_sound(tmp_path / "a.wav", seconds=3, seed=2)
    write_sound(tmp_path / "c.wav", seconds=0.2, seed=3)
    done: list[tuple[int, int]] = []
    paths = list_files(tmp_path)
    heard = embed_sounds(paths, judges, on_clip=lambda *counts: done.append(counts))
    assert heard.names == ("a", "b", "c")
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert set(heard.logits["panns"]) == {"a", "b"}
    assert set(heard.embeddings["sync"]) == {"b"}
    assert heard.embeddings["sync"]["b"].shape == (24, 6, 16)
    assert set(heard.embeddings["imagebind"]) == {"a", "b", "c"}
    assert "3.00 s" in heard.dropped["sync"]["a"]
    assert "5120" in heard.dropped["panns"]["c"]


def test_imagebind_hears_the_first_channel_whole(judges: Networks, tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", seconds=9)
    samples, _ = soundfile.read(path, dtype="float32")
    assert judges.imagebind is not None
    expected = judges.imagebind.embed_audio(torch.from_numpy(samples[:, 0].copy()))
    heard = embed_sounds([path], judges).embeddings["imagebind"]["a"]
    assert torch.equal(heard, expected)


def test_videos_under_eight_seconds_are_left_out(judges: Networks, tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", pictures=200)
    write_video(tmp_path / "short.mp4", pictures=150)
    seen = embed_videos(list_files(tmp_path, videos=True), judges)
    assert seen.embeddings["sync"]["long"].shape == (24, 8, 16)
    assert seen.embeddings["imagebind"]["long"].shape == (12,)
    assert set(seen.embeddings["sync"]) == {"long"}
    assert "150 frames" in seen.dropped["sync"]["short"]
    assert "3 frames" in seen.dropped["imagebind"]["short"]


def test_fd_of_panns_takes_all_clips_and_kl_pairs_them() -> None:
    generator = torch.Generator().manual_seed(0)
    names = [f"c{i:02}" for i in range(12)]
    rows = {name: torch.randn(5, generator=generator) for name in names}
    generated = SoundFeatures(
        names=tuple(names), logits={"panns": rows}, embeddings={"panns": rows}, dropped={}
    )
    more = rows | {"extra": torch.full((5,), 9.0)}
    reference = SoundFeatures(
        names=tuple(more), logits={"panns": more}, embeddings={"panns": more}, dropped={}
    )
    scores = {s.name: s for s in score_avbench(generated, reference)}
    assert scores["KL-PANNS-softmax"].estimate.value == pytest.approx(0, abs=1e-12)
    assert scores["KL-PANNS-softmax"].estimate.num_clips == 12
    assert scores["FD-PANN"].estimate.value > 1  # the clip without a partner counts
    assert scores["ISC-PANNS-mean"].direction == "higher"
    for name in ("FD-PANN", "ISC-PANNS-mean"):
        estimate = scores[name].estimate
        assert estimate.low < estimate.value < estimate.high
    assert all(s.protocol == PROTOCOL for s in scores.values())


def test_cosines_are_means_over_pairs_with_an_interval() -> None:
    names = [f"c{i}" for i in range(10)]
    heard = {n: torch.tensor([1.0, 0.0]) for n in names}
    seen = {n: torch.tensor([0.6, 0.8]) for n in names[:5]}
    seen |= {n: torch.tensor([1.0, 0.0]) for n in names[5:]}
    sounds = features("imagebind", heard)
    videos = VideoFeatures(embeddings={"imagebind": seen}, dropped={})
    (score,) = score_avbench(sounds, sounds, videos=videos)
    assert score.name == "IB-Score"
    assert score.estimate.value == pytest.approx(0.8)
    assert score.estimate.low < 0.8 < score.estimate.high


def test_desync_is_the_mean_size_over_both_ends(
    judges: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that reads the offset off the features: -1 s at the beginning, +2 s at the end."""
    assert judges.sync is not None

    def read_off(visual: Tensor, audio: Tensor) -> Tensor:
        assert visual.shape[1] == audio.shape[1] == 14
        return nn.functional.one_hot(audio[:, 0, 0, 0].long(), 21).float()

    monkeypatch.setattr(judges.sync, "offset_logits", read_off)
    audio = torch.zeros(3, 24, 6, 16)
    audio[:, 0, 0, 0], audio[:, 10, 0, 0] = 5, 20
    found = desync_s(judges.sync, torch.zeros(3, 24, 8, 16), audio)
    assert found.tolist() == pytest.approx([1.5, 1.5, 1.5])


def test_the_whole_protocol_runs_from_files(judges: Networks, tmp_path: Path) -> None:
    for folder in ("real", "made"):
        (tmp_path / folder).mkdir()
        for i in range(10):
            write_sound(tmp_path / folder / f"{i}.wav", seed=i + (folder == "made") * 100)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "3.mp4", pictures=200)
    made = embed_sounds(list_files(tmp_path / "made"), judges)
    real = embed_sounds(list_files(tmp_path / "real"), judges)
    videos = embed_videos(list_files(tmp_path / "videos", videos=True), judges)
    scores = score_avbench(made, real, videos=videos, sync=judges.sync)
    names = [score.name for score in scores]
    assert names == ["FD-PANN", "KL-PANNS-softmax", "ISC-PANNS-mean", "IB-Score", "DeSync"]
    assert all(np.isfinite(score.estimate.value) for score in scores)
    assert scores[-1].estimate.num_clips == 1
    assert 0 <= scores[-1].estimate.value <= 2


def test_too_few_pairs_empty_folders_and_no_judges_are_refused(tmp_path: Path) -> None:
    few = features("panns", {f"{i}": torch.zeros(2) for i in range(9)})
    with pytest.raises(UserError, match="at least 10 clips"):
        score_avbench(few, few)
    with pytest.raises(UserError, match=r"has no \.wav, \.flac files"):
        list_files(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        list_files(tmp_path / "none")
    with pytest.raises(MissingPartError, match="holds none of"):
        Networks.load(tmp_path)
    for name in ("a.wav", "a.flac"):
        write_sound(tmp_path / "x.wav").rename(tmp_path / name)
    with pytest.raises(UserError, match="two files of one name: a"):
        list_files(tmp_path)


def test_captions_come_from_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text('name,caption\na,"rain, then thunder"\nb,a dog\n', encoding="utf-8")
    assert read_captions(path) == {"a": "rain, then thunder", "b": "a dog"}
    for wrong in ("id,text\na,b\n", "name,caption\na,\n", "name,caption\n"):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(UserError, match="columns name and caption"):
            read_captions(path)
    with pytest.raises(UserError, match="can't be read"):
        read_captions(tmp_path / "none.csv")


def test_the_table_says_what_is_missing_and_left_out() -> None:
    scores = [
        Score(
            protocol=PROTOCOL,
            name=name,
            direction="lower",
            unit="",
            estimate=Estimate(value=value, low=value - 0.1, high=value + 0.1, num_clips=9),
        )
        for name, value in (("FD-PANN", 5.22), ("DeSync", 0.4))
    ]
    dropped = {"generated": {"sync": {f"c{i}": "too short" for i in range(5)}}}
    text = avbench_as_text(scores, dropped=dropped, missing={"clap": "no file"})
    assert text.startswith("avbench-8s-v1\n")
    assert "[0.3000, 0.5000]" in text
    assert "no clap: no file" in text
    assert "generated, sync: 5 left out (c0: too short; " in text
    assert "and 2 more)" in text
