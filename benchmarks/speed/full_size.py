"""The full-size model with random weights, part by part: how long, and in how much memory.

    python benchmarks/speed/full_size.py [--steps 4] [--duration 10] [--dtype bfloat16]
                                   [--without-video] [--low-memory] [--scale 1]

In:   nothing: weights are random, video and prompt are made here. What the numbers say is how
      much work the real model is, not how it sounds.
Out:  a line for each part on stdout: its parameters, the seconds that it took, and the most
      memory that the process had taken by then.

The pipeline is the one that `generate` runs. With --low-memory another process first writes the
model to a folder, and each part is read from there when it is needed, so that the peak is that of
generating alone. --scale 4 divides the widths of
the transformer and of the autoencoder by four, to try the command itself.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import nn

from omni2sound.convert.settings import DEFAULTS
from omni2sound.diffusion.objective import Objective
from omni2sound.diffusion.settings import SamplerConfig
from omni2sound.encoders.registry import SynchformerPart, TextPart, VisionPart
from omni2sound.generate.conditions import ConditionEncoder
from omni2sound.generate.model import Model, PipelineConfig, load_model
from omni2sound.generate.request import GenerationRequest
from omni2sound.generate.torch_pipeline import TorchPipeline
from omni2sound.models.dit import RELEASED, DiT
from omni2sound.models.oobleck import Oobleck, OobleckConfig
from omni2sound.timebase import TimeBase

PROMPT = "a dog barks twice while rain falls on a tin roof"


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def timed(what: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds = time.perf_counter() - begin
    print(f"| {what} | {seconds:.1f} | {peak_gib():.2f} |", flush=True)


@torch.no_grad()
def filled(build: Callable[[], nn.Module], dtype: torch.dtype, seed: int) -> Any:
    """A network built without memory, and given its random weights tensor by tensor."""
    with torch.device("meta"):
        network = build()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in [*network.named_parameters()]:
        value = torch.empty(parameter.shape, dtype=dtype)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 400
        value.normal_(std=fan_in**-0.5, generator=generator)
        owner, _, own = name.rpartition(".")
        setattr(network.get_submodule(owner), own, nn.Parameter(value, requires_grad=False))
    for name, buffer in [*network.named_buffers()]:
        owner, _, own = name.rpartition(".")
        ones = own in ("scale_C",)
        values = torch.ones if ones else torch.zeros
        setattr(network.get_submodule(owner), own, values(buffer.shape, dtype=buffer.dtype))
    return network.eval()


def millions(network: nn.Module) -> str:
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.0f} M"


def text_encoder() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    from omni2sound.encoders.t5 import T5TextEncoder, build_t5

    config = {
        "d_model": 768,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 12,
        "num_heads": 12,
        "feed_forward_proj": "gated-gelu",
        "vocab_size": 32128,
    }
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with timed("text encoder, Flan-T5-base shape: build"):
        encoder = T5TextEncoder(build_t5(config), tokenizer, "cpu")
    return encoder


def vision_encoder() -> Any:
    from omni2sound.encoders.clip import ClipVision

    with timed("picture encoder, CLIP ViT-H-14-384 shape: build"):
        return ClipVision(ClipVision.build())


def sync_encoder() -> Any:
    from omni2sound.encoders.synchformer import (
        MotionConfig,
        MotionTransformer,
        SynchformerVisual,
    )

    with timed("sync encoder, Synchformer shape: build"):
        return SynchformerVisual(MotionTransformer(MotionConfig()), "cpu")


class Timed:
    """An encoder whose calls are timed and printed."""

    def __init__(self, what: str, encoder: Any) -> None:
        self._what, self._encoder = what, encoder

    def __call__(self, texts: Any) -> Any:
        with timed(f"{self._what}: {len(texts)} text"):
            return self._encoder(texts)

    def embed(self, frames: Any) -> Any:
        with timed(f"{self._what}: {len(frames)} pictures"):
            return self._encoder.embed(frames)


def video(path: Path, duration_s: float) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 384, 256, "yuv420p"
        for index in range(round(duration_s * 25)):
            picture = np.full((256, 384, 3), 30, dtype=np.uint8)
            picture[100:140, (3 * index) % 340 : (3 * index) % 340 + 40] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def build_model(scale: int, dtype: torch.dtype) -> Model:
    width = 1536 // scale // 64 * 64
    dit_config = replace(RELEASED, width=width, num_heads=width // 64)
    vae_config = OobleckConfig(channels=128 // scale)
    config = PipelineConfig(
        timebase=TimeBase(),
        dit=dit_config,
        objective=Objective(),
        sampler=SamplerConfig(kind="dpmpp-2m-sde", sigma_max=1000.0),
        autoencoder=vae_config,
        sync=SynchformerPart(),
        text=TextPart(encoder="flan-t5-base"),
        vision=VisionPart(encoder="dfn5b-clip-vit-h-14-384"),
    )
    with timed("transformer: build"):
        dit = filled(lambda: DiT(dit_config), dtype, 1)
    with timed("autoencoder: build"):
        vae = filled(lambda: Oobleck(vae_config), torch.float32, 2)
    return Model(
        config=config,
        dit=dit,
        autoencoder=vae,
        sync=None,
        name="random",
        defaults=DEFAULTS,
        training={},
    )


def write_model(scale: int, dtype: torch.dtype, folder: Path) -> None:
    model = build_model(scale, dtype)
    with timed("write the model to a folder"):
        model.save(folder, half=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--duration", type=float, default=10.0)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--without-video", action="store_true")
    parser.add_argument("--low-memory", action="store_true")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dtype = getattr(torch, arguments.dtype)
    print(
        f"{torch.get_num_threads()} threads, transformer in {arguments.dtype}, "
        f"{arguments.steps} steps with guidance, {arguments.duration:g} s of sound\n"
    )
    print("| part | s | peak memory so far, GiB |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.low_memory:
            written = Path(folder) / "model"
            other = get_context("spawn").Process(
                target=write_model, args=(arguments.scale, dtype, written)
            )
            other.start()
            other.join()
            if other.exitcode:
                raise SystemExit(f"writing the model failed: exit code {other.exitcode}")
            print("| (up to here in another process) | | |", flush=True)
            model = load_model(written, dtype=dtype, on_disk=True)
        else:
            model = build_model(arguments.scale, dtype)
        parts = (model.dit, model.autoencoder)
        sizes = "transformer {}, autoencoder {} parameters".format(*map(millions, parts))
        device = torch.device("cpu")
        pipeline = TorchPipeline(model, device=device, dtype=dtype, low_memory=arguments.low_memory)
        pipeline.encoder = ConditionEncoder(
            model.config,
            None,
            device,
            low_memory=True,
            loaders={
                "text": lambda: Timed("text encoder", text_encoder()),
                "vision": lambda: Timed("picture encoder", vision_encoder()),
                "sync": lambda: Timed("sync encoder", sync_encoder()),
            },
        )
        clip = None
        if not arguments.without_video:
            clip = video(Path(folder) / "clip.mp4", arguments.duration)
        request = GenerationRequest(
            video=clip,
            prompt=PROMPT,
            duration_s=arguments.duration,
            num_inference_steps=arguments.steps,
            seed=0,
        )
        (result,) = pipeline.run(request)
    times = result.timings
    print(f"| all encoders | {times.encode_s:.1f} | |")
    print(f"| transformer: {arguments.steps} steps | {times.sample_s:.1f} | |")
    print(f"| autoencoder: decode | {times.decode_s:.1f} | {peak_gib():.2f} |")
    samples = result.audio.samples_CN
    finite = bool(np.isfinite(samples).all())
    print(f"\n{sizes}; {samples.shape[1]} samples, finite: {finite}")


if __name__ == "__main__":
    main()
