"""Systems under test: models, folders of sounds, baselines."""
