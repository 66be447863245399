"""Errors that are answers of their own.

In:   a request that can't be met.
Out:  `NotFoundError` (404), `NotPossibleError` with its status.
"""

from __future__ import annotations


class NotFoundError(Exception):
    """There is no such upload, job or take, or no more."""


class NotPossibleError(Exception):
    """A request that makes sense, but not in this state."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.field = status, message, field
