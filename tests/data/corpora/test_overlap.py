"""Copies are found by what they were cut from and by what they sound like; others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.data.corpora.finding.fingerprint import (
    SAMPLE_RATE_HZ,
    FingerprintIndex,
    fingerprint,
)
from omni2sound.data.corpora.manifest import Clip, Manifest, Split, read_manifest, write_manifest
from omni2sound.data.corpora.overlap import merge, same_sound, same_source, without
from omni2sound.media import Audio, write_audio


def recording(seed: int, *, seconds: float = 3.0) -> NDArray[np.float32]:
    """Noise whose colour and level change a few times a second."""
    rng = np.random.default_rng(seed)
    count = int(seconds * SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / SAMPLE_RATE_HZ)
    sound = np.zeros(count)
    for _ in range(12):
        centre, width = rng.uniform(200, 3200), rng.uniform(30, 300)
        band = np.fft.irfft(spectrum * np.exp(-(((frequency - centre) / width) ** 2)), n=count)
        points = rng.uniform(0, 1, int(seconds * 6) + 2)
        sound += band * np.interp(np.arange(count), np.linspace(0, count, len(points)), points)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def matches(first: NDArray[np.float32], second: NDArray[np.float32]) -> list[float]:
    index = FingerprintIndex([fingerprint(first)])
    return [m.shift_s for m in index.matches([(1, fingerprint(second))])]


@settings(max_examples=10)
@given(
    seed=st.integers(0, 1000),
    gain=st.floats(0.05, 1.5),
    cut=st.integers(0, SAMPLE_RATE_HZ),
)
def test_a_copy_is_found_at_its_place(seed: int, gain: float, cut: int) -> None:
    original = recording(seed)
    (shift_s,) = matches(original, gain * original[cut:])
    assert shift_s == pytest.approx(cut / SAMPLE_RATE_HZ, abs=0.02)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_another_recording_is_no_copy(seed: int) -> None:
    assert matches(recording(seed), recording(seed + 1)) == []


@pytest.mark.parametrize("silent", [np.zeros(24_000, np.float32), np.zeros(100, np.float32)])
def test_silence_is_no_copy_of_silence(silent: NDArray[np.float32]) -> None:
    assert matches(silent, silent) == []


def clip(
    name: str, split: Split, source: str = "", start_s: float | None = None, **more: str
) -> Clip:
    return Clip(
        clip_id=name,
        corpus="c",
        split=split,
        audio=more.get("audio", "a.wav"),
        duration_s=10.0,
        source=source,
        source_start_s=start_s,
    )


def manifest(*clips: Clip, media: Path = Path()) -> Manifest:
    return Manifest(path=Path("m.jsonl"), media=media, clips=clips)


def test_one_source_on_two_sides_leaks_wherever_it_begins() -> None:
    first = manifest(clip("a", "train", "youtube:x", 0), clip("b", "train", "youtube:y", 0))
    second = manifest(clip("c", "test", "youtube:x", 100), clip("d", "test", "", None))
    (found,) = same_source([first, second])
    assert (found.kind, found.kept.clip.clip_id, found.dropped.clip.clip_id) == ("leak", "c", "a")
    assert [c.clip_id for c in without(first, 0, [found])] == ["b"]
    assert without(second, 1, [found]) == second.clips


@pytest.mark.parametrize(
    ("starts", "number"),
    [((0, 5), 1), ((0, 10), 0), ((20, 11), 1), ((None, 5), 1), ((0, 0), 1), ((30, 0), 0)],
)
def test_one_source_on_one_side_repeats_where_it_overlaps(
    starts: tuple[float | None, float | None], number: int
) -> None:
    clips = [clip(n, "train", "youtube:x", s) for n, s in zip("ab", starts, strict=True)]
    found = same_source([manifest(*clips)])
    assert [(o.kind, o.dropped.clip.clip_id) for o in found] == [("duplicate", "b")] * number


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    def write(name: str, samples_N: NDArray[np.float32]) -> None:
        write_audio(
            tmp_path / name, Audio(samples_CN=samples_N[None], sample_rate_hz=SAMPLE_RATE_HZ)
        )

    write("one.wav", recording(1))
    write("one.mp3", 0.3 * recording(1)[3000:])
    write("two.flac", recording(2))
    write("three.wav", recording(3))
    write("three.opus", recording(3))
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    return tmp_path


def test_nearly_the_same_sound_is_found_under_other_names(sounds: Path) -> None:
    given = manifest(
        clip("one", "test", audio="one.wav"),
        clip("copy of one", "train", audio="one.mp3"),
        clip("two", "train", audio="two.flac"),
        clip("three", "train", audio="three.wav"),
        clip("copy of three", "train", audio="three.opus"),
        clip("broken", "train", audio="broken.wav"),
        media=sounds,
    )
    found = same_sound([given])
    assert [(o.kind, o.kept.clip.clip_id, o.dropped.clip.clip_id) for o in found] == [
        ("leak", "one", "copy of one"),
        ("duplicate", "three", "copy of three"),
    ]


def test_the_command_tells_leaks_by_its_exit_code_and_cleans(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from typer.testing import CliRunner

    from omni2sound.cli.main import app

    train = [clip("copy", "train", audio="one.mp3"), clip("two", "train", audio="two.flac")]
    write_manifest(tmp_path / "train.jsonl", train, media=sounds)
    write_manifest(tmp_path / "test.jsonl", [clip("one", "test", audio="one.wav")], media=sounds)
    names = [str(tmp_path / "train.jsonl"), str(tmp_path / "test.jsonl")]
    arguments = ["data", "check", "--workers", "1", *names]
    done = CliRunner().invoke(app, [*arguments, "--clean", str(tmp_path / "clean")])
    assert done.exit_code == 1
    assert '{"clips": 3, "leaks": 1, "duplicates": 0}' in done.stdout
    cleaned = read_manifest(tmp_path / "clean" / "train.jsonl")
    assert [c.clip_id for c in cleaned.clips] == ["two"]
    assert cleaned.media == sounds
    names = [str(tmp_path / "clean" / n) for n in ("train.jsonl", "test.jsonl")]
    done = CliRunner().invoke(app, ["data", "check", "--workers", "1", *names])
    assert (done.exit_code, done.stdout) == (0, '{"clips": 2, "leaks": 0, "duplicates": 0}\n')


def test_merged_duplicates_give_their_captions_to_the_clip_with_the_video() -> None:
    """Whatever the order of the manifests; a leak gives nothing, and is dropped as before."""

    def clip(corpus: str, **fields: object) -> Clip:
        own = {"split": "train", "audio": "a.wav", "source": "youtube:x", "source_start_s": 30.0}
        return Clip(clip_id="x_30", corpus=corpus, **{**own, **fields})  # type: ignore[arg-type]

    human = clip("audiocaps", captions=("A dog barks.", "Barking."))
    video = clip("vggsound", audio=None, video="v.mp4", labels=("dog",), quality=0.5)
    third = clip("wavcaps", captions=("Barking.", "Animal sound."), source_start_s=30.4)
    later = clip("audioset", labels=("speech",), source_start_s=36.0)
    test = clip("test", split="test", source="youtube:y")
    leak = clip("fma", source="youtube:y", captions=("music",))
    every = [human, video, third, later, test, leak]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 4, 2, 0], [2, 0, 3, 1, 5, 4]):
        manifests = [Manifest(path=Path("m"), media=Path(), clips=(every[i],)) for i in order]
        left = [c for clips in merge(manifests, same_source(manifests)) for c in clips]
        assert {c.corpus for c in left} == {"vggsound", "test"}
        kept = next(c for c in left if c.corpus == "vggsound")
        assert (kept.video, kept.labels, kept.quality) == ("v.mp4", ("dog",), 0.5)
        assert set(kept.captions) == {"A dog barks.", "Barking.", "Animal sound."}
        assert next(c for c in left if c.corpus == "test") == test
