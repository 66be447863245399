"""The released layout of the transformer: its sizes, and what absence means in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.parity._table import randomise
from omni2sound.config import from_json, to_json
from omni2sound.errors import ShapeError
from omni2sound.models.conditioning import Conditions
from omni2sound.models.dit import RELEASED, DiT, DiTConfig
from omni2sound.models.released import ReleasedConditionerConfig

B, L = 2, 10
SIZES = ReleasedConditionerConfig(
    text_dim=5, vision_dim=8, sync_dim=4, token_dim=8, max_pictures=6, vision_fps=8
)
TINY = replace(RELEASED, latent_dim=6, width=64, depth=2, num_heads=1, conditioner=SIZES)


def tiny(config: DiTConfig = TINY) -> DiT:
    model = DiT(config).eval()
    randomise(model, seed=1)
    return model


def conditions(*, text: bool = True, video: bool = True, pictures: int = 3) -> Conditions:
    g = torch.Generator().manual_seed(1)
    return Conditions(
        seconds_start_B=torch.zeros(B),
        seconds_total_B=torch.full((B,), 0.4),
        text_BTE=torch.randn(B, 4, 5, generator=g) if text else None,
        text_mask_BT=torch.ones(B, 4, dtype=torch.bool) if text else None,
        vision_BTV=torch.randn(B, pictures, 8, generator=g) if video else None,
        sync_BLS=torch.randn(B, L, 4, generator=g) if video else None,
    )


def noised() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    return torch.randn(B, L, 6, generator=g), torch.rand(B, generator=g)


def test_the_full_size_has_the_parameters_that_its_shapes_give() -> None:
    with torch.device("meta"):
        model = DiT(RELEASED)
    block = 20 * 1536**2 + 2 * 4 * 1536 + 1536 + 6 * 1536 + 3 * 1536
    blocks = sum(p.numel() for p in model.blocks.parameters())
    assert blocks == 24 * block
    assert sum(p.numel() for p in model.parameters()) == 1_168_166_784


def test_a_card_gives_the_same_config_back() -> None:
    assert from_json(DiTConfig, to_json(TINY)) == TINY
    assert from_json(DiTConfig, to_json(DiTConfig())) == DiTConfig()


def test_a_new_model_predicts_zero() -> None:
    x, t = noised()
    assert torch.equal(DiT(TINY)(x, t, conditions()), torch.zeros_like(x))


@pytest.mark.parametrize(("text", "video"), [(True, True), (True, False), (False, True)])
def test_prepared_conditions_serve_every_step(text: bool, video: bool) -> None:
    model, (x, t) = tiny(), noised()
    c = conditions(text=text, video=video)
    prepared = model.prepare(c, L)
    for time in (t, t * 0.5):
        torch.testing.assert_close(model.denoise(x, time, prepared), model(x, time, c))


def test_the_null_branch_of_sampling_is_that_of_training() -> None:
    model, (x, t) = tiny(), noised()
    dropped = torch.ones(B, dtype=torch.bool)
    by_training = model(x, t, conditions(), drop_B=dropped)
    by_sampling = model.denoise(x, t, model.prepare(conditions(), L).null())
    torch.testing.assert_close(by_training, by_sampling)


def test_no_video_is_zero_features_and_not_the_null_branch() -> None:
    """The projections have biases: zeros in are not zeros out."""
    model = tiny()
    without = conditions(video=False)
    zeros = replace(without, sync_BLS=torch.zeros(B, L, 4), vision_BTV=torch.zeros(B, 0, 8))
    said = model.conditioner.modulation(without, L)
    torch.testing.assert_close(said, model.conditioner.modulation(zeros, L))
    null = model.conditioner.null_modulation()
    assert said is not None
    assert null is not None
    assert not torch.allclose(said, null.expand_as(said))


def test_stacking_with_the_null_branch_is_running_both() -> None:
    model, (x, t) = tiny(), noised()
    prepared = model.prepare(conditions(), L)
    both = model.denoise(torch.cat([x, x]), torch.cat([t, t]), prepared.stack(prepared.null()))
    assert prepared.stack(prepared.null()).context_mask_B11T is None
    torch.testing.assert_close(both[:B], model.denoise(x, t, prepared))
    torch.testing.assert_close(both[B:], model.denoise(x, t, prepared.null()))


def test_each_frame_hears_its_own_sync_feature() -> None:
    model, c = tiny(), conditions()
    assert c.sync_BLS is not None
    changed = c.sync_BLS.clone()
    changed[:, 4] += 1
    before = model.conditioner.modulation(c, L)
    after = model.conditioner.modulation(replace(c, sync_BLS=changed), L)
    assert before is not None
    assert after is not None
    different = (before != after).any(dim=-1)
    assert different[:, 4].all()
    assert not different[:, torch.arange(L) != 4].any()


def test_pictures_are_filled_up_with_zeros_that_are_attended_to() -> None:
    model, c = tiny(), conditions(pictures=3)
    assert c.vision_BTV is not None
    filled = replace(c, vision_BTV=torch.nn.functional.pad(c.vision_BTV, (0, 0, 0, 3)))
    a, mask = model.conditioner.context(c)
    b, _ = model.conditioner.context(filled)
    torch.testing.assert_close(a, b)
    assert mask is None
    assert a.shape[1] == 6 + 4 + 2


def test_more_pictures_than_positions_are_refused() -> None:
    with pytest.raises(ShapeError, match="up to 6 pictures, got 7"):
        tiny().prepare(conditions(pictures=7), L)


def test_a_learned_vector_takes_the_place_of_absent_frames() -> None:
    model = tiny(replace(TINY, conditioner=replace(SIZES, learned_absence=True)))
    c = conditions()
    assert c.sync_BLS is not None
    absent = c.sync_BLS.clone()
    absent[:, 2] = 0
    learned = absent.clone()
    learned[:, 2] = model.conditioner.sync_absent
    torch.testing.assert_close(
        model.conditioner.modulation(replace(c, sync_BLS=absent), L),
        model.conditioner.modulation(replace(c, sync_BLS=learned), L),
    )


def test_without_a_temporal_branch_blocks_are_not_modulated() -> None:
    config = replace(TINY, conditioner=replace(SIZES, vision_dim=0, sync_dim=0))
    model, (x, t) = tiny(config), noised()
    assert not any("modulation" in name for name in model.state_dict())
    text = conditions(video=False)
    prepared = model.prepare(text, L)
    assert prepared.sync_modulation_BLM is None
    torch.testing.assert_close(model.denoise(x, t, prepared), model(x, t, text))
    with pytest.raises(ShapeError, match="sees no pictures"):
        model.prepare(conditions(), L)


def test_bfloat16_runs_and_stays_near() -> None:
    model, (x, t) = tiny(), noised()
    exact = model(x, t, conditions())
    half = model.bfloat16()(x.bfloat16(), t, conditions())
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).abs().max() < 0.1 * exact.abs().max()
