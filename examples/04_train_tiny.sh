#!/bin/sh
# Train the smallest recipe on your own clips: manifest, features, run, sound.
#
# Run:  sh 04_train_tiny.sh            as many steps as the recipe has: minutes, and real clips needed
#       STEPS=3 sh 04_train_tiny.sh    to see that everything works
set -eu

# One line for each clip; captions say what is heard. See docs/reference/file-formats.md.
cat > clips.jsonl <<'LINES'
{"omni2sound_manifest": 1, "media": "."}
{"clip_id": "clip", "corpus": "mine", "split": "train", "video": "clip.mp4", "captions": ["a tone sounds"]}
LINES

omni2sound data features clips.jsonl --out features --seconds 2
omni2sound train tiny --data features --out runs/tiny ${STEPS:+--max-steps "$STEPS"}
omni2sound generate clip.mp4 --model runs/tiny/model -o trained.mp4
