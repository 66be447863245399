"""Material made in code, as for scenes."""

from tests.scenes.conftest import assets

__all__ = ["assets"]
