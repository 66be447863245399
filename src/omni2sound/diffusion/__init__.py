"""Diffusion maths without models: paths and targets, guidance, samplers."""
