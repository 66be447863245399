"""Frozen networks that turn pictures, texts and sounds into numbers."""
