"""The quick check: impacts in video and single-class prompts."""
