"""Roles played by bundled networks: weak, free, offline."""
