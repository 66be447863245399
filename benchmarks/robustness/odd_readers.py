"""Every way in which a file gets into the package: a valid setup, the file to spoil, the call.

In:   an empty folder.
Out:  `Reader`s: what to write there, which file of it to replace, and what then reads it.

Commands run as `main` runs them, in this process; a few readers without a command are called.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


@dataclass(frozen=True)
class Reader:
    """One file that is read."""

    name: str
    kind: str
    target: str
    """The file that becomes odd, below the folder."""
    write: Callable[[Path], None]
    """Writes a valid setup."""
    read: Callable[[Path], Any] | list[str]
    """A function of the folder, or arguments of the command line in it."""


def command(*arguments: str) -> list[str]:
    return list(arguments)


def text(files: Mapping[str, str]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")

    return write


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def tone(path: Path, duration_s: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(duration_s * 16_000)) / 16_000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * times), 16_000)


# ---- models


def model(folder: Path) -> None:
    from tests.build import tiny_model_folder

    tiny_model_folder(folder / "model")


def adapter(folder: Path) -> None:
    import torch

    from omni2sound.models.lora import Adapter, LoraConfig, save_adapter

    tensors = {"blocks.0.down": torch.zeros(2, 4)}
    save_adapter(
        folder / "adapter", Adapter(config=LoraConfig(), tensors=tensors, model_sha256="0" * 64)
    )


def load_model(folder: Path) -> None:
    from omni2sound.generate.load import PipelineOptions

    PipelineOptions(model=folder / "model", device="cpu").load()


def load_changed_weights(folder: Path) -> None:
    """With a card that vouches for the odd file, as a stranger's would."""
    import hashlib

    card = folder / "model" / "card.json"
    data = json.loads(card.read_text())
    weights = folder / "model" / "dit.safetensors"
    if weights.is_file():  # nobody vouches for a pipe
        data["files"]["dit"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        card.write_text(json.dumps(data))
    load_model(folder)


def load_adapter(folder: Path) -> None:
    from omni2sound.models.lora import load_adapter as load

    load(folder / "adapter")


def generate(*more: str) -> list[str]:
    return command(
        *("-q", "generate", "--prompt", "rain", "--model", "model", "--steps", "1"),
        *("--duration", "0.1", "--device", "cpu", "-o", "out.wav", "--overwrite", *more),
    )


def jobs(folder: Path) -> None:
    model(folder)
    job = {"id": "a", "prompt": "rain", "duration_s": 0.1, "seed": 1, "steps": 1}
    (folder / "jobs.jsonl").write_text(lines(job))


def checkpoint(folder: Path) -> None:
    from tests.convert.checkpoints import checkpoint as write
    from tests.convert.checkpoints import tensors

    write(folder / "published", tensors())


def diffusers(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (folder / "published").mkdir()
    config = {
        "_class_name": "AutoencoderOobleck",
        "encoder_hidden_size": 8,
        "downsampling_ratios": [2, 4],
        "channel_multiples": [1, 2],
        "decoder_channels": 8,
        "decoder_input_channels": 4,
        "audio_channels": 1,
        "sampling_rate": 16000,
    }
    (folder / "published" / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.zeros(2)}, folder / "published" / "diffusion_pytorch_model.safetensors")


# ---- training


def state(folder: Path) -> None:
    from omni2sound.train.state import save_state

    (folder / "run").mkdir()
    save_state(folder / "run", _train_state(), step=7, identity={"a": 1}, progress={"b": 2})


def _train_state() -> Any:
    import torch
    from torch import nn

    from omni2sound.train.state import TrainState

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    ema = {name: v.detach() + 1 for name, v in network.state_dict().items()}
    return TrainState(model=network, ema=ema, optimizer=optimizer)


def load_state(folder: Path) -> None:
    from omni2sound.train.state import load_state as load

    load(folder / "run" / "step-00000007", _train_state(), identity={"a": 1})


def resume_log(folder: Path) -> None:
    from omni2sound.train.log import RunLog

    RunLog(folder / "run", first_step=1).close()


# ---- features


def store(folder: Path) -> None:
    from omni2sound.data.store.index import describe_store, shard_record, write_index
    from omni2sound.data.store.rows import write_shard
    from tests.data.rows import clip

    describe_store(folder / "store", {"format": 2, "encoders": "tiny"})
    for name in ("a", "b"):
        write_shard(folder / "store" / f"{name}.arrow", [clip(k) for k in range(2)])
    write_index(
        folder / "store", [shard_record(folder / "store" / f"{n}.arrow") for n in ("a", "b")]
    )


def plain_shard(folder: Path) -> None:
    """A store without an index, whose shards nobody vouches for."""
    store(folder)
    (folder / "store" / "index.json").unlink()
    (folder / "store" / "store.json").write_text("{}")


def unfinished(folder: Path) -> None:
    store(folder)
    (folder / "store" / "index.json").unlink()
    (folder / "store" / "progress.jsonl").write_text(lines({"planned": 3}))


def open_store(folder: Path) -> None:
    from omni2sound.data.store.rows import FeatureStore

    opened = FeatureStore([folder / "store"])
    for number in range(len(opened)):
        opened[number]


# ---- corpora


def manifest(folder: Path) -> None:
    tone(folder / "tone.wav")
    clips = [
        {
            "clip_id": f"c{n}",
            "corpus": "made",
            "split": "train",
            "audio": "tone.wav",
            "duration_s": 1.0,
            "captions": ["a tone"],
            "labels": ["tone"],
            "source": "made:1",
            "source_start_s": 0.0,
            "licence": "CC0-1.0",
        }
        for n in range(2)
    ]
    header = {"omni2sound_manifest": 1, "media": "."}
    (folder / "clips.jsonl").write_text(lines(header, *clips))


def imported(name: str, kind: str, files: dict[str, str], target: str) -> Reader:
    def write(folder: Path) -> None:
        tone(folder / "media" / "tone.wav")
        text({f"published/{n}": content for n, content in files.items()})(folder)

    call = command(
        "-q",
        "data",
        "import",
        name,
        "published",
        "--media",
        "media",
        "-o",
        "o.jsonl",
        "--overwrite",
    )
    return Reader(f"import {name}: {target}", kind, f"published/{target}", write, call)


def songs(folder: Path) -> None:
    tone(folder / "media" / "tone.wav")
    (folder / "published").mkdir()
    for name, statements in {
        "track_metadata.db": (
            "CREATE TABLE songs (track_id, song_id, artist_id, artist_name, track_7digitalid)",
            "INSERT INTO songs VALUES ('TRAAAAW128F429D538', 'SOAAAAW12', 'AR1', 'somebody', 7)",
        ),
        "artist_term.db": (
            "CREATE TABLE artist_term (artist_id, term)",
            "INSERT INTO artist_term VALUES ('AR1', 'rock')",
        ),
    }.items():
        db = sqlite3.connect(folder / "published" / name)
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()


def parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tone(folder / "media" / "tone.wav")
    (folder / "published").mkdir()
    row = {"clip_id": "a", "corpus": "b", "split": "train", "audio": "tone.wav", "caption": "c"}
    pq.write_table(pa.Table.from_pylist([row] * 3), folder / "published" / "a.parquet")


# ---- scenes


def corpus(folder: Path) -> None:
    from omni2sound.scenes.material.catalogue import Catalogue

    full = Catalogue.load()
    recording, picture = full.recordings[0], full.pictures[0]
    small = Catalogue(
        classes=full.classes, recordings=(recording,), pictures=(picture,), version="test"
    )
    tone(folder / "corpus" / "recordings" / f"{recording.recording_id}.flac")
    from PIL import Image

    pictures = folder / "corpus" / "pictures"
    pictures.mkdir()
    Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(pictures / f"{picture.picture_id}.png")
    (folder / "corpus" / "catalogue.json").write_text(small.to_json())


def open_corpus(folder: Path) -> None:
    from omni2sound.scenes.material.assets import SceneAssets

    assets = SceneAssets.open(folder / "corpus")
    for recording in assets.catalogue.recordings:
        assets.waveform(recording.recording_id)
    for picture in assets.catalogue.pictures:
        assets.rgba(picture.picture_id)


SCENE = {
    "kind": "audio",
    "duration_s": 1.0,
    "split": "test",
    "seed": 1,
    "index": 0,
    "events": [],
}


# ---- annotation


def annotation(folder: Path) -> None:
    from tests.annotate.crews import SCRIPT

    manifest(folder)
    script = {**SCRIPT, "validator": {"*": {"plausible": True, "reason": "fits"}}}
    (folder / "script.json").write_text(json.dumps(script))
    from importlib.resources import files

    for package, name in (("annotate", "thresholds.toml"), ("llm", "prices.toml")):
        content = (files(f"omni2sound.{package}") / name).read_text()
        (folder / name).write_text(content.replace("[embedded]", "[scripted]"))


_RUNS: dict[str, bytes] = {}


def finished(folder: Path) -> None:
    """A run that has ended; made once."""
    annotation(folder)
    if not _RUNS:
        call_command(folder, annotate("run"))
        for path in (folder / "run").rglob("*"):
            if path.is_file() and path.suffix in (".json", ".sqlite"):
                _RUNS[path.name] = path.read_bytes()
    (folder / "run").mkdir(exist_ok=True)
    for name, content in _RUNS.items():
        (folder / "run" / name).write_bytes(content)
    settings = json.loads(_RUNS["run.json"])
    settings["manifest"] = str(folder / "clips.jsonl")
    (folder / "run" / "run.json").write_text(json.dumps(settings))


def annotate(run: str, *more: str) -> list[str]:
    scripted = "scripted:script.json"
    return command(
        *("-q", "annotate", "run", "clips.jsonl", run, "--junior", scripted, "--senior", scripted),
        *("--vision", scripted, "--workers", "1", *more),
    )


# ---- benchmark


def track(folder: Path) -> None:
    from omni2sound.bench.tracks.track import TrackClip, TrackInfo, write_track

    for k in range(4):
        tone(folder / "track" / "audio" / f"c{k}.wav")
    write_track(
        folder / "track",
        TrackInfo(name="made", version="1"),
        [
            TrackClip(
                clip_id=f"c{k}",
                part="main",
                caption="a tone",
                duration_s=1.0,
                audio=f"own:audio/c{k}.wav",
            )
            for k in range(4)
        ],
        media=folder,
    )


def open_track(folder: Path) -> None:
    """Open a track whose sums fit, as a stranger's would."""
    import hashlib

    from omni2sound.bench.tracks.track import read_track

    header = folder / "track" / "track.json"
    for name, key in (("clips.jsonl", "clips_sha256"), ("digests.jsonl", "media_sha256")):
        if not (header.is_file() and (folder / "track" / name).is_file()):
            continue
        if header.stat().st_size > 2**20:  # what is measured is how the product reads it
            break
        try:
            data = json.loads(header.read_text())
            content = (folder / "track" / name).read_text()
            data[key] = hashlib.sha256(content.encode()).hexdigest()
            header.write_text(json.dumps(data))
        except (ValueError, TypeError, RecursionError):
            break
    opened = read_track(folder / "track")
    for clip in opened.clips:
        opened.path(clip.audio)


FACTS = {
    "track": {"name": "made", "version": "1", "num_clips": 4, "num_by_part": {"main": 4}},
    "judges": ["yamnet"],
    "min_clips_for_verdict": 500,
    "oracle_rates": {"dog": 0.5},
    "classes_left_out": ["dog"],
    "published_missing": {"clap": "no file"},
    "published_left_out": {"ours": {"c0": "no sound"}},
}


def scored(folder: Path) -> None:
    from omni2sound.bench.report.results import write_run
    from omni2sound.bench.scoring.evaluate import Evaluation
    from omni2sound.bench.systems.folder import SoundFile
    from omni2sound.bench.systems.system import System

    track(folder)
    sounds = {
        f"c{k}": SoundFile(
            clip_id=f"c{k}", path=folder / "track" / "audio" / f"c{k}.wav", sha256="0" * 64
        )
        for k in range(4)
    }
    (folder / "run").mkdir()
    evaluation = Evaluation(rows=(), clips=(), problems={}, facts=FACTS)
    write_run(
        folder / "run",
        evaluation,
        [System(name="ours", task="VT2A", sounds=sounds)],
        track=folder / "track",
        limit=None,
    )


def kit(folder: Path) -> None:
    trial = {"trial": "t000", "clip_id": "a", "questions": ["fidelity"]}
    key = {
        "omni2sound_listening": 1,
        "kind": "pairs",
        "seed": 0,
        "track": "x",
        "trials": [{**trial, "stimuli": {"l1": "ours", "l2": "theirs"}}],
        "kit": "k",
    }
    place = json.dumps(["t000", "", "fidelity"])
    answers = {"kit": "k", "listener": "ann", "answers": {place: "l1"}}
    text({"kit/key.json": json.dumps(key), "ann.json": json.dumps(answers)})(folder)


QUEUE = (
    "clip_id,part,label,caption,flags,reason,decision,who,when,new_caption\n"
    "a,main,dog,a dog,speech,heard,,,,\n"
)


def table(suffix: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        tone(folder / "media" / "a.wav")
        row = {"id": "a", "caption": "a tone", "audio": "a.wav"}
        if suffix == "csv":
            (folder / "table.csv").write_text("id,caption,audio\na,a tone,a.wav\n")
        elif suffix == "jsonl":
            (folder / "table.jsonl").write_text(lines(row))
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist([row]), folder / "table.parquet")

    return write


def from_table(suffix: str) -> list[str]:
    return command(
        *("bench", "build", "kling-audio-eval", "--table", f"table.{suffix}", "--media", "media"),
        *("--columns", "id=id,caption=caption,audio=audio", "-o", "built"),
    )


# ---- weights of other people


def torch_file(folder: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(3)}, folder / "a.pt")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, folder / "a.safetensors")


def read_weights(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        from omni2sound.encoders.published import read_checkpoint

        read_checkpoint(folder / name)

    return read


def read_graph(folder: Path) -> None:
    from omni2sound.recognise.frozen_graph import read_constants

    read_constants(folder / "graph.pb")


def call_command(folder: Path, arguments: list[str]) -> int:
    """Run the command line in the folder; returns its exit code."""
    import os

    from omni2sound.cli import main as cli

    before = Path.cwd()
    os.chdir(folder)
    sys.argv = ["omni2sound", *arguments]
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    finally:
        os.chdir(before)


FMA = (
    ",track,track,set,track,artist\n,title,genres,split,license,name\ntrack_id,,,,,\n"
    '2,a,"[1]",training,CC,somebody\n'
)
SEGMENTS = (
    "# a\n# b\n# YTID, start_seconds, end_seconds, positive_labels\n"
    '--PJHxphWEs, 30.000, 40.000, "/m/09x0r"\n'
)
CLOTHO = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\ntone.wav,a,b,c,d,e\n"
CLOTHO_META = (
    "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
    "tone.wav,a;b,1,x,[0:1],somebody,CC0\n"
)
WAVCAPS = {"num_captions_per_audio": 1, "data": [{"id": "1", "caption": "a", "duration": 2.0}]}
ANNOTATION = {"clip_id": "a", "corpus": "b", "split": "train", "audio": "tone.wav"}

READERS: tuple[Reader, ...] = (
    Reader("model card", "json", "model/card.json", model, load_model),
    Reader("model card, generate", "json", "model/card.json", model, generate()),
    Reader("weights", "tensors", "model/dit.safetensors", model, generate()),
    Reader("weights with a card", "tensors", "model/dit.safetensors", model, load_changed_weights),
    Reader("attribution", "csv", "model/attribution.tsv", model, load_model),
    Reader("adapter settings", "json", "adapter/adapter.json", adapter, load_adapter),
    Reader("adapter tensors", "tensors", "adapter/adapter.safetensors", adapter, load_adapter),
    Reader("jobs", "jsonl", "jobs.jsonl", jobs, command(
        "-q", "batch", "jobs.jsonl", "--model", "model", "--device", "cpu", "-o", "out")),
    Reader("model_config.json", "json", "published/model_config.json", checkpoint, command(
        "convert", "published", "made")),
    Reader("checkpoint", "pickle", "published/model.ckpt", checkpoint, command(
        "convert", "published", "made")),
    Reader("diffusers config", "json", "published/config.json", diffusers, command(
        "convert", "published", "made")),
    Reader("state.json", "json", "run/step-00000007/state.json", state, load_state),
    Reader("state tensors", "tensors", "run/step-00000007/state-0of1.safetensors", state,
           load_state),
    Reader("training log", "jsonl", "run/log.jsonl",
           text({"run/log.jsonl": lines({"step": 1, "loss": 0.5}, {"step": 2})}), resume_log),
    Reader("store.json", "json", "store/store.json", store, open_store),
    Reader("index.json", "json", "store/index.json", store, open_store),
    Reader("index.json, verify", "json", "store/index.json", store, command(
        "data", "verify", "store")),
    Reader("shard", "arrow", "store/a.arrow", store, open_store),
    Reader("shard without an index", "arrow", "store/a.arrow", plain_shard, open_store),
    Reader("progress.jsonl", "jsonl", "store/progress.jsonl", unfinished, open_store),
    Reader("manifest", "jsonl", "clips.jsonl", manifest, command(
        "-q", "data", "check", "clips.jsonl", "--no-sound")),
    imported("vggsound", "csv", {"vggsound.csv": "---g-f_I2yQ,1,people marching,test\n"},
             "vggsound.csv"),
    imported("audioset", "csv", {"eval_segments.csv": SEGMENTS}, "eval_segments.csv"),
    imported("audioset", "json", {
        "eval_segments.csv": SEGMENTS,
        "ontology.json": json.dumps([{"id": "/m/09x0r", "name": "Speech"}]),
    }, "ontology.json"),
    imported("audioset", "csv", {
        "eval_segments.csv": SEGMENTS,
        "class_labels_indices.csv": "index,mid,display_name\n0,/m/09x0r,Speech\n",
    }, "class_labels_indices.csv"),
    imported("audiocaps", "csv", {
        "test.csv": "audiocap_id,youtube_id,start_time,caption\n1,---g-f_I2yQ,30,a dog\n",
    }, "test.csv"),
    imported("clotho", "csv", {
        "clotho_captions_development.csv": CLOTHO, "clotho_metadata_development.csv": CLOTHO_META,
    }, "clotho_captions_development.csv"),
    imported("clotho", "csv", {
        "clotho_captions_development.csv": CLOTHO, "clotho_metadata_development.csv": CLOTHO_META,
    }, "clotho_metadata_development.csv"),
    imported("fsd50k", "csv", {"dev.csv": "fname,labels,mids,split\n64760,Bark,/m/1,train\n"},
             "dev.csv"),
    imported("fsd50k", "json", {
        "dev.csv": "fname,labels,mids,split\n64760,Bark,/m/1,train\n",
        "dev_clips_info_FSD50K.json": json.dumps({"64760": {"license": "CC0", "uploader": "a"}}),
    }, "dev_clips_info_FSD50K.json"),
    imported("fma", "csv", {"tracks.csv": FMA, "genres.csv": "genre_id,title\n1,Rock\n"},
             "tracks.csv"),
    imported("fma", "csv", {"tracks.csv": FMA, "genres.csv": "genre_id,title\n1,Rock\n"},
             "genres.csv"),
    imported("wavcaps", "json", {"bbc_final.json": json.dumps(WAVCAPS)}, "bbc_final.json"),
    imported("wavcaps", "json", {
        "bbc_final.json": json.dumps(WAVCAPS),
        "blacklist_a.json": json.dumps({"AudioSet": ["Y1"], "BBC": ["1"]}),
    }, "blacklist_a.json"),
    imported("msd", "csv", {
        "unique_tracks.txt": "TRAAAAW128F429D538<SEP>SOAAAAW12<SEP>somebody<SEP>a song\n",
    }, "unique_tracks.txt"),
    Reader("import msd: track_metadata.db", "sqlite", "published/track_metadata.db", songs, command(
        "-q", "data", "import", "msd", "published", "--media", "media", "-o", "o.jsonl")),
    Reader("import msd: artist_term.db", "sqlite", "published/artist_term.db", songs, command(
        "-q", "data", "import", "msd", "published", "--media", "media", "-o", "o.jsonl")),
    imported("annotations", "jsonl", {
        "manifest.jsonl": lines({"omni2sound_manifest": 1, "media": "."}, ANNOTATION),
    }, "manifest.jsonl"),
    Reader("import annotations: Parquet", "parquet", "published/a.parquet", parquet, command(
        "-q", "data", "import", "annotations", "published", "--media", "media", "-o", "o.jsonl")),
    Reader("scene", "json", "scene/events.json", text({"scene/events.json": json.dumps(SCENE)}),
           command("scenes", "inspect", "scene", "-o", "sheet.png")),
    Reader("scenes' manifest", "jsonl", "scenes/manifest.jsonl",
           text({"scenes/manifest.jsonl": lines({"events": "a/events.json"})}),
           command("scenes", "inspect", "scenes", "-o", "sheet.png")),
    Reader("catalogue", "json", "corpus/catalogue.json", corpus, open_corpus),
    Reader("script", "json", "script.json", annotation, annotate("new")),
    Reader("thresholds", "toml", "thresholds.toml", annotation, annotate(
        "new", "--thresholds", "thresholds.toml")),
    Reader("prices", "toml", "prices.toml", annotation, annotate(
        "new", "--prices", "prices.toml", "--dry-run")),
    Reader("annotated manifest", "jsonl", "clips.jsonl", annotation, annotate("new")),
    Reader("run.json", "json", "run/run.json", finished, command("annotate", "status", "run")),
    Reader("steps.sqlite", "sqlite", "run/steps.sqlite", finished, command(
        "annotate", "export", "run", "-o", "export")),
    Reader("calls.sqlite", "sqlite", "run/calls.sqlite", finished, command(
        "annotate", "status", "run")),
    Reader("track.json", "json", "track/track.json", track, open_track),
    Reader("track's clips", "jsonl", "track/clips.jsonl", track, open_track),
    Reader("track's digests", "jsonl", "track/digests.jsonl", track, open_track),
    Reader("track's media", "json", "track/media.json", track, open_track),
    Reader("scores.json", "json", "run/scores.json", scored, command("bench", "report", "run")),
    Reader("systems.json", "json", "run/systems.json", scored, command("bench", "report", "run")),
    Reader("records", "jsonl", "run/clips.jsonl", scored, command("bench", "report", "run")),
    Reader("key.json", "json", "kit/key.json", kit, command(
        "bench", "listen", "analyse", "kit", "ann.json")),
    Reader("answers", "json", "ann.json", kit, command(
        "bench", "listen", "analyse", "kit", "ann.json")),
    Reader("review queue", "csv", "review.csv", text({"review.csv": QUEUE}), command(
        "bench", "decide", "review.csv", "a", "accept", "--who", "ann")),
    Reader("table, CSV", "csv", "table.csv", table("csv"), from_table("csv")),
    Reader("table, JSON Lines", "jsonl", "table.jsonl", table("jsonl"), from_table("jsonl")),
    Reader("table, Parquet", "parquet", "table.parquet", table("parquet"), from_table("parquet")),
    Reader("torch file", "pickle", "a.pt", torch_file, read_weights("a.pt")),
    Reader("safetensors file", "tensors", "a.safetensors", torch_file,
           read_weights("a.safetensors")),
    Reader("frozen graph", "binary", "graph.pb", text({"graph.pb": "\n"}), read_graph),
)  # fmt: skip
