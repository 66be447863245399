#!/bin/sh
# The whole matrix: material, then every cell; what is there is not made again.
#
#   sh training/claims/run.sh CORPUS FOLDER
#
# One process a seed and group of recipes: those of the three claims come first in all seeds.
set -eu
corpus=$1 folder=$2
python -m training.claims material --corpus "$corpus" --folder "$folder"
for recipes in \
    "two-stages three-stages no-bridge-0.1 no-pretraining" \
    "no-bridge-0.4 merged-stages v2a-only t2a-only" \
    "wrong-bridge off-screen-alone dropout-alone by-ear-bridge" \
    "no-bridge-0.2 bridge-0.2 bridge-0.4"; do
    for seed in 0 1 2 3 4; do
        # shellcheck disable=SC2086
        python -m training.claims run --folder "$folder" --seed "$seed" --recipes $recipes
    done
done
