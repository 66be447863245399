"""Several threads, forked processes and pickles: the same sound, or one line."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from omni2sound.errors import UserError
from omni2sound.generate.load import PipelineOptions
from omni2sound.generate.pipeline import Omni2SoundPipeline
from tests.build import tiny_model_folder, video_with_square

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.mark.parametrize("low_memory", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_threads_that_share_a_model_get_what_each_would_get_alone(
    model: Path, low_memory: bool
) -> None:
    pipeline = Omni2SoundPipeline.from_pretrained(
        model, device="cpu", dtype="float32", low_memory=low_memory
    )

    def sound(seed: int) -> np.ndarray:
        return pipeline(prompt="rain", duration_s=0.2, seed=seed).audio.samples_CN

    alone = [sound(seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(sound, range(6)))
    for expected, found in zip(alone, together, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_pipeline_can_not_be_pickled_and_says_what_to_do(model: Path) -> None:
    pipeline = Omni2SoundPipeline.from_pretrained(model, device="cpu")
    with pytest.raises(UserError, match="can't be pickled; load the model in each process"):
        pickle.dumps(pipeline)


FORKED = """
import os, sys
import torch
from omni2sound.errors import UserError
from omni2sound.generate.pipeline import Omni2SoundPipeline
torch.set_num_threads(int(sys.argv[2]))
pipeline = Omni2SoundPipeline.from_pretrained(sys.argv[1], device="cpu", dtype="float32")
pid = os.fork()
if pid == 0:
    try:
        pipeline(prompt="rain", duration_s=0.2)
        os._exit(0)
    except UserError as error:
        print(error, flush=True)
        os._exit(2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(("threads", "code"), [(1, 0), (2, 2)])
def test_a_forked_process_computes_with_one_thread_and_is_refused_with_more(
    model: Path, threads: int, code: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(model), str(threads)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert ("load it in each process" in done.stdout) == (code == 2)


def test_a_deterministic_pipeline_computes_on_one_thread_in_float32(model: Path) -> None:
    before = torch.get_num_threads()
    pipeline = Omni2SoundPipeline.from_pretrained(model, deterministic=True)
    assert (pipeline.device.type, pipeline.dtype) == ("cpu", torch.float32)
    seen: list[int] = []
    torch.set_num_threads(3)
    try:
        result = pipeline(
            prompt="rain", duration_s=0.2, on_step=lambda *_: seen.append(torch.get_num_threads())
        )
        assert set(seen) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert result.dtype == "float32, deterministic"
    assert result.dtype == PipelineOptions(model=model, deterministic=True).precision
    assert PipelineOptions(model=model).precision == "auto"
    for field, asked in (("device", {"device": "cuda"}), ("dtype", {"dtype": "bfloat16"})):
        for refuse in (Omni2SoundPipeline.from_pretrained, PipelineOptions):
            with pytest.raises(UserError, match="`deterministic` computes") as caught:
                refuse(model=model, deterministic=True, **asked)
            assert caught.value.field == field
    conditions = pipeline.encoder.encode_arrays(None, None, ["rain"] * 2, duration_s=0.2)
    with pytest.raises(UserError, match="one by one, got 2"):
        pipeline.generate_batch(conditions, duration_s=0.2, seeds=[0, 1])


@pytest.mark.slow
def test_deterministic_sound_has_the_same_bytes_for_any_number_of_threads(tmp_path: Path) -> None:
    """A video and a prompt, two takes, through the command line, in processes of their own."""
    video_with_square(tmp_path / "clip.mp4", duration_s=1.5)
    made: dict[str, set[bytes]] = {}
    for threads in (1, 2, 4):
        out = tmp_path / str(threads) / "out.wav"
        out.parent.mkdir()
        command = ["generate", tmp_path / "clip.mp4", "--prompt", "a dog barks", "--steps", 4]
        command += ["--seed", 7, "--takes", 2, "--deterministic", "-o", out]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        environment |= {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        subprocess.run(
            [sys.executable, "-m", "omni2sound", *map(str, command)],
            check=True,
            env=environment,
            capture_output=True,
        )
        for path in out.parent.glob("*.wav"):
            made.setdefault(path.name, set()).add(path.read_bytes())
    assert {name: len(sounds) for name, sounds in made.items()} == {"out-1.wav": 1, "out-2.wav": 1}
