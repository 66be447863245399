"""What is trained: the diffusion transformer, its conditioning and the autoencoder."""
