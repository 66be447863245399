"""Projects: a folder with the steps of a film's sound, each of which can be repeated."""
