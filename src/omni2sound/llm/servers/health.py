"""Health of a role: do its first calls fail alike, are most of its replies cut?

In:   outcomes of the sends of one prompt to one model, in this process.
Out:  whether a failure is the request's or ends the run; whether a limit of tokens starts raised.

A clip that an endpoint rejects is that clip's failure. A model, a key or an option that is wrong
makes all calls fail, and then the run stops before it has marked a corpus as failed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from omni2sound.errors import UserError

FIRST_CALLS = 8
"""So many calls of a role that fail alike, and none answered, end the run."""
MOST_CALLS = 50
"""So many that fail in any way do."""
FIRST_REPLIES = 50
"""The run stops if most of so many replies of a role were cut."""
_CUT_TO_LEARN = 3
"""After so many cut replies, if most were, requests start with the raised limit."""
_DIGITS = re.compile(r"\d+")


def raised_tokens(tokens: int) -> int:
    """Return the limit of output tokens after a cut reply: room for hidden thoughts."""
    return max(4 * tokens, tokens + 4096)


@dataclass(slots=True)
class RoleHealth:
    """Outcomes of one role."""

    role: str
    answered: int = 0
    replies: int = 0
    cut: int = 0
    first_cut: int = 0
    """Replies cut at the limit that was asked for."""
    raised_answered: int = 0
    rejections: list[str] = field(default_factory=list)

    @property
    def starts_raised(self) -> bool:
        """Whether the limit of tokens has shown itself too low for most requests."""
        return self.first_cut >= _CUT_TO_LEARN and 2 * self.first_cut > (
            self.answered - self.raised_answered + self.first_cut
        )

    def replied(self, *, was_cut: bool, raised: bool, answered: bool) -> None:
        """Count a reply.

        Raises:
            UserError: Most of the first replies were cut.
        """
        self.replies += 1
        self.cut += was_cut
        self.first_cut += was_cut and not raised
        self.answered += answered
        self.raised_answered += answered and raised
        if self.replies == FIRST_REPLIES and 2 * self.cut > self.replies:
            raise UserError(
                f"{self.role}: {self.cut} of the first {self.replies} replies were cut off at the "
                "limit of output tokens; raise it for this role, or cap its reasoning (`cap`, "
                "`extra`)"
            )

    def rejected(self, reason: str) -> None:
        """Count a request that the endpoint rejected.

        Raises:
            UserError: No call of the role was answered, and the first ones failed alike.
        """
        if self.answered:
            return
        self.rejections.append(_DIGITS.sub("#", reason))
        num, kinds = len(self.rejections), len(set(self.rejections))
        if (num >= FIRST_CALLS and kinds == 1) or num >= MOST_CALLS:
            raise UserError(
                f"{self.role}: the first {num} calls were all rejected: {reason}; "
                "`omni2sound annotate check MODEL@URL` finds out what the endpoint takes"
            )
