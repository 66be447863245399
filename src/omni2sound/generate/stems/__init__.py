"""Stems: one sound a cue or recognised source, whose sum is the mix; the mix as a description."""
