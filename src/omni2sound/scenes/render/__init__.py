"""Scenes to sound and pictures."""
