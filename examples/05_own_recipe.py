"""A recipe of your own, trained from Python: the smallest one with a wider network and one stage.

Run:  python 05_own_recipe.py [STEPS]      after 04_train_tiny.sh, which makes `features`
"""

import sys
from dataclasses import replace
from pathlib import Path

from omni2sound import Omni2SoundPipeline
from omni2sound.recipes.tiny import tiny
from omni2sound.train.recipe import Recipe
from omni2sound.train.session import RunRequest, train_recipe


def mine() -> Recipe:
    """A complete run as data; `omni2sound.recipes.paper` says where each number comes from."""
    base = tiny()
    joint = replace(base.stages[1], name="only", steps=300, task_weights={"T2A": 0.5, "V2A": 0.5})
    return replace(base, name="mine", dit=replace(base.dit, width=192), stages=(joint,))


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else None
    request = RunRequest(
        recipe=mine(), data=(Path("features"),), out=Path("runs/mine"), max_steps=steps
    )
    trained = train_recipe(request)
    assert trained.written is not None  # it is None on other ranks than the first
    pipeline = Omni2SoundPipeline.from_pretrained(trained.written)
    pipeline(prompt="a tone sounds", duration_s=2.0, seed=7).save("own_recipe.wav")
    print(f"{trained.written}: {trained.result.reason}; own_recipe.wav")
