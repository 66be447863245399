"""The table of scenes."""
