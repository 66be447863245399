"""Runs as typed functions; each returns a complete `Recipe`."""
