"""Roles played by chat models: behind an API, or scripted."""
