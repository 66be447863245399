"""CLIP's picture half at a tiny size; `make parity` compares with open_clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from omni2sound.encoders.clip import ClipShape, ClipVision, build_clip, from_open_clip
from omni2sound.encoders.published import fill
from omni2sound.errors import ConfigError, MissingPartError, ShapeError

SHAPE = ClipShape(width=32, depth=2, num_heads=2, patch_px=14, frame_px=48, dim=8)


@pytest.fixture(scope="module")
def encoder() -> ClipVision:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ClipVision(build_clip(SHAPE), shape=SHAPE, chunk_frames=2)


def pictures(count: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def open_clip_tensors() -> dict[str, Tensor]:
    """Names and shapes of a published file of that size."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "visual.class_embedding": (32,),
        "visual.positional_embedding": (10, 32),
        "visual.proj": (32, 8),
        "visual.conv1.weight": (32, 3, 14, 14),
        **{f"visual.{n}.{p}": (32,) for n in ("ln_pre", "ln_post") for p in ("weight", "bias")},
    }
    for i in range(2):
        block = f"visual.transformer.resblocks.{i}"
        shapes |= {f"{block}.{n}.{p}": (32,) for n in ("ln_1", "ln_2") for p in ("weight", "bias")}
        shapes |= {f"{block}.attn.in_proj_weight": (96, 32), f"{block}.attn.in_proj_bias": (96,)}
        shapes |= {f"{block}.attn.out_proj.weight": (32, 32), f"{block}.attn.out_proj.bias": (32,)}
        shapes |= {f"{block}.mlp.c_fc.weight": (128, 32), f"{block}.mlp.c_fc.bias": (128,)}
        shapes |= {f"{block}.mlp.c_proj.weight": (32, 128), f"{block}.mlp.c_proj.bias": (32,)}
    shapes |= {"logit_scale": (), "text_projection": (8, 8), "token_embedding.weight": (9, 8)}
    shapes |= {"positional_embedding": (7, 8), "transformer.resblocks.0.ln_1.weight": (8,)}
    return {k: torch.randn(v, generator=generator) for k, v in shapes.items()}


def test_features_have_unit_length_at_any_picture_size(encoder: ClipVision) -> None:
    for height, width in ((60, 80), (48, 48), (31, 200)):
        features = encoder.embed(pictures(3, height, width))
        assert features.shape == (3, 8)
        torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


def test_company_in_a_batch_changes_nothing(encoder: ClipVision) -> None:
    frames = pictures(5)
    alone = torch.cat([encoder.embed(frames[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(encoder.embed(frames), alone, atol=1e-6, rtol=1e-5)


def test_what_does_not_fill_a_patch_is_not_seen(encoder: ClipVision) -> None:
    """48 px are three patches of 14: the last 6 rows and columns say nothing."""
    frames = pictures(2, 48, 48)
    changed = frames.copy()
    changed[:, 42:], changed[:, :, 42:] = 0, 0
    assert torch.equal(encoder.embed(frames), encoder.embed(changed))
    changed[:, 41] = 0
    assert not torch.equal(encoder.embed(frames), encoder.embed(changed))


def test_a_published_file_is_used_up() -> None:
    network = build_clip(SHAPE)
    tensors = open_clip_tensors()
    fill(network, from_open_clip(tensors), title="CLIP")
    joined = tensors["visual.transformer.resblocks.1.attn.in_proj_weight"]
    value = network.get_parameter("vision_model.encoder.layers.1.self_attn.v_proj.weight")
    assert torch.equal(value, joined[64:])
    projection = network.get_parameter("visual_projection.weight")
    assert torch.equal(projection, tensors["visual.proj"].T)


def test_an_unknown_tensor_is_named_and_not_dropped() -> None:
    tensors = open_clip_tensors() | {"visual.attn_pool.query": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"left over attn_pool\.query"):
        fill(build_clip(SHAPE), from_open_clip(tensors), title="CLIP")


def test_no_frames_give_no_features(encoder: ClipVision) -> None:
    assert encoder.embed(pictures(0)).shape == (0, 8)


@pytest.mark.parametrize("wrong", [pictures(1).astype(np.float32), pictures(1)[0]])
def test_other_shapes_and_types_are_refused(encoder: ClipVision, wrong: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="uint8"):
        encoder.embed(wrong)


def test_an_empty_folder_says_where_to_get_the_file(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="DFN5B"):
        ClipVision.load(tmp_path)


def test_the_published_shape_sees_378_of_384() -> None:
    assert ClipShape().seen_px == 378
    with pytest.raises(ConfigError, match="multiple"):
        ClipShape(width=30, num_heads=4)
