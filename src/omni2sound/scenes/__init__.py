"""Synthetic scenes with exact ground truth, made from real recordings and pictures."""
