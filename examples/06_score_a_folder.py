"""Score a folder of sounds, from any system, against real ones of the same names.

Run:  python 06_score_a_folder.py

`real` and `sounds` are filled with stand-ins, so that this runs anywhere: put your recordings and
your system's output there instead.
"""

from pathlib import Path

from omni2sound import Omni2SoundPipeline
from omni2sound.bench.report.write import write_report
from omni2sound.bench.run import score_folder
from omni2sound.bench.tracks.track import TrackClip, TrackInfo, write_track

CAPTIONS = {"bell": "a bell rings", "dog": "a dog barks", "drum": "a drum is hit", "bird": "birds"}

SECONDS = 4.0

real, sounds = Path("real"), Path("theirs")
pipeline = Omni2SoundPipeline.from_pretrained("embedded")
for folder, seed in ((real, 1), (sounds, 2)):
    folder.mkdir(exist_ok=True)
    for name, caption in CAPTIONS.items():
        target = folder / f"{name}.wav"
        pipeline(prompt=caption, duration_s=SECONDS, seed=seed).save(target, overwrite=True)

# A track: clips with captions and real sounds, under digests. Tracks with exact ground truth come
# from `omni2sound bench build`.
clips = [
    TrackClip(
        clip_id=name, part="main", caption=caption, duration_s=SECONDS, audio=f"media:{name}.wav"
    )
    for name, caption in CAPTIONS.items()
]
info = TrackInfo(name="mine", version="1", tasks=("T2A",))
Path("track").mkdir(exist_ok=True)
write_track(Path("track"), info, clips, media=real)

# The report names files that have a problem, silent ones for example.
write_report(score_folder("track", sounds, "T2A", "scored"))
print(Path("scored/report.md").read_text(encoding="utf-8"))
