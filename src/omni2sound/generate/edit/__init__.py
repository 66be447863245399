"""Editing of sounds: a range made anew in its context, variations of a whole."""
