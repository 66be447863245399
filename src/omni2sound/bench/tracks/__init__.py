"""Tracks: versioned benchmark data, and their builders."""
