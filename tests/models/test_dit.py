"""Laws of the transformer: what each absent modality means, and that caching changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from omni2sound.errors import ConfigError, ShapeError
from omni2sound.models.conditioning import ConditionerConfig, Conditions
from omni2sound.models.dit import DiT, DiTConfig
from omni2sound.models.layers import apply_rope, attention, rope_table

B, L = 3, 10
CONFIG = DiTConfig(
    latent_dim=6,
    width=32,
    depth=2,
    num_heads=2,
    conditioner=ConditionerConfig(text_dim=5, vision_dim=7, sync_dim=4),
)


@pytest.fixture
def dit() -> DiT:
    """A transformer whose zero-initialised parts are random, so that every path matters."""
    torch.manual_seed(0)
    model = DiT(CONFIG).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def conditions(*, text: bool = True, video: bool = True, tokens: int = 4) -> Conditions:
    g = torch.Generator().manual_seed(1)
    return Conditions(
        seconds_start_B=torch.zeros(B),
        seconds_total_B=torch.full((B,), 0.4),
        text_BTE=torch.randn(B, tokens, 5, generator=g) if text else None,
        text_mask_BT=torch.ones(B, tokens, dtype=torch.bool) if text else None,
        vision_BTV=torch.randn(B, 3, 7, generator=g) if video else None,
        sync_BLS=torch.randn(B, L, 4, generator=g) if video else None,
    )


def noised() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    return torch.randn(B, L, 6, generator=g), torch.rand(B, generator=g)


def test_a_new_model_predicts_zero() -> None:
    x, t = noised()
    assert torch.equal(DiT(CONFIG)(x, t, conditions()), torch.zeros_like(x))


@pytest.mark.parametrize(("text", "video"), [(True, True), (True, False), (False, True)])
def test_prepared_conditions_serve_every_step(dit: DiT, text: bool, video: bool) -> None:
    x, t = noised()
    c = conditions(text=text, video=video)
    prepared = dit.prepare(c, L)
    for time in (t, t * 0.5):
        torch.testing.assert_close(dit.denoise(x, time, prepared), dit(x, time, c))


def test_masked_padding_changes_nothing(dit: DiT) -> None:
    x, t = noised()
    c = conditions()
    assert c.text_BTE is not None
    padded = replace(
        c,
        text_BTE=torch.cat([c.text_BTE, torch.full((B, 5, 5), 9.0)], dim=1),
        text_mask_BT=torch.arange(9).expand(B, 9) < 4,
    )
    torch.testing.assert_close(dit(x, t, c), dit(x, t, padded))


def test_the_sentence_is_the_mean_of_its_words_and_not_of_padding() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, conditioner=replace(CONFIG.conditioner, sentence=True))
    conditioner = DiT(config).eval().conditioner
    given = conditions(video=False)
    context_BTD, mask_BT = conditioner.context(given)
    plain_BTD, _ = DiT(CONFIG).eval().conditioner.context(given)
    assert context_BTD.shape[1] == plain_BTD.shape[1] + 1
    expected_BD = conditioner.text(given.text_BTE.mean(dim=1))
    torch.testing.assert_close(context_BTD[:, 0], expected_BD)
    padded = replace(
        given,
        text_BTE=torch.cat([given.text_BTE, torch.full((B, 3, 5), 9.0)], dim=1),
        text_mask_BT=torch.cat([given.text_mask_BT, torch.zeros(B, 3, dtype=torch.bool)], dim=1),
    )
    longer_BTD, longer_mask_BT = conditioner.context(padded)
    torch.testing.assert_close(longer_BTD[:, 0], context_BTD[:, 0])
    assert int(longer_mask_BT.sum()) == int(mask_BT.sum())


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_half_precision_is_attention(masked: bool) -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=g) for n in (7, 5, 5))
    mask = torch.tensor([True, False, True, True, False])[None, None, None] if masked else None
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    half = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.02, rtol=0.02)
    torch.testing.assert_close(attention(q, k, v, mask), exact)
    if mask is not None:
        other = k.clone()
        other[:, :, ~mask[0, 0, 0]] = 50.0
        assert torch.equal(attention(q.bfloat16(), other.bfloat16(), v.bfloat16(), mask), half)


def test_without_masks_padding_is_zero_tokens_and_is_attended_to() -> None:
    torch.manual_seed(0)
    model = DiT(replace(CONFIG, conditioner=replace(CONFIG.conditioner, masked=False)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, t = noised()
    c = conditions()
    assert c.text_BTE is not None
    garbage = torch.full((B, 5, 5), 9.0)
    mask = torch.arange(9).expand(B, 9) < 4
    one = replace(c, text_BTE=torch.cat([c.text_BTE, garbage], dim=1), text_mask_BT=mask)
    two = replace(c, text_BTE=torch.cat([c.text_BTE, -garbage], dim=1), text_mask_BT=mask)
    torch.testing.assert_close(model(x, t, one), model(x, t, two))
    assert not torch.allclose(model(x, t, one), model(x, t, c))


def test_the_null_branch_hears_neither_text_nor_video(dit: DiT) -> None:
    x, t = noised()
    dropped = torch.ones(B, dtype=torch.bool)
    by_training = dit(x, t, conditions(), drop_B=dropped)
    by_sampling = dit.denoise(x, t, dit.prepare(conditions(), L).null())
    torch.testing.assert_close(by_training, by_sampling)
    text_only = dit(x, t, conditions(video=False), drop_B=dropped)
    torch.testing.assert_close(by_training, text_only)


def test_dropout_is_decided_sample_by_sample(dit: DiT) -> None:
    x, t = noised()
    drop = torch.tensor([True, False, True])
    mixed = dit(x, t, conditions(), drop_B=drop)
    kept, null = dit(x, t, conditions()), dit(x, t, conditions(), drop_B=torch.ones_like(drop))
    torch.testing.assert_close(mixed, torch.where(drop[:, None, None], null, kept))


def test_no_video_and_silent_sync_features_modulate_alike(dit: DiT) -> None:
    """Zeros without video: the temporal branch adds exactly nothing then."""
    c = conditions()
    assert c.sync_BLS is not None
    zero = replace(c, sync_BLS=torch.zeros_like(c.sync_BLS))
    modulation = dit.conditioner.modulation(zero, L)
    assert modulation is not None
    assert not modulation.any()
    assert dit.conditioner.modulation(conditions(video=False), L) is None


def test_sync_reaches_its_own_frame_directly(dit: DiT) -> None:
    """With attention silenced, a change in sync frame i changes output frame i alone."""
    for block in dit.blocks:
        torch.nn.init.zeros_(block.self_attention.out.weight)
    x, t = noised()
    c = conditions()
    assert c.sync_BLS is not None
    changed_sync = c.sync_BLS.clone()
    changed_sync[:, 4] += 1
    difference = (dit(x, t, replace(c, sync_BLS=changed_sync)) - dit(x, t, c)).abs().amax((0, 2))
    assert difference[4] > 1e-3
    assert torch.cat([difference[:4], difference[5:]]).max() < 1e-5


def test_stacking_equals_two_separate_calls(dit: DiT) -> None:
    x, t = noised()
    a, b = dit.prepare(conditions(), L), dit.prepare(conditions(video=False, tokens=9), L)
    both = dit.denoise(torch.cat([x, x]), torch.cat([t, t]), a.stack(b))
    torch.testing.assert_close(both, torch.cat([dit.denoise(x, t, a), dit.denoise(x, t, b)]))


def test_masked_frames_do_not_reach_real_ones(dit: DiT) -> None:
    x, t = noised()
    mask = torch.ones(B, L, dtype=torch.bool)
    mask[:, 7:] = False
    changed = x.clone()
    changed[:, 7:] = 5
    one = dit(x, t, conditions(), frame_mask_BL=mask)
    two = dit(changed, t, conditions(), frame_mask_BL=mask)
    torch.testing.assert_close(one[:, :7], two[:, :7])


def test_sync_features_must_cover_the_latents(dit: DiT) -> None:
    x, t = noised()
    c = conditions()
    assert c.sync_BLS is not None
    with pytest.raises(ShapeError, match=r"one per latent frame \(10\), got 9"):
        dit(x, t, replace(c, sync_BLS=c.sync_BLS[:, :9]))


def test_half_a_condition_is_refused() -> None:
    with pytest.raises(ShapeError, match="go together"):
        replace(conditions(), text_mask_BT=None)
    with pytest.raises(ShapeError, match="come from one video"):
        replace(conditions(), sync_BLS=None)


def test_rotary_scores_depend_on_distance_only() -> None:
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=g, dtype=torch.float64)
    rope = rope_table(40, 8, device=torch.device("cpu"))

    def score(i: int, j: int) -> float:
        at = [(rope[0][p : p + 1], rope[1][p : p + 1]) for p in (i, j)]
        return float((apply_rope(q, at[0]) * apply_rope(k, at[1])).sum())

    assert score(3, 9) == pytest.approx(score(30, 36), abs=1e-5)
    assert score(3, 9) != pytest.approx(score(3, 10), abs=1e-3)


def test_config_errors_name_the_value() -> None:
    with pytest.raises(ConfigError, match="width=250, num_heads=4"):
        DiTConfig(width=250)
