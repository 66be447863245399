"""Recordings and pictures: the catalogue, where they come from, how they are prepared."""
