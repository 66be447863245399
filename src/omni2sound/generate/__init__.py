"""Generate: sound for a video, a text prompt, or both."""
