"""Pure maths of diffusion: paths and targets, guidance, samplers. Knows nothing of models."""
