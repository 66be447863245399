"""Sound from a text prompt.

Run:  python 01_text.py
"""

from omni2sound import Omni2SoundPipeline

pipeline = Omni2SoundPipeline.from_pretrained("embedded")
result = pipeline(prompt="a bell rings", duration_s=3.0, seed=7)
result.save("bell.wav", loudness_lufs=-23)
print(f"bell.wav: {result.duration_s} s at {result.audio.sample_rate_hz} Hz, seed {result.seed}")
