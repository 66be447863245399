"""Many sounds from one loaded model; a second run makes only what is missing.

Run:  python 03_batch.py

On the command line `omni2sound batch jobs.jsonl --out out` does the same from a file.
"""

from pathlib import Path

from omni2sound import Omni2SoundError, Omni2SoundPipeline

PROMPTS = {"bell": "a bell rings", "dog": "a dog barks", "nothing": " "}

out = Path("sounds")
out.mkdir(exist_ok=True)
pipeline = Omni2SoundPipeline.from_pretrained("embedded")
for name, prompt in PROMPTS.items():
    target = out / f"{name}.wav"
    if target.exists():
        print(f"{target}: exists")
        continue
    try:
        pipeline(prompt=prompt, duration_s=2.0, seed=7).save(target)
        print(f"{target}: {prompt!r}")
    except Omni2SoundError as error:  # an empty prompt: reported, and the rest continues
        print(f"{target}: {error}")
