"""Run:  python -m training.claims material --corpus CORPUS --folder FOLDER
python -m training.claims run --folder FOLDER --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.claims.cells import run_seed
from training.claims.material import make_material
from training.claims.matrix import RECIPES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.claims", description="The claims")
    commands = parser.add_subparsers(dest="command", required=True)
    material = commands.add_parser("material", help="make features and test scenes")
    material.add_argument("--corpus", type=Path, required=True, help="folder of `scenes fetch`")
    run = commands.add_parser("run", help="train and measure the cells of one seed")
    run.add_argument("--seed", type=int, required=True, help="random seed of the runs")
    run.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME")
    run.add_argument("--lock", type=Path, help="file to hold while a cell runs, on shared machines")
    for command in (material, run):
        command.add_argument("--folder", type=Path, required=True, help="folder of all runs")
    args = parser.parse_args()
    if args.command == "material":
        make_material(args.folder, args.corpus)
    else:
        run_seed(args.folder, args.seed, args.recipes, lock=args.lock)


if __name__ == "__main__":
    main()
