"""When things happen in a file: one clock for its tracks, and the place of each block of sound.

In:   packets and timestamps.
Out:  `timeline.Timeline`, which readers take packets from; `sound_clock.Piece`.
"""
