# What a run of `embedded-v4` may change. Every line is read by run.sh.

# minilm or bge-small (docs/decisions/0071); with bge-small its package travels in PACK as well.
TEXT_ENCODER=minilm
# Fraction of scenes and steps; 0.01 is the rehearsal on a CPU.
SCALE=1
# Minutes in all, features included.
MINUTES=9.3
WORKERS=15
DEVICE=cuda
BATCH_SECONDS=1280
