"""Sound for a video: without a prompt, with one, and for something that is not in the picture.

Run:  python 02_video.py [clip.mp4]
"""

import sys

from omni2sound import Omni2SoundPipeline

video = sys.argv[1] if len(sys.argv) > 1 else "clip.mp4"
pipeline = Omni2SoundPipeline.from_pretrained("embedded")

pipeline(video=video, seed=7).save("seen.mp4", video=video)
pipeline(video=video, prompt="a dog barks", seed=7).save("barking.mp4", video=video)

# Off screen: a higher guidance scale for the prompt. The sound alone is written here.
rain = pipeline(video=video, prompt="rain falls", text_guidance_scale=4.5, seed=7)
rain.save("rain.flac")
print("seen.mp4, barking.mp4, rain.flac:", rain.task, rain.audio.samples_CN.shape)
