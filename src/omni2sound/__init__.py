"""Sound generation for a video, a text prompt, or both.

In:   `Omni2SoundPipeline.from_pretrained("embedded")(video=..., prompt=...)`.
Out:  a `GenerationResult` that holds the sound and says how it was made.

Names are imported when first used, so that `import omni2sound` (and with it every start of
the command line) does not import torch. `__all__` is the public API; anything else may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omni2sound.errors import (
        ConfigError,
        IntegrityError,
        MediaError,
        MissingPartError,
        Omni2SoundError,
        ShapeError,
        UserError,
    )
    from omni2sound.generate.pipeline import Omni2SoundPipeline
    from omni2sound.generate.request import GenerationRequest, GenerationResult
    from omni2sound.media.samples import Audio
    from omni2sound.timebase import TimeBase

__all__ = [
    "Audio",
    "ConfigError",
    "GenerationRequest",
    "GenerationResult",
    "IntegrityError",
    "MediaError",
    "MissingPartError",
    "Omni2SoundError",
    "Omni2SoundPipeline",
    "ShapeError",
    "TimeBase",
    "UserError",
    "__version__",
]

__version__ = "0.1.0"

_HOME_OF = {
    "Audio": "omni2sound.media.samples",
    "GenerationRequest": "omni2sound.generate.request",
    "GenerationResult": "omni2sound.generate.request",
    "Omni2SoundPipeline": "omni2sound.generate.pipeline",
    "TimeBase": "omni2sound.timebase",
} | dict.fromkeys(
    (
        "ConfigError",
        "IntegrityError",
        "MediaError",
        "MissingPartError",
        "Omni2SoundError",
        "ShapeError",
        "UserError",
    ),
    "omni2sound.errors",
)


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'omni2sound' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
