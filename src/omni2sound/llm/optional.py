"""Error for a missing extra `annotate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from omni2sound.errors import MissingPartError


@contextmanager
def needs(package: str) -> Iterator[None]:
    """Import `package` in the block.

    Raises:
        MissingPartError: It is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # installed but broken: show the traceback
        message = f"package {package} missing; run: pip install 'omni2sound[annotate]'"
        raise MissingPartError(message) from None
