#!/usr/bin/env bash
# diffusers 0.42.1: Karras or exponential noise levels over cosine betas.
#
# Guess before the run: `use_karras_sigmas` only moves the noise levels; n steps visit n levels.
# Expected: `set_timesteps(n)` gives n distinct timesteps, the first step starts at the highest noise level.
# Happens:  the cosine path reaches sigma = 20,291, so that the first levels of a Karras spacing lie between two
#           timesteps and are rounded to the same one (998 three times of six, four and more times of eight). The
#           scheduler finds its place by timestep, takes the second of equal ones for the first (meant for
#           image-to-image), begins one level too low, and asks for a level that is not there in the last step:
#           an IndexError.
# Matters:  cosine betas with v-prediction are usual for audio models, Karras spacing is the usual advice. Levels
#           must come from a scheduler that is made for them: we use the EDM ones with a `sigma_max` of our own.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check diffusers==0.42.1 torch==2.13.0 numpy==2.4.6 scipy==1.17.1 transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from diffusers import DPMSolverMultistepScheduler

for option in ("use_karras_sigmas", "use_exponential_sigmas"):
    for num_steps in (6, 25):
        solver = DPMSolverMultistepScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", **{option: True}
        )
        solver.set_timesteps(num_steps)
        timesteps = solver.timesteps.tolist()
        x, ended = torch.zeros(1), "all steps done"
        try:
            for t in solver.timesteps:
                x = solver.step(torch.zeros(1), t, x).prev_sample
        except IndexError as error:
            ended = f"IndexError: {error}"
        begins_at = solver.index_for_timestep(timesteps[0])
        print(f"{option}, {num_steps} steps: {len(set(timesteps))} distinct timesteps, "
              f"begins at level {begins_at}; {ended}")
        assert len(set(timesteps)) < num_steps
        assert begins_at == 1
        assert ended.startswith("IndexError")
PYTHON
echo "still so"
