"""Training: recipes as data, one loop, exact resume; imports torch, NumPy, Arrow, safetensors."""
