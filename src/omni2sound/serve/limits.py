"""Limits of a server: sizes, lengths, counts and ages.

In:   numbers from the command line.
Out:  `Limits`, checked.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from omni2sound.config import checked_number


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one server takes, keeps and makes.

    Raises:
        UserError: A number is out of range.
    """

    upload_mb: int = 2000
    """Size of one upload, in 10^6 bytes."""
    stored_mb: int = 20_000
    """Size of all uploads and results together, in 10^6 bytes."""
    duration_s: int = 1200
    """Length of a video, and of a sound that is made."""
    media: int = 200
    """Number of uploads that are kept."""
    jobs: int = 100
    """Number of jobs that wait or run."""
    results: int = 500
    """Number of jobs that are done and kept."""
    takes: int = 8
    """Takes of one job."""
    age_h: int = 24
    """Hours after which a finished job, and an upload that no job uses, are deleted."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            checked_number(value, field.name, whole=True, least=1, most=10**7)

    @property
    def upload_bytes(self) -> int:
        """Size of one upload."""
        return self.upload_mb * 10**6

    @property
    def stored_bytes(self) -> int:
        """Size of all uploads and results together."""
        return self.stored_mb * 10**6

    @property
    def age_s(self) -> int:
        """Seconds that unused files are kept."""
        return self.age_h * 3600


BODY_BYTES = 2**18
"""Of a request in JSON."""
FORM_BYTES = 2**16
"""What a form takes besides its file."""
BODY_PAUSE_S = 60.0
"""A request whose body stops coming for so long is given up."""
CONNECTIONS = 256
"""Connections at once; more are refused with 503."""
DRAWINGS = 100
"""Strips, peaks, spectrograms and films that are drawn or wait for it; more are refused (503)."""
MAX_NAME_CHARS = 200
"""Of the name of an upload."""
STRIP_FRAMES = (1, 200)
STRIP_HEIGHT_PX = (16, 200)
PEAKS_PER_S = (1, 400)
MAX_PEAKS = 500_000
"""Of one sound; a longer one needs fewer a second."""
