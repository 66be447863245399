"""Checkpoints of the stable-audio-tools family into our model folder, and back."""
