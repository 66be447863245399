"""Trained networks: the diffusion transformer, its conditioning and the autoencoders."""
