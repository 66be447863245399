"""Devices, precision and threads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omni2sound.errors import UserError
from omni2sound.runtime import resolve_device, resolve_dtype, set_num_threads

CPU = torch.device("cpu")


def test_auto_is_a_device_that_exists() -> None:
    torch.zeros(1, device=resolve_device("auto"))
    assert resolve_device("cpu") == CPU


@given(
    st.text(max_size=8).filter(lambda s: s.partition(":")[0] not in {"auto", "cuda", "mps", "cpu"})
)
def test_an_unknown_device_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match="auto, cpu, cuda, mps"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cuda:x", "cpu:1", "auto:0", "mps:0", "cuda:-1"])
def test_a_malformed_index_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected one of"):
        resolve_device(name)


def test_a_device_that_is_absent_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:0", "mps"):
        with pytest.raises(UserError, match="use cpu"):
            resolve_device(name)


@pytest.mark.parametrize("able", [(), ("_is_avx512_bf16_supported",), ("_is_amx_tile_supported",)])
def test_precision_on_a_cpu(able: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in able, raising=False)
    assert resolve_dtype("auto", CPU) is (torch.bfloat16 if able else torch.float32)
    assert resolve_dtype("float32", CPU) is torch.float32
    assert resolve_dtype("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(UserError, match="float16"):
        resolve_dtype("float16", CPU)
    with pytest.raises(UserError, match="float32, bfloat16, float16"):
        resolve_dtype("double", CPU)


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        assert set_num_threads(1) == 1
        assert set_num_threads(None) == 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(UserError, match="expected 1 or more"):
        set_num_threads(0)
