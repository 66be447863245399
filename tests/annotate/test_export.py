"""Exports: every clip once, in its split, with all that is known of it."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st

from omni2sound.annotate.build import CrewSettings, annotate_manifest
from omni2sound.annotate.chat.prompts import load_prompt
from omni2sound.annotate.report import shards
from omni2sound.annotate.report.export import ExportOptions, export
from omni2sound.annotate.report.shards import HUB_SPLITS, ParquetShards
from omni2sound.data.corpora.hub.unpack import unpack
from omni2sound.data.corpora.manifest import SPLITS, Clip, read_manifest, write_manifest
from tests.annotate.crews import SCRIPT

RATE_HZ = 8_000
DROPPED = "c3"
SPLIT_OF = {"c0": "train", "c1": "test", "c2": "val", DROPPED: "test", "c4": "train"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of three splits; one is dropped, two are spans of one file."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    soundfile.write(folder / "stereo.wav", 0.1 * rng.standard_normal((2 * RATE_HZ, 2)), RATE_HZ)
    clips = [
        Clip(
            clip_id=name,
            corpus="made/here",
            split=split,  # type: ignore[arg-type]
            audio="stereo.wav",
            start_s=0.5 * (number % 2),
            duration_s=0.5 + 0.25 * number,
            captions=("Mine.",) * (number % 2),
            audio_captions=("By ear.",),
            labels=("hiss",),
        )
        for number, (name, split) in enumerate(SPLIT_OF.items())
    ]
    write_manifest(folder / "clips.jsonl", clips, media=folder)
    low = {f"made/here/{DROPPED}": {"similarity": None, "score": 0.01}}
    script = {**SCRIPT, "scorer": {**SCRIPT["scorer"], **low}}
    (folder / "script.json").write_text(json.dumps(script))
    model = f"scripted:{folder / 'script.json'}"
    crew = CrewSettings(junior=model, senior=model, vision=model)
    asyncio.run(annotate_manifest(folder / "clips.jsonl", folder / "run", crew))
    return folder / "run"


def rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read the rows of a folder of Parquet files by the split in their names."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.parquet")):
        found.setdefault(path.name.partition("-")[0], []).extend(pq.read_table(path).to_pylist())
    return found


def test_each_kept_clip_is_in_its_split_with_what_it_came_with(run: Path, tmp_path: Path) -> None:
    counted = export(run, tmp_path / "e", ExportOptions(dropped=True))
    by_split = rows(tmp_path / "e" / "data")
    kept = {row["clip_id"]: (split, row) for split, some in by_split.items() for row in some}
    assert {n: s for n, (s, _) in kept.items()} == {
        n: HUB_SPLITS[s] for n, s in SPLIT_OF.items() if n != DROPPED
    }
    assert counted["kept_by_split"] == {"test": 1, "train": 2, "val": 1}
    own = {clip.clip_id: clip for clip in read_manifest(run.parent / "clips.jsonl").clips}
    manifest = {c.clip_id: c for c in read_manifest(tmp_path / "e" / "manifest.jsonl").clips}
    for name, (_, row) in kept.items():
        assert row["own_captions"] == [*own[name].captions, *own[name].audio_captions]
        assert row["own_labels"] == ["hiss"]
        assert tuple(row["captions"]) == manifest[name].captions == ("A dog barks.",)
        assert (row["end"], row["why_ended"], row["quality"]) == ("kept", None, 0.5)
        assert row["captioner"].startswith("scripted:") and row["scorer"] == "scripted"
        asked = "senior" if row["by_senior"] else "junior"
        assert row["captioner_prompt"] == load_prompt(asked).version
        assert (row["viewer"], row["viewer_prompt"], row["validator_prompt"]) == (None,) * 3
        assert (row["score"], row["first_score"]) == (0.5, 0.5)
    ((dropped,),) = rows(tmp_path / "e" / "dropped").values()
    assert (dropped["clip_id"], dropped["end"]) == (DROPPED, "dropped")
    assert dropped["score"] == 0.01 and dropped["captioner_prompt"]
    assert dropped["why_ended"].startswith("post-hoc: caption-audio score 0.010 <")


def test_embedded_sounds_are_the_clips_own_samples(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "e", ExportOptions(sounds=True, tars=True))
    by_split = rows(tmp_path / "e" / "data")
    sounds = {r["clip_id"]: r["sound"]["bytes"] for some in by_split.values() for r in some}
    whole_NC, rate_hz = soundfile.read(run.parent / "stereo.wav", always_2d=True)
    for clip in read_manifest(run.parent / "clips.jsonl").clips:
        if clip.clip_id != DROPPED:
            found_NC, found_hz = soundfile.read(io.BytesIO(sounds[clip.clip_id]))
            first = round(clip.start_s * rate_hz)
            expected_NC = whole_NC[first : first + round((clip.duration_s or 0) * rate_hz)]
            assert found_hz == rate_hz
            np.testing.assert_allclose(found_NC, expected_NC, atol=2**-15)
    in_tars = {}
    for path in (tmp_path / "e" / "tars").glob("*.tar"):
        with tarfile.open(path) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
        for name in (n for n in files if n.endswith(".json")):
            row = json.loads(files[name])
            in_tars[row["clip_id"]] = files[name.replace(".json", ".flac")]
            assert path.name.startswith(HUB_SPLITS[row["split"]])
    assert in_tars == sounds


def test_our_importer_unpacks_what_was_embedded(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "e", ExportOptions(sounds=True))
    done = unpack(tmp_path / "e" / "data", tmp_path / "media")
    assert (done.num_written, done.problems) == (4, ())


def test_a_sound_that_has_gone_is_counted_and_its_row_stays(run: Path, tmp_path: Path) -> None:
    sound = run.parent / "stereo.wav"
    sound.rename(sound.with_suffix(".away"))
    try:
        counted = export(run, tmp_path / "e", ExportOptions(sounds=True))
    finally:
        sound.with_suffix(".away").rename(sound)
    assert counted["sounds_not_read"] == 4
    assert {r["sound"] for some in rows(tmp_path / "e" / "data").values() for r in some} == {None}


def test_the_card_holds_what_the_hub_reads(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "e", ExportOptions(dropped=True))
    data = DatasetCard.load(tmp_path / "e" / "README.md").data
    assert (data.license, data.language) == ("other", ["en"])
    assert data.task_categories == ["text-to-audio"]
    assert data.size_categories == ["n<1K"]
    for config in data.configs:
        for part in config["data_files"]:
            assert list((tmp_path / "e").glob(part["path"])), part
    assert [c["config_name"] for c in data.configs] == ["default", "dropped"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(SPLITS), min_size=1, max_size=30),
    st.integers(1, 7),
    st.integers(1, 9),
)
def test_shards_hold_every_row_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, splits: list[str], group: int, shard: int
) -> None:
    folder = tmp_path_factory.mktemp("shards") / "data"
    base = Clip(clip_id="0", corpus="c", split="train", audio="a.wav")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_ROWS_A_GROUP", group)
        with ParquetShards(folder, sounds=False, rows_a_shard=shard) as writer:
            for number, split in enumerate(splits):
                clip = replace(base, clip_id=str(number), split=split)  # type: ignore[arg-type]
                writer.add({"clip_id": clip.clip_id, "split": clip.split, "corpus": "c"})
    for split in SPLITS:
        name, expected = HUB_SPLITS[split], [str(i) for i, s in enumerate(splits) if s == split]
        files = sorted(folder.glob(f"{name}-*.parquet"))
        found = [pq.read_table(path).column("clip_id").to_pylist() for path in files]
        assert [i for some in found for i in some] == expected
        assert all(len(some) == shard for some in found[:-1])
        assert all(path.stem.endswith(f"-of-{len(files):05d}") for path in files)
    assert not list(folder.glob("*.part"))
