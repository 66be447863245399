"""`GenerationResult.save` and `Batch`: what the commands do, from Python."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from omni2sound import Omni2SoundPipeline, files
from omni2sound.cli.main import app
from omni2sound.errors import UserError
from omni2sound.generate.batch import Batch
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.output import check_free, is_whole, read_sidecar
from omni2sound.generate.studio import writing
from omni2sound.media.info import probe
from omni2sound.staging import staging_of
from tests.build import tiny_model_folder, video_with_square
from tests.media.films import Sound, tone, write_film


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def pipeline(model: Path) -> Omni2SoundPipeline:
    return Omni2SoundPipeline.from_pretrained(model, device="cpu")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    video_with_square(tmp_path / "clip.mp4", duration_s=1.2)
    return tmp_path / "clip.mp4"


def _without_times(report: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in report.items() if k not in ("output", "time_s", "rtf")}


@pytest.mark.parametrize("suffix", ["mp4", "wav"])
def test_save_writes_the_bytes_of_the_command(
    pipeline: Omni2SoundPipeline, model: Path, clip: Path, suffix: str
) -> None:
    ours, theirs = clip.with_name(f"a.{suffix}"), clip.with_name(f"b.{suffix}")
    result = pipeline(video=clip, prompt="rain", seed=5, duration_s=1, guidance_scale=3)
    report = result.save(ours, loudness_lufs=-30)
    command = ["generate", str(clip), "--prompt", "rain", "--seed", "5", "--loudness", "-30"]
    command += ["--duration", "1", "--guidance", "3"]
    with pytest.raises(SystemExit) as end:
        app([*command, "-o", str(theirs), "--model", str(model), "--device", "cpu"])
    assert end.value.code == 0
    assert ours.read_bytes() == theirs.read_bytes()
    sidecars = [json.loads(Path(f"{path}.json").read_text()) for path in (ours, theirs)]
    assert sidecars[0] == report
    assert _without_times(sidecars[0]) == _without_times(sidecars[1])


def test_a_sound_of_a_prompt_is_put_under_any_video(
    pipeline: Omni2SoundPipeline, clip: Path
) -> None:
    result = pipeline(prompt="rain", duration_s=1.0, num_inference_steps=1, seed=0)
    with pytest.raises(UserError, match="needs a video"):
        result.save(clip.with_name("a.mkv"))
    result.save(clip.with_name("a.mkv"), video=clip)
    assert probe(clip.with_name("a.mkv")).video is not None


def test_save_refuses_what_the_command_refuses(pipeline: Omni2SoundPipeline, clip: Path) -> None:
    result = pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1, seed=0)
    target = clip.with_name("a.wav")
    target.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists already; choose another name, or set `overwrite`"):
        result.save(target)
    assert target.read_bytes() == b"precious"
    result.save(target, overwrite=True)
    assert target.read_bytes()[:4] == b"RIFF"
    with pytest.raises(UserError, match="keep_audio: needs a video"):
        result.save(clip.with_name("b.wav"), keep_audio=True)
    with pytest.raises(UserError, match="loudness_lufs: expected -50 to -5"):
        result.save(clip.with_name("b.wav"), loudness_lufs=0)


@pytest.mark.parametrize("suffix", ["mp4", "wav"])
def test_a_sidecar_holds_length_and_digest_of_its_output(
    pipeline: Omni2SoundPipeline, clip: Path, suffix: str
) -> None:
    target = clip.with_name(f"a.{suffix}")
    report = pipeline(video=clip, num_inference_steps=1, seed=0).save(target)
    assert report["output_bytes"] == target.stat().st_size
    assert report["output_sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert is_whole(target, report)
    target.write_bytes(target.read_bytes()[:-1] + b"?")
    assert not is_whole(target, report)
    assert {path.name for path in clip.parent.iterdir()} == {
        *("clip.mp4", target.name, f"{target.name}.json")
    }


@pytest.mark.parametrize("text", ["", "{}", "precious", '{"request_sha256": "x"}', "[" * 10**5])
def test_a_sidecar_of_another_origin_is_not_replaced(
    pipeline: Omni2SoundPipeline, tmp_path: Path, text: str
) -> None:
    result = pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1, seed=0)
    target, beside = tmp_path / "a.wav", tmp_path / "a.wav.json"
    beside.write_text(text)
    with pytest.raises(UserError, match=r"a\.wav\.json: exists already"):
        result.save(target)
    assert beside.read_text() == text and not target.exists()
    result.save(target, overwrite=True)
    assert read_sidecar(target) is not None


@pytest.mark.parametrize("left", ["absent", "empty"])
def test_what_an_interrupted_run_left_is_in_nobodys_way(
    pipeline: Omni2SoundPipeline, tmp_path: Path, left: str
) -> None:
    result = pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1, seed=0)
    target = tmp_path / "a.wav"
    result.save(target)
    whole = target.read_bytes()
    target.unlink()
    if left == "empty":
        target.touch()
    staging_of(target).mkdir()
    (staging_of(target) / "a.wav").write_bytes(whole[:100])
    result.save(target)
    assert target.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "a.wav.json"}


def test_an_empty_file_of_somebody_else_is_not_replaced(
    pipeline: Omni2SoundPipeline, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").touch()
    result = pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1, seed=0)
    with pytest.raises(UserError, match="exists already"):
        result.save(tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("name", ["a.wav", "a.wav.json", "a.wav.png"])
def test_links_to_nothing_and_folders_are_seen_before_the_work(tmp_path: Path, name: str) -> None:
    output, taken = tmp_path / "a.wav", tmp_path / name
    taken.symlink_to("nothing")
    with pytest.raises(UserError, match=f"{name}: exists already"):
        check_free(output, overwrite=False, preview=True)
    check_free(output, overwrite=True, preview=True)
    taken.unlink()
    taken.mkdir()
    with pytest.raises(UserError, match=f"{name}: is a folder"):
        check_free(output, overwrite=True, preview=True)


def test_an_output_that_appears_while_ours_is_written_stays(
    pipeline: Omni2SoundPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1, seed=0)
    write = writing.write_sound

    def slowly(*args: Any) -> Any:
        (tmp_path / "a.wav").write_bytes(b"of somebody else")
        return write(*args)

    monkeypatch.setattr(writing, "write_sound", slowly)
    with pytest.raises(UserError, match="exists already"):
        result.save(tmp_path / "a.wav")
    assert (tmp_path / "a.wav").read_bytes() == b"of somebody else"
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_the_sidecar_says_how_the_copy_was_made_and_what_it_lost(
    pipeline: Omni2SoundPipeline, tmp_path: Path
) -> None:
    languages = [
        Sound(audio=tone(300), language="deu"),
        Sound(audio=tone(500), language="fra"),
    ]
    film = write_film(tmp_path / "film.mkv", languages)
    result = pipeline(video=film, duration_s=1, num_inference_steps=1, seed=0)
    plain = result.save(tmp_path / "a.mp4")
    assert not plain.keys() & {"keep_audio", "reencode", "picture_encoded", "lost"}
    kept = result.save(tmp_path / "b.mp4", keep_audio=True, reencode=True)
    assert kept["keep_audio"] is kept["reencode"] is True
    assert "picture_encoded" not in kept  # a copy was faithful
    (lost,) = kept["lost"]
    assert lost.startswith("sound track 2 (fra)")
    encoded = result.save(tmp_path / "c.webm", reencode=True)
    assert encoded["picture_encoded"] is True
    assert json.loads((tmp_path / "b.mp4.json").read_text()) == kept


def test_each_copied_video_gives_its_own_digest(pipeline: Omni2SoundPipeline, clip: Path) -> None:
    """The digest names all that a file holds, and the sidecar whose picture that is."""
    other = clip.with_name("other.mp4")
    video_with_square(other, duration_s=0.8)
    same = clip.with_name("same.mp4")
    same.write_bytes(clip.read_bytes())
    of_text = pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1, seed=0)
    of_video = pipeline(video=clip, duration_s=0.5, num_inference_steps=1, seed=0)
    plain = of_text.save(clip.with_name("a.wav"))
    under = [of_text.save(clip.with_name(f"a-{v.stem}.mkv"), video=v) for v in (clip, other, same)]
    own, copy, moved = (
        of_video.save(clip.with_name(f"b{k}.mkv"), video=video)
        for k, video in enumerate((None, same, other))
    )
    digests = [report["request_sha256"] for report in (plain, *under, own, copy, moved)]
    assert len(set(digests)) == 5
    assert digests[1] == digests[3]  # equal bytes, and not equal names, make one picture
    assert digests[4] == digests[5]
    assert [report.get("copied_video") for report in (plain, *under, own, moved)] == [
        None, str(clip), str(other), str(same), None, str(other)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "field", "options"),
    [
        ("b.wav", "loudness_lufs", {"loudness_lufs": "x"}),
        ("b.wav", "loudness_lufs", {"loudness_lufs": float("nan")}),
        ("b.wav", "video", {"video": "nope.mp4"}),
        ("b.wav", "overwrite", {"overwrite": "no"}),
        ("b.wav", "keep_audio", {"keep_audio": None}),
        ("b.mp4", "video", {"video": 3}),
        (3, "path", {}),
    ],
)
def test_save_names_the_field_at_fault(
    pipeline: Omni2SoundPipeline, tmp_path: Path, name: Any, field: str, options: dict[str, Any]
) -> None:
    result = pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1, seed=0)
    path = tmp_path / name if isinstance(name, str) else name
    with pytest.raises(UserError) as error:
        result.save(path, **options)
    assert error.value.field == field
    assert not list(tmp_path.iterdir())


def test_a_batch_runs_from_python(model: Path, tmp_path: Path) -> None:
    jobs = [{"id": "a", "prompt": "rain", "steps": 1, "duration_s": 0.5}, {"id": "b", "steps": 0}]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    options = PipelineOptions(model=model, device="cpu")
    made, failed = Batch(tmp_path / "jobs.jsonl", tmp_path / "out", pipeline=options).run()
    assert made.report is not None
    assert Path(made.report["output"]).is_file()
    assert failed.message == ("job 'b': nothing to generate from; give a video, a prompt or both")
    again, _ = Batch(tmp_path / "jobs.jsonl", tmp_path / "out", pipeline=options).run()
    assert again.skipped
    assert again.report == made.report


def test_low_memory_gives_a_batch_the_precision_of_one_request(model: Path) -> None:
    assert PipelineOptions(low_memory=True).dtype == "bfloat16"
    assert PipelineOptions(low_memory=True, dtype="float32").dtype == "float32"
    low = Omni2SoundPipeline.from_pretrained(model, device="cpu", low_memory=True)
    assert low.dtype_name == "bfloat16"


def test_an_interrupt_after_the_last_rename_leaves_a_whole_pair(
    pipeline: Omni2SoundPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1)
    target, flush = tmp_path / "a.wav", files.flush_to_disk

    def interrupted(path: Path) -> None:
        if path == tmp_path and target.exists():
            raise KeyboardInterrupt
        flush(path)

    monkeypatch.setattr(files, "flush_to_disk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        result.save(target)
    made = read_sidecar(target)
    assert made is not None
    assert is_whole(target, made)


def test_an_overwriting_that_fails_leaves_the_pair_before(
    pipeline: Omni2SoundPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, replace = tmp_path / "a.wav", Path.replace
    pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1).save(target)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(self: Path, to: Path) -> Path:
        if to == target:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", full)
    other = pipeline(prompt="rain", duration_s=0.5, num_inference_steps=1, seed=1)
    with pytest.raises(OSError, match="No space"):
        other.save(target, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
