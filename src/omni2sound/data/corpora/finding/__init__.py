"""Which file is a clip's: folders, names, contents, and where a segment lies in a whole video."""
