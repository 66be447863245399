"""Checkpoints: whole or absent, strict, and the same tensors for any number of ranks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from omni2sound.errors import ConfigError, IntegrityError
from omni2sound.train import state as module
from omni2sound.train.state import (
    KEEP_LAST,
    TrainState,
    differences,
    latest_state,
    load_state,
    save_state,
)
from tests.warm.start import warm

IDENTITY = {"recipe": {"lr": 0.1, "stages": [{"name": "a"}]}}


def make(seed: int = 0, *, steps: int = 2) -> TrainState:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
    ema = {k: v.detach() + 1 for k, v in model.state_dict().items()}
    return TrainState(model=model, ema=ema, optimizer=optimizer)


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in module._tensors(state).items()}


def equal(a: TrainState, b: TrainState) -> bool:
    x, y = everything(a), everything(b)
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


@pytest.mark.parametrize("steps", [0, 2])
def test_what_comes_back_is_what_was_saved(tmp_path: Path, steps: int) -> None:
    before, after = make(0, steps=steps), make(1, steps=steps)
    save_state(tmp_path, before, step=7, identity=IDENTITY, progress={"seen": [1.5]})
    assert not equal(before, after)
    found = latest_state(tmp_path)
    assert found is not None
    assert load_state(found, after, identity=IDENTITY) == {"step": 7, "seen": [1.5]}
    assert equal(before, after)


def cut(folder: Path, num_ranks: int) -> None:
    """Rewrite a checkpoint of one rank as FSDP2 over several ranks would have written it."""
    from safetensors import safe_open

    path = folder / "state-0of1.safetensors"
    with safe_open(path, framework="pt") as file:
        shapes = file.metadata()["shapes"]
    whole = load_file(path)
    for rank in range(num_ranks):
        pieces, starts = {}, {}
        for name, tensor in whole.items():
            if tensor.ndim == 0:
                if rank == 0:
                    pieces[name], starts[name] = tensor, 0
                continue
            per_rank = -(-tensor.shape[0] // num_ranks)
            piece = tensor[rank * per_rank : (rank + 1) * per_rank]
            if len(piece):
                pieces[name], starts[name] = piece.clone(), rank * per_rank
        own = {name: shape for name, shape in json.loads(shapes).items() if name in pieces}
        save_file(
            pieces,
            folder / f"state-{rank}of{num_ranks}.safetensors",
            metadata={"starts": json.dumps(starts), "shapes": json.dumps(own)},
        )
    path.unlink()
    description = json.loads((folder / "state.json").read_text())
    del description["sha256"]  # as an earlier release, since the pieces have no digests
    (folder / "state.json").write_text(json.dumps(description | {"world_size": num_ranks}))


@pytest.mark.parametrize("num_ranks", [2, 3, 7])
def test_pieces_of_any_number_of_ranks_make_the_whole(tmp_path: Path, num_ranks: int) -> None:
    before, after = make(0), make(1)
    folder = save_state(tmp_path, before, step=1, identity=IDENTITY)
    cut(folder, num_ranks)
    load_state(folder, after, identity=IDENTITY)
    assert equal(before, after)


def test_a_missing_piece_is_named(tmp_path: Path) -> None:
    folder = save_state(tmp_path, make(), step=1, identity=IDENTITY)
    cut(folder, 2)
    shutil.copy(folder / "state-0of2.safetensors", folder / "state-1of2.safetensors")
    with pytest.raises(ConfigError, match="rows are in no file"):
        load_state(folder, make(), identity=IDENTITY)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = save_state(tmp_path, make(), step=1, identity=IDENTITY)
    other = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 1))
    state = TrainState(model=other, ema={}, optimizer=torch.optim.AdamW(other.parameters(), lr=0.1))
    with pytest.raises(ConfigError, match=r"does not fit the model: average\.0\.bias"):
        load_state(folder, state, identity=IDENTITY)


def test_another_run_is_refused_with_every_difference(tmp_path: Path) -> None:
    folder = save_state(tmp_path, make(), step=1, identity=IDENTITY)
    changed = {"recipe": {"lr": 0.2, "stages": [{"name": "a"}], "new": True}}
    with pytest.raises(ConfigError) as caught:
        load_state(folder, make(), identity=changed)
    assert "recipe.lr: was 0.1, is 0.2; recipe.new: was not there, is true" in str(caught.value)


json_data = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(a=json_data, b=json_data)
def test_data_differ_exactly_if_a_difference_is_named(a: object, b: object) -> None:
    assert not list(differences(a, a))
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert bool(list(differences({"x": a}, {"x": b}))) == (not same)


def test_the_last_few_are_kept_and_a_step_is_written_once(tmp_path: Path) -> None:
    for step in range(5):
        save_state(tmp_path, make(step), step=step, identity=IDENTITY)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [f"step-{step:08d}" for step in range(5 - KEEP_LAST, 5)]
    newest = latest_state(tmp_path)
    assert newest is not None
    stamp = (newest / "state-0of1.safetensors").stat().st_mtime_ns
    save_state(tmp_path, make(4), step=4, identity=IDENTITY)
    assert (newest / "state-0of1.safetensors").stat().st_mtime_ns == stamp


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from omni2sound.train import state as module
from tests.train.test_state import IDENTITY, make
runs, where = Path(sys.argv[1]), sys.argv[2]
module.save_state(runs, make(0), step=1, identity=IDENTITY)
rename, flush, write = module._rename, module.flush_to_disk, module.save_tensors
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
def half(path, tensors, metadata):
    write(path, tensors, metadata=metadata)
    path.write_bytes(path.read_bytes()[:100])
    die()
def renamed(*args):
    rename(*args)
    die()
if where == "while writing": module.save_tensors = half
if where == "before the flush": module.flush_to_disk = die
if where == "before the rename": module._rename = die
if where == "after the rename": module._rename = renamed
module.save_state(runs, make(1), step=2, identity=IDENTITY)
"""


@pytest.mark.parametrize(
    ("where", "step"),
    [
        ("while writing", 1),
        pytest.param("before the flush", 1, marks=pytest.mark.slow),
        pytest.param("before the rename", 1, marks=pytest.mark.slow),
        pytest.param("after the rename", 2, marks=pytest.mark.slow),
    ],
)
def test_a_kill_leaves_a_whole_checkpoint(tmp_path: Path, where: str, step: int) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path), where, str(root)]
    source = os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")])
    # The one fast row alone would not be worth the server.
    command = command if where == "while writing" else warm(command)
    done = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": source})
    assert done.returncode == -signal.SIGKILL
    found, after = latest_state(tmp_path), make(5)
    assert found is not None
    assert load_state(found, after, identity=IDENTITY)["step"] == step
    assert equal(after, make(step - 1))
    # What the kill left behind does not disturb the next save, which clears it away.
    save_state(tmp_path, make(2), step=3, identity=IDENTITY)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_another_format_is_refused(tmp_path: Path) -> None:
    folder = save_state(tmp_path, make(), step=1, identity=IDENTITY)
    description = json.loads((folder / "state.json").read_text())
    del description["format"]
    (folder / "state.json").write_text(json.dumps(description))
    with pytest.raises(ConfigError, match="has format 1, this release reads 2"):
        load_state(folder, make(), identity=IDENTITY)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def test_every_changed_character_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    """Digits, names, shapes: what is no blank between values is covered by a digest."""
    folder = save_state(tmp_path, make(0), step=7, identity=IDENTITY, progress={"seen": [1.5]})
    state = make(1)
    for name in ("state.json", "state-0of1.safetensors"):
        path = folder / name
        whole = path.read_bytes()
        places = range(0, len(whole), 3) if name == "state.json" else range(8, 1500, 23)
        for at in places:
            flip(path, at)
            if name == "state-0of1.safetensors" or _says(path) != json.loads(whole):
                with pytest.raises((ConfigError, IntegrityError)):
                    load_state(folder, state, identity=IDENTITY)
            path.write_bytes(whole)
    load_state(folder, state, identity=IDENTITY)


def _says(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_a_file_of_another_step_is_found(tmp_path: Path) -> None:
    old = save_state(tmp_path, make(0), step=7, identity=IDENTITY)
    new = save_state(tmp_path, make(0, steps=3), step=8, identity=IDENTITY)
    shutil.copy(old / "state-0of1.safetensors", new / "state-0of1.safetensors")
    with pytest.raises(IntegrityError, match="step-00000008 is damaged"):
        load_state(new, make(1), identity=IDENTITY)


@pytest.mark.parametrize("from_end", [1, 30, 100])
def test_a_flipped_byte_is_found_before_anything_is_trained_on(
    tmp_path: Path, from_end: int
) -> None:
    save_state(tmp_path, make(0), step=7, identity=IDENTITY)
    found = latest_state(tmp_path)
    assert found is not None
    flip(found / "state-0of1.safetensors", -from_end)
    with pytest.raises(IntegrityError, match=r"step-00000007 is damaged.*checkpoint before"):
        load_state(found, make(1), identity=IDENTITY)


def test_a_checkpoint_of_an_earlier_release_has_no_digest_and_is_read(tmp_path: Path) -> None:
    before, after = make(0), make(1)
    save_state(tmp_path, before, step=7, identity=IDENTITY)
    found = latest_state(tmp_path)
    assert found is not None
    cut(found, 2)  # written again, without digests
    load_state(found, after, identity=IDENTITY)
    assert equal(before, after)
