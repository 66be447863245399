"""Two products, or PyTorch's fused kernel: what attention costs on this CPU at the model's sizes.

Run:  python benchmarks/speed/attention.py

Forward and backward pass of `models.layers.attention` in bfloat16 beside
`scaled_dot_product_attention`, in seconds of CPU time of the same run; the ratio counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from omni2sound.models.layers import attention

REPEATS = 10
SHAPES = {
    "16 clips of 4 s, self": (16, 101, 101),
    "8 clips of 8 s, self": (8, 201, 201),
    "2 x 10 s, self": (2, 251, 251),
    "16 clips of 4 s, 24 words": (16, 101, 24),
}
HEADS, HEAD_DIM = 4, 64


def cpu_seconds(call: Callable[[Tensor, Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> float:
    batch, frames, tokens = shape
    q, k, v = (
        torch.randn(batch, HEADS, n, HEAD_DIM, dtype=torch.bfloat16, requires_grad=True)
        for n in (frames, tokens, tokens)
    )
    for _ in range(2):
        call(q, k, v).sum().backward()
    started = time.process_time()
    for _ in range(REPEATS):
        call(q, k, v).sum().backward()
    return (time.process_time() - started) / REPEATS


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    print(f"{'':28} {'fused, ms':>10} {'products, ms':>13} {'ratio':>6}")
    for name, shape in SHAPES.items():
        fused = cpu_seconds(F.scaled_dot_product_attention, shape)
        ours = cpu_seconds(lambda q, k, v: attention(q, k, v, None), shape)
        print(f"{name:28} {1e3 * fused:10.1f} {1e3 * ours:13.1f} {fused / ours:6.1f}")


if __name__ == "__main__":
    main()
