"""Limits of what a media file may take, in one place.

Chosen so that no file of up to 64 MiB takes more than 1.2 GB of memory, whatever it claims, and so
that six hours of picture and sound still fit (`benchmarks/robustness/big_claims.py`).
"""

from __future__ import annotations

MAX_FILE_BYTES = 16 * 2**30
MAX_DURATION_S = 6 * 3600
MAX_PIXELS = 2**26
"""Pixels of one picture: twice those of 8K."""
MAX_PICTURE_BYTES = 2**28
"""Of one decoded picture: `MAX_PIXELS` with four channels of eight bits."""
MAX_AUDIO_VALUES = 80_000_000
"""Samples times channels of one reading: 27 minutes of one channel at 48 kHz. They are held twice,
before and after they are placed by their times. `--keep-audio` reads in blocks, without bound."""
MAX_STREAMS = 64
MAX_PACKETS = 8_000_000
"""Six hours of picture and sound need half of that."""
MAX_EDITED_SAMPLES = 16_000_000
"""Samples times edits of a track: every edit may repeat all of it."""
MAX_TAGS = 4_000
"""FFmpeg compares each tag with all before it."""
MAX_COMPRESSED_BYTES = 2**25
"""What a compressed header, text or colour profile may become."""
MAX_ZEROS_BYTES = 2**24
"""Zeros at the end of a file without boxes."""
WORKER_BYTES = 10**9
"""Memory of the process that opens a kind of file whose claims are not counted here."""
WORKER_S = 10
"""Processor time of that process, besides that for the length of the file; by the clock, ten times
as much."""
WORKER_BYTES_PER_S = 20_000_000
"""What it has to read in a second at least; a long file is not a damaged one."""


class TooMuch(Exception):
    """A claim beyond its budget."""
