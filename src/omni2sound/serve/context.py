"""What routes work with: settings of a server and its parts.

In:   choices of the command line.
Out:  `Settings`, `Server`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from omni2sound.generate.load import PipelineOptions
from omni2sound.serve.drawn import Drawings
from omni2sound.serve.engine import Engine
from omni2sound.serve.feed import Feed
from omni2sound.serve.guard import Access
from omni2sound.serve.limits import Limits
from omni2sound.serve.metrics import Metrics
from omni2sound.serve.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of a server."""

    folder: Path
    """Uploads, jobs and results."""
    model: PipelineOptions = field(default_factory=PipelineOptions)
    limits: Limits = field(default_factory=Limits)
    warm: bool = True
    """Load the model at start."""
    host: str = "127.0.0.1"
    token: str | None = None
    names: tuple[str, ...] = ()
    """More host names under which the server is reached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """What routes work with."""

    settings: Settings
    store: Store
    engine: Engine
    feed: Feed
    metrics: Metrics
    access: Access
    drawings: Drawings
