"""`python -m omni2sound`: the command, where its script is not on the path."""

from __future__ import annotations

from omni2sound.cli.main import main

main()
