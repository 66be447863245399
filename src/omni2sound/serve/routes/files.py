"""Answers that are files, with ranges, as players ask for them.

In:   a file of the store.
Out:  a response; a file that was deleted meanwhile is not found.
"""

from __future__ import annotations

from pathlib import Path

from fastapi.responses import FileResponse

from omni2sound.serve.store import NotFoundError


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
