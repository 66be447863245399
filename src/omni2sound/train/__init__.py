"""Training: recipes as data, one loop, exact resume. Imports only torch, NumPy, Arrow, safetensors."""
