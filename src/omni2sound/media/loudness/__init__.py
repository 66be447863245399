"""Loudness: measure it by BS.1770, reach a target, limit peaks."""
