"""The claims from the command line.

python -m training.claims material --corpus CORPUS --folder FOLDER
python -m training.claims run --folder FOLDER --seed 0
python -m training.claims collect --folder FOLDER
python -m training.claims table
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.claims.matrix import RECIPES
from training.claims.table import AGAIN, CELLS, as_markdown, collect, read_cells, write_page


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.claims", description="The claims")
    commands = parser.add_subparsers(dest="command", required=True)
    material = commands.add_parser("material", help="make features and test scenes")
    material.add_argument("--corpus", type=Path, required=True, help="folder of `scenes fetch`")
    run = commands.add_parser("run", help="train and measure the cells of one seed")
    run.add_argument("--seed", type=int, required=True, help="random seed of the runs")
    run.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME")
    run.add_argument("--train-only", action="store_true", help="measure in a later call")
    run.add_argument("--again", action="store_true", help="also cells that the repository keeps")
    gather = commands.add_parser("collect", help="add the cells of a folder to a file of lines")
    gather.add_argument("--out", type=Path, default=CELLS, help="file of lines")
    for command in (material, run, gather):
        command.add_argument("--folder", type=Path, required=True, help="folder of all runs")
    table = commands.add_parser("table", help="print the table of the claims")
    table.add_argument("--cells", type=Path, default=CELLS, help="file of `collect`")
    table.add_argument("--page", type=Path, help="page whose table and plots are written anew")
    args = parser.parse_args()
    if args.command == "material":
        from training.claims.material import make_material

        make_material(args.folder, args.corpus)
    elif args.command == "run":
        from training.claims.cells import Bench, run_seed

        bench, kept = Bench(folder=args.folder), {} if args.again else read_cells(CELLS)
        run_seed(bench, args.seed, args.recipes, kept=kept, train_only=args.train_only)
    elif args.command == "collect":
        print(collect(args.folder, args.out), "cells in", args.out)
    else:
        cells = read_cells(args.cells)
        again = read_cells(AGAIN) if args.cells == CELLS else {}
        print(as_markdown(cells, again))
        if args.page is not None:
            write_page(args.page, cells, again)


if __name__ == "__main__":
    main()
