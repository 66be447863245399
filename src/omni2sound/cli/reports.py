"""Results and failures for programs: JSON, exit codes.

In:   an exception.
Out:  JSON data.
"""

from __future__ import annotations

from typing import Any

from omni2sound.errors import UserError

EXIT_ENVIRONMENT = 3
"""Exit code if the disk, permissions or limits of the machine are the cause."""


def error_report(error: BaseException, message: str, **more: object) -> dict[str, Any]:
    """An error as JSON data."""
    field = error.field if isinstance(error, UserError) else None
    said = {"message": message, "kind": type(error).__name__, "field": field}
    return {"error": said | more}
