"""Answers that are files, with ranges, as players ask for them.

In:   a file of the store.
Out:  a response; a file that was deleted meanwhile is not found.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from omni2sound.serve.context import Server
from omni2sound.serve.drawn import Draw
from omni2sound.serve.errors import NotFoundError

Drawn = tuple[Path, Draw]
"""A file, and how it is drawn."""


async def sent_drawn(
    server: Server, find: Callable[[], Drawn], media_type: str, *, is_film: bool = False
) -> FileResponse:
    """Answer with a file that is drawn unless it is there.

    Args:
        server: The server.
        find: Finds out what is asked for, in a thread.
        media_type: What a browser is told.
        is_film: Whether it takes long.

    Raises:
        NotFoundError: What it is drawn from is gone.
        NotPossibleError: Too many drawings wait already.
    """
    target, draw = await run_in_threadpool(find)
    await server.drawings.once(target, draw, is_film=is_film)
    return sent(target, media_type)


def sent(path: Path, media_type: str, *, name: str | None = None) -> FileResponse:
    """Answer with a file.

    Args:
        path: A file of the store.
        media_type: What a browser is told.
        name: Name under which a browser saves it. Default: it is shown or played.

    Raises:
        NotFoundError: It is gone.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise NotFoundError("file") from None
    return FileResponse(path, media_type=media_type, filename=name, stat_result=status)
